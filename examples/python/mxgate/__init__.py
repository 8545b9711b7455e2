"""mxgate for Python: does this client, or this recipient, go on, or does it get a 521, a 421 or a 5.7.1?

    gate = mxgate.Gate("/etc/mxgate/mxgate.toml")
    verdict = gate.check_rcpt(mxgate.Facts(ip="192.0.2.7", recipient="user@example.org"))
    if verdict:
        print(verdict.reply())

A `Gate` holds the rules and is shared by all threads. `Facts` are what is known about one client and its message. A
`Verdict` is the answer. What goes wrong is an `Error`; a policy with mistakes says in `LoadError.diagnostics` where they
are and what to write instead.

It calls libmxgate through ctypes: the library beside this package, where a wheel has it; else the one that the environment
variable MXGATE_LIBRARY names; else libmxgate.so.1 of the system.

On the command line: python3 -m mxgate POLICY ADDRESS [RECIPIENT]
"""

from ._library import quick as _quick
from .checker import Checker
from .errors import Diagnostic, Error, LimitError, LoadError, PolicySyntaxError, ReadError
from .facts import Facts, Result
from .gate import Counters, Format, Gate, Mode
from .log import set_log
from .verdict import Decider, For, Stage, Verdict

#: Release of the library.
__version__: str = _quick.mxgate_version().decode()

__all__ = [
    "Checker",
    "Counters",
    "Decider",
    "Diagnostic",
    "Error",
    "Facts",
    "For",
    "Format",
    "Gate",
    "LimitError",
    "LoadError",
    "Mode",
    "PolicySyntaxError",
    "ReadError",
    "Result",
    "Stage",
    "Verdict",
    "set_log",
]
