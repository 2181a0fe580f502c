"""The network namespaces of this host that a process or a mount names, and a context in one of them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from connbench.errors import EnvironmentFault, reason_of, suggest
from connbench.linux.namespace import in_namespace
from connbench.linux.sysctl import SHOW_PROC
from connbench.safe_text import printable
from connbench.units import parse_number

FOLDERS = ("/run/netns", "/run/docker/netns")
"""Where ip-netns(8) and Docker mount the namespaces that they name."""

_GONE = (FileNotFoundError, NotADirectoryError, ProcessLookupError)
_MOUNT = re.compile(r"\S+ \S+ \S+ net:\[(\d+)\] (\S+) ")
"""A line of /proc/self/mountinfo of a network namespace: its inode and where it is mounted (proc_pid_mountinfo(5))."""

_NEEDS_ROOT = "run it as root: entering a network namespace needs CAP_SYS_ADMIN"


@dataclass(frozen=True, slots=True)
class NetworkNamespace:
    """A network namespace.

    Attributes:
        name: The name of its mount, or the id and the name of a process in it; empty for that of this process.
        file: What to open to enter it.
    """

    name: str
    file: Path

    @contextmanager
    def entered(self) -> Iterator[None]:
        """A context in which this thread is in the namespace.

        Raises:
            EnvironmentFault: It exists no more, it is no network namespace, or this user may not enter it.
        """
        with ExitStack() as stack:
            if self == OWN:  # this needs no right
                yield
                return
            try:
                # Without O_NONBLOCK a named pipe would wait for a writer.
                descriptor = os.open(self.file, os.O_RDONLY | os.O_NONBLOCK)
                stack.callback(os.close, descriptor)
                stack.enter_context(in_namespace(descriptor))
            except _GONE as error:
                raise NamespaceGoneError(self.name) from error
            except OSError as error:
                raise self._refusal(error) from error
            yield

    def _refusal(self, error: OSError) -> EnvironmentFault:
        name = printable(self.name)
        known = "`ip netns` lists them"
        if error.errno == errno.EINVAL:
            return EnvironmentFault(f"{printable(str(self.file))} is no network namespace", known)
        hint = _NEEDS_ROOT if error.errno in {errno.EPERM, errno.EACCES} else known
        return EnvironmentFault(f"the network namespace {name} cannot be entered: {reason_of(error)}", hint)


OWN = NetworkNamespace("", Path("/proc/self/ns/net"))
"""That of this process."""


class NamespaceGoneError(EnvironmentFault):
    """There is no namespace of a name, or no more."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no network namespace {printable(name)}", _known_names(name))


def find_namespace(text: str) -> NetworkNamespace:
    """The namespace that a user names: by the name of its mount, by a process in it, or by a file.

    Args:
        text: A name in one of `FOLDERS`; else the id of a process; with a slash in it, a file as in /proc/1/ns/net.

    Raises:
        EnvironmentFault: There is none.
    """
    if "/" in text:
        return NetworkNamespace(text, Path(text))
    for file in (Path(folder, text) for folder in FOLDERS):
        if os.path.lexists(file):
            return NetworkNamespace(text, file)
    try:
        parse_number(text)
    except ValueError:
        raise NamespaceGoneError(text) from None
    try:
        return NetworkNamespace(_named_by(text), Path("/proc", text, "ns/net"))
    except _GONE as error:
        message = f"there is no process {text}, and no network namespace of that name"
        raise EnvironmentFault(message, _known_names(text)) from error


def find_namespaces() -> tuple[list[NetworkNamespace], int]:
    """The network namespaces that a process or a mount names, each once; first that of this process.

    Returns:
        The namespaces, and the number of processes that root may not read, as in a container: theirs may be missing.

    Raises:
        EnvironmentFault: This user may not read every process, or /proc cannot be read.
    """
    hidden = 0
    try:
        found = {OWN.file.stat().st_ino: OWN}
        for inode, file in _mounted():
            found.setdefault(inode, NetworkNamespace(file.name if str(file.parent) in FOLDERS else str(file), file))
        for pid in sorted(int(file.name) for file in Path("/proc").iterdir() if file.name.isdecimal()):
            file = Path(f"/proc/{pid}/ns/net")
            try:
                inode = file.stat().st_ino
                if inode not in found:
                    found[inode] = NetworkNamespace(_named_by(str(pid)), file)
            except _GONE:
                continue
            except PermissionError as error:
                if os.geteuid() != 0:
                    message = f"the network namespaces cannot be listed: {file}: {error.strerror}"
                    raise EnvironmentFault(message, _NEEDS_ROOT) from error
                hidden += 1
    except OSError as error:
        raise EnvironmentFault(f"the network namespaces cannot be listed: {reason_of(error)}", SHOW_PROC) from error
    return list(found.values()), hidden


def _mounted() -> Iterator[tuple[int, Path]]:
    """The inodes of the network namespaces that are mounted, and where."""
    text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    for line in text.split("\n"):
        if found := _MOUNT.match(line):
            yield int(found[1]), Path(re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), found[2]))


def _named_by(pid: str) -> str:
    """The name of a namespace that only processes have: the id and the name of one."""
    file = Path("/proc", pid, "comm")
    try:
        return f"{pid} ({file.read_text(encoding='utf-8', errors='replace').strip()})"
    except PermissionError:  # of another user, where /proc is mounted with hidepid
        return pid


def _known_names(text: str) -> str:
    names = [file.name for _, file in _mounted() if str(file.parent) in FOLDERS]
    return suggest(text, names) if names else "give the id of a process in it, as in --netns 4711"
