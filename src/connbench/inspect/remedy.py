"""What to do about a path whose connect() is slow, or is about to find no port.

The rules are short, and their figures are those of the path and of its forecasts: `advise` simulates thousands of
connections for each strategy, which takes seconds on a path that is nearly full. So inspect gives the command line.

advise computes from a load what inspect has measured, so the command line states a load that gives what was measured:

- Connections open: `-n`. Those in TIME_WAIT: `--rate`, as many a minute, because that is how long a connection is there
  (Little's law), and `--closes-first client`, as only the side that closes first has TIME_WAIT. Where connect() takes
  their ports again after tcp_tw_reuse_delay, a second, only the younger ones have ports in use: as many a second.
  Without such ports there is no rate: the server closes first, or connections stay open.
- advise assumes one open connection at least, and that the connections of several sources are spread evenly. So sources
  count whose paths to the target are about as full as this one, and each has as many connections as this one.
- Ports that bind() took for other sockets: TCP searches probe them in vain, as they do reserved ones, so they are in
  `--reserved-ports`. With UDP they are open connections, because a UDP port is in use for every target. So they are
  with TCP if they would make a list too long to read.
- The kernel of a file's host is not known: `--kernel` names a release with the search that the forecasts assume, which
  the user can correct.
- Of a program that seems to bind early, the ports of a source are in use for all of its targets: all of them count.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from math import ceil

import numpy as np

from connbench.advice.kernels import kernel_of, options_here
from connbench.advice.scenario import BELOW_KNEE
from connbench.findings import Finding
from connbench.inspect.early_bind import find_apart
from connbench.inspect.forecast import Forecast
from connbench.inspect.port_usage import FEW_LEFT, PathUsage, Usage, distinct_ports, usable_ports
from connbench.inspect.snapshot import Settings
from connbench.inspect.sockets import Mask, State
from connbench.inspect.suspicions import EARLY_BIND
from connbench.kernel_release import ONE_STEP_SINCE
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.linux.sysctl import PORT_RANGE, RESERVED_PORTS
from connbench.model import MAX_PORT, MOST_ROWS, Endpoint, PortRange, Protocol
from connbench.model.addresses import format_ports, is_of_one
from connbench.model.time_wait import ALWAYS, REUSE_DELAY_S, TIME_WAIT_S, TIMESTAMPS, TW_REUSE, TimeWait
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.next_search import Half
from connbench.strategies import STRATEGIES, Strategy
from connbench.units import about, count, counted

MOST_SENTENCES = 3

MUCH = 0.1
"""The share of the port range from which on reserved or bound ports are worth a sentence."""

WORTH = 0.5
"""A strategy is advised if its connect() takes at most this share of the time that it takes now."""

RARE = 0.001
"""The share of failing searches up to which no sentence speaks of further tries."""

ALIKE = 0.9
"""Sources are alike if each has at least this share of the connections of the fullest to the same target."""

WIDEST = PortRange(1024, 65535)
"""The ports that programs without privileges may use (ip_unprivileged_port_start)."""

LONGEST_LIST = 200
"""Characters of a list of ports that a reader still pastes."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to do.

    Attributes:
        sentences: What to do, with figures: one to three sentences, the most important first; the first begins with
            "Do: ".
        command: A command line of `connbench advise` with the measured numbers; empty if none can state them.
    """

    sentences: tuple[str, ...]
    command: str


def find_remedy(
    path: PathUsage,
    usage: Usage,
    forecasts: Sequence[Forecast],
    algorithm: Algorithm,
    findings: Sequence[Finding] = (),
    options: Sequence[str] = (),
) -> Remedy:
    """What to do about a path that needs it.

    Args:
        path: The path.
        usage: All that is in use in its namespace.
        forecasts: Those of the path, that of a program without an option first.
        algorithm: The search that they assume, if the release of the kernel is not known.
        findings: What else was found; without a suspicion of early bind nobody looks for its paths.
        options: Words that end the command line if the path is one of TCP: options of the search and of its costs.
    """
    release = usage.snapshot.settings.kernel or algorithm.release
    case = _Case(path, usage, tuple(forecasts), release, any(one.code == EARLY_BIND for one in findings))
    first, *others = islice(_rules(case), MOST_SENTENCES)
    return Remedy((f"Do: {first}.", *(f"{one[0].upper()}{one[1:]}." for one in others)), _command(case, options))


@dataclass(frozen=True)
class _Load:
    """The connections that hold ports.

    Attributes:
        connected: The number of those that are not in TIME_WAIT.
        waiting: The number of those in TIME_WAIT.
        targets: The number of targets that they go to.
    """

    connected: int
    waiting: int
    targets: int = 1


@dataclass(frozen=True)
class _Case:
    """A path, and what the rules ask of it."""

    path: PathUsage
    usage: Usage
    forecasts: tuple[Forecast, ...]
    release: str
    has_suspicion: bool

    @property
    def settings(self) -> Settings:
        return self.usage.snapshot.settings

    @property
    def is_tcp(self) -> bool:
        return self.path.protocol == Protocol.TCP

    @property
    def is_here(self) -> bool:
        """Whether the sockets are those of this network namespace, so that advise reads the same settings."""
        return not (self.usage.snapshot.origin or self.path.namespace)

    @property
    def now(self) -> Forecast:
        """The forecast of a program that leaves the port to the kernel, and sets no option for the search."""
        return self.forecasts[0]

    @property
    def target(self) -> Endpoint:
        return Endpoint(self.path.target, self.path.target_port)

    @cached_property
    def socket_options(self) -> frozenset[str]:
        """Names of the socket options that the kernel has; by its release where it cannot be asked."""
        if not self.usage.snapshot.origin:
            with suppress(OSError):  # a sandbox may allow sockets of netlink alone
                return options_here()
        kernel = kernel_of(self.release)
        return kernel.options if kernel else frozenset()

    @cached_property
    def load(self) -> _Load:
        """What holds the ports of the path; if its program binds early, those of its source."""
        sockets = self.usage.snapshot.sockets
        chosen = self.usage.outgoing[self._is_of_source] if self.binds_early else self.path.sockets
        its = sockets[chosen]
        usable = usable_ports(self.settings)[its.local_port]
        is_waiting = its.state == State.TIME_WAIT
        connected = distinct_ports(its.local_port[usable & ~is_waiting])
        waiting = np.setdiff1d(distinct_ports(its.local_port[usable & is_waiting]), connected, assume_unique=True)
        targets = 1
        if self.binds_early:
            targets = len(np.unique(np.column_stack((its.remote, its.remote_port)), axis=0))
        return _Load(len(connected), len(waiting), targets)

    @cached_property
    def binds_early(self) -> bool:
        """Whether the path is one of those whose ports bind() seems to have taken."""
        if not (self.is_tcp and self.has_suspicion):
            return False
        order, bounds = self.usage.grouped
        return any(self.path.sockets[0] in order[bounds[one.paths]] for one in find_apart(self.usage))

    @property
    def _is_of_source(self) -> Mask:
        """Whether each outgoing socket is of the path's protocol and source."""
        sockets, first = self.usage.snapshot.sockets, self.path.sockets[0]
        its = sockets[self.usage.outgoing]
        same: Mask = (its.protocol == sockets.protocol[first]) & (its.family == sockets.family[first])
        same &= (its.local == sockets.local[first]).all(axis=1)
        return same

    @cached_property
    def sources(self) -> int:
        """The number of source addresses, this one among them, whose paths to the target are alike."""
        if self.binds_early:
            return 1
        order, bounds = self.usage.grouped
        sockets, first = self.usage.snapshot.sockets, self.path.sockets[0]
        its = sockets[order[bounds[:-1]]]
        same = (its.protocol == sockets.protocol[first]) & (its.family == sockets.family[first])
        same &= (its.remote == sockets.remote[first]).all(axis=1) & (its.remote_port == sockets.remote_port[first])
        same &= np.diff(bounds) >= ALIKE * len(self.path.sockets)
        return min(len(np.unique(its.local[same], axis=0)), MOST_ROWS // (MAX_PORT + 1))

    @property
    def is_reused(self) -> bool:
        """Whether connect() takes ports in TIME_WAIT again, unless they are a second old at most."""
        return not self.binds_early and self.settings.time_wait.is_reused(is_loopback=self.path.is_loopback)

    @property
    def in_use(self) -> int:
        """The ports that a search cannot choose, of the usable ones."""
        load = self.load
        return load.connected + load.waiting if self.binds_early else self.path.usable - self.now.until_exhaustion

    @property
    def first_parity(self) -> int:
        """The number of usable ports of the parity that is searched first; all if none is."""
        usable = usable_ports(self.settings)
        usable[self.path.blocked] = False
        ports = self.settings.ports
        return int(np.count_nonzero(usable[ports.low :: 2 if self.now.half else 1]))

    @property
    def is_past_knee(self) -> bool:
        return self.now.half is Half.SECOND

    @property
    def is_nearly_full(self) -> bool:
        """Whether so few ports are free that the path needs more of them, not a better search."""
        return self.now.until_exhaustion <= FEW_LEFT * self.path.usable

    @cached_property
    def cure(self) -> Forecast | None:
        """The search to take instead of the default one, which the program asks for by a socket option.

        Past the knee it has to be quicker by far, and before it to have no knee. One that the kernel can make without
        a second try comes first, and then one for which the program has to draw nothing.
        """
        possible = [
            one
            for one in self.forecasts[1:]
            if one.until_exhaustion and self.socket_options.issuperset(_strategy(one).needs)
        ]
        if self.is_past_knee:
            possible = [one for one in possible if _mean_ns(one) <= WORTH * (self.now.connect_ns or 0)]
        else:
            possible = [one for one in possible if one.until_knee is None]
        return min(possible, key=lambda one: ((one.failing or 0) > RARE, _strategy(one).draws_again), default=None)


def _strategy(one: Forecast) -> Strategy:
    """The row of a forecast, whose name may go on with parameters."""
    return STRATEGIES[one.strategy.partition(" ")[0]]


def _rules(case: _Case) -> Iterator[str]:
    """What to do, the most important first: one at least."""
    path, waiting = case.path, case.load.waiting
    if case.binds_early:
        yield (
            f"set {NO_PORT.name} before bind() if the program binds to port 0, as its ports suggest: bind() now takes"
            f" each port for all {count(case.load.targets)} targets"
        )
    yield from _leaks(case)
    is_waiting = 2 * waiting > case.load.connected + waiting and not case.is_reused
    if is_waiting:
        yield (
            f"keep connections open and use them again, or let {case.target} close first: this side closed first, so"
            f" {count(waiting)} ports stay in TIME_WAIT for {TIME_WAIT_S:g} s"
        )
    may_reuse = is_waiting and not case.binds_early
    if path.usable:
        more = _reuse(case) if may_reuse else _more_ports(case)
        is_short = case.is_nearly_full or not case.cure
        yield from filter(None, (more, _search(case)) if is_short else (_search(case), more if may_reuse else ""))
    total = len(case.settings.ports)
    reserved, bound = case.settings.ports.count_of(case.settings.reserved), len(path.blocked)
    if reserved >= MUCH * total:
        yield (
            f"remove from {RESERVED_PORTS} the ports on which no program listens: it reserves {count(reserved)} of"
            f" {count(total)} ports"
        )
    if case.is_tcp and bound >= MUCH * total:
        yield (
            f"close sockets that are bound and not connected, and let programs listen outside {case.settings.ports}:"
            f" bind() took {count(bound)} of {count(total)} ports for every target"
        )
    if may_reuse:
        yield _more_ports(case)


def _leaks(case: _Case) -> Iterator[str]:
    """Where most connections are in a state in which they should not stay."""
    path = case.path
    closing, opening = path.others.get("CLOSE-WAIT", 0), path.others.get("SYN-SENT", 0)
    if 2 * closing > path.used:
        yield (
            f"let the program close its sockets: {count(closing)} connections are in CLOSE-WAIT, because {case.target}"
            " closed them and the program did not"
        )
    if 2 * opening > path.used:
        yield f"find out why {case.target} does not answer: {count(opening)} connections are in SYN-SENT"


def _reuse(case: _Case) -> str:
    """What tcp_tw_reuse changes, and what it needs."""
    time_wait, path = case.settings.time_wait, case.path
    per_s = max(path.closing_per_s or 0, case.load.waiting / TIME_WAIT_S)
    left = min(case.load.connected + ceil(per_s * time_wait.delay_s), path.used)
    values = [f"{TW_REUSE}={ALWAYS}"] if time_wait.reuse != ALWAYS else []
    values += [] if time_wait.has_timestamps else [f"{TIMESTAMPS}=1"]
    return (
        f"run {_sysctl(case, *values)} if both ends have TCP timestamps and the program does not bind() to a port:"
        f" connect() then takes a port after {time_wait.delay_s:g} s in TIME_WAIT, and about {count(left)} ports stay"
        " in use"
    )


def _search(case: _Case) -> str:
    """The search to ask for; empty if no better one is known."""
    cure, now = case.cure, case.now
    if cure is None:
        return ""
    strategy = _strategy(cure)
    since = ".".join(map(str, ONE_STEP_SINCE)) if strategy.searches_range else LOCAL_PORT_RANGE.since
    condition = "" if case.settings.kernel else f" if that host has Linux {since} or later"
    use = f"use {cure.strategy} ({strategy.usage}){condition}"
    if not case.is_past_knee:
        return (
            f"{use} before {count(now.until_knee or 0)} more connections are open: without it each connect() then"
            f" probes {count(case.first_parity)} ports in vain"
        )
    failing = cure.failing or 0
    again = f", with further tries for the {failing:.1%} that find none" if failing > RARE else ""
    return (
        f"{use}: connect() then probes {count(cure.ports_probed or 0)} ports{again}, and takes about"
        f" {about(_mean_ns(cure))} instead of {about(now.connect_ns or 0)}"
    )


def _mean_ns(one: Forecast) -> float:
    """The mean time until connect() finds a port, all tries together, in ns; 0 if it is not known."""
    return (one.connect_ns or 0) / (1 - (one.failing or 0))


def _more_ports(case: _Case) -> str:
    """With how many source addresses the path has ports enough, and how to widen the range."""
    total, ports = case.in_use * case.sources, case.settings.ports
    number = max(case.sources + 1, ceil(total / max(1, BELOW_KNEE * case.first_parity)))
    has_knee = case.now.until_knee is not None
    which = f"below the knee at {count(case.first_parity + 1)}" if has_knee else f"of {count(case.path.usable)}"
    addresses = (
        f"connect from {count(number)} source addresses in turn instead of {count(case.sources)}: each then has"
        f" {counted(ceil(total / number), 'port')} in use, {which}"
    )
    if case.binds_early or len(ports) > len(WIDEST) / 2:
        return addresses
    low_high = f'"{WIDEST.low} {WIDEST.high}"'
    return (
        f"{addresses}; or reserve the ports of listeners, and widen the range to {count(len(WIDEST))} ports:"
        f" {_sysctl(case, f'{PORT_RANGE}={low_high}')}"
    )


def _sysctl(case: _Case, *settings: str) -> str:
    """The command that sets sysctls in the path's namespace."""
    where = f" in the namespace {case.path.namespace}" if case.path.namespace else ""
    return f"`sysctl -w {' '.join(settings)}`{where}"


def _command(case: _Case, options: Sequence[str]) -> str:
    """The command line of advise, as described above; empty where advise needs two ports or more."""
    if len(case.settings.ports) < 2 or not case.path.usable:
        return ""
    reserved, bound = _reserved(case)
    words = [*_load_words(case, bound), *_path_words(case), *_kernel_words(case, reserved)]
    words += options if case.is_tcp else ()
    return shlex.join(["connbench", "advise", *words, "--code", "python"])


def _load_words(case: _Case, bound: int) -> Iterator[str]:
    """The options that say how many connections there are, and what the program does.

    Args:
        case: The path.
        bound: The number of ports of other sockets that count as connections.
    """
    yield from ("-n", str(max(1, case.load.connected + bound) * case.sources))
    if rate := _rate(case):
        yield from ("--rate", rate, "--closes-first", "client")
    if case.binds_early:
        yield from ("--today", next(one.name for one in STRATEGIES.values() if one.searches_in_bind))


def _rate(case: _Case) -> str:
    """The rate that keeps as many ports in use by TIME_WAIT; empty if none is."""
    if not case.is_reused:
        return f"{case.load.waiting * case.sources}/min" if case.load.waiting else ""
    delay_s = case.settings.time_wait.delay_s if case.is_here else REUSE_DELAY_S
    waiting = case.in_use - case.load.connected
    return f"{waiting * case.sources / delay_s:.12g}/s" if waiting and delay_s else ""


def _path_words(case: _Case) -> Iterator[str]:
    """The options that say from where to where the connections go."""
    if not case.is_tcp:
        yield from ("--protocol", case.path.protocol)
    if case.load.targets > 1:
        yield from ("--targets", str(case.load.targets))
    elif is_of_one(case.path.target):
        yield from ("--target", str(case.target))
    if case.sources > 1:
        yield from ("--sources", str(case.sources))


def _kernel_words(case: _Case, reserved: str | None) -> Iterator[str]:
    """The options that say what the kernel has, and how it is set.

    Args:
        case: The path.
        reserved: The reserved ports; None if advise reads them itself.
    """
    is_file = bool(case.usage.snapshot.origin)
    yield from ("--port-range", str(case.settings.ports))
    if is_file:
        yield from ("--kernel", case.release)
    if reserved or (reserved is not None and not is_file):
        yield from ("--reserved-ports", reserved)
    if case.is_tcp:
        yield from ("--tcp-tw-reuse", str(_reuse_value(case)))


def _reserved(case: _Case) -> tuple[str | None, int]:
    """The value of --reserved-ports, None if advise knows it; and how many ports count as connections instead."""
    settings, blocked = case.settings, case.path.blocked
    reserved = {port for port in settings.reserved if port in settings.ports}
    known = None if case.is_here else format_ports(reserved)
    if not case.is_tcp or not len(blocked):
        return known, len(blocked)
    together = format_ports(reserved.union(blocked.tolist()))
    return (together, 0) if len(together) <= LONGEST_LIST else (known, len(blocked))


def _reuse_value(case: _Case) -> int:
    """The value of tcp_tw_reuse with which advise takes a port in TIME_WAIT again where this path does.

    advise judges by the target whether the loopback is used, and on another host's behalf it assumes timestamps.
    """
    reuse = case.settings.time_wait.reuse
    is_reused = TimeWait(reuse).is_reused(is_loopback=case.target.is_loopback)
    return reuse if is_reused == case.is_reused else int(case.is_reused)
