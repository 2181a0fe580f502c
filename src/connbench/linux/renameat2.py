"""renameat2(2), which Python lacks, through the C library: renames without replacing, and exchanges two files."""

from __future__ import annotations

import ctypes
import errno
import os

NOREPLACE = 1
EXCHANGE = 2

_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc has it from 2.28 on


def rename_file(old: str, new: str, folder: int, flags: int) -> None:
    """Rename a file within a folder.

    Args:
        old: Its name.
        new: The name it gets.
        folder: The descriptor of the folder.
        flags: `NOREPLACE`: fail if a file has the new name. `EXCHANGE`: exchange the two files.

    Raises:
        OSError: EEXIST with NOREPLACE, ENOENT with EXCHANGE; EINVAL or ENOSYS if file system, kernel or C library
            lack the call.
    """
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(folder, os.fsencode(old), folder, os.fsencode(new), flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
