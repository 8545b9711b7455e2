"""What smtplib reads from examples/python/aiosmtpd_server.py, which tests/python.rs starts on PORT."""

import os
import smtplib
import socket
import time
import unittest

PORT = int(os.environ["PORT"])


def greeted(client):
    """A connection from that address, and its greeting."""
    smtp = smtplib.SMTP(timeout=30, source_address=(client, 0))
    return smtp, smtp.connect("127.0.0.1", PORT)


class Server(unittest.TestCase):
    def closed(self, smtp):
        """The server has hung up."""
        with self.assertRaises(smtplib.SMTPServerDisconnected):
            smtp.getreply()

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

    def test_a_client_to_be_rid_of_gets_another_greeting_and_may_only_quit(self):
        reply = b"mx.example.org Service unavailable; client [127.0.0.33] blocked using botnets"
        for command, answer in ("QUIT", (221, b"2.0.0 Bye")), ("EHLO client.example.net", (521, reply)), ("X" * 600, (521, reply)):
            smtp, greeting = greeted("127.0.0.33")
            self.assertEqual(greeting, (521, reply))
            self.assertEqual(smtp.docmd(command), answer)
            self.closed(smtp)

    def test_a_command_in_pieces(self):
        smtp, _ = greeted("127.0.0.33")
        for piece in "QU", "IT\r", "\n":
            smtp.send(piece)
            time.sleep(0.05)
        self.assertEqual(smtp.getreply(), (221, b"2.0.0 Bye"))
        self.closed(smtp)

    def test_a_421_as_greeting_ends_the_connection(self):
        with socket.create_connection(("127.0.0.1", PORT), 30, ("127.0.0.50", 0)) as connection:
            with connection.makefile("rb") as replies:
                self.assertEqual(replies.read(), b"421 mx.example.org Come back tomorrow\r\n", "nothing comes behind it but the end")

    def test_after_a_421_at_rcpt_the_connection_closes(self):
        smtp = self.session("127.0.0.10")
        self.assertEqual(smtp.rcpt("user@later.example"), (421, b"4.3.2 Come back tomorrow"))
        self.closed(smtp)

    def test_facts_of_the_session_reach_the_rules(self):
        smtp = self.session("127.0.0.10")
        self.assertEqual(smtp.rset()[0], 250)
        self.assertEqual(smtp.mail("spammer@example.com")[0], 250)
        self.assertEqual(smtp.rcpt("user@example.org"), (550, b"5.7.1 client.example.net may not send as spammer@example.com"))
        self.assertEqual(smtp.quit()[0], 221)


if __name__ == "__main__":
    unittest.main()
