"""make bench-python: what a check costs from Python, beside an empty C function with the same signature.

Levels, from the library upwards: the call with prepared arguments, as a Checker holds them; Checker.rcpt(); the same with
another recipient set before; Gate.check_rcpt(), which returns a Verdict; the same with Facts made before. Each is compared with
the empty function, called with the same prepared arguments through the same kind of library (PyDLL). "As in the manual" is the
check, and the empty function, as the manual of ctypes calls functions: through CDLL, with argument types that it converts to.
All take turns in one run; printed are medians, and the medians of their ratios. A check as in the manual is to cost no more than
1.5 empty calls of that kind, whatever its answer; and the prepared call, against which the empty one is as cheap as ctypes can be,
as little more as possible: in nanoseconds it is below the empty call as in the manual.
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

from mxgate import Facts, Gate, Stage, _abi, _library  # noqa: E402
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
    """The path of a library with the empty function."""
    source, library = directory / "empty.c", directory / "empty.so"
    source.write_text(EMPTY)
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def as_in_the_manual(library, name):
    """A function that is told its types."""
    function = ctypes.CDLL(library)[name]
    function.restype, function.argtypes = _abi.QUICK["mxgate_check_rcpt"]
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

    none = partial(ctypes.PyDLL(empty).empty, *arguments)
    plain = gate._handle, facts._raw, ctypes.sizeof(_abi.Facts), checker._raw
    plain_none = partial(as_in_the_manual(empty, "empty"), *plain)
    name = f"mxgate_check_{stage.name.lower()}"
    # What is called, and what it is compared with.
    return {
        "empty function": (none, none),
        "prepared call": (partial(raw, *arguments), none),
        "Checker": (fast, none),
        "Checker, recipient set": (with_recipient, none),
        "Gate, a Verdict": (lambda: check(facts), none),
        "Gate, Facts made": (lambda: check(Facts(ip=address, recipient=recipient)), none),
        "as in the manual: empty": (plain_none, plain_none),
        "as in the manual: check": (partial(as_in_the_manual(_library.find(), name), *plain), plain_none),
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
            times = {call: [] for call, _ in calls.values()}
            for _ in range(TURNS):
                for call, taken in times.items():
                    taken.append(time_of(call))
            print(f"{title}:")
            for level, (call, none) in calls.items():
                ratio = statistics.median(one / other for one, other in zip(times[call], times[none]))
                print(f"  {level:24} {statistics.median(times[call]):8.0f} ns  {ratio:6.2f}")


if __name__ == "__main__":
    main()
