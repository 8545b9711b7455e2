"""The gate: the rules in force, and questions to them."""

from __future__ import annotations

import ctypes
import os
import threading
from types import TracebackType
from typing import Any, Callable, Optional, Tuple, Type, Union

from . import _abi
from ._library import quick, slow
from .errors import Diagnostic, diagnostics_of, raise_for
from .facts import Facts, Text
from .verdict import Stage, Verdict, reply_of, verdict_of

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]


def _prepared(name: str) -> Any:
    """A check whose arguments are already what C takes, so that ctypes need not convert them."""
    function = quick[name]
    function.restype = ctypes.c_int
    return function


_connect = _prepared("mxgate_check_connect")
_rcpt = _prepared("mxgate_check_rcpt")
_FACTS_SIZE = ctypes.c_size_t(ctypes.sizeof(_abi.Facts))

# A load holds a lock in the library for as long as it takes. If another thread forked meanwhile the child would inherit
# that lock, and nobody there who releases it: so a fork waits until the load is over.
_loading = threading.RLock()
os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)


class _Handle(ctypes.c_void_p):
    """A gate of the library, freed with the last reference to it: never in the middle of a check, and never twice."""

    def __del__(self, free: Callable[[ctypes.c_void_p], None] = slow.mxgate_free) -> None:
        free(self)


class Gate:
    """Holds the rules of a policy, and says by them whether a client goes on. Without a policy it accepts everything.

    Threads may share a gate, also while one of them loads; so may the processes that it is inherited by (`os.fork`), each
    of which then has a gate of its own.

    >>> with Gate() as gate:
    ...     gate.load_text('''
    ... hostname = "mx.example.org"
    ... [[list]]
    ... name = "local"
    ... entries = ["192.0.2.0/24 sent spam"]
    ... ''')
    ...     verdict = gate.check_rcpt(Facts(ip="192.0.2.7", recipient="user@example.org"))
    >>> verdict.reply()
    '550 5.7.1 Service unavailable; client [192.0.2.7] blocked using local'
    >>> verdict.decider, verdict.list, verdict.entry, verdict.line, verdict.reason
    (<Decider.BLOCK: 4>, 'local', '192.0.2.0/24', 5, 'sent spam')
    """

    def __init__(self, policy: Optional[Path] = None) -> None:
        """Makes a gate, with the rules of that policy file if there is one; raises as `load_file` does."""
        handle = quick.mxgate_new()
        if not handle:
            raise MemoryError("mxgate_new")
        self._handle: Optional[_Handle] = _Handle(handle)
        #: What the last load that succeeded had to say.
        self.warnings: Tuple[Diagnostic, ...] = ()
        if policy is not None:
            self.load_file(policy)

    def load_file(self, path: Path) -> None:
        """Puts the rules of a policy file, and of the lists that it names, in the place of the rules in force.

        If anything is wrong the rules in force stay and a `LoadError` says what: `PolicySyntaxError`, `ReadError` (a file
        cannot be read) or `LimitError`.
        """
        name = os.fsencode(path)
        if b"\0" in name or len(name) > _abi.MAX_PATH:
            raise ValueError(f"{path!r} is not a path: a NUL is in it, or it is longer than {_abi.MAX_PATH} bytes")
        self._load(slow.mxgate_load_file, name)

    def load_text(self, text: Text) -> None:
        """As `load_file`, from the text of a policy. Relative names of files in it count from the current directory."""
        policy = text.encode() if isinstance(text, str) else text
        self._load(slow.mxgate_load_text, policy, len(policy))

    def check_connect(self, facts: Facts) -> Verdict:
        """Checks a client that has just connected."""
        return self._check(_connect, facts)

    def check_rcpt(self, facts: Facts) -> Verdict:
        """Checks one recipient, and the client with it. Ask again for each recipient."""
        return self._check(_rcpt, facts)

    def checker(self, facts: Facts) -> Checker:
        """Asks about those facts again and again, with less ado."""
        return Checker(self._open(), facts)

    def close(self) -> None:
        """Lets go of the rules, which are freed when nobody is using them any more. A gate may be closed again."""
        self._handle = None

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()

    def _open(self) -> _Handle:
        handle = self._handle
        if handle is None:
            raise ValueError("the gate is closed")
        return handle

    def _load(self, load: Callable[..., int], *policy: Union[bytes, int]) -> None:
        message = ctypes.create_string_buffer(_abi.MESSAGE_SIZE)
        with _loading:
            result = load(self._open(), *policy, message, len(message))
        raise_for(result, message.value)
        self.warnings = diagnostics_of(message.value)

    def _check(self, check: Callable[..., int], facts: Facts) -> Verdict:
        raw = _abi.Verdict()
        raise_for(check(self._open(), facts._argument, _FACTS_SIZE, ctypes.byref(raw)))
        return verdict_of(raw)


class Checker:
    """The same questions with everything prepared: facts that are changed in place, and one verdict that is filled again.

    It belongs to one thread, as its facts do, and keeps its gate from being freed.

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

    def __init__(self, handle: _Handle, facts: Facts) -> None:
        #: What is asked about. To be changed, not exchanged.
        self.facts = facts
        self._raw = _abi.Verdict()
        self._arguments = (handle, facts._argument, _FACTS_SIZE, ctypes.byref(self._raw))

    def connect(self) -> bool:
        """Checks the client; true if there is an objection."""
        result: int = _connect(*self._arguments)
        if result < 0:
            raise_for(result)
        return result != 0

    def rcpt(self) -> bool:
        """Checks the recipient; true if there is an objection."""
        result: int = _rcpt(*self._arguments)
        if result < 0:
            raise_for(result)
        return result != 0

    def verdict(self) -> Verdict:
        """What the last check came to."""
        return verdict_of(self._raw)

    def reply(self, stage: Stage = Stage.RCPT) -> str:
        """The reply of the last check, as `Verdict.reply`."""
        return reply_of(self._raw, stage)
