"""What goes wrong, and what is wrong with a policy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Tuple

from . import _abi
from ._library import quick

_DIAGNOSTIC = re.compile(r"(?:(.*?):(\d+):(\d+): )?(warning: )?(.*?); (.*)")


@dataclass(frozen=True)
class Diagnostic:
    """One message about one place in a policy or a list; as text, ``file:line:column: cause; remedy``.

    What is wrong with something else than a file has no place: ``cause; remedy``.

    >>> print(Diagnostic("mxgate.toml", 7, 1, False, '"nam" is not a key of [[list]]', "use name"))
    mxgate.toml:7:1: "nam" is not a key of [[list]]; use name
    """

    file: str
    #: From 1; 0 if there is no place.
    line: int
    #: In bytes, from 1; 0 if there is no place.
    column: int
    #: Whether the load succeeded in spite of it.
    warning: bool
    cause: str
    #: What to write instead.
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else ""
        return f"{place}{'warning: ' if self.warning else ''}{self.cause}; {self.remedy}"


def diagnostics_of(message: bytes) -> Tuple[Diagnostic, ...]:
    """The diagnostics in a message of the library, one a line."""
    found = map(_DIAGNOSTIC.fullmatch, message.decode(errors="replace").split("\n"))
    return tuple(
        Diagnostic(file or "", int(line or 0), int(column or 0), warning is not None, cause, remedy)
        for file, line, column, warning, cause, remedy in (match.groups() for match in found if match)
    )


class Error(Exception):
    """Something went wrong in the library."""

    def __init__(self, message: str, result: int = _abi.EBUG) -> None:
        super().__init__(message)
        #: What the C function returned: ``MXGATE_EINVAL`` (-1) and so on.
        self.result = result

    def __str__(self) -> str:
        return str(self.args[0])


class LoadError(Error):
    """A policy was not loaded, or something else not changed; what was in force stays. As text, all that is wrong."""

    def __init__(self, message: str, result: int = _abi.EBUG, diagnostics: Tuple[Diagnostic, ...] = ()) -> None:
        super().__init__(message, result)
        #: All that is wrong, and warnings.
        self.diagnostics = diagnostics
        first = next((diagnostic for diagnostic in diagnostics if not diagnostic.warning), None)
        #: The place of the first mistake, by the names of Python's SyntaxError; "", 0 and 0 if it has none.
        self.filename = first.file if first else ""
        self.lineno = first.line if first else 0
        self.offset = first.column if first else 0


class PolicySyntaxError(LoadError, ValueError):
    """The policy or a list does not say what it should; or a network is not one, or may not be banned.

    >>> from mxgate import Gate
    >>> try:
    ...     Gate().load_text('hostname = "mx.example.org"\\n[[list]]\\nname = "local"\\nentries = ["192.0.2.1/24", "192.0.2.1"]\\nreplay = "drop"')
    ... except PolicySyntaxError as error:
    ...     for diagnostic in error.diagnostics:
    ...         print(f"line {diagnostic.line}: {diagnostic.cause}")
    line 4: non-null host bits in "192.0.2.1/24"
    line 5: "replay" is not a key of [[list]]
    """


class ReadError(LoadError, OSError):
    """A file cannot be read."""


class LimitError(LoadError):
    """A limit of the library is reached."""


_LOAD_ERRORS = {_abi.ESYNTAX: PolicySyntaxError, _abi.EIO: ReadError, _abi.ELIMIT: LimitError}


def raise_for(result: int, message: bytes = b"") -> None:
    """Raises what an error stands for; ``message`` is what the function had to say about it."""
    if result >= 0:
        return
    text = (message or quick.mxgate_strerror(result)).decode(errors="replace")
    if result in _LOAD_ERRORS:
        raise _LOAD_ERRORS[result](text, result, diagnostics_of(message))
    raise Error(text, result)
