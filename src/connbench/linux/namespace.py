"""A network namespace of one's own: the host's ports and settings stay alone, and it is gone with its last process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connbench.linux import sysctl
from connbench.linux.process import CLONE_NEWNET, CLONE_NEWUSER, set_namespace, unshare
from connbench.model import Namespace

_OWN = "/proc/self/ns/net"


def enter(namespace: Namespace) -> None:
    """Move this process into a new namespace of the kind; HOST stays where it is.

    Raises:
        OSError: The kernel, or a policy on this machine, does not allow it.
    """
    if namespace is Namespace.NETWORK:
        unshare(CLONE_NEWNET)
    elif namespace is Namespace.USER:
        uid, gid = os.getuid(), os.getgid()
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def make_another() -> int:
    """A new network namespace, owned by this process's user namespace; this process stays in its own.

    Returns:
        A descriptor, which keeps it until it is closed; so does every socket made in it.

    Raises:
        OSError: The kernel does not allow it, or no descriptor is free.
    """
    with _way_back():
        unshare(CLONE_NEWNET)
        return os.open(_OWN, os.O_RDONLY)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Be in the network namespace of a descriptor for a while: sockets and /proc/net are of the namespace then.

    Raises:
        OSError: The kernel does not allow it, or no descriptor is free.
    """
    with _way_back():
        set_namespace(namespace, CLONE_NEWNET)
        yield


@contextmanager
def _way_back() -> Iterator[None]:
    home = os.open(_OWN, os.O_RDONLY)
    try:
        yield
    finally:
        set_namespace(home, CLONE_NEWNET)
        os.close(home)


def _try_in_child(namespace: Namespace) -> int:
    """Errno of entering and setting a sysctl there, tried in a child that ends at once; 0 if it worked.

    A container may allow the namespace and still have /proc/sys read-only.
    """
    child = os.fork()
    if child == 0:
        code = 255
        try:
            enter(namespace)
            sysctl.write(sysctl.PORT_RANGE, sysctl.read(sysctl.PORT_RANGE))
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def best_available() -> tuple[Namespace, str]:
    """The best kind of namespace this process may enter, and why not a better one (empty for an own one).

    Call it before numpy is imported: fork() is safe only in a process without threads.
    """
    failures = []
    for namespace, name in (
        (Namespace.NETWORK, "network namespace"),
        (Namespace.USER, "user namespace"),
    ):
        number = _try_in_child(namespace)
        if number == 0:
            return namespace, ""
        failures.append(f"{name}: {os.strerror(number)}")
    return Namespace.HOST, "; ".join(failures)
