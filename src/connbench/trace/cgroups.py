"""Names of cgroups by their id, which is the inode of the folder in the cgroup-v2 hierarchy."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MOUNTS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
"""Where the hierarchy is: of its own, or beside those of version 1."""


class Cgroups:
    """Looks ids up, walking the hierarchy when one comes that it does not know.

    Args:
        mounts: Where the hierarchy may be.
    """

    def __init__(self, mounts: tuple[Path, ...] = MOUNTS) -> None:
        self._root = next((path for path in mounts if (path / "cgroup.controllers").exists()), None)
        self._names: dict[int, str] = {}

    def learn(self, ids: set[int]) -> None:
        """Look up those ids not looked up before; one whose cgroup is gone by now stays a number."""
        unknown = ids - self._names.keys()
        if not unknown or self._root is None:
            return
        for folder, _, _ in os.walk(self._root):
            with suppress(OSError):  # it may go while we look
                number = Path(folder).stat().st_ino
                if number in unknown:
                    self._names[number] = folder.removeprefix(str(self._root)) or "/"
        for number in unknown:
            self._names.setdefault(number, f"id {number}")

    def name(self, number: int) -> str:
        """The path below the root, or the id if it has none."""
        return self._names.get(number, f"id {number}")
