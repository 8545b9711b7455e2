"""An SMTP server for asyncio (aiosmtpd) that asks mxgate: aiosmtpd_server.py POLICY [ADDRESS [PORT]]

At connect it turns away, with a greeting of its own, whom the policy wants to be rid of (521, 421). All other replies are
given at RCPT, where postmaster stays reachable and authenticated clients are known. When the policy or one of its lists
changes it is loaded again; if it is wrong the rules in force stay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from typing import Any, List, Optional, cast

from aiosmtpd.smtp import SMTP, Envelope, Session

from mxgate import Facts, Gate, LoadError, Stage, set_log

log = logging.getLogger("aiosmtpd_server")


class Server(SMTP):
    """One connection."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(Handler(), enable_SMTPUTF8=True)
        self.gate = gate
        self.facts = Facts()
        #: Close the connection after the next reply.
        self.hangup = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # aiosmtpd has no hook before its greeting, so a client that gets another one never comes as far as aiosmtpd. After
        # STARTTLS there is a connection once more, of a client that has been greeted.
        if self.transport is None:
            self.facts.ip, self.facts.port = transport.get_extra_info("peername")[:2]
            verdict = self.gate.check_connect(self.facts)
            if verdict.hangup:
                refusal = Refusal(verdict.reply(Stage.CONNECT))
                transport.set_protocol(refusal)
                refusal.connection_made(transport)
                return
        super().connection_made(transport)

    async def push(self, status: Any) -> None:
        await super().push(status)
        if self.hangup and self.transport is not None:
            self.transport.close()


class Refusal(asyncio.Protocol):
    """A connection after another greeting. A 421 ends it (RFC 5321 section 3.8); after a 521 the client may say QUIT, and any
    other command gets the same reply again, and the end (RFC 7504 section 3)."""

    #: Longest command, and time to give it in.
    SIZE, SECONDS = 512, 300

    def __init__(self, reply: str) -> None:
        self.line = reply.encode() + b"\r\n"
        self.command = b""
        self.timeout: Optional[asyncio.TimerHandle] = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.line)
        if self.line.startswith(b"421"):
            self.transport.close()
        else:
            self.timeout = asyncio.get_running_loop().call_later(self.SECONDS, self.transport.close)

    def data_received(self, data: bytes) -> None:
        self.command += data
        command, end, _ = self.command.partition(b"\n")
        if end or len(self.command) > self.SIZE:
            self.transport.write(b"221 2.0.0 Bye\r\n" if command.strip().upper() == b"QUIT" else self.line)
            self.transport.close()

    def connection_lost(self, error: Optional[Exception]) -> None:
        if self.timeout is not None:
            self.timeout.cancel()


class Handler:
    """What happens to the mail."""

    async def handle_RCPT(
        self, server: Server, session: Session, envelope: Envelope, address: str, rcpt_options: List[str]
    ) -> str:
        facts = server.facts
        facts.authenticated, facts.tls = bool(session.authenticated), session.ssl is not None
        facts.helo, facts.sender, facts.recipient = session.host_name, envelope.mail_from, address
        verdict = server.gate.check_rcpt(facts)
        if verdict:
            server.hangup = verdict.hangup
            return verdict.reply(Stage.RCPT)
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: Server, session: Session, envelope: Envelope) -> str:
        # A mail server delivers envelope.content here.
        return "451 4.3.0 This example has no mailboxes"

    async def handle_exception(self, error: Exception) -> str:
        # aiosmtpd would answer 500, but a bug is no reason to refuse mail.
        log.error("while answering a command", exc_info=error)
        return "451 4.3.0 Try again later"


async def refresh(gate: Gate) -> None:
    """Loads what has changed. What is wrong with it stands in the log, by `set_log`."""
    while True:
        await asyncio.sleep(1)
        with contextlib.suppress(LoadError):
            # In a thread of its own: a long list takes a while, and checks go on meanwhile.
            await asyncio.to_thread(gate.refresh)


async def serve(policy: str, address: str, port: int) -> None:
    with Gate(policy) as gate:
        server = await asyncio.get_running_loop().create_server(lambda: Server(gate), address, port)
        async with server:
            await asyncio.gather(server.serve_forever(), refresh(gate))


def main() -> int:
    arguments = argparse.ArgumentParser(description="An SMTP server that asks mxgate.")
    arguments.add_argument("policy")
    arguments.add_argument("address", nargs="?", default="127.0.0.1")
    arguments.add_argument("port", nargs="?", type=int, default=2525)
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # what aiosmtpd says of every command
    set_log(log)
    try:
        asyncio.run(serve(given.policy, given.address, given.port))
    except (LoadError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
