"""The shared library: where it is found, and whether it is the one that this package knows."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Tuple

from . import _abi


def find() -> str:
    """Beside this file, where a wheel has it; else where MXGATE_LIBRARY says; else wherever the system has it."""
    bundled = Path(__file__).with_name(_abi.LIBRARY)
    return str(bundled) if bundled.exists() else os.environ.get("MXGATE_LIBRARY") or _abi.LIBRARY


def load(name: str) -> Tuple[ctypes.PyDLL, ctypes.CDLL]:
    """The quick functions and the slow ones of the library with that name, checked."""
    try:
        quick, slow = ctypes.PyDLL(name), ctypes.CDLL(name)
    except OSError as error:
        raise ImportError(f"{error}; install libmxgate, or set MXGATE_LIBRARY to the path of the library") from None
    try:
        for library, functions in ((quick, _abi.QUICK), (slow, _abi.SLOW)):
            for function, (result, arguments) in functions.items():
                prototype = getattr(library, function)
                prototype.restype, prototype.argtypes = result, arguments
    except AttributeError as error:
        raise ImportError(f"{error}; this package needs a libmxgate as new as itself") from None
    facts, verdict = quick.mxgate_sizeof(_abi.FACTS), quick.mxgate_sizeof(_abi.VERDICT)
    # A later release may know more facts than we do, the verdict is the same for ever.
    fits = facts >= ctypes.sizeof(_abi.Facts) and verdict == ctypes.sizeof(_abi.Verdict)
    if quick.mxgate_abi() != _abi.ABI or not fits:
        found = f"{name} has ABI {quick.mxgate_abi()}, facts of {facts} and verdicts of {verdict} bytes"
        raise ImportError(f"{found}; this package needs a libmxgate with ABI {_abi.ABI}, as new as itself")
    return quick, slow


# A check is over before another thread could have taken the interpreter lock (GIL), so it is not released for one (PyDLL).
# It also keeps a check out of any moment in which another thread forks: the child would inherit a lock that
# nobody releases. Files are read without it (CDLL).
quick, slow = load(find())
