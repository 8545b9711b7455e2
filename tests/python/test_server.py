"""What smtplib reads from examples/python/aiosmtpd_server.py: tests/python.rs starts it, and says where it listens (PORT),
what process it is (PID), and which policy it has (POLICY)."""

import os
import signal
import smtplib
import socket
import time
import unittest
from pathlib import Path

PORT = int(os.environ["PORT"])
PID = int(os.environ["PID"])
POLICY = Path(os.environ["POLICY"])


def greeted(client):
    """A connection from that address, and its greeting."""
    smtp = smtplib.SMTP(timeout=30, source_address=(client, 0))
    return smtp, smtp.connect("127.0.0.1", PORT)


class Server(unittest.TestCase):
    def session(self, client):
        """A session after MAIL."""
        smtp, (code, _) = greeted(client)
        self.assertEqual(code, 220)
        self.addCleanup(smtp.close)
        self.assertEqual(smtp.ehlo("client.example.net")[0], 250)
        self.assertEqual(smtp.mail("sender@example.com")[0], 250)
        return smtp

    def test_a_clean_client(self):
        smtp = self.session("127.0.0.10")
        self.assertEqual(smtp.rcpt("user@example.org"), (250, b"2.1.5 OK"))
        self.assertEqual(smtp.rcpt("user@parked.example"), (521, b"5.3.2 parked.example does not accept mail"))
        self.assertEqual(smtp.rcpt("user@example.org"), (250, b"2.1.5 OK"))
        self.assertEqual(smtp.data(b"Subject: hello\r\n\r\nhello\r\n"), (451, b"4.3.0 This example has no mailboxes"))
        self.assertEqual(smtp.quit()[0], 221)

    def test_a_listed_client_is_refused_at_rcpt_and_postmaster_stays_reachable(self):
        smtp = self.session("127.0.0.20")
        refused = b"5.7.1 Service unavailable; client [127.0.0.20] blocked using local"
        self.assertEqual(smtp.rcpt("user@example.org"), (550, refused))
        self.assertEqual(smtp.rcpt("postmaster@example.org"), (250, b"2.1.5 OK"))
        self.assertEqual(smtp.quit()[0], 221)

    def test_a_client_to_be_rid_of_gets_another_greeting_and_the_connection_closes(self):
        with socket.create_connection(("127.0.0.1", PORT), 30, ("127.0.0.33", 0)) as connection:
            with connection.makefile("rb") as replies:
                greeting = b"521 mx.example.org Service unavailable; client [127.0.0.33] blocked using botnets\r\n"
                self.assertEqual(replies.read(), greeting, "nothing comes behind it but the end")
        _, (code, text) = greeted("127.0.0.33")
        self.assertEqual((code, text), (521, b"mx.example.org Service unavailable; client [127.0.0.33] blocked using botnets"))

    def test_after_a_421_at_rcpt_the_connection_closes(self):
        smtp = self.session("127.0.0.10")
        self.assertEqual(smtp.rcpt("user@later.example"), (421, b"4.3.2 Come back tomorrow"))
        with self.assertRaises(smtplib.SMTPServerDisconnected):
            smtp.noop()

    def test_facts_of_the_session_reach_the_rules(self):
        smtp = self.session("127.0.0.10")
        self.assertEqual(smtp.rset()[0], 250)
        self.assertEqual(smtp.mail("spammer@example.com")[0], 250)
        self.assertEqual(smtp.rcpt("user@example.org"), (550, b"5.7.1 client.example.net may not send as spammer@example.com"))
        self.assertEqual(smtp.quit()[0], 221)

    def test_it_loads_again_at_sighup_and_a_mistake_changes_nothing(self):
        policy = POLICY.read_text()
        for text, code in (policy + "nonsense = 1\n", 220), (policy.replace('28"]', '28", "127.0.0.50"]', 1), 521):
            POLICY.write_text(text)
            os.kill(PID, signal.SIGHUP)
            deadline = time.monotonic() + (2 if code == 220 else 30)
            found = 0
            while time.monotonic() < deadline and found != 521:
                smtp, (found, _) = greeted("127.0.0.50")
                smtp.close()
                time.sleep(0.05)
            self.assertEqual(found, code)


if __name__ == "__main__":
    unittest.main()
