"""A network namespace of one's own: the host's ports and settings stay alone, and it is gone with its last process."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from connbench.errors import EnvironmentFault, reason_of
from connbench.linux import sysctl
from connbench.linux.faults import limit_fault
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.process import CLONE_NEWNET, CLONE_NEWUSER, enter_namespace, in_child, unshare
from connbench.model import Namespace

_OWN = "/proc/self/ns/net"

PATIENCE = 3.0
"""Seconds that a round waits while user.max_net_namespaces is reached: the kernel removes the namespace of a round that
has ended in the background (`cleanup_net` in net/core/net_namespace.c), and counts it until then."""


def enter(namespace: Namespace, patience: float = 0.0) -> None:
    """Move this process into a new namespace of the kind; HOST stays where it is.

    Args:
        namespace: The kind.
        patience: How long to wait, in seconds, while there are as many namespaces as the limits allow.

    Raises:
        OSError: The kernel, or a policy on this machine, does not allow it; ENOSPC where a limit is reached.
    """
    if namespace is Namespace.NETWORK:
        _unshare(CLONE_NEWNET, patience)
    elif namespace is Namespace.USER:
        uid, gid = os.getuid(), os.getgid()
        _unshare(CLONE_NEWUSER | CLONE_NEWNET, patience)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def create_namespace(patience: float = 0.0) -> int:
    """A new network namespace, owned by this process's user namespace; this process stays in its own.

    Args:
        patience: As of `enter`.

    Returns:
        A descriptor, which keeps it until it is closed; so does every socket made in it.

    Raises:
        OSError: The kernel does not allow it, or no descriptor is free.
    """
    with _way_back():
        _unshare(CLONE_NEWNET, patience)
        return os.open(_OWN, os.O_RDONLY)


def _unshare(flags: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            return unshare(flags)
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() >= end:
                raise
        time.sleep(0.01)


def why_not(error: OSError, namespace: Namespace = Namespace.NETWORK) -> str:
    """Why the kernel gave no namespace of a kind. Of a limit it says ENOSPC, "No space left on device"."""
    if error.errno == errno.ENOSPC:
        limits = (
            ["user.max_net_namespaces"]
            if namespace is Namespace.NETWORK
            else ["user.max_user_namespaces", "user.max_net_namespaces"]
        )
        return f"the limit {' or '.join(limits)} is reached"
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Be in the network namespace of a descriptor for a while: sockets and /proc/net are of the namespace then.

    Raises:
        OSError: The kernel does not allow it, or no descriptor is free.
    """
    with _way_back():
        enter_namespace(namespace, CLONE_NEWNET)
        yield


@contextmanager
def _way_back() -> Iterator[None]:
    home = os.open(_OWN, os.O_RDONLY)
    try:
        yield
    finally:
        enter_namespace(home, CLONE_NEWNET)
        os.close(home)


def _refusal(namespace: Namespace) -> str:
    """Why a round cannot have a namespace of the kind, found by making one ready as a round does; empty where it can.

    To enter one is not all: CAP_SYS_ADMIN without CAP_NET_ADMIN enters it and sets no interface up, and a container may
    have /proc/sys read-only.
    """
    try:
        enter(namespace)
    except OSError as error:
        if limit_fault(error):
            raise  # no policy, but a limit of this process: to go on in the host's namespace would be no way out
        return why_not(error, namespace)
    for name in (sysctl.PORT_RANGE, sysctl.UNPRIVILEGED_START, sysctl.SOMAXCONN, sysctl.SYN_BACKLOG):
        try:
            sysctl.write(name, sysctl.read(name))
        except (OSError, ValueError) as error:
            if limit_fault(error):
                raise  # as above
            return f"{name} cannot be set there: {reason_of(error)}"
    try:
        bring_up_loopback()
    except EnvironmentFault as fault:
        return fault.message
    return ""


def best_available() -> tuple[Namespace, str]:
    """The best kind of namespace that a round can have here, and why not a better one (empty for an own one).

    Each kind is tried in a child that ends at once. Call it before numpy is imported: fork() is safe only in a process
    without threads.

    Raises:
        EnvironmentFault: No child can be started to try it.
    """
    failures = []
    for namespace, name in (
        (Namespace.NETWORK, "network namespace"),
        (Namespace.USER, "user namespace"),
    ):
        reason: str = in_child(
            partial(_refusal, namespace),
            f"whether a {name} is allowed cannot be tried",
            "use --isolate never",
        )
        if not reason:
            return namespace, ""
        failures.append(f"{name}: {reason}")
    return Namespace.HOST, "; ".join(failures)
