"""The question: what is known about a client and its message."""

from __future__ import annotations

import ctypes
import enum
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Dict, Generic, Optional, Tuple, TypeVar, Union, overload

from . import _abi
from ._library import quick

Address = Union[str, bytes, IPv4Address, IPv6Address]
Text = Union[str, bytes]
Moment = Union[int, datetime]


def encoded(text: Text, name: str) -> bytes:
    """A text as C has it. What is not UTF-8 comes as Python's mail servers and `os.fsdecode` have it."""
    if isinstance(text, str):
        return text.encode("utf-8", "surrogateescape")
    if not isinstance(text, bytes):
        raise TypeError(f"{name} is {type(text).__name__}; give str or bytes")
    return text


class Result(enum.IntEnum):
    """What SPF, DKIM, DMARC or reverse DNS came to, by the names of RFC 8601 section 2.7.

    >>> Result["softfail".upper()]
    <Result.SOFTFAIL: 4>
    """

    #: Not checked, or not known.
    UNKNOWN = 0
    PASS = 1
    #: There was nothing to check: no record, no signature.
    NONE = 2
    NEUTRAL = 3
    SOFTFAIL = 4
    FAIL = 5
    TEMPERROR = 6
    PERMERROR = 7
    #: Sound, but not acceptable to the checker (DKIM).
    POLICY = 8


_Found = TypeVar("_Found")
_Given = TypeVar("_Given")
_Self = TypeVar("_Self", bound="_Fact[Any, Any]")


