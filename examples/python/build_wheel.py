"""Writes a wheel of mxgate with the shared library inside: build_wheel.py [DIRECTORY [LIBRARY]]

The library is target/library/libmxgate.so (`make library`), or the one that is named. ctypes needs no ABI of Python's, so
one wheel is good for every Python 3. The same input gives the same bytes.

It is also the build backend of pyproject.toml (PEP 517), so that pip can build the wheel. Needs Python 3.11, for tomllib.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIBRARY = ROOT / "target/library/libmxgate.so"
LICENSES = ["LICENSE-APACHE", "LICENSE-MIT"]

#: e_machine of the ELF header: the name of the architecture in a wheel.
MACHINES = {3: "i686", 21: "ppc64le", 22: "s390x", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}


def platform_tag(library: bytes) -> str:
    """Where a library runs: its architecture, and the newest version of glibc that it asks for (PEP 600)."""
    machine = MACHINES[int.from_bytes(library[18:20], "little" if library[5] == 1 else "big")]
    versions = {tuple(map(int, version)) for version in re.findall(rb"\0GLIBC_(\d+)\.(\d+)", library)}
    # Another C library, such as musl, names no versions; pip then installs it on this machine only.
    return "manylinux_{}_{}_".format(*max(versions)) + machine if versions else "linux_" + machine


def metadata(project: dict[str, str | list[str]], version: str) -> str:
    """The fields of PyPA's core metadata."""
    return "\n".join(
        [
            "Metadata-Version: 2.4",
            f"Name: {project['name']}",
            f"Version: {version}",
            f"Summary: {project['description']}",
            f"License-Expression: {project['license']}",
            *(f"License-File: {name}" for name in LICENSES),
            f"Requires-Python: {project['requires-python']}",
            *(f"Classifier: {classifier}" for classifier in project["classifiers"]),
            "",
        ]
    )


def record(files: dict[str, bytes], name: str) -> bytes:
    """The list of all files, with what they must hash to; of itself only the name."""
    lines = []
    for path, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{name},,\n"]).encode()


def write(directory: Path, library: Path) -> Path:
    """Writes the wheel into the directory."""
    if not library.exists():
        raise SystemExit(f"{library} does not exist; run `make library`, or name the library")
    code = library.read_bytes()
    soname = re.search(rb"\0(libmxgate\.so\.\d+)\0", code)
    if not code.startswith(b"\x7fELF") or not soname:
        raise SystemExit(f"{library} is not libmxgate for Linux; run `make library` there")
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
    tag = f"py3-none-{platform_tag(code)}"
    wheel = f"Wheel-Version: 1.0\nGenerator: build_wheel.py\nRoot-Is-Purelib: false\nTag: {tag}\n"
    about = f"mxgate-{version}.dist-info"

    sources = sorted([*(HERE / "mxgate").glob("*.py"), HERE / "mxgate/py.typed"])
    files = {f"mxgate/{source.name}": source.read_bytes() for source in sources}
    files[f"mxgate/{soname[1].decode()}"] = code
    files[f"{about}/METADATA"] = metadata(project, version).encode()
    files[f"{about}/WHEEL"] = wheel.encode()
    files.update({f"{about}/licenses/{name}": (ROOT / name).read_bytes() for name in LICENSES})
    files[f"{about}/RECORD"] = record(files, f"{about}/RECORD")

    path = directory / f"mxgate-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # ZipInfo's date is 1980-01-01 unless told.
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            archive.writestr(info, content, zipfile.ZIP_DEFLATED)
    return path


def build_wheel(wheel_directory: str, config_settings: object = None, metadata_directory: object = None) -> str:
    """What pip calls."""
    return write(Path(wheel_directory), LIBRARY).name


def main() -> None:
    arguments = argparse.ArgumentParser(description="Writes a wheel of mxgate with the shared library inside.")
    arguments.add_argument("directory", nargs="?", type=Path, default=Path("."))
    arguments.add_argument("library", nargs="?", type=Path, default=LIBRARY)
    given = arguments.parse_args()
    given.directory.mkdir(parents=True, exist_ok=True)
    print(write(given.directory, given.library))


if __name__ == "__main__":
    main()
