"""How long a port stays in use after its connection is closed by FIN: TIME_WAIT and net.ipv4.tcp_tw_reuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from connbench.errors import UsageError
from connbench.model.choices import Link
from connbench.model.plan import Plan
from connbench.model.strategy import StrategySpec
from connbench.units import MS_PER_S

TIME_WAIT_S = 60.0
"""How long the side that closes first keeps the connection (TCP_TIMEWAIT_LEN in include/net/tcp.h)."""

TIMES_LEFT_S = (15, 30, 45, 60)
"""Reports tell how many connections will have left TIME_WAIT in so many seconds."""

TW_REUSE, TW_REUSE_DELAY = "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_tw_reuse_delay"
TIMESTAMPS = "net.ipv4.tcp_timestamps"
MOST_WAITING = "net.ipv4.tcp_max_tw_buckets"
SETTINGS = (TW_REUSE, TW_REUSE_DELAY, TIMESTAMPS, MOST_WAITING)

NEVER, ALWAYS, ON_LOOPBACK = range(3)
"""The values of tcp_tw_reuse."""

ON_LOOPBACK_SINCE = (4, 19)
"""The first Linux with tcp_tw_reuse=2, its default since then (79e9fed46038); before, the default is 0."""

REUSE_DELAY_S = 1.0
"""Seconds after which connect() may take such a port if tcp_tw_reuse allows it; a sysctl sets it from Linux 6.14."""


@dataclass(frozen=True, slots=True)
class TimeWait:
    """When the kernel reuses a port in TIME_WAIT (tcp_twsk_unique() in net/ipv4/tcp_ipv4.c).

    Attributes:
        reuse: net.ipv4.tcp_tw_reuse: 0 never, 1 always, 2 over the loopback only.
        delay_s: Seconds after which connect() may take the port if `reuse` allows it (tcp_tw_reuse_delay).
        has_timestamps: Whether connections have TCP timestamps; without them the kernel reuses no port.
        most: The largest number of connections in TIME_WAIT in a network namespace (tcp_max_tw_buckets). Further ones
            close without it (inet_twsk_alloc() in net/ipv4/inet_timewait_sock.c). None if unknown.
    """

    reuse: int = ON_LOOPBACK
    delay_s: float = REUSE_DELAY_S
    has_timestamps: bool = True
    most: int | None = None

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Self:
        """Read the values of sysctls; missing ones have the defaults of current kernels.

        Raises:
            UsageError: One is not a whole number, as in a file that was changed.
        """
        return cls().with_settings(settings)

    def with_settings(self, settings: Mapping[str, str]) -> Self:
        """The same with the values of sysctls; missing ones stay.

        Raises:
            UsageError: As for `of`.
        """
        reuse, delay_ms, most = (_number(settings, name) for name in (TW_REUSE, TW_REUSE_DELAY, MOST_WAITING))
        return replace(
            self,
            reuse=self.reuse if reuse is None else reuse,
            delay_s=self.delay_s if delay_ms is None else delay_ms / MS_PER_S,
            has_timestamps=settings[TIMESTAMPS] != "0" if TIMESTAMPS in settings else self.has_timestamps,
            most=self.most if most is None else most,
        )

    def is_reused(self, *, is_loopback: bool) -> bool:
        """Whether connect() may reuse a port in TIME_WAIT."""
        return self.has_timestamps and (self.reuse == ALWAYS or (self.reuse == ON_LOOPBACK and is_loopback))

    def seconds(self, *, is_loopback: bool, binds_to_port: bool = False, shares_ports: bool = False) -> float:
        """How long a closed connection keeps its port in use, in seconds.

        Args:
            is_loopback: Whether one end has an address of the loopback.
            binds_to_port: Whether bind() puts the port in use for every target; it gets none in TIME_WAIT.
            shares_ports: Whether bind() names the port, with SO_REUSEADDR or SO_REUSEPORT: connect() then takes it from
                TIME_WAIT at once, whatever `reuse` and `delay_s` are (`tcp_twsk_unique` without `twp`).
        """
        if shares_ports:
            return 0.0 if self.has_timestamps else TIME_WAIT_S
        is_kept = binds_to_port or not self.is_reused(is_loopback=is_loopback)
        return TIME_WAIT_S if is_kept else min(self.delay_s, TIME_WAIT_S)

    def seconds_of(self, plan: Plan, spec: StrategySpec) -> float:
        """How long a connection that a strategy closed keeps its port in use, in seconds."""
        return self.seconds(
            is_loopback=is_over_loopback(plan), binds_to_port=spec.takes_port_in_bind, shares_ports=spec.shares_ports
        )


def _number(settings: Mapping[str, str], name: str) -> int | None:
    text = settings.get(name) or None
    if text is not None and not text.isdecimal():
        raise UsageError(f"{name} is {text!r}, which is not a number", "give it a whole number")
    return None if text is None else int(text)


USUAL = TimeWait()
"""The defaults of Linux from 4.19."""


def is_over_loopback(plan: Plan) -> bool:
    """Whether a plan's connections stay on the loopback, the condition of net.ipv4.tcp_tw_reuse=2."""
    return plan.link is Link.LOOPBACK and all(target.is_loopback for target in plan.targets)
