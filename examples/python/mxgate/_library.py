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
    # A later release may have larger structures, of which it lets us have the part that we know; but not the verdict.
    sizes = {structure: quick.mxgate_sizeof(what) for what, structure in _abi.STRUCTURES.items()}
    fits = all(size >= ctypes.sizeof(structure) for structure, size in sizes.items())
    if quick.mxgate_abi() != _abi.ABI or not fits or sizes[_abi.Verdict] != ctypes.sizeof(_abi.Verdict):
        found = f"{name} has ABI {quick.mxgate_abi()} and structures of {', '.join(map(str, sizes.values()))} bytes"
        raise ImportError(f"{found}; this package needs a libmxgate with ABI {_abi.ABI}, as new as itself")
    return quick, slow


# A check takes less time than letting another thread have the interpreter (the GIL) and getting it back, so it keeps it:
# PyDLL. All that takes longer lets other threads go on: CDLL.
quick, slow = load(find())
