"""What the package does with right values and with wrong ones."""

import copy
import ctypes
import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import unittest
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address, ip_network
from pathlib import Path
from unittest import mock

import mxgate
from mxgate import Decider, Facts, For, Format, Gate, Mode, Result, Stage, Verdict, _abi, _library

POLICY = """
hostname = "mx.example.org"
[[list]]
name = "local"
entries = ["192.0.2.0/24 sent spam", "2001:db8:bad::/48"]
[[list]]
name = "watched"
enforce = false
entries = ["198.51.100.0/24"]
[[senders]]
name = "spammers"
entries = ["bad@example.com"]
[[domains]]
name = "parked"
entries = ["parked.example"]
[authentication]
spf_fail = "reject"
[relay]
local = ["example.org", "parked.example"]
trusted = []
"""


def gate():
    made = Gate()
    made.load_text(POLICY)
    return made


class FactsTest(unittest.TestCase):
    def test_addresses(self):
        for given, read in [
            ("192.0.2.7", "192.0.2.7"),
            ("[IPv6:2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0", "fe80::1"),
            (ip_address("192.0.2.7"), "192.0.2.7"),
            (ip_address("2001:db8::1"), "2001:db8::1"),
            (bytes([192, 0, 2, 7]), "192.0.2.7"),
            (ip_address("2001:db8::1").packed, "2001:db8::1"),
        ]:
            self.assertEqual(Facts(ip=given).ip, ip_address(read), given)
        facts = Facts(ip="2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
        facts.ip = "192.0.2.7"
        self.assertTrue(gate().check_connect(facts))
        facts.ip = None
        self.assertIsNone(facts.ip)
        self.assertFalse(gate().check_connect(facts))

    def test_wrong_addresses(self):
        facts = Facts(ip="192.0.2.7")
        for wrong in "", "192.0.2", "192.0.2.7/32", "mx.example.org", "192.0.2.7\0", b"", b"192.0.2.7", bytes(5), "\udcff":
            with self.assertRaisesRegex(ValueError, "address", msg=wrong):
                facts.ip = wrong
        for wrong in 3221225991, ("192.0.2.7", 25), ip_network("192.0.2.0/24"), bytearray(4):
            with self.assertRaisesRegex(TypeError, "^ip is .*; give str"):
                facts.ip = wrong
        self.assertEqual(facts.ip, ip_address("192.0.2.7"), "what is wrong changes nothing")

    def test_texts(self):
        facts = Facts(helo="client.example.com", sender="", recipient=b"a\0b@example.org")
        self.assertEqual((facts.helo, facts.sender, facts.recipient), (b"client.example.com", b"", b"a\0b@example.org"))
        facts.recipient = "us\udce4er@bücher.example"
        self.assertEqual(facts.recipient, b"us\xe4er@b\xc3\xbccher.example")
        facts.sender = None
        self.assertIsNone(facts.sender)
        facts.sender = "x" * 65536
        gate().check_rcpt(facts)
        with self.assertRaisesRegex(ValueError, "65537 bytes; 65536 is the most"):
            facts.sender = "x" * 65537
        for wrong in 1, bytearray(b"x"), ["x"]:
            with self.assertRaisesRegex(TypeError, "^helo is .*; give str or bytes$"):
                facts.helo = wrong

    def test_texts_live_as_long_as_the_facts(self):
        facts = Facts(recipient="".join(["user@", "parked.example"]))
        [bytearray(100) for _ in range(1000)]
        self.assertTrue(gate().check_rcpt(facts))

    def test_numbers(self):
        facts = Facts(port=25, spf=Result.FAIL, authenticated=True, now=1_800_000_000)
        self.assertEqual((facts.port, facts.spf, facts.dkim), (25, Result.FAIL, Result.UNKNOWN))
        self.assertEqual((facts.authenticated, facts.tls, facts.trusted, facts.now), (True, False, False, 1_800_000_000))
        facts.trusted, facts.authenticated = True, False
        self.assertEqual((facts.authenticated, facts.tls, facts.trusted), (False, False, True))
        facts.now = datetime(2027, 1, 15, 9, tzinfo=timezone(timedelta(hours=1)))
        self.assertEqual(facts.now, 1_800_000_000)
        for name, wrong in [
            ("now", datetime(2027, 1, 15)),
            ("now", 0),
            ("now", -1),
            ("now", 1 << 64),
            ("port", 0),
            ("port", 65536),
            ("spf", 9),
            ("rdns", "pass"),
        ]:
            with self.assertRaises(ValueError, msg=(name, wrong)):
                setattr(facts, name, wrong)
        for name, wrong in [("now", 1.5), ("now", "1800000000"), ("port", "25")]:
            with self.assertRaises(TypeError, msg=(name, wrong)):
                setattr(facts, name, wrong)

    def test_only_what_there_is_can_be_set(self):
        with self.assertRaises(TypeError):
            Facts(address="192.0.2.7")
        with self.assertRaises(AttributeError):
            Facts().address = "192.0.2.7"
        with self.assertRaises(AttributeError):
            del Facts().ip

    def test_a_copy_is_independent(self):
        facts = Facts(ip="192.0.2.7", recipient="a@example.org", tls=True, dmarc=Result.PASS)
        for other in copy.copy(facts), copy.deepcopy(facts), pickle.loads(pickle.dumps(facts)):
            self.assertEqual(repr(other), repr(facts))
            other.recipient, other.ip = "b@example.org", "192.0.2.8"
            self.assertEqual((facts.recipient, facts.ip), (b"a@example.org", ip_address("192.0.2.7")))


class Checks(unittest.TestCase):
    def test_each_fact_reaches_the_library(self):
        made = gate()
        for facts, decider in [
            (Facts(), Decider.NOTHING),
            (Facts(ip="192.0.2.7"), Decider.BLOCK),
            (Facts(ip="192.0.2.7", authenticated=True), Decider.NOTHING),
            (Facts(sender="<bad@example.com>"), Decider.SENDER),
            (Facts(spf=Result.FAIL), Decider.AUTHENTICATION),
            (Facts(spf=Result.SOFTFAIL), Decider.NOTHING),
            (Facts(ip="203.0.113.1", recipient="user@example.net"), Decider.RELAY),
            (Facts(ip="203.0.113.1", recipient="user@example.net", trusted=True), Decider.NOTHING),
            (Facts(ip="203.0.113.1", recipient="user@parked.example"), Decider.DOMAIN),
        ]:
            self.assertEqual(made.check_rcpt(facts).decider, decider, facts)

    def test_helo_stands_in_replies(self):
        made = Gate()
        made.load_text(POLICY.replace("entries = [", 'reply = "550 5.7.1 not {helo}"\nentries = [', 1))
        self.assertEqual(made.check_connect(Facts(ip="192.0.2.7", helo="client.example.com")).text, "not client.example.com")

    def test_stages(self):
        made = gate()
        facts = Facts(ip="203.0.113.1", sender="bad@example.com", recipient="user@parked.example")
        self.assertEqual(made.check_connect(facts).decider, Decider.NOTHING)
        self.assertEqual(made.check_mail(facts).decider, Decider.SENDER)
        self.assertEqual(made.check_rcpt(facts).decider, Decider.DOMAIN)
        checker = made.checker(facts)
        self.assertEqual((checker.connect(), checker.mail(), checker.rcpt()), (False, True, True))
        self.assertEqual(checker.verdict(), made.check_rcpt(facts))
        self.assertEqual(checker.reply(), "521 5.3.2 parked.example does not accept mail")

    def test_sessions_are_counted_until_they_end(self):
        made = Gate()
        made.load_text('hostname = "mx.example.org"\nlimits.concurrent = 1')
        facts = Facts(ip="203.0.113.1")
        self.assertFalse(made.check_connect(facts))
        self.assertEqual(made.check_connect(facts).decider, Decider.LIMIT)
        made.end_session(facts)
        self.assertFalse(made.check_connect(facts))

    def test_expiry_goes_by_the_time_that_is_given(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as feed:
            feed.write("192.0.2.0/24\n")
            feed.flush()
            os.utime(feed.name, (1_800_000_000, 1_800_000_000))
            made = Gate()
            made.load_text(f'hostname = "mx.example.org"\n[[list]]\nname = "feed"\nttl = "1h"\nfile = "{feed.name}"')
            for now, refused in (1_800_003_599, True), (1_800_003_600, False):
                self.assertEqual(bool(made.check_connect(Facts(ip="192.0.2.7", now=now))), refused)

    def test_a_verdict_is_a_plain_value(self):
        verdict = gate().check_rcpt(Facts(ip="192.0.2.7"))
        self.assertTrue(verdict)
        self.assertEqual(
            dataclasses.asdict(verdict),
            {
                "code": 550,
                "status": "5.7.1",
                "text": "Service unavailable; client [192.0.2.7] blocked using local",
                "hangup": False,
                "decider": Decider.BLOCK,
                "list": "local",
                "entry": "192.0.2.0/24",
                "line": 5,
                "reason": "sent spam",
                "shadow": "",
                "generation": 1,
                "host": "mx.example.org",
            },
        )
        with self.assertRaises(dataclasses.FrozenInstanceError):
            verdict.code = 250
        self.assertEqual(pickle.loads(pickle.dumps(verdict)), verdict)
        self.assertEqual(len({verdict, copy.copy(verdict)}), 1)
        watched = gate().check_connect(Facts(ip="198.51.100.1"))
        self.assertEqual((bool(watched), watched.shadow, watched.reply()), (False, "watched", ""))

    def test_replies(self):
        verdict = Verdict(code=521, status="5.7.1", text="50% off", host="mx.example.org", hangup=True)
        for stage, reader, reply in [
            (Stage.CONNECT, For.CLIENT, "521 mx.example.org 50% off"),
            (Stage.HELO, For.CLIENT, "521 5.7.1 50% off"),
            (Stage.MAIL, For.CLIENT, "521 5.7.1 50% off"),
            (Stage.RCPT, For.MILTER, "521 5.7.1 50%% off"),
            (Stage.RCPT, For.POSTFIX, "521 5.7.1 50% off"),
            (Stage.CONNECT, For.EXIM, "521 mx.example.org 50% off"),
            (Stage.RCPT, For.OPENSMTPD, "disconnect|521 5.7.1 50% off"),
        ]:
            self.assertEqual(verdict.reply(stage, reader), reply)
        self.assertEqual(Verdict(code=250, status="2.0.0", text="OK").reply(), "", "not an objection")
        self.assertEqual(len(Verdict(code=550, status="5.7.1", text="%" * 399).reply(reader=For.MILTER)), 10 + 2 * 399)

    def test_a_decider_of_a_later_release_is_a_number(self):
        later = Decider(99)
        self.assertEqual((later, later.name), (99, "DECIDER_99"))
        with self.assertRaises(ValueError):
            Decider("BLOCK")

    def test_without_rules_everything_is_accepted(self):
        self.assertEqual(Gate().check_rcpt(Facts(ip="192.0.2.7", recipient="user@example.org")), Verdict())


class Administration(unittest.TestCase):
    def test_bans(self):
        made = gate()
        made.ban(ip_network("203.0.113.0/24"), timedelta(milliseconds=1500), b"tries \xff passwords")
        made.ban(ip_address("2001:db8::1"), 3600)
        verdict = made.check_connect(Facts(ip="203.0.113.9"))
        self.assertEqual((verdict.decider, verdict.entry), (Decider.BAN, "203.0.113.0/24"))
        self.assertEqual(made.count().bans, 2)
        self.assertEqual((made.unban("2001:db8::1"), made.unban("2001:db8::1")), (True, False))
        with self.assertRaises(mxgate.PolicySyntaxError) as caught:
            made.ban("127.0.0.0/8")
        (diagnostic,) = caught.exception.diagnostics
        self.assertEqual((diagnostic.file, diagnostic.line, str(diagnostic)), ("", 0, str(caught.exception)))
        self.assertTrue(diagnostic.cause and diagnostic.remedy)
        with self.assertRaises(mxgate.PolicySyntaxError):
            made.unban("nonsense")
        for wrong in 0, -1, timedelta(0), timedelta(days=-1), 1 << 64:
            with self.assertRaisesRegex(ValueError, "give more than 0"):
                made.ban("203.0.113.0/24", wrong)

    def test_modes(self):
        made = gate()
        for mode, code in (Mode.MAINTENANCE, 421), (Mode.NO_MAIL, 521), (Mode.OPEN, 0), (Mode.OF_POLICY, 0):
            made.set_mode(mode)
            self.assertEqual(made.check_connect(Facts(ip="203.0.113.9")).code, code)
        with self.assertRaises(ValueError):
            made.set_mode(6)

    def test_lists_and_files_that_change(self):
        with tempfile.TemporaryDirectory() as directory:
            policy, list_ = Path(directory, "mxgate.toml"), Path(directory, "list.txt")
            list_.write_text("192.0.2.1\n")
            policy.write_text('hostname = "mx.example.org"\n[[list]]\nname = "file"\nfile = "list.txt"')
            made = Gate(policy)
            self.assertFalse(made.refresh())
            list_.write_text("192.0.2.1\n192.0.2.2\n")
            self.assertTrue(made.refresh())
            self.assertTrue(made.check_connect(Facts(ip="192.0.2.2")))
            made.set_list("file", "192.0.2.3\n")
            self.assertEqual([bool(made.check_connect(Facts(ip=f"192.0.2.{n}"))) for n in (1, 2, 3)], [False, False, True])
            made.set_list("file", None)
            self.assertTrue(made.check_connect(Facts(ip="192.0.2.1")))
            with self.assertRaises(mxgate.LoadError):
                made.set_list("other", "192.0.2.3\n")
            with self.assertRaisesRegex(ValueError, "NUL"):
                made.set_list("fi\0le", "192.0.2.3\n")

    def test_explanations_and_status(self):
        made = gate()
        facts = Facts(ip="192.0.2.7", recipient="user@example.org")
        self.assertIn("local", made.explain(facts))
        self.assertEqual(made.count().checks, 0, "to explain is not to check")
        made.check_rcpt(facts)
        made.check_connect(Facts(ip="198.51.100.1"))
        counted = made.count()
        self.assertEqual((counted.generation, counted.checks, counted.rejected, counted.would_refuse), (1, 2, 1, 1))
        self.assertTrue(made.status().startswith("211"))
        self.assertIsInstance(json.loads(made.status(Format.JSON)), dict)
        lists = "".join(f'[[list]]\nname = "list-{n}"\nentries = ["192.0.2.0/24"]\n' for n in range(500))
        made.load_text(f'hostname = "mx.example.org"\n{lists}')
        long = made.status(Format.JSON)
        self.assertGreater(len(long), 1 << 14, "longer than the buffer that is tried first")
        self.assertIn("list-499", json.dumps(json.loads(long)))

    def test_the_log(self):
        lines = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append((record.levelno, record.getMessage()))
        logger = logging.Logger("mxgate", logging.DEBUG)
        logger.addHandler(handler)
        made = gate()
        self.addCleanup(mxgate.set_log, None)
        mxgate.set_log(logger)
        made.ban("203.0.113.9", reason="tries %s and %d")
        with self.assertRaises(mxgate.LoadError):
            made.load_text("nonsense = 1")
        self.assertEqual(lines[0], (logging.INFO, "203.0.113.9/32 is banned: tries ?s and ?d"))
        self.assertEqual(lines[-1][0], logging.ERROR)
        before = len(lines)
        mxgate.set_log(logger, logging.ERROR)
        made.unban("203.0.113.9")
        mxgate.set_log(None)
        made.ban("203.0.113.9")
        self.assertEqual(len(lines), before)


class Errors(unittest.TestCase):
    def test_a_policy_with_mistakes(self):
        made = gate()
        with self.assertRaises(mxgate.PolicySyntaxError) as caught:
            made.load_text('hostname = "mx.example.org"\nnonsense = 1\n[[list]]\nname = "a; b"\nentries = ["192.0.2.1/24"]')
        error = caught.exception
        self.assertIsInstance(error, (mxgate.LoadError, mxgate.Error, ValueError))
        self.assertEqual(error.result, _abi.ESYNTAX)
        self.assertEqual((error.filename, error.lineno, error.offset), ("policy", 2, 1))
        self.assertEqual([str(diagnostic) for diagnostic in error.diagnostics], str(error).split("\n"))
        self.assertGreaterEqual(len(error.diagnostics), 2)
        for diagnostic in error.diagnostics:
            self.assertTrue(diagnostic.file and diagnostic.line and diagnostic.column and diagnostic.cause and diagnostic.remedy)
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((str(again), again.result, again.diagnostics), (str(error), error.result, error.diagnostics))
        self.assertEqual(made.check_connect(Facts(ip="192.0.2.7")).generation, 1, "the rules in force stay")

    def test_files_that_cannot_be_read(self):
        with self.assertRaises(mxgate.ReadError) as caught:
            Gate("/nonexistent/mxgate.toml")
        self.assertIsInstance(caught.exception, OSError)
        self.assertEqual(caught.exception.filename, "/nonexistent/mxgate.toml")
        self.assertRegex(str(caught.exception), "^/nonexistent/mxgate.toml:1:1: cannot read the policy: .*; check the path")
        self.assertEqual(caught.exception.result, _abi.EIO)
        with tempfile.TemporaryDirectory() as directory:
            for name in os.path.join(os.fsencode(directory), b"\xff"), Path(directory):
                with self.assertRaises(mxgate.ReadError):
                    Gate(name)
        for wrong in "mxgate.toml\0", "x" * 5000:
            with self.assertRaises((ValueError, mxgate.Error)):
                Gate(wrong)
        for wrong in 1, ["mxgate.toml"]:
            with self.assertRaises(TypeError):
                Gate(wrong)

    def test_images(self):
        made = Gate()
        made.load_text(POLICY)
        with self.assertRaises(mxgate.ReadError) as caught:
            made.open_image("/nonexistent/policy.mxg")
        self.assertRegex(str(caught.exception), "^/nonexistent/policy.mxg:1:1: cannot read the image: .*; check the path")
        with tempfile.NamedTemporaryFile() as policy:
            policy.write(POLICY.encode())
            policy.flush()
            with self.assertRaisesRegex(mxgate.PolicySyntaxError, "the file is no image of a policy; name one that mxgate compile"):
                made.open_image(policy.name)
        with self.assertRaisesRegex(ValueError, "NUL"):
            made.open_image("policy\0.mxg")
        # tests/python.rs has written it.
        made.open_image(Path(os.environ["MXGATE_TEST_IMAGE"]))
        self.assertTrue(made.check_connect(Facts(ip="192.0.2.7")))
        self.assertEqual(made.count().generation, 2)

    def test_warnings(self):
        made = Gate()
        made.load_text('hostname = "mx.example.org"\n[[list]]\nname = "wide"\nentries = ["10.0.0.0/8"]')
        (warning,) = made.warnings
        self.assertTrue(warning.warning and ": warning: " in str(warning))
        made.load_text(POLICY)
        self.assertEqual(made.warnings, ())

    def test_a_limit(self):
        with self.assertRaises(mxgate.LimitError):
            Gate().load_text(" " * (1 << 24) + "\n")

    def test_a_bad_argument(self):
        with self.assertRaises(mxgate.Error) as caught:
            gate().load_file("x" * 5000)
        self.assertEqual(caught.exception.result, _abi.EINVAL)
        for wrong in None, bytearray(b"x"), 1:
            with self.assertRaisesRegex(TypeError, "text is .*; give str or bytes"):
                gate().load_text(wrong)
        for wrong in None, "192.0.2.7", {"ip": "192.0.2.7"}:
            with self.assertRaises((AttributeError, TypeError)):
                gate().check_connect(wrong)

    def test_a_closed_gate(self):
        facts = Facts(ip="192.0.2.7")
        with gate() as made:
            checker = made.checker(facts)
        made.close()
        for use in (
            lambda: made.check_rcpt(facts),
            lambda: made.load_text(POLICY),
            made.refresh,
            made.count,
            made.status,
            lambda: made.checker(facts),
        ):
            with self.assertRaisesRegex(ValueError, "the gate is closed"):
                use()
        self.assertTrue(checker.rcpt(), "a checker keeps its gate")

    def test_gates_are_freed(self):
        policy = 'hostname = "mx.example.org"\n[[list]]\nname = "many"\nfile = "many.txt"'
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "many.txt").write_text("".join(f"192.0.{n >> 8}.{n & 255}\n" for n in range(1 << 16)))
            Path(directory, "mxgate.toml").write_text(policy)

            def resident():
                return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

            def load(times):
                for _ in range(times):
                    Gate(Path(directory, "mxgate.toml"))

            load(10)
            before = resident()
            load(1)
            kept = Gate(Path(directory, "mxgate.toml"))
            load(100)
            # A gate of that size has at least 256 KiB.
            self.assertLess(resident() - before, 10 << 20)
            kept.close()


class Library(unittest.TestCase):
    def importing(self, library):
        environment = {**os.environ, "MXGATE_LIBRARY": library}
        child = subprocess.run([sys.executable, "-c", "import mxgate"], env=environment, capture_output=True, text=True)
        return child.returncode, child.stderr

    def test_a_library_that_is_not_there(self):
        status, said = self.importing("/nonexistent/libmxgate.so.1")
        self.assertEqual(status, 1)
        self.assertRegex(said, "ImportError: /nonexistent/libmxgate.so.1: .*; install libmxgate, or set MXGATE_LIBRARY")

    def test_a_library_that_is_another(self):
        status, said = self.importing("libc.so.6")
        self.assertEqual(status, 1)
        self.assertIn("this package needs a libmxgate as new as itself", said)

    def test_a_library_with_another_abi(self):
        with mock.patch.object(_abi, "ABI", 2), self.assertRaisesRegex(ImportError, "has ABI 1 .*needs a libmxgate with ABI 2"):
            _library.load(_library.find())

        class Larger(ctypes.Structure):
            _fields_ = [("facts", _abi.Facts), ("more", ctypes.c_uint64)]

        for what in _abi.STRUCTURES:
            with mock.patch.dict(_abi.STRUCTURES, {what: Larger}), self.assertRaises(ImportError):
                with mock.patch.object(_abi, "Verdict", _abi.STRUCTURES[2]):
                    _library.load(_library.find())

    def test_the_library_beside_the_package_comes_first(self):
        with mock.patch.object(Path, "exists", return_value=True):
            self.assertEqual(Path(_library.find()).parent, Path(mxgate.__file__).parent)
        with mock.patch.dict(os.environ, clear=True):
            self.assertEqual(_library.find(), "libmxgate.so.1")


if __name__ == "__main__":
    unittest.main()
