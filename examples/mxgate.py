"""mxgate for Python, through ctypes: mxgate.py POLICY ADDRESS [RECIPIENT]

    gate = Gate("/etc/mxgate/mxgate.toml")
    verdict = gate.check("192.0.2.7", recipient="user@example.org")
    if verdict.code:
        print(verdict.reply)

The library is found as libmxgate.so.1, or where MXGATE_LIBRARY says.
"""

import ctypes
import os
import sys
from dataclasses import dataclass

AUTHENTICATED = 1
ABI = 1
RESULTS = ["unknown", "pass", "none", "neutral", "softfail", "fail", "temperror", "permerror", "policy"]
NUL = ctypes.c_size_t(-1).value


class _Facts(ctypes.Structure):
    _fields_ = [
        ("address_size", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("address", ctypes.c_uint8 * 16),
        ("now", ctypes.c_uint64),
        ("spf", ctypes.c_uint8),
        ("dkim", ctypes.c_uint8),
        ("dmarc", ctypes.c_uint8),
        ("rdns", ctypes.c_uint8),
        ("port", ctypes.c_uint16),
        ("reserved", ctypes.c_uint16),
        ("helo", ctypes.c_char_p),
        ("helo_length", ctypes.c_size_t),
        ("sender", ctypes.c_char_p),
        ("sender_length", ctypes.c_size_t),
        ("recipient", ctypes.c_char_p),
        ("recipient_length", ctypes.c_size_t),
    ]


class _Verdict(ctypes.Structure):
    _fields_ = [
        ("code", ctypes.c_uint16),
        ("hangup", ctypes.c_uint16),
        ("decider", ctypes.c_uint16),
        ("reserved1", ctypes.c_uint16),
        ("line", ctypes.c_uint32),
        ("reserved2", ctypes.c_uint32),
        ("generation", ctypes.c_uint64),
        ("reserved3", ctypes.c_uint64),
        ("status", ctypes.c_char * 16),
        ("list", ctypes.c_char * 64),
        ("shadow", ctypes.c_char * 64),
        ("entry", ctypes.c_char * 256),
        ("reason", ctypes.c_char * 256),
        ("host", ctypes.c_char * 256),
        ("text", ctypes.c_char * 400),
    ]


def _library():
    lib = ctypes.CDLL(os.environ.get("MXGATE_LIBRARY", "libmxgate.so.1"))
    gate, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t
    question = [gate, ctypes.POINTER(_Facts), size, ctypes.POINTER(_Verdict)]
    for name, result, arguments in [
        ("mxgate_abi", ctypes.c_uint32, []),
        ("mxgate_version", text, []),
        ("mxgate_sizeof", size, [ctypes.c_int]),
        ("mxgate_strerror", text, [ctypes.c_int]),
        ("mxgate_new", gate, []),
        ("mxgate_free", None, [gate]),
        ("mxgate_load_file", ctypes.c_int, [gate, text, text, size]),
        ("mxgate_load_text", ctypes.c_int, [gate, text, size, text, size]),
        ("mxgate_address", size, [text, size, ctypes.c_uint8 * 16]),
        ("mxgate_check_connect", ctypes.c_int, question),
        ("mxgate_check_rcpt", ctypes.c_int, question),
        ("mxgate_reply", size, [ctypes.POINTER(_Verdict), ctypes.c_int, ctypes.c_int, text, size]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    sizes = (lib.mxgate_sizeof(1), lib.mxgate_sizeof(2))
    if lib.mxgate_abi() != ABI or sizes[0] < ctypes.sizeof(_Facts) or sizes[1] != ctypes.sizeof(_Verdict):
        raise ImportError("libmxgate has another ABI than this module")
    return lib


@dataclass(frozen=True)
class Verdict:
    """What a check came to; code 0 is "no objection"."""

    code: int
    reply: str
    hangup: bool
    list: str
    entry: str
    line: int
    reason: str


class Gate:
    """Holds the rules of a policy file. Threads may share it."""

    def __init__(self, path):
        self._lib = _library()
        self._gate = self._lib.mxgate_new()
        if not self._gate:
            raise MemoryError
        self.load(path)

    def load(self, path):
        """Loads the policy again. If it is wrong the rules in force stay, and ValueError or OSError says why."""
        message = ctypes.create_string_buffer(65536)
        result = self._lib.mxgate_load_file(self._gate, os.fsencode(path), message, len(message))
        if result < 0:
            text = message.value or self._lib.mxgate_strerror(result)
            raise (OSError if result == -3 else ValueError)(text.decode(errors="replace"))

    def check(self, address, recipient=None, sender=None, authenticated=False, **results):
        """Checks one recipient, or the connection if there is none.

        results: what spf, dkim, dmarc and rdns came to, each one of RESULTS.
        """
        facts, verdict = _Facts(flags=AUTHENTICATED if authenticated else 0), _Verdict()
        for check, result in results.items():
            if check not in ("spf", "dkim", "dmarc", "rdns"):
                raise TypeError(f"{check} is not an authentication check")
            setattr(facts, check, RESULTS.index(result))
        facts.address_size = self._lib.mxgate_address(address.encode(), NUL, facts.address)
        if facts.address_size == 0:
            raise ValueError(f"{address} is not an IP address")
        if sender is not None:
            facts.sender = sender.encode(errors="surrogateescape")
            facts.sender_length = len(facts.sender)
        if recipient is not None:
            facts.recipient = recipient.encode(errors="surrogateescape")
            facts.recipient_length = len(facts.recipient)
        check = self._lib.mxgate_check_connect if recipient is None else self._lib.mxgate_check_rcpt
        result = check(self._gate, facts, ctypes.sizeof(facts), verdict)
        if result < 0:
            raise RuntimeError(self._lib.mxgate_strerror(result).decode())
        reply = ctypes.create_string_buffer(512)
        self._lib.mxgate_reply(verdict, 3, 0, reply, len(reply))
        return Verdict(
            code=verdict.code,
            reply=reply.value.decode(),
            hangup=bool(verdict.hangup),
            list=verdict.list.decode(),
            entry=verdict.entry.decode(),
            line=verdict.line,
            reason=verdict.reason.decode(),
        )

    def close(self):
        """Frees the gate; it is not to be used after that."""
        gate, self._gate = getattr(self, "_gate", None), None
        if gate:
            self._lib.mxgate_free(gate)

    __del__ = close

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def main(arguments):
    if len(arguments) not in (2, 3):
        print("usage: mxgate.py POLICY ADDRESS [RECIPIENT]", file=sys.stderr)
        return 2
    try:
        with Gate(arguments[0]) as gate:
            verdict = gate.check(*arguments[1:])
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(verdict.reply or "accept")
    if verdict.list:
        print(f"{verdict.list}, entry {verdict.entry}, line {verdict.line}: {verdict.reason}")
    return 1 if verdict.code else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
