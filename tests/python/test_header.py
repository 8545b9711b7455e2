"""The package knows what include/mxgate.h says: every number, every field, every function."""

import ctypes
import re
import unittest
from pathlib import Path

import mxgate
from mxgate import _abi

HEADER = (Path(__file__).resolve().parents[2] / "include/mxgate.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
NUMBERS = {name: int(number) for name, number in re.findall(r"#define MXGATE_(\w+) (-?\d+)", CODE)}
TYPES = {
    "uint8_t": ctypes.c_uint8,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "char": ctypes.c_char,
    "const char *": ctypes.c_char_p,
}


class Header(unittest.TestCase):
    def test_numbers(self):
        known = {name: getattr(_abi, name) for name in vars(_abi) if name in NUMBERS}
        enums = {"BY": mxgate.Decider, "RESULT": mxgate.Result, "AT": mxgate.Stage, "FOR": mxgate.For, "MODE": mxgate.Mode}
        for prefix, enum in enums.items():
            known.update({f"{prefix}_{member.name}": member.value for member in enum})
        known.update({member.name: member.value for member in mxgate.Format})
        known.update({structure.__name__.upper(): what for what, structure in _abi.STRUCTURES.items()})
        # What Python has other names for, or no need of.
        for name in "ACCEPT", "REJECT", "VERSION_NUMBER":
            known[name] = NUMBERS[name]
        self.assertEqual(known, NUMBERS)

    def test_structures(self):
        for structure in _abi.STRUCTURES.values():
            name = structure.__name__.lower()
            body = re.search(rf"typedef struct mxgate_{name} {{(.*?)}} mxgate_{name};", CODE, re.DOTALL)[1]
            declared = []
            for type_, field, length in re.findall(r"(const char \*|\w+ )(\w+)(?:\[(\d+)\])?;", body):
                ctype = TYPES[type_ if "*" in type_ else type_.strip()]
                declared.append((field, ctype * int(length) if length else ctype))
            self.assertGreater(len(declared), 5)
            self.assertEqual(structure._fields_, declared)

    def test_functions(self):
        declared = re.findall(r"\b(mxgate_\w+)\(([^()]*)\);", CODE)
        arguments = {name: 0 if given == "void" else given.count(",") + 1 for name, given in declared}
        known = {name: len(given) for name, (_, given) in {**_abi.QUICK, **_abi.SLOW}.items()}
        self.assertEqual(known, arguments)


if __name__ == "__main__":
    unittest.main()
