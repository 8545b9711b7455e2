"""include/mxgate.h in the words of ctypes: numbers, structures, functions.

When the header changes, this file changes with it; the others know only its names.
"""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_char_p, c_int, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any, Dict, List, Tuple

ABI = 1
#: The shared library by its SONAME; its number is that of the ABI.
LIBRARY = f"libmxgate.so.{ABI}"

# Results
EINVAL, ESYNTAX, EIO, ELIMIT, EBUG = -1, -2, -3, -4, -5

# Flags of the facts
AUTHENTICATED, TLS, TRUSTED = 1, 2, 4

# Levels of the log
LOG_ERROR, LOG_WARNING, LOG_INFO = 1, 2, 3

#: Longest text in the facts, in bytes.
MAX_TEXT = 65536
#: Longest path of a file, in bytes.
MAX_PATH = 4096
#: Holds any reply.
REPLY_SIZE = 1024
#: Holds what is wrong with a policy; what is longer is cut.
MESSAGE_SIZE = 1 << 18


class Facts(ctypes.Structure):
    """struct mxgate_facts"""

    _fields_ = [
        ("address_size", c_uint32),
        ("flags", c_uint32),
        ("address", c_uint8 * 16),
        ("now", c_uint64),
        ("spf", c_uint8),
        ("dkim", c_uint8),
        ("dmarc", c_uint8),
        ("rdns", c_uint8),
        ("port", c_uint16),
        ("reserved", c_uint16),
        ("helo", c_char_p),
        ("helo_length", c_size_t),
        ("sender", c_char_p),
        ("sender_length", c_size_t),
        ("recipient", c_char_p),
        ("recipient_length", c_size_t),
    ]


class Verdict(ctypes.Structure):
    """struct mxgate_verdict"""

    _fields_ = [
        ("code", c_uint16),
        ("hangup", c_uint16),
        ("decider", c_uint16),
        ("reserved1", c_uint16),
        ("line", c_uint32),
        ("reserved2", c_uint32),
        ("generation", c_uint64),
        ("reserved3", c_uint64),
        ("status", c_char * 16),
        ("list", c_char * 64),
        ("shadow", c_char * 64),
        ("entry", c_char * 256),
        ("reason", c_char * 256),
        ("host", c_char * 256),
        ("text", c_char * 400),
    ]


class Counters(ctypes.Structure):
    """struct mxgate_counters"""

    _fields_ = [
        ("generation", c_uint64),
        ("failed_loads", c_uint64),
        ("networks", c_uint64),
        ("domains", c_uint64),
        ("bans", c_uint64),
        ("checks", c_uint64),
        ("rejected", c_uint64),
        ("deferred", c_uint64),
        ("would_refuse", c_uint64),
    ]


#: What mxgate_sizeof() calls the structures.
STRUCTURES = {1: Facts, 2: Verdict, 3: Counters}

#: mxgate_log
Log = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p)

#: What a function returns, and its arguments.
_Prototype = Tuple[Any, List[Any]]
_GATE = c_void_p
_FACTS = ctypes.POINTER(Facts)
_VERDICT = ctypes.POINTER(Verdict)
_CHECK: _Prototype = (c_int, [_GATE, _FACTS, c_size_t, _VERDICT])
#: A text from us, and a buffer for the library's.
_IN = [c_char_p, c_size_t]
_OUT = [c_char_p, c_size_t]

#: Functions that wait for nobody, and are over before another thread could have begun.
QUICK: Dict[str, _Prototype] = {
    "mxgate_abi": (c_uint32, []),
    "mxgate_version": (c_char_p, []),
    "mxgate_sizeof": (c_size_t, [c_int]),
    "mxgate_strerror": (c_char_p, [c_int]),
    "mxgate_new": (c_void_p, []),
    "mxgate_address": (c_size_t, [*_IN, c_uint8 * 16]),
    "mxgate_check_connect": _CHECK,
    "mxgate_check_mail": _CHECK,
    "mxgate_check_rcpt": _CHECK,
    "mxgate_end_session": (c_int, [_GATE, _FACTS, c_size_t]),
    "mxgate_reply": (c_size_t, [_VERDICT, c_int, c_int, *_OUT]),
}

#: Functions that take their time, wait for a load, or write to the log.
SLOW: Dict[str, _Prototype] = {
    "mxgate_free": (None, [_GATE]),
    "mxgate_load_file": (c_int, [_GATE, c_char_p, *_OUT]),
    "mxgate_open_image": (c_int, [_GATE, c_char_p, *_OUT]),
    "mxgate_load_text": (c_int, [_GATE, *_IN, *_OUT]),
    "mxgate_set_list": (c_int, [_GATE, c_char_p, *_IN, *_OUT]),
    "mxgate_refresh": (c_int, [_GATE, *_OUT]),
    "mxgate_ban": (c_int, [_GATE, *_IN, c_uint64, *_IN, *_OUT]),
    "mxgate_unban": (c_int, [_GATE, *_IN, *_OUT]),
    "mxgate_set_mode": (c_int, [_GATE, c_int]),
    "mxgate_explain": (c_size_t, [_GATE, c_int, _FACTS, c_size_t, c_int, *_OUT]),
    "mxgate_status": (c_size_t, [_GATE, c_int, *_OUT]),
    "mxgate_count": (c_int, [_GATE, ctypes.POINTER(Counters), c_size_t]),
    "mxgate_set_log": (c_int, [Log, c_void_p, c_int]),
}
