"""Writes an output file: never over another by accident, never a part, and never through a link of somebody else.

An `Output` reserves one name from before the measurement until the command ends:

- An abstract Unix socket (unix(7)) is the lock on the name. The kernel keeps it in memory, and removes it when the
  process ends, even by SIGKILL; a lock file would stay. The lock holds within one network namespace. The next rule
  protects the name from runs in other namespaces and from other programs.
- link(2) publishes a new file, and fails if the name exists. A file that appeared there meanwhile stays as it is, and
  the content gets another name beside it.
- The content goes to a file without a name (O_TMPFILE, open(2)), so that a killed process leaves nothing. If the file
  system has no such files, it goes to a file whose name nobody can guess. The file gets its name when it is complete
  and on the disk.
- Every call uses one descriptor of the folder, so that all calls use the folder that was checked.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import secrets
import stat
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from connbench.errors import OutputError, UsageError
from connbench.interrupts import BlockedSignals
from connbench.linux import renameat2
from connbench.safe_text import printable

if TYPE_CHECKING:
    from socket import socket

PARQUET = "parquet"
SUFFIXES = {".json": "json", ".json.gz": "json", ".csv": "csv", ".parquet": PARQUET}
"""The formats of a result, by the ending of the file's name."""

PICTURE_SUFFIXES = {".png": "png", ".svg": "svg"}
"""The formats of a chart, by the ending of the file's name."""

GZIP_LEVEL = 1
"""The lowest level packs samples to a third already; the highest takes many times as long."""

LONGEST_NAME = 255
"""Bytes: NAME_MAX of Linux."""

LONGEST_SHOWN = 1000
"""Characters of a path in a message."""

TRIES = 10
"""How often other programs may create and remove the name between two calls before `Output` gives up."""

_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT, errno.ENOSYS}
"""The errnos of open() if the file system, or an old kernel, has no O_TMPFILE."""

_NO_SUCH_CALL = {errno.EPERM, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK}
"""The errnos of link() and renameat2() if the file system lacks them (FAT has no hard links, NFS no flags)."""

