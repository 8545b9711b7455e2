"""The gate: the rules in force, questions to them, and what an administrator does with them."""

from __future__ import annotations

import ctypes
import enum
import math
import os
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from types import TracebackType
from typing import Callable, Optional, Tuple, Type, Union

from . import _abi
from ._library import quick, slow
from .checker import CHECKS, FACTS_SIZE, Checker, Handle
from .errors import Diagnostic, Error, diagnostics_of, raise_for
from .facts import Facts, Text, encoded
from .verdict import Stage, Verdict, verdict_of

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Network = Union[str, IPv4Address, IPv4Network, IPv6Address, IPv6Network]


class Mode(enum.IntEnum):
    """Whether the rules decide, or everybody gets the same answer."""

    #: The mode that the policy asks for.
    OF_POLICY = 0
    #: The rules decide.
    OPEN = 1
    MAINTENANCE = 2
    DRAINING = 3
    OVERLOADED = 4
    NO_MAIL = 5


class Format(enum.IntEnum):
    """How something is told."""

    #: For people.
    TEXT = 0
    #: For programs: `json.loads`.
    JSON = 1


@dataclass(frozen=True)
class Counters:
    """What a gate has done and has in force."""

    #: Loads that succeeded: the number of the rules in force.
    generation: int
    failed_loads: int
    #: Networks that the lists of the policy have.
    networks: int
    #: Names that its lists of domains have.
    domains: int
    #: Bans that have not ended.
    bans: int
    #: Checks since the gate was made.
    checks: int
    #: Checks that were answered with a 5xx.
    rejected: int
    #: Checks that were answered with a 4xx.
    deferred: int
    #: Checks that were accepted although a list would have refused if it were enforced.
    would_refuse: int


