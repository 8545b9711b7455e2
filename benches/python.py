"""make bench-python: what a check costs from Python, beside an empty C function with the same signature.

Levels, from the library upwards: the call with prepared arguments, as a Checker holds them; Checker.rcpt(); the same with
another recipient set before; Gate.check_rcpt(), which returns a Verdict; the same with facts made before. Each is compared with
the empty function called with the same arguments through the same kind of ctypes library. All take turns in one run; printed are
medians, and the medians of their ratios. 1.5 is what the first level may cost when nothing is refused.
"""

import ctypes
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from ipaddress import IPv4Address

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples/python"))

from mxgate import Facts, Gate, Stage  # noqa: E402
from mxgate.checker import CHECKS  # noqa: E402

#: Entries of the block list.
ENTRIES = 100_000
#: Calls of one level before it is the turn of the next, and turns.
CALLS, TURNS = 2_000, 101
EMPTY = "int empty(const void *a, const void *b, unsigned long c, void *d) { (void)a; (void)b; (void)c; (void)d; return 0; }\n"
POLICY = """hostname = "mx.example.org"
[[list]]
name = "local"
file = "list.txt"
[[domains]]
name = "parked"
entries = ["parked.example"]
"""
QUESTIONS = [
    ("accepted at connect", Stage.CONNECT, "198.51.100.1", "user@example.org"),
    ("refused at connect", Stage.CONNECT, "192.0.2.7", "user@example.org"),
    ("accepted at RCPT", Stage.RCPT, "198.51.100.1", "user@example.org"),
    ("address refused at RCPT", Stage.RCPT, "192.0.2.7", "user@example.org"),
    ("domain refused at RCPT", Stage.RCPT, "198.51.100.1", "user@parked.example"),
]


def empty_function(directory):
    """The empty function, through a library of the kind that checks are called through."""
    source, library = directory / "empty.c", directory / "empty.so"
    source.write_text(EMPTY)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    function = ctypes.PyDLL(str(library)).empty
    function.restype = ctypes.c_int
    return function


def time_of(call):
    """Nanoseconds of one call."""
    calls = range(CALLS)
    start = time.perf_counter_ns()
    for _ in calls:
        call()
    return (time.perf_counter_ns() - start) / CALLS


def levels(gate, empty, stage, address, recipient):
    """What to call at each level, all about the same question."""
    facts = Facts(ip=address, recipient=recipient)
    checker = gate.checker(facts)
    arguments, raw = checker._arguments, CHECKS[stage]
    fast = checker.connect if stage == Stage.CONNECT else checker.rcpt
    check = gate.check_connect if stage == Stage.CONNECT else gate.check_rcpt

    def with_recipient():
        facts.recipient = recipient
        fast()

    return {
        "empty function": partial(empty, *arguments),
        "prepared call": partial(raw, *arguments),
        "Checker": fast,
        "Checker, recipient set": with_recipient,
        "Gate, a Verdict": lambda: check(facts),
        "Gate, Facts made": lambda: check(Facts(ip=address, recipient=recipient)),
    }


def main():
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        empty = empty_function(directory)
        # Everywhere but in the networks of the questions.
        numbers = random.Random(1).sample(range(1 << 24, 192 << 24), ENTRIES)
        (directory / "list.txt").write_text("192.0.2.0/24 sent spam\n" + "".join(f"{IPv4Address(n)}\n" for n in numbers))
        (directory / "mxgate.toml").write_text(POLICY)
        gate = Gate(directory / "mxgate.toml")
        for title, *question in QUESTIONS:
            calls = levels(gate, empty, *question)
            times = {level: [] for level in calls}
            for _ in range(TURNS):
                for level, call in calls.items():
                    times[level].append(time_of(call))
            print(f"{title}:")
            for level, taken in times.items():
                ratio = statistics.median(one / none for one, none in zip(taken, times["empty function"]))
                print(f"  {level:24} {statistics.median(taken):8.0f} ns  {ratio:6.2f}")


if __name__ == "__main__":
    main()
