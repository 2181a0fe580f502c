"""What is booted: a kernel's image and version, a Debian kernel's or one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from connbench.errors import UsageError

UML = "uml"
"""The name of Debian's user-mode-linux: a kernel that runs as a process, and is not fetched but installed."""

_NAME = re.compile(r"[\w+-][\w.+-]*")
_HEADER, _MAGIC, _VERSION = 0x200, slice(0x202, 0x206), slice(0x20E, 0x210)
"""Of a bzImage's real-mode header: its start, its signature, and where the version's text is, counted from the start
(Documentation/arch/x86/boot.rst)."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted.

    Attributes:
        series: What it is called, and its results' folder.
        version: As its package has it, or its image.
        image: The file that is booted.
        is_own: Whether it is the user's own.
    """

    series: str
    version: str
    image: Path
    is_own: bool = False

    @property
    def walk(self) -> str:
        """How connect() goes through a range that was set as an option, by the name the tests have for it."""
        return "one-by-one" if self._release >= (6, 8) else "two-parity"

    @property
    def has_port_range(self) -> bool:
        """Whether it has IP_LOCAL_PORT_RANGE: Debian's 6.1 does, by a backport."""
        return self._release >= ((6, 3) if self.is_own else (6, 1))

    @property
    def _release(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:2])

    @property
    def is_uml(self) -> bool:
        """Whether it runs as a process, and counts no instructions."""
        return self.series == UML


def read_own(given: str) -> Kernel:
    """One's own kernel, given as NAME=FILE, a bzImage.

    It needs built in what a PC without a disk does: the serial console, initramfs, and IPv6 where that is measured.

    Raises:
        UsageError: The name is no name, or the file is no such image.
    """
    name, _, file = given.partition("=")
    path = Path(file).expanduser()
    if not _NAME.fullmatch(name) or name == UML:
        raise UsageError(f"--kernel {given!r}: {name!r} is no name for a kernel", "for example mine=~/linux/bzImage")
    try:
        image = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--kernel {given!r} cannot be read: {error.strerror}", "name a bzImage") from error
    if image[_MAGIC] != b"HdrS":
        raise UsageError(f"--kernel {given!r} is no bzImage", "make bzImage leaves one in arch/x86/boot")
    start = _HEADER + int.from_bytes(image[_VERSION], "little")
    version = image[start : image.index(b"\0", start)].decode("ascii", "replace").split(" ")[0]
    return Kernel(name, version, path.resolve(), is_own=True)
