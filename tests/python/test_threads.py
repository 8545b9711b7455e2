"""Threads that check while others load, close and fork."""

import os
import signal
import sys
import threading
import time
import unittest
import warnings

from mxgate import Decider, Facts, Gate

#: Odd loads have the one, even loads the other.
POLICIES = [
    f'hostname = "mx.example.org"\n[[list]]\nname = "{name}"\nentries = ["192.0.2.0/24 {name}"]\n' for name in ("even", "odd")
]


class Threads(unittest.TestCase):
    def run_all(self, *work):
        """Runs each in a thread of its own; what goes wrong in one fails the test."""
        wrong = []

        def guarded(function):
            try:
                function()
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=guarded, args=(function,)) for function in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if wrong:
            raise wrong[0]

    def test_checks_while_loading_are_by_the_old_rules_or_by_the_new(self):
        gate = Gate()
        gate.load_text(POLICIES[1])
        done = threading.Event()
        seen = set()

        def load():
            try:
                for load in range(2, 302):
                    gate.load_text(POLICIES[load % 2])
            finally:
                done.set()

        def check(fast):
            facts = Facts(ip="192.0.2.7", recipient="user@example.org")
            checker = gate.checker(facts)
            while not done.is_set():
                for _ in range(20):
                    if fast:
                        self.assertTrue(checker.rcpt())
                        verdict = checker.verdict()
                    else:
                        verdict = gate.check_rcpt(facts)
                    expected = ("even", "odd")[verdict.generation % 2]
                    self.assertEqual((verdict.list, verdict.reason, verdict.decider), (expected, expected, Decider.BLOCK))
                    seen.add(verdict.generation)

        self.run_all(load, *(lambda fast=fast: check(fast) for fast in (True, False, True, False)))
        self.assertEqual(gate.count().generation, 301)
        self.assertGreater(len(seen), 2, "checks went on while rules were loaded")

    def test_other_threads_go_on_while_one_loads(self):
        """A step of the other thread falls between the beginning and the end of a load.

        No thread is made to hand over: so a step there means that the load itself let the other thread go on. A load
        that ends before the other thread gets a processor says nothing, and another is begun.
        """
        gate = Gate()
        entries = ", ".join(f'"192.0.2.{n % 256}"' for n in range(5000))
        policy = f'hostname = "mx.example.org"\n[[list]]\nname = "long"\nentries = [{entries}]\n'
        done, steps, during = threading.Event(), [], []

        def load():
            try:
                for _ in range(200):
                    before = len(steps)
                    gate.load_text(policy)
                    during.append(len(steps) - before)
                    if during[-1]:
                        break
            finally:
                done.set()

        def step():
            while not done.is_set():
                steps.append(None)
                time.sleep(0.0001)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            self.run_all(load, step)
        finally:
            sys.setswitchinterval(interval)
        self.assertGreater(during[-1], 0, f"{len(during)} loads, and no other thread went on during one")

    def test_close_while_others_check_and_load(self):
        long = POLICIES[0] + "".join(f'[[list]]\nname = "{n}"\nentries = ["198.51.100.{n}"]\n' for n in range(200))
        for _ in range(20):
            gate = Gate()
            gate.load_text(POLICIES[0])
            started = threading.Barrier(4)

            def load():
                started.wait()
                try:
                    while True:
                        gate.load_text(long)
                except ValueError as error:
                    self.assertEqual(str(error), "the gate is closed")

            def check():
                facts = Facts(ip="192.0.2.7")
                started.wait()
                try:
                    while True:
                        self.assertEqual(gate.check_connect(facts).list, "even")
                except ValueError as error:
                    self.assertEqual(str(error), "the gate is closed")

            def close():
                started.wait()
                time.sleep(0.01)  # by now the others are at it
                gate.close()
                gate.close()

            self.run_all(load, check, check, close)

    def test_a_child_has_a_gate_of_its_own_whatever_threads_did_at_the_fork(self):
        gate = Gate()
        gate.load_text(POLICIES[1])
        done = threading.Event()

        def load():
            load = 2
            while not done.is_set():
                gate.load_text(POLICIES[load % 2])
                load += 1

        def check():
            facts = Facts(ip="192.0.2.7")
            while not done.is_set():
                gate.check_connect(facts)

        def fork():
            try:
                for _ in range(40):
                    child = os.fork()
                    if child == 0:
                        self.in_child(gate)
                    self.assertEqual(os.waitpid(child, 0)[1], 0, "14: the child waited for ever")
            finally:
                done.set()

        with warnings.catch_warnings():
            # That forking with threads is dangerous is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.run_all(load, check, check, fork)
        self.assertTrue(gate.check_connect(Facts(ip="192.0.2.7")))

    def in_child(self, gate):
        """Uses the gate, and ends the process: 0 if all went well."""
        status = 1
        try:
            signal.alarm(30)
            if gate.check_connect(Facts(ip="192.0.2.7")):
                gate.load_text(POLICIES[0].replace("192.0.2.0/24", "203.0.113.0/24"))
                gate.ban("198.51.100.0/24")
                ips = "192.0.2.7", "203.0.113.7", "198.51.100.7"
                answers = [bool(gate.check_connect(Facts(ip=ip))) for ip in ips]
                gate.close()
                status = 0 if answers == [False, True, True] else 2
        finally:
            os._exit(status)


if __name__ == "__main__":
    unittest.main()
