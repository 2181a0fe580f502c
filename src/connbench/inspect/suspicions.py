"""What a snapshot gives reason to suspect: programs that bind early, listeners in the port range, a full TIME_WAIT."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from connbench.findings import Finding, Severity
from connbench.inspect.early_bind import IMPROBABLE, MOSTLY, Apart, Late, find_apart, find_late, ports_of
from connbench.inspect.port_usage import Usage, usable_ports
from connbench.inspect.sockets import Indices, Mask, State, address_text
from connbench.linux.sysctl import RESERVED_PORTS
from connbench.model import Endpoint
from connbench.model.addresses import format_ports
from connbench.model.time_wait import MOST_WAITING
from connbench.units import count
from connbench.wording import listed

EARLY_BIND = "early-bind"

LISTENER_IN_RANGE = "listener-in-range"

BOUND_IN_RANGE = "bound-in-range"

TIME_WAIT_FULL = "time-wait-full"

NEARLY_FULL = 0.95
"""The share of tcp_max_tw_buckets from which on a finding says so."""

MOST_NAMED = 10
"""Listeners that a message names; the line for the sysctl has all."""

STRACE = "strace -f -e trace=network -p {pid} 2>&1 | grep -E 'bind|connect|SOL_IP|REUSE'"
"""What shows the calls of a program, as docs/strategies.md reads them."""


def find_suspicions(usages: Sequence[Usage]) -> list[Finding]:
    """What the port usage of each namespace gives reason to suspect, with what to do."""
    return [
        found
        for usage in usages
        for found in (*_find_early_bind(usage), *_find_in_range(usage), *_find_full_time_wait(usage))
    ]


def _find_early_bind(usage: Usage) -> Iterator[Finding]:
    ports = ports_of(usage)
    known = find_apart(usage, ports)
    for apart in known:
        yield _apart(usage, apart)
    for late in find_late(usage, ports):
        if not any(np.isin(late.paths, one.paths).all() for one in known):
            yield _late(usage, late)


def _apart(usage: Usage, apart: Apart) -> Finding:
    path, usable = usage.row(apart.paths[0]), int(np.count_nonzero(usable_ports(usage.snapshot.settings)))
    source = path.bound_source
    ports, expected = count(apart.ports), count(apart.expected)
    if len(apart.paths) == 1:
        others = apart.among - 1
        with_others = f"the {count(others)} other paths" if others > 1 else "the other path"
        alone = f"{path.name} shares none of its {ports} ports with {with_others} of {source}"
    else:
        alone = f"{count(len(apart.paths))} paths of {source} share none of their {ports} ports"
    last, _ = _parities(usage)
    share = apart.late / apart.ports
    parity = f", and {share:.0%} of them are {last}, which bind() takes first" if share >= MOSTLY else ""
    return Finding(
        EARLY_BIND,
        Severity.WARNING,
        f"{_place(usage)}a program seems to take its ports by bind(), for every target: {alone}, where chance gives"
        f" about {expected} (probability below 1 in {count(1 / IMPROBABLE)}){parity}; no other connection from {source}"
        f" can have these {ports} of {count(usable)} ports",
        _advice(usage, apart.paths),
    )


def _late(usage: Usage, late: Late) -> Finding:
    paths, path = late.paths, usage.row(late.paths[0])
    whose = path.name if len(paths) == 1 else f"{count(len(paths))} paths of {path.bound_source}"
    last, first = _parities(usage)
    return Finding(
        EARLY_BIND,
        Severity.NOTE,
        f"{_place(usage)}{count(late.late)} of the {count(late.ports)} ports of {whose} are {last}, although"
        f" {count(late.free)} {first} ones are free: bind() takes {last} ports first, and connect() {first} ones",
        f"unless all {first} ports were in use before, a program binds early: {_advice(usage, paths)}",
    )


def _advice(usage: Usage, paths: Indices) -> str:
    """How to check whether a program binds early, and what to do then."""
    order, bounds = usage.grouped
    sockets, processes = usage.snapshot.sockets, usage.snapshot.processes or {}
    its: Counter[tuple[int, str]] = Counter()
    if processes:
        chosen = np.concatenate([order[bounds[path] : bounds[path + 1]] for path in paths])
        for inode in sockets.inode[chosen].tolist():
            its.update((one.pid, one.name) for one in processes.get(inode, ()))
    (pid, name), _ = next(iter(its.most_common(1)), ((0, "the program"), 0))
    return (
        f"look at the calls of {name}: {STRACE.format(pid=pid or 'PID')}; if bind() names port 0, and no"
        " IP_BIND_ADDRESS_NO_PORT is set before it, set that option: `connbench advise --today early` has the code;"
        " if it names other ports, docs/strategies.md says what the program does"
    )


def _parities(usage: Usage) -> tuple[str, str]:
    """The parity that connect() searches last, and bind() first; and the other."""
    return ("odd", "even") if usage.snapshot.settings.ports.low % 2 == 0 else ("even", "odd")


def _place(usage: Usage) -> str:
    """The namespace, before what was found in it."""
    return f"{usage.snapshot.namespace}: " if usage.snapshot.namespace else ""


def _find_in_range(usage: Usage) -> Iterator[Finding]:
    """Listeners, and sockets bound without a peer, whose port connect() could choose."""
    sockets, settings = usage.snapshot.sockets, usage.snapshot.settings
    listeners = listeners_in_range(usage)
    bound = np.setdiff1d(usage.listeners, listeners)
    if len(listeners):
        ports = set(sockets.local_port[listeners].tolist())
        number, name = len(ports), usage.snapshot.namespace
        what = "it" if number == 1 else "those that have to stay the same"
        line = (
            f"add {format_ports(ports)} to {RESERVED_PORTS}"
            if usage.snapshot.origin  # what is reserved there may not be known
            else f"sysctl -w {RESERVED_PORTS}={format_ports(settings.reserved | ports)}"
        )
        yield Finding(
            LISTENER_IN_RANGE,
            Severity.WARNING,
            f"{_place(usage)}{'a listener has a port' if number == 1 else f'listeners have {count(number)} ports'} of"
            f" the range {settings.ports}, not reserved: {_named(usage, listeners)}; while such a program restarts,"
            " connect() can take its port",
            f"reserve {what}{f', in the namespace {name}' if name else ''}: {line}",
        )
    if len(bound):
        yield Finding(
            BOUND_IN_RANGE,
            Severity.NOTE,
            f"{_place(usage)}{count(len(bound))} socket{' is' if len(bound) == 1 else 's are'} bound to a port of the"
            f" range without a connection: {_named(usage, bound)}; connect() cannot choose"
            f" {'this port' if len(bound) == 1 else 'these ports'} for any target",
            "if such sockets remain, a program binds and does not connect: close them",
        )


def listeners_in_range(usage: Usage) -> Indices:
    """The TCP sockets in LISTEN whose port is in the range and not reserved, as indices."""
    is_listening: Mask = usage.snapshot.sockets.state[usage.listeners] == State.LISTEN
    return usage.listeners[is_listening]


def _named(usage: Usage, chosen: Indices) -> str:
    """Sockets by address and port, each once, with their programs where these are known."""
    sockets, processes = usage.snapshot.sockets, usage.snapshot.processes or {}
    names: dict[str, dict[str, None]] = {}
    for one in chosen[np.argsort(sockets.local_port[chosen], kind="stable")].tolist():
        address = address_text(int(sockets.family[one]), sockets.local[one])
        its = names.setdefault(str(Endpoint(address, int(sockets.local_port[one]))), {})
        its.update(dict.fromkeys(process.name for process in processes.get(int(sockets.inode[one]), ())))
    texts = [f"{name} ({', '.join(its)})" if its else name for name, its in names.items()]
    more = len(texts) - MOST_NAMED
    return listed(texts[:MOST_NAMED] + ([f"{count(more)} more"] if more > 0 else []))


def _find_full_time_wait(usage: Usage) -> Iterator[Finding]:
    """A namespace with as many connections in TIME_WAIT as it may have."""
    most = usage.snapshot.settings.time_wait.most
    waiting = int(np.count_nonzero(usage.snapshot.sockets.state == State.TIME_WAIT))
    if most and waiting >= NEARLY_FULL * most:
        yield Finding(
            TIME_WAIT_FULL,
            Severity.WARNING,
            f"{_place(usage)}{count(waiting)} connections are in TIME_WAIT, and {MOST_WAITING} allows {count(most)}:"
            " the kernel closes further ones without TIME_WAIT",
            "a late segment can then reach a new connection with the same ports; keep connections open and use them"
            f" again, or raise {MOST_WAITING}",
        )