class _Fact(Generic[_Found, _Given]):
    """An attribute of `Facts` that lives in the structure, so that it is prepared for a check when it is set."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self: _Self, facts: None, owner: type) -> _Self: ...
    @overload
    def __get__(self, facts: Facts, owner: type) -> _Found: ...
    def __get__(self: _Self, facts: Optional[Facts], owner: type) -> Any:
        return self if facts is None else self.read(facts._raw)

    def __set__(self, facts: Facts, value: _Given) -> None:
        self.write(facts._raw, value)

    def read(self, raw: _abi.Facts) -> _Found:
        raise NotImplementedError

    def write(self, raw: _abi.Facts, value: _Given) -> None:
        raise NotImplementedError

    def wrong_type(self, value: object, expected: str) -> TypeError:
        return TypeError(f"{self.name} is {type(value).__name__}; give {expected}")


class _AddressFact(_Fact[Union[IPv4Address, IPv6Address, None], Optional[Address]]):
    def read(self, raw: _abi.Facts) -> Union[IPv4Address, IPv6Address, None]:
        size: int = raw.address_size
        return ip_address(bytes(raw.address)[:size]) if size else None

    def write(self, raw: _abi.Facts, value: Optional[Address]) -> None:
        if isinstance(value, str):
            # The zone of a link-local address ("fe80::1%eth0") says where it is, not what it is.
            text = value.partition("%")[0].encode("ascii", "replace")
            size: int = quick.mxgate_address(text, len(text), raw.address)
            if size == 0:
                raise ValueError(f"{value!r} is not an IP address; write it such as 192.0.2.1 or 2001:db8::1")
        elif value is None:
            size = 0
        else:
            if isinstance(value, (IPv4Address, IPv6Address)):
                value = value.packed
            elif not isinstance(value, bytes):
                raise self.wrong_type(value, "str, an address of ipaddress, or 4 or 16 bytes")
            size = len(value)
            if size not in (4, 16):
                raise ValueError(f"an address of {size} bytes; give 4 or 16 bytes in network order, or text as str")
            ctypes.memmove(raw.address, value, size)
        raw.address_size = size


class _TextFact(_Fact[Optional[bytes], Optional[Text]]):
    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self.length = name + "_length"
        self.offset: int = getattr(_abi.Facts, name).offset

    def read(self, raw: _abi.Facts) -> Optional[bytes]:
        pointer = ctypes.c_void_p.from_buffer(raw, self.offset)
        return ctypes.string_at(pointer, getattr(raw, self.length)) if pointer else None

    def write(self, raw: _abi.Facts, value: Optional[Text]) -> None:
        text = None if value is None else encoded(value, self.name)
        length = len(text or b"")
        if length > _abi.MAX_TEXT:
            raise ValueError(f"{self.name} has {length} bytes; {_abi.MAX_TEXT} is the most that is looked at")
        # At no moment longer than the text is, for threads that share what they should not.
        setattr(raw, self.length, 0)
        setattr(raw, self.name, text)
        setattr(raw, self.length, length)


class _FlagFact(_Fact[bool, bool]):
    def __set_name__(self, owner: type, name: str) -> None:
        super().__set_name__(owner, name)
        self.flag: int = getattr(_abi, name.upper())

    def read(self, raw: _abi.Facts) -> bool:
        return bool(raw.flags & self.flag)

    def write(self, raw: _abi.Facts, value: bool) -> None:
        raw.flags = raw.flags | self.flag if value else raw.flags & ~self.flag


class _ResultFact(_Fact[Result, Result]):
    def read(self, raw: _abi.Facts) -> Result:
        return Result(getattr(raw, self.name))

    def write(self, raw: _abi.Facts, value: Result) -> None:
        setattr(raw, self.name, Result(value))


class _PortFact(_Fact[Optional[int], Optional[int]]):
    def read(self, raw: _abi.Facts) -> Optional[int]:
        return raw.port or None

    def write(self, raw: _abi.Facts, value: Optional[int]) -> None:
        if value is not None and not 0 < value < 1 << 16:
            raise ValueError(f"port is {value}; give a number from 1 to 65535")
        raw.port = value or 0


class _MomentFact(_Fact[Optional[int], Optional[Moment]]):
    def read(self, raw: _abi.Facts) -> Optional[int]:
        return raw.now or None

    def write(self, raw: _abi.Facts, value: Optional[Moment]) -> None:
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("now has no time zone; write datetime.now(timezone.utc)")
            value = int(value.timestamp())
        elif value is not None and not isinstance(value, int):
            raise self.wrong_type(value, "datetime, or int (seconds since 1970-01-01 UTC)")
        if value is not None and not 0 < value < 1 << 64:
            raise ValueError(f"now is {value}; give seconds since 1970-01-01 UTC, more than 0")
        raw.now = value or 0


class Facts:
    """What is known about a client and its message. What is not given is not known, and no rule about it matches.

    Facts belong to one session, and so to one thread: set each as it becomes known, and ask again.

    >>> facts = Facts(ip="192.0.2.7", sender="<sender@example.com>")
    >>> facts.recipient = "user@example.org"
    >>> facts
    Facts(ip=IPv4Address('192.0.2.7'), sender=b'<sender@example.com>', recipient=b'user@example.org')

    What is set is checked at once:

    >>> facts.ip = "192.0.2.256"
    Traceback (most recent call last):
        ...
    ValueError: '192.0.2.256' is not an IP address; write it such as 192.0.2.1 or 2001:db8::1
    """

    __slots__ = ("_argument", "_raw")

    #: Address of the client, as text, an object of `ipaddress`, or 4 or 16 bytes. ``::ffff:a.b.c.d`` counts as ``a.b.c.d``.
    ip = _AddressFact()
    #: Port of the client. Only explanations show it.
    port = _PortFact()
    #: Argument of HELO or EHLO: ``{helo}`` in replies.
    helo = _TextFact()
    #: Argument of MAIL, with or without ``<>``; an empty one is the sender of bounces, which no rule about senders refuses.
    sender = _TextFact()
    #: Argument of RCPT, with or without ``<>``: the address that the mail will be delivered to.
    recipient = _TextFact()
    #: Whether the client has authenticated (SMTP AUTH).
    authenticated = _FlagFact()
    #: Whether the session is encrypted (STARTTLS). Only explanations show it.
    tls = _FlagFact()
    #: Whether the mail server trusts the client to send mail to everybody, as a policy does by ``[relay] trusted``.
    trusted = _FlagFact()
    #: What checking SPF came to (RFC 7208).
    spf = _ResultFact()
    #: What checking DKIM came to (RFC 6376): `Result.PASS` if any signature passes.
    dkim = _ResultFact()
    #: What checking DMARC came to: `Result.FAIL` where the owner of the domain asks for it to be refused.
    dmarc = _ResultFact()
    #: Whether the client's name leads back to its address (iprev, RFC 8601 section 2.7.3).
    rdns = _ResultFact()
    #: When it is, by which entries of lists expire: aware `datetime`, or seconds since 1970-01-01 UTC; None for the clock.
    now = _MomentFact()

    def __init__(
        self,
        *,
        ip: Optional[Address] = None,
        port: Optional[int] = None,
        helo: Optional[Text] = None,
        sender: Optional[Text] = None,
        recipient: Optional[Text] = None,
        authenticated: bool = False,
        tls: bool = False,
        trusted: bool = False,
        spf: Result = Result.UNKNOWN,
        dkim: Result = Result.UNKNOWN,
        dmarc: Result = Result.UNKNOWN,
        rdns: Result = Result.UNKNOWN,
        now: Optional[Moment] = None,
    ) -> None:
        self._raw = _abi.Facts()
        #: The structure as a C function takes it.
        self._argument = ctypes.byref(self._raw)
        # In a new structure nothing is known.
        if ip is not None:
            self.ip = ip
        if port is not None:
            self.port = port
        if helo is not None:
            self.helo = helo
        if sender is not None:
            self.sender = sender
        if recipient is not None:
            self.recipient = recipient
        if authenticated:
            self.authenticated = True
        if tls:
            self.tls = True
        if trusted:
            self.trusted = True
        if spf:
            self.spf = spf
        if dkim:
            self.dkim = dkim
        if dmarc:
            self.dmarc = dmarc
        if rdns:
            self.rdns = rdns
        if now is not None:
            self.now = now

    def _known(self) -> Dict[str, object]:
        facts = ((name, getattr(self, name)) for name, fact in vars(Facts).items() if isinstance(fact, _Fact))
        return {name: value for name, value in facts if value is not None and value != 0}

    def __repr__(self) -> str:
        return f"Facts({', '.join(f'{name}={value!r}' for name, value in self._known().items())})"

    def __reduce__(self) -> Tuple[object, ...]:
        # A copy has a structure of its own.
        return _restore, (self._known(),)


def _restore(known: Dict[str, Any]) -> Facts:
    return Facts(**known)