class Gate:
    """Holds the rules of a policy, and says by them whether a client goes on. Without a policy it accepts everything.

    Threads may share a gate, also while one of them loads. After `os.fork` the child has a gate of its own.

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
        handle = Handle(quick.mxgate_new())
        if not handle:
            raise MemoryError("mxgate_new")
        self._handle: Optional[Handle] = handle
        #: What the last load that succeeded had to say.
        self.warnings: Tuple[Diagnostic, ...] = ()
        if policy is not None:
            self.load_file(policy)

    def load_file(self, path: Path) -> None:
        """Puts the rules of a policy file, and of the lists that it names, in the place of the rules in force.

        If anything is wrong the rules in force stay and a `LoadError` says what: `PolicySyntaxError`, `ReadError` (a file
        cannot be read) or `LimitError`.
        """
        self._load(slow.mxgate_load_file, _terminated(os.fsencode(path)))

    def open_image(self, path: Path) -> None:
        """As `load_file`, for an image that `mxgate compile` has written, which is taken as it is, without being read as a whole.

        At once, however large it is, and in memory that all processes share that open it. `load_file` takes images too,
        and checks all of them.
        """
        self._load(slow.mxgate_open_image, _terminated(os.fsencode(path)))

    def load_text(self, text: Text) -> None:
        """As `load_file`, from the text of a policy. Relative names of files in it count from the current directory."""
        policy = encoded(text, "text")
        self._load(slow.mxgate_load_text, policy, len(policy))

    def refresh(self) -> bool:
        """Loads again, as `load_file`, if a file has changed since it was read. Says whether it did."""
        return self._load(slow.mxgate_refresh) > 0

    def set_list(self, name: str, text: Optional[Text]) -> None:
        """Puts a text in the place of the files or entries that the policy names for a list; None takes it back.

        It stays so over later loads. Any format of list will do, packed or not. Loads the whole policy again, as `load_file`.
        """
        entries = None if text is None else encoded(text, "text")
        self._load(slow.mxgate_set_list, _terminated(name.encode()), entries, len(entries or b""))

    def check_connect(self, facts: Facts) -> Verdict:
        """Checks a client that has just connected, by bans and lists."""
        return self._check(Stage.CONNECT, facts)

    def check_mail(self, facts: Facts) -> Verdict:
        """Checks a sender, and the client with it. A server that refuses here cannot let mail to postmaster pass."""
        return self._check(Stage.MAIL, facts)

    def check_rcpt(self, facts: Facts) -> Verdict:
        """Checks one recipient, and the client with it. Ask again for each recipient."""
        return self._check(Stage.RCPT, facts)

    def end_session(self, facts: Facts) -> None:
        """Ends a session that `check_connect` has let in, with the same facts: for the limit of concurrent sessions."""
        raise_for(quick.mxgate_end_session(self._open(), facts._raw, FACTS_SIZE))

    def checker(self, facts: Facts) -> Checker:
        """Asks about those facts again and again, with less ado."""
        return Checker(self._open(), facts)

    def ban(self, network: Network, duration: Union[int, timedelta, None] = None, reason: Text = "") -> None:
        """Refuses a network from now on, until `unban`, or for a duration or so many seconds.

        Bans come after the never-block set and the allow lists, and before the block lists; they stay over loads. A network
        that may not be banned is a `PolicySyntaxError`.

        >>> gate = Gate()
        >>> gate.load_text('hostname = "mx.example.org"')
        >>> gate.ban("192.0.2.7", timedelta(hours=1), "tries passwords")
        >>> verdict = gate.check_connect(Facts(ip="192.0.2.7"))
        >>> verdict.decider, verdict.entry, verdict.reason
        (<Decider.BAN: 10>, '192.0.2.7', 'tries passwords')
        """
        seconds = math.ceil(duration.total_seconds()) if isinstance(duration, timedelta) else duration
        if seconds is not None and not 0 < seconds < 1 << 64:
            raise ValueError(f"duration is {duration}; give more than 0, or None for a ban that does not end by itself")
        text, why = str(network).encode(), encoded(reason, "reason")
        self._change(slow.mxgate_ban, text, len(text), seconds or 0, why, len(why))

    def unban(self, network: Network) -> bool:
        """Lifts the ban of that very network. Says whether there was one."""
        text = str(network).encode()
        result, _ = self._change(slow.mxgate_unban, text, len(text))
        return result > 0

    def set_mode(self, mode: Mode) -> None:
        """Puts a mode in force, whatever the policy says. It stays over loads until it is `Mode.OF_POLICY`."""
        raise_for(slow.mxgate_set_mode(self._open(), Mode(mode)))

    def explain(self, facts: Facts, stage: Stage = Stage.RCPT, format: Format = Format.TEXT) -> str:
        """Why a question is answered as it is: lists that cover it, who wins, what would come without the winner."""
        return self._told(slow.mxgate_explain, stage, facts._argument, FACTS_SIZE, format)

    def status(self, format: Format = Format.TEXT) -> str:
        """The state of the gate: mode, rules, lists, counters. As text it is an SMTP reply 211 of several lines."""
        return self._told(slow.mxgate_status, format)

    def count(self) -> Counters:
        """The counters of the gate."""
        raw = _abi.Counters()
        raise_for(slow.mxgate_count(self._open(), raw, ctypes.sizeof(raw)))
        return Counters(**{name: getattr(raw, name) for name in Counters.__dataclass_fields__})

    def close(self) -> None:
        """Lets go of the rules, which are freed when nobody is using them any more. A gate may be closed again."""
        self._handle = None

    def __enter__(self) -> Gate:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], traceback: Optional[TracebackType]
    ) -> None:
        self.close()

    def _open(self) -> Handle:
        handle = self._handle
        if handle is None:
            raise ValueError("the gate is closed")
        return handle

    def _load(self, load: Callable[..., int], *arguments: object) -> int:
        result, self.warnings = self._change(load, *arguments)
        return result

    def _change(self, change: Callable[..., int], *arguments: object) -> Tuple[int, Tuple[Diagnostic, ...]]:
        message = ctypes.create_string_buffer(_abi.MESSAGE_SIZE)
        result = change(self._open(), *arguments, message, len(message))
        raise_for(result, message.value)
        return result, diagnostics_of(message.value)

    def _check(self, stage: Stage, facts: Facts) -> Verdict:
        raw = _abi.Verdict()
        raise_for(CHECKS[stage](self._open(), facts._argument, FACTS_SIZE, ctypes.byref(raw)))
        return verdict_of(raw)

    def _told(self, tell: Callable[..., int], *arguments: object) -> str:
        size = 1 << 14
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = tell(self._open(), *arguments, buffer, size)
            if length == 0:
                raise Error(f"{tell.__name__}: an argument is impossible", _abi.EINVAL)
            if length < size:
                return buffer.value.decode()
            size = length + 1


def _terminated(name: bytes) -> bytes:
    """A name as a C string, which could not say what comes behind a NUL."""
    if b"\0" in name:
        raise ValueError(f"{name!r} has a NUL in it")
    return name
