"""What the library has to say, in Python's log."""

from __future__ import annotations

import atexit
import logging
from typing import Optional

from . import _abi
from ._library import slow
from .errors import raise_for

_LEVELS = {_abi.LOG_ERROR: logging.ERROR, _abi.LOG_WARNING: logging.WARNING, _abi.LOG_INFO: logging.INFO}
_logger: Optional[logging.Logger] = None


def _forward(user: Optional[int], level: int, message: bytes) -> None:
    logger = _logger
    if logger is not None:
        logger.log(_LEVELS.get(level, logging.INFO), "%s", message.decode(errors="replace"))


# For ever: a thread may be about to call it even after another log has been set.
_callback = _abi.Log(_forward)


def set_log(logger: Optional[logging.Logger], level: int = logging.INFO) -> None:
    """Hands what the library has to say, from that level upwards, to a logger; None ends that. For all gates together.

    Errors say what is wrong with a load, warnings what somebody should have a look at, and information what has changed:
    rules, bans or the mode. Checks say nothing.

    >>> import sys
    >>> logger = logging.getLogger("mxgate")
    >>> logger.addHandler(logging.StreamHandler(sys.stdout))
    >>> logger.setLevel(logging.INFO)
    >>> set_log(logger)
    >>> from mxgate import Gate
    >>> Gate().ban("192.0.2.0/24", reason="tries passwords")
    192.0.2.0/24 is banned: tries passwords
    >>> set_log(None)
    """
    global _logger
    _logger = logger
    if logger is None:
        raise_for(slow.mxgate_set_log(_abi.Log(0), None, 0))
    else:
        least = max(number for number, python in _LEVELS.items() if python >= level or number == _abi.LOG_ERROR)
        raise_for(slow.mxgate_set_log(_callback, None, least))
        # A thread that still loads when Python ends must not call into it any more.
        atexit.register(set_log, None)
