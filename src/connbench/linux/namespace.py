"""Network namespaces: a round in a new one does not touch the host's ports and settings."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from connbench.errors import EnvironmentFault, reason_of
from connbench.linux import sysctl
from connbench.linux.faults import limit_fault
from connbench.linux.interfaces import bring_up_loopback
from connbench.linux.process import CLONE_NEWNET, CLONE_NEWUSER, in_child, open_own_namespace, set_namespace, unshare
from connbench.model import Namespace

LIMIT_WAIT_S = 3.0
"""Seconds that a round waits while user.max_net_namespaces is reached. The kernel removes the namespace of the previous
round in the background (`cleanup_net` in net/core/net_namespace.c), and counts it until then."""


def enter_new_namespace(namespace: Namespace, patience: float = 0.0) -> None:
    """Move this process into a new namespace of a kind. With HOST it stays where it is.

    Args:
        namespace: The kind.
        patience: How long to wait in seconds while a limit on namespaces is reached.

    Raises:
        OSError: The kernel or a policy of this machine does not allow it; ENOSPC if a limit is reached.
    """
    if namespace is Namespace.NETWORK:
        _unshare(CLONE_NEWNET, patience)
    elif namespace is Namespace.USER:
        uid, gid = os.getuid(), os.getgid()
        _unshare(CLONE_NEWUSER | CLONE_NEWNET, patience)
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")


def enter_child_namespace(ehash_entries: int, patience: float = 0.0) -> None:
    """Move this process from its network namespace into a new one that has an established-hash table of its own.

    Namespaces that are made from the new one get such a table, too.

    Args:
        ehash_entries: The entries of the table, a power of two.
        patience: As for `enter_new_namespace`.

    Raises:
        OSError: The kernel has no `CHILD_EHASH_ENTRIES` (ENOENT), or does not allow the number or the namespace.
        ValueError: The kernel kept another number.
    """
    sysctl.write(sysctl.CHILD_EHASH_ENTRIES, str(ehash_entries))
    _unshare(CLONE_NEWNET, patience)
    sysctl.write(sysctl.CHILD_EHASH_ENTRIES, str(ehash_entries))


def create_namespace(patience: float = 0.0) -> int:
    """Create a network namespace, which this process's user namespace owns. This process does not enter it.

    Args:
        patience: As for `enter_new_namespace`.

    Returns:
        A descriptor of it. The namespace lives until that and all sockets made in it are closed.

    Raises:
        OSError: The kernel does not allow it, or no descriptor is free.
    """
    with _return_to_own_namespace():
        _unshare(CLONE_NEWNET, patience)
        return open_own_namespace()


def _unshare(flags: int, patience: float) -> None:
    end = time.monotonic() + patience
    while True:
        try:
            return unshare(flags)
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() >= end:
                raise
        time.sleep(0.01)


def refusal_reason(error: OSError, namespace: Namespace = Namespace.NETWORK) -> str:
    """Why the kernel created no namespace. For a limit its errno is ENOSPC, "No space left on device"."""
    if error.errno == errno.ENOSPC:
        limits = (
            ["user.max_net_namespaces"]
            if namespace is Namespace.NETWORK
            else ["user.max_user_namespaces", "user.max_net_namespaces"]
        )
        return f"the limit {' or '.join(limits)} is reached"
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def in_namespace(namespace: int) -> Iterator[None]:
    """A context in the network namespace of a descriptor: new sockets and /proc/net belong to that namespace.

    Raises:
        OSError: The kernel does not allow it, or no descriptor is free.
    """
    with _return_to_own_namespace():
        set_namespace(namespace, CLONE_NEWNET)
        yield


@contextmanager
def _return_to_own_namespace() -> Iterator[None]:
    home = open_own_namespace()
    try:
        yield
    finally:
        set_namespace(home, CLONE_NEWNET)
        os.close(home)


def _reason_for_none(namespace: Namespace) -> str:
    """Why a round cannot have a namespace of a kind; empty if it can. This enters one and sets it up as a round does.

    Entering it is not enough: with CAP_SYS_ADMIN but without CAP_NET_ADMIN a process can enter it and set up no
    interface, and a container may have a read-only /proc/sys.
    """
    try:
        enter_new_namespace(namespace)
    except OSError as error:
        if limit_fault(error):
            raise  # a limit of this process, no policy: the host's namespace would not help
        return refusal_reason(error, namespace)
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


def best_namespace() -> tuple[Namespace, str]:
    """The best kind of namespace that a round can have here; for HOST also why it cannot have a better one.

    Each kind is tried in a child process. Call this before numpy is imported: fork() is safe only without threads.

    Raises:
        EnvironmentFault: No child can be started.
    """
    failures = []
    for namespace, name in (
        (Namespace.NETWORK, "network namespace"),
        (Namespace.USER, "user namespace"),
    ):
        reason: str = in_child(
            partial(_reason_for_none, namespace),
            f"cannot try whether a {name} is allowed",
            "use --isolate never",
        )
        if not reason:
            return namespace, ""
        failures.append(f"{name}: {reason}")
    return Namespace.HOST, "; ".join(failures)


def check_sysctls(namespace: Namespace, settings: Sequence[tuple[str, str]]) -> None:
    """Check that a new namespace of a kind takes these sysctls, by setting them in one, in a child process.

    Call this before numpy is imported: fork() is safe only without threads.

    Args:
        namespace: The kind.
        settings: Names and values; a name may have several, which are tried one after the other.

    Raises:
        UsageError: The kernel rejects a value, or keeps another.
        EnvironmentFault: A new namespace has no such sysctl of its own, or none that can be set.
    """

    def work() -> None:
        on_host = {name: sysctl.HostValue(name) for name, _ in settings}
        enter_new_namespace(namespace, LIMIT_WAIT_S)
        for name, value in settings:
            sysctl.set_apart(name, value, on_host[name])

    names = " and ".join(dict.fromkeys(name for name, _ in settings))
    in_child(work, f"--sysctl: {names} cannot be set in a new network namespace", "leave it out")
