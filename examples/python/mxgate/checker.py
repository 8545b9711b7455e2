"""Questions with everything prepared: the short way from Python to the library."""

from __future__ import annotations

import ctypes
from typing import Any, Callable

from . import _abi
from ._library import quick, slow
from .errors import raise_for
from .facts import Facts
from .verdict import For, Stage, Verdict, reply_of, verdict_of


def _check(name: str) -> Any:
    """A function of its own, which is not told the types of its arguments, because they come as C takes them."""
    function = quick[name]
    function.restype = ctypes.c_int
    return function


#: What is asked at each stage.
CHECKS = {
    Stage.CONNECT: _check("mxgate_check_connect"),
    Stage.MAIL: _check("mxgate_check_mail"),
    Stage.RCPT: _check("mxgate_check_rcpt"),
}
FACTS_SIZE = ctypes.c_size_t(ctypes.sizeof(_abi.Facts))


class Handle(ctypes.c_void_p):
    """A gate of the library, freed with the last reference to it: never in the middle of a call, and never twice."""

    def __del__(self, free: Callable[[ctypes.c_void_p], None] = slow.mxgate_free) -> None:
        free(self)


def _asking(stage: Stage) -> Callable[[Checker], bool]:
    check = CHECKS[stage]

    def ask(checker: Checker) -> bool:
        result: int = check(*checker._arguments)
        if result < 0:
            raise_for(result)
        return result > 0

    return ask


class Checker:
    """Asks the same gate again and again about the same facts, which are changed in place.

    It belongs to one thread, as its facts do, and keeps its gate from being freed.

    >>> from mxgate import Gate
    >>> gate = Gate()
    >>> gate.load_text('hostname = "mx.example.org"\\n[[domains]]\\nname = "parked"\\nentries = ["parked.example"]')
    >>> facts = Facts(ip="198.51.100.1")
    >>> checker = gate.checker(facts)
    >>> for recipient in "user@example.org", "user@parked.example":
    ...     facts.recipient = recipient
    ...     if checker.rcpt():
    ...         print(checker.reply())
    521 5.3.2 parked.example does not accept mail
    """

    __slots__ = ("_arguments", "_raw", "facts")

    def __init__(self, handle: Handle, facts: Facts) -> None:
        #: What is asked about. To be changed, not exchanged.
        self.facts = facts
        self._raw = _abi.Verdict()
        self._arguments = (handle, facts._argument, FACTS_SIZE, ctypes.byref(self._raw))

    #: Checks the client; true if there is an objection.
    connect = _asking(Stage.CONNECT)
    #: Checks the sender; true if there is an objection.
    mail = _asking(Stage.MAIL)
    #: Checks the recipient; true if there is an objection.
    rcpt = _asking(Stage.RCPT)

    def verdict(self) -> Verdict:
        """What the last check came to."""
        return verdict_of(self._raw)

    def reply(self, stage: Stage = Stage.RCPT, reader: For = For.CLIENT) -> str:
        """The reply of the last check, as `Verdict.reply`."""
        return reply_of(self._raw, stage, reader)
