"""`--link veth`: a second network namespace for the listener, connected to this one by a veth pair."""

from __future__ import annotations

import os
import socket
import time
from contextlib import nullcontext, suppress

from connbench.errors import EnvironmentFault
from connbench.linux.address_family import family_of
from connbench.linux.faults import limit_fault
from connbench.linux.interfaces import connect_by_veth
from connbench.linux.namespace import LIMIT_WAIT_S, create_namespace, enter_new_namespace, in_namespace, refusal_reason
from connbench.linux.process import die_with_parent, in_child
from connbench.model import Namespace

ANSWER_WITHIN = 10.0
"""Seconds that a new link has to carry its first packet."""

INTERVAL = 0.02
"""Seconds after which a datagram that did not arrive is sent again."""


def make_link(near: tuple[str, ...], far: tuple[str, ...], delay_ms: float) -> int:
    """Create a second network namespace, and connect this process's namespace to it.

    Args:
        near: The addresses of this namespace's end.
        far: The addresses of the other end.
        delay_ms: The delay to add to each round trip, in ms.

    Returns:
        A descriptor of the second namespace. The pair ends with either namespace.

    Raises:
        EnvironmentFault: The kernel lacks veth or netem, or does not allow it.
    """
    try:
        namespace = create_namespace(LIMIT_WAIT_S)
    except OSError as error:
        raise limit_fault(error) or EnvironmentFault(
            f"cannot create the second network namespace of --link veth: {refusal_reason(error)}",
            "raise user.max_net_namespaces, or leave out --link veth",
        ) from error
    try:
        connect_by_veth(namespace, near, far, delay_ms)
        await_answer((None, near[0]), (namespace, far[0]))
    except BaseException:
        os.close(namespace)
        raise
    return namespace


def check_can_link(kind: Namespace, near: tuple[str, ...], far: tuple[str, ...], delay_ms: float) -> None:
    """Check that `make_link` works in a namespace of a kind, by calling it in a child process.

    Call this before numpy is imported: fork() is safe only without threads.

    Raises:
        EnvironmentFault: It does not work, as for `make_link`.
    """

    def work() -> None:
        parent = os.getppid()
        enter_new_namespace(kind, LIMIT_WAIT_S)
        die_with_parent(parent)
        make_link(near, far, delay_ms)

    in_child(work, "--link veth cannot be set up", "leave it out")


def await_answer(near: tuple[int | None, str], far: tuple[int, str]) -> None:
    """Send datagrams in both directions until one has arrived at each end.

    The kernel may start the end that came up first a moment later, in the background (net/core/link_watch.c). Until
    then it drops packets, and a dropped SYN would be sent again only after a second.

    Args:
        near: The descriptor of one end's namespace, None for that of this process, and an address there.
        far: The descriptor of the other end's namespace, and an address there.

    Raises:
        EnvironmentFault: None has arrived within ten seconds.
    """
    with _bound_in(*near) as here, _bound_in(*far) as there:
        end = time.monotonic() + ANSWER_WITHIN
        _pass(here, there, end)
        _pass(there, here, end)


def _bound_in(namespace: int | None, address: str) -> socket.socket:
    with nullcontext() if namespace is None else in_namespace(namespace):
        sock = socket.socket(family_of(address), socket.SOCK_DGRAM)
    sock.bind((address, 0))
    return sock


def _pass(sender: socket.socket, receiver: socket.socket, end: float) -> None:
    receiver.settimeout(INTERVAL)
    while time.monotonic() < end:
        with suppress(OSError):  # a time-out, or a link that is not up yet
            sender.sendto(b"?", receiver.getsockname())
            receiver.recv(1)
            return
    raise EnvironmentFault("the veth link carries no packet", "leave out --link")
