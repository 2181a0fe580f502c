"""An initramfs of what connbench needs and nothing else: a guest sees no file of its host, and reads none slowly."""

from __future__ import annotations

import compileall
import importlib.metadata
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

REPOSITORY = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = ("connbench", "hypothesis", "pytest", "pytest-timeout")
INIT = Path(__file__).with_name("init.sh")
LAB = ".connbench-lab"
"""The guest's folder of the lab's own files; nothing of this machine that is packed has that name."""

_NOT_NEEDED = {
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "idlelib",
    "ensurepip",
    "lib2to3",
    "tkinter",
    "turtledemo",
}
_NOT_READ = re.compile(r"\.(a|c|h|pyi|opt-[12]\.pyc)$|/_tkinter\.")
_TRAILER = "TRAILER!!!"


def write_image(path: Path, programs: Iterable[str] = ()) -> None:
    """Write an initramfs with this Python, connbench, its tests and what they import, at the places they have here.

    Args:
        path: The file to write.
        programs: Other programs of this machine to pack with their libraries.
    """
    compileall.compile_dir(str(REPOSITORY / "src"), quiet=2)  # a guest would have to compile them at every start
    files = Tree()
    for own in (*_python(), *_distributions(), REPOSITORY / "pyproject.toml", REPOSITORY / "src", REPOSITORY / "tests"):
        files.add(own)
    others = [Path(found) for found in map(shutil.which, programs) if found]
    for other in others:
        files.add(other)
    for library in _libraries([*others, *(path for path in files.paths if _is_program(path))]):
        files.add(library)
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    with path.open("wb") as stream:
        archive = Archive(stream)
        for folder in ("proc", "sys", "dev", "tmp", "run", LAB):
            archive.add(folder, stat.S_IFDIR | 0o755)
        archive.add(f"{LAB}/init", stat.S_IFREG | 0o755, INIT.read_bytes())
        archive.add(f"{LAB}/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
        for name in sorted(files.paths, key=str):
            archive.add_file(name)
        archive.add(_TRAILER, 0)


class Tree:
    """Paths to pack: of each also the folders above it and, where it is a symbolic link, what that leads to."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def add(self, path: Path) -> None:
        """Add a file, or a folder and all below it, and what links in there lead to: a package store is linked to."""
        self._add_way(path)
        real = path.resolve()
        if not real.is_dir():
            return
        for folder, folders, names in os.walk(real):
            folders[:] = [n for n in folders if n not in _NOT_NEEDED and not n.startswith("config-")]
            found = {Path(folder, name) for name in [*folders, *names] if not _NOT_READ.search(f"/{name}")}
            links = [one for one in found - self.paths if one.is_symlink() and one.exists()]
            self.paths |= found
            for link in links:
                self.add(link)

    def _add_way(self, path: Path) -> None:
        reached = Path("/")
        for part in path.absolute().parts[1:]:
            reached /= part
            self.paths.add(reached)
            if reached.is_symlink():
                target = reached.parent / reached.readlink()
                self._add_way(Path(os.path.normpath(target)))
                reached = reached.resolve()


class Archive:
    """A cpio archive in the form the kernel unpacks ('newc', initramfs-buffer-format.rst)."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0

    def add_file(self, path: Path) -> None:
        """Add a path of this machine as it is; a symbolic link as one."""
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.fsencode(path.readlink())
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif not stat.S_ISDIR(status.st_mode):
            return
        self.add(str(path).lstrip("/"), status.st_mode, content, int(status.st_mtime))

    def add(self, name: str, mode: int, content: bytes = b"", modified: int = 0) -> None:
        """Add an entry: its times matter, for Python believes a compiled module by that of its source."""
        self._number += 1
        encoded = os.fsencode(name) + b"\0"
        fields = (self._number, mode, 0, 0, 1, modified, len(content), 0, 0, 0, 0, len(encoded), 0)
        self._write(b"070701" + b"".join(b"%08X" % field for field in fields) + encoded)
        self._write(content)

    def _write(self, data: bytes) -> None:
        self._stream.write(data + b"\0" * (-len(data) % 4))


def _python() -> list[Path]:
    """This interpreter, its virtual environment's marks, and the standard library."""
    marks = [Path(sys.prefix, name) for name in ("pyvenv.cfg", "bin/connbench")]
    return [Path(sys.executable), *(m for m in marks if m.exists()), Path(sysconfig.get_path("stdlib"))]


def _distributions() -> Iterator[Path]:
    """The files of connbench and of what it requires, as their records have them; extras left out."""
    site = sysconfig.get_path("purelib")
    wanted, seen = list(DISTRIBUTIONS), set[str]()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # required on other systems only
        wanted += [re.split(r"[^\w.-]", need)[0] for need in found.requires or () if "extra ==" not in need]
        for recorded in found.files or ():
            path = Path(os.path.normpath(str(found.locate_file(recorded))))
            parts = path.parts[len(Path(site).parts) :]
            if path.is_relative_to(site) and "tests" not in parts and not _NOT_READ.search(str(path)) and path.exists():
                yield path


def _is_program(path: Path) -> bool:
    return path == Path(sys.executable).resolve() or (".so" in path.suffixes and not path.is_symlink())


def _libraries(programs: Iterable[Path]) -> set[Path]:
    """The shared libraries that programs and modules load, and the loader itself."""
    said = subprocess.run(["ldd", *map(str, programs)], capture_output=True, text=True, check=False)  # noqa: S607  # by PATH
    found = {Path(os.path.normpath(path)) for path in re.findall(r"(?:=> |^\t)(/.+) \(0x", said.stdout, re.MULTILINE)}
    return {path for path in found if path.exists()}
