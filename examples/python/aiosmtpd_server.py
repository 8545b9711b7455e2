"""An SMTP server for asyncio (aiosmtpd) that asks mxgate: aiosmtpd_server.py POLICY [ADDRESS [PORT]]

At connect it turns away at once, with a greeting of its own, whom the policy wants to be rid of (521, 421). All other
replies are given at RCPT, where they reach the client unchanged, postmaster stays reachable, and authenticated clients are
known. SIGHUP loads the policy again; if it is wrong the rules in force stay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from typing import Any, List, cast

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
                transport.set_protocol(asyncio.Protocol())
                cast(asyncio.WriteTransport, transport).write(verdict.reply(Stage.CONNECT).encode() + b"\r\n")
                transport.close()
                return
        super().connection_made(transport)

    async def push(self, status: Any) -> None:
        await super().push(status)
        if self.hangup and self.transport is not None:
            self.transport.close()


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


def load(gate: Gate, policy: str) -> None:
    """Loads the policy again. What is wrong with it stands in the log, by `set_log`."""
    with contextlib.suppress(LoadError):
        gate.load_file(policy)


async def serve(policy: str, address: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    with Gate(policy) as gate:
        # Loads in a thread of its own: a long list takes a while, and checks go on meanwhile.
        loop.add_signal_handler(signal.SIGHUP, loop.run_in_executor, None, load, gate, policy)
        server = await loop.create_server(lambda: Server(gate), address, port)
        log.info("listening on %s port %d", *server.sockets[0].getsockname()[:2])
        async with server:
            await server.serve_forever()


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