_CANNOT_SYNC = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
"""The errnos of fsync() for a file or a folder that cannot be synchronised."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_ACL = "system.posix_acl_access"


class SavedElsewhereError(OutputError):
    """The content is on the disk, under another name than the user gave."""


class Output:
    """A file that a command writes, once or several times. Its name is reserved until `close`.

    Args:
        path: The file.
        force: Whether to replace a regular file that exists. Its mode, owner and ACL stay.
        option: The option that named the file, for messages.

    Raises:
        OutputError: The folder is missing or takes no files; another connbench writes this file; it exists and `force`
            is false; or it is a symbolic link, a folder or a device, which connbench neither replaces nor follows.
    """

    def __init__(self, path: Path, *, force: bool = False, option: str = "-o") -> None:
        self.path = path
        self._name = path.name
        self._force = force
        self.shown = _shown(path)
        """The path for messages; a path may have any bytes."""
        self._named = f"{option} {self.shown}"
        self._folder = -1
        self._own = -1
        """Descriptor of the file published last. While it is open, no other file gets its inode number."""
        self._lock: socket | None = None
        self._unnamed = True
        self._elsewhere: SavedElsewhereError | None = None
        try:
            self._folder = self._open_folder()
            self._lock = self._reserve()
            found = self._look(self._name)
            if found:
                self._raise_found(found)
            with BlockedSignals():  # as in `save`
                self._try_out()
        except OSError as error:
            self.close()
            raise _cannot_write(self._named, error) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """The output itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release the name."""
        self.close()

    def close(self) -> None:
        """Release the name. What was saved stays; without a save there is no file."""
        for descriptor in (self._folder, self._own):
            if descriptor >= 0:
                os.close(descriptor)
        self._folder = self._own = -1
        if self._lock:
            self._lock.close()

    def save(self, content: str | bytes) -> None:
        """Publish `content` in one step, so that a reader sees the old file or the new one; packed for .gz.

        Raises:
            SavedElsewhereError: Another program created a file of this name meanwhile. The hint names the file beside
                it that has the content; further saves go there, too.
            OutputError: The file cannot be written; an earlier one is unchanged.
        """
        data = content.encode() if isinstance(content, str) else content
        try:
            packed = gzip.compress(data, GZIP_LEVEL, mtime=0) if self.path.suffix == ".gz" else data
            with BlockedSignals():  # a signal's exception between two calls would leave a temporary file
                self._write(packed)
        except OSError as error:
            raise _cannot_write(self._named, error) from error
        if self._elsewhere:
            raise self._elsewhere

    def _write(self, data: bytes) -> None:
        if os.fstat(self._folder).st_nlink == 0:  # somebody removed it; there may be a new one of that name
            folder = self._open_folder()
            os.close(self._folder)
            self._folder = folder
        with self._temporary() as temporary:
            temporary.write(data)
            try:
                self._publish(temporary, self._name)
            except OSError as error:
                if self._elsewhere:
                    raise
                reason = error
            else:
                return
        self._keep(data, reason)

    def _keep(self, data: bytes, reason: OSError) -> None:
        """Publish under another name; raises `reason`, why the name itself failed, if this fails too."""
        token = secrets.token_hex(4)
        ending = "".join(self.path.suffixes[-2:] if self.path.suffix == ".gz" else self.path.suffixes[-1:])
        stem = os.fsencode(self._name.removesuffix(ending))
        more = f".kept-{token}{ending}"
        name = os.fsdecode(stem[: LONGEST_NAME - len(os.fsencode(more))]) + more
        try:
            with self._made(0o666) as temporary:
                temporary.write(data)
                self._publish(temporary, name)
        except OSError:
            raise reason from None
        self._name = name
        kept = _shown(self.path.with_name(name))
        self._elsewhere = SavedElsewhereError(
            f"{self._named} cannot be written: {reason.strerror}", f"nothing is lost: connbench wrote {kept} instead"
        )

    def _publish(self, temporary: _Temporary, name: str) -> None:
        for _ in range(TRIES):
            found = self._look(name)
            if found is None:
                with suppress(FileExistsError):
                    temporary.link(name)
                    break
            elif self._is_own(found):
                if temporary.exchange(name, found):
                    break
            elif self._force and stat.S_ISREG(found.st_mode):
                temporary.replace(name)
                break
            else:
                raise _TakenError(found)
        else:
            raise OSError(errno.EBUSY, "other programs keep creating and removing it")
        found = self._look(name)
        if found and not temporary.is_same(found):
            raise _TakenError(found)
        self._sync_folder()
        self._own, before = temporary.keep(), self._own
        if before >= 0:
            os.close(before)

    def _is_own(self, found: os.stat_result) -> bool:
        return self._own >= 0 and os.path.samestat(os.fstat(self._own), found)

    def _look(self, name: str) -> os.stat_result | None:
        """The stat of a name, without following a link; None if nothing has the name."""
        with suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self._folder, follow_symlinks=False)
        return None

    def _raise_found(self, found: os.stat_result) -> None:
        """Raise the error for a file that may not be replaced."""
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if stat.S_ISDIR(found.st_mode):
            raise OutputError(f"{self._named} is a folder", "name a file in it")
        if stat.S_ISLNK(found.st_mode):
            raise OutputError(
                f"{self._named} is a symbolic link, and connbench follows none",
                "name the file that it points to, or remove it",
            )
        if kind:
            raise OutputError(f"{self._named} is {kind}, not a regular file", "name a new file")
        if not self._force:
            raise OutputError(f"{self._named} exists already", "add --force to replace it")
        if not os.access(self._name, os.W_OK, dir_fd=self._folder):
            raise OutputError(f"{self._named} is read-only", "choose another file")

    def _open_folder(self) -> int:
        folder = self.path.parent
        try:
            return os.open(folder, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError as error:
            raise OutputError(f"{self._named}: folder {_shown(folder)} does not exist", "create it first") from error
        except NotADirectoryError as error:
            raise OutputError(
                f"{self._named}: {_shown(folder)} is not a folder", "name a folder that exists"
            ) from error

    def _try_out(self) -> None:
        """Create a file and remove it: find out whether the folder takes files, and files without a name."""
        with self._temporary() as temporary:
            try:
                temporary.give_name()
            except OSError:  # no /proc, or link() is not allowed
                self._unnamed = False
        if not self._unnamed:
            self._temporary().remove()

    def _temporary(self) -> _Temporary:
        """A new file with the mode and the owner of the file that it replaces."""
        try:
            old = os.open(self._name, os.O_PATH | os.O_NOFOLLOW, dir_fd=self._folder)
        except FileNotFoundError:
            return self._made(0o666)
        try:
            found = os.fstat(old)
            if not (stat.S_ISREG(found.st_mode) and (self._force or self._is_own(found))):
                return self._made(0o666)
            temporary = self._made(0o600)
            try:
                temporary.take_after(old)
            except BaseException:
                temporary.remove()
                raise
            return temporary
        finally:
            os.close(old)

    def _made(self, mode: int) -> _Temporary:
        temporary = _Temporary(self._folder, mode, unnamed=self._unnamed)
        self._unnamed = temporary.name is None
        return temporary

    def _sync_folder(self) -> None:
        """Write the name to the disk; the kernel does it later if this user may not read the folder."""
        with suppress(OSError):
            folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._folder)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _reserve(self) -> socket | None:
        """Lock the name against other runs of connbench.

        Returns:
            The lock; None if there can be none. `_publish` replaces no file of others in any case.

        Raises:
            OutputError: Another run has the lock.
        """
        import socket  # noqa: PLC0415  # commands that only read do not need it

        folder = os.fstat(self._folder)
        key = f"{folder.st_dev}:{folder.st_ino}:".encode() + os.fsencode(self._name)
        address = "\0connbench-output-" + hashlib.sha256(key).hexdigest()
        for _ in range(TRIES):
            try:
                lock = socket.socket(socket.AF_UNIX)
            except OSError:
                return None
            try:
                lock.bind(address)
                lock.listen()
            except OSError as error:
                lock.close()
                if error.errno != errno.EADDRINUSE:
                    return None
            else:
                return lock
            with socket.socket(socket.AF_UNIX) as caller:
                caller.setblocking(False)
                try:
                    caller.connect(address)
                except ConnectionRefusedError:  # the other run has ended, or does not listen yet
                    time.sleep(0.05)
                    continue
                except OSError:
                    holder, user = 0, os.geteuid()
                else:
                    credentials = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("iII"))
                    holder, user, _ = struct.unpack("iII", credentials)
            if user in {0, os.geteuid()} or folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                process = f", process {holder}," if holder else ""
                raise OutputError(
                    f"{self._named}: another run of connbench{process} is writing this file",
                    "name another file, or wait until it ends",
                )
            return None  # a user who cannot write here holds the lock: it only hinders others
        return None


class _TakenError(FileExistsError):
    """A file that must stay has the name."""

    def __init__(self, found: os.stat_result) -> None:
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "another file")
        super().__init__(errno.EEXIST, f"{kind} of that name appeared after the start")


class _Temporary:
    """A new file without a name, or with one that nobody can guess. It is removed at the end unless it is published.

    Args:
        folder: Descriptor of its folder.
        mode: Its mode, before the umask.
        unnamed: Whether to try O_TMPFILE.
    """

    def __init__(self, folder: int, mode: int, *, unnamed: bool) -> None:
        self.name: str | None = None
        self._folder = folder
        if unnamed:
            try:
                self._descriptor = os.open(".", os.O_TMPFILE | os.O_RDWR, mode, dir_fd=folder)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
            else:
                return
        name = self._new_name()
        self._descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode, dir_fd=folder)
        self.name = name

    def __enter__(self) -> Self:
        """The file itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _where: TracebackType | None
    ) -> None:
        """Remove it."""
        self.remove()

    def remove(self) -> None:
        """Remove the file if it was not published."""
        if self.name is not None:
            with suppress(FileNotFoundError):
                if self.is_same(os.stat(self.name, dir_fd=self._folder, follow_symlinks=False)):
                    os.unlink(self.name, dir_fd=self._folder)
            self.name = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def keep(self) -> int:
        """Its descriptor, which the caller closes from now on."""
        kept, self._descriptor = self._descriptor, -1
        return kept

    def is_same(self, found: os.stat_result) -> bool:
        """Whether a stat is of this file."""
        return os.path.samestat(os.fstat(self._descriptor), found)

    def take_after(self, old: int) -> None:
        """Copy mode, owner and ACL of an open file; leave out rights that this user cannot give to the same users."""
        found, own = os.fstat(old), os.fstat(self._descriptor)
        mode = stat.S_IMODE(found.st_mode) & 0o777
        if (own.st_uid, own.st_gid) != (found.st_uid, found.st_gid):
            try:
                os.fchown(self._descriptor, found.st_uid, found.st_gid)
            except OSError:
                with suppress(OSError):
                    os.fchown(self._descriptor, -1, found.st_gid)
        if os.fstat(self._descriptor).st_gid != found.st_gid:
            mode &= ~stat.S_IRWXG | (mode & stat.S_IRWXO) << 3
        os.fchmod(self._descriptor, mode)
        try:
            acl = os.getxattr(f"/proc/self/fd/{old}", _ACL)
        except OSError:  # the file has no ACL, or the file system has none
            return
        try:
            os.setxattr(self._descriptor, _ACL, acl)
        except OSError:
            os.fchmod(self._descriptor, mode & ~stat.S_IRWXG)  # of an ACL, these bits are the mask (acl(5))

    def write(self, data: bytes) -> None:
        """Write `data` to the disk, so that after a crash the name does not belong to an empty file."""
        with open(self._descriptor, "wb", closefd=False) as file:
            file.write(data)
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC:
                raise

    def give_name(self) -> str:
        """Its name; if it has none, it gets one that nobody can guess."""
        if self.name is None:
            self.name = self._new_name()
            try:
                self._link_descriptor(self.name)
            except OSError:
                self.name = None
                raise
        return self.name

    def link(self, name: str) -> None:
        """Give the file a name that no other file has.

        Raises:
            FileExistsError: Another file has it.
        """
        if self.name is None:
            self._link_descriptor(name)
            return
        try:
            os.link(self.name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_SUCH_CALL:
                raise
            self._rename(name)
            self.name = None
        else:
            os.unlink(self.name, dir_fd=self._folder)
            self.name = None

    def _rename(self, name: str) -> None:
        """Rename the file, on a file system without hard links, without replacing another."""
        assert self.name is not None  # noqa: S101  # `link` checks it
        try:
            renameat2.rename_file(self.name, name, self._folder, renameat2.NOREPLACE)
        except OSError as error:
            if error.errno not in _NO_SUCH_CALL:
                raise
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._folder))
            os.rename(self.name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def exchange(self, name: str, own: os.stat_result) -> bool:
        """Replace the file `own` of this name, and no other.

        Returns:
            Whether the file was replaced; false if no file has the name any more.

        Raises:
            FileExistsError: Another file has the name.
        """
        temporary = self.give_name()
        try:
            renameat2.rename_file(temporary, name, self._folder, renameat2.EXCHANGE)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _NO_SUCH_CALL:
                raise
            self.replace(name)
            return True
        got = os.stat(temporary, dir_fd=self._folder, follow_symlinks=False)
        if not os.path.samestat(got, own):
            self._give_back(temporary, name)
            raise _TakenError(got)
        os.unlink(temporary, dir_fd=self._folder)
        self.name = None
        return True

    def _give_back(self, temporary: str, name: str) -> None:
        """Undo an exchange; if no file has the name any more, give it back to the other program's file."""
        try:
            renameat2.rename_file(temporary, name, self._folder, renameat2.EXCHANGE)
        except FileNotFoundError:
            with suppress(OSError):  # if a file has the name again, the other one stays where it is
                renameat2.rename_file(temporary, name, self._folder, renameat2.NOREPLACE)

    def replace(self, name: str) -> None:
        """Replace the file of this name; a symbolic link itself is replaced, not the file that it points to."""
        os.rename(self.give_name(), name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self.name = None

    def _link_descriptor(self, name: str) -> None:
        # With dst_dir_fd Python calls linkat() with AT_SYMLINK_FOLLOW, which a link in /proc needs (open(2)).
        os.link(f"/proc/self/fd/{self._descriptor}", name, dst_dir_fd=self._folder, follow_symlinks=True)

    @staticmethod
    def _new_name() -> str:
        return f".connbench-{secrets.token_hex(8)}.tmp"


def format_of(path: Path, suffixes: Mapping[str, str] = SUFFIXES, option: str = "-o") -> str:
    """The name of a format, by the ending of the file's name.

    Raises:
        UsageError: No format has this ending.
    """
    ending = next((s for s in suffixes if path.name.endswith(s) and path.name != s), None)
    if ending is None:
        hint = f"use {', '.join(suffixes)}"
        if "json" in suffixes.values():
            is_stdout = path.name == "-" or path.parent == Path("/dev")
            hint += "; without -o, --format json prints it to stdout" if is_stdout else ""
        raise UsageError(f"{option} {_shown(path)}: unknown ending {printable(path.suffix)!r}", hint)
    return suffixes[ending]


def _shown(path: Path) -> str:
    """A path for messages; of a path of more than `LONGEST_SHOWN` characters, both ends."""
    text = printable(os.fsencode(path).decode(errors="replace"))
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN // 2]}...{text[-LONGEST_SHOWN // 2 :]}"


def _cannot_write(named: str, error: OSError) -> OutputError:
    return OutputError(f"{named} cannot be written: {error.strerror}", "choose another place or name")
