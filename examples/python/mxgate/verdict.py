"""The answer."""

from __future__ import annotations

import ctypes
import enum
from dataclasses import dataclass
from typing import Optional

from . import _abi
from ._library import quick


class Stage(enum.IntEnum):
    """Where in an SMTP session a reply is sent."""

    #: Instead of the greeting.
    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3


class For(enum.IntEnum):
    """Who reads a reply."""

    #: An SMTP client, to which it is sent as it is.
    CLIENT = 0
    #: A mail server behind libmilter: percent signs are doubled, as smfi_setreply() wants them.
    MILTER = 1
    #: Postfix: the action of a policy service or an access table.
    POSTFIX = 2
    #: Exim: the message of an ACL.
    EXIM = 3
    #: OpenSMTPD: the decision of a filter, such as "reject|550 5.7.1 text".
    OPENSMTPD = 4


class Decider(enum.IntEnum):
    """What decided. Later releases of the library may know more."""

    #: No rule matched.
    NOTHING = 0
    #: Maintenance, draining, overloaded, no-mail.
    MODE = 1
    NEVER_BLOCK = 2
    ALLOW = 3
    BLOCK = 4
    #: A rule about the recipient's domain.
    DOMAIN = 5
    SENDER = 6
    RELAY = 7
    RECIPIENT = 8
    #: What SPF, DKIM, DMARC and reverse DNS came to.
    AUTHENTICATION = 9
    BAN = 10
    LIMIT = 11

    @classmethod
    def _missing_(cls, value: object) -> Optional[Decider]:
        """A number that this package does not know yet is a decider without a name of its own."""
        if not isinstance(value, int):
            return None
        decider = int.__new__(cls, value)
        decider._name_, decider._value_ = f"DECIDER_{value}", value
        return decider


@dataclass(frozen=True)
class Verdict:
    """What a check came to: a plain value that stays good after a load and after the gate.

    A verdict is true if there is an objection, so that a server says:

        if verdict:
            send(verdict.reply(Stage.RCPT))

    >>> verdict = Verdict(code=521, status="5.3.2", text="mx.example.org does not accept mail", host="mx.example.org")
    >>> bool(verdict), bool(Verdict())
    (True, False)
    """

    #: Reply code: 0 for no objection, else 421, 450, 521, 550, 556, ...
    code: int = 0
    #: Enhanced status code (RFC 3463) such as "5.7.1".
    status: str = ""
    #: Text of the reply: one line of printable ASCII.
    text: str = ""
    #: Whether to close the connection after the reply.
    hangup: bool = False
    decider: Decider = Decider.NOTHING
    #: Name of the list that decided; "" if none did.
    list: str = ""
    #: Entry of that list, such as "192.0.2.0/24" or "*.example.org".
    entry: str = ""
    #: Line of that entry in the file of its list; 0 if none decided.
    line: int = 0
    #: What the list says about that entry, or which checks failed ("spf=fail"); may be "".
    reason: str = ""
    #: Name of the first list that would have refused if it were enforced; "" if none.
    shadow: str = ""
    #: Number of the load whose rules decided; 0 before the first.
    generation: int = 0
    #: Name of this host, with which a greeting starts.
    host: str = ""

    def __bool__(self) -> bool:
        return self.code != 0

    def reply(self, stage: Stage = Stage.RCPT, reader: For = For.CLIENT) -> str:
        """The reply at that stage, for a client or for a mail server, without CR LF; "" if there is no objection.

        A greeting, which is what a client reads at connect, has no enhanced status code (RFC 2034 section 3), starts with the name of the host (RFC 5321 section
        4.3.1), and is a 421, a 521 (RFC 7504) or a 554.

        >>> verdict = Verdict(code=550, status="5.7.1", text="Client refused", host="mx.example.org")
        >>> verdict.reply(Stage.RCPT)
        '550 5.7.1 Client refused'
        >>> verdict.reply(Stage.CONNECT)
        '554 mx.example.org Client refused'
        """
        raw = _abi.Verdict(code=self.code, hangup=self.hangup)
        raw.status, raw.text, raw.host = self.status.encode(), self.text.encode(), self.host.encode()
        return reply_of(raw, stage, reader)


def verdict_of(raw: _abi.Verdict) -> Verdict:
    """What the structure holds."""
    return Verdict(
        code=raw.code,
        status=raw.status.decode(),
        text=raw.text.decode(),
        hangup=raw.hangup != 0,
        decider=Decider(raw.decider),
        list=raw.list.decode(errors="replace"),
        entry=raw.entry.decode(errors="replace"),
        line=raw.line,
        reason=raw.reason.decode(errors="replace"),
        shadow=raw.shadow.decode(errors="replace"),
        generation=raw.generation,
        host=raw.host.decode(),
    )


def reply_of(raw: _abi.Verdict, stage: Stage, reader: For) -> str:
    """The reply of a verdict."""
    reply = ctypes.create_string_buffer(_abi.REPLY_SIZE)
    quick.mxgate_reply(raw, stage, reader, reply, len(reply))
    return reply.value.decode()
