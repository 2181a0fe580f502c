"""The figures of a report as rows and lines, before anybody lays them out: for text, and for the HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from connbench.analysis.knee import SLOWDOWN, Knee, is_unseen
from connbench.analysis.summary import Distribution, Summary
from connbench.errors import UsageError
from connbench.model import Link, Plan, PortRange
from connbench.results.result import Origin, Result, StrategyResult
from connbench.units import NS_PER_US, count, duration


class Table(NamedTuple):
    """Rows under a header; the first column names what the row is about, the others are figures."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Block:
    """A table under a heading of its own, and what is to be said below it.

    Attributes:
        title: The heading.
        table: The rows.
        remarks: Sentences below them.
        words: Columns that hold words, counted from 0: they are set to the left, figures to the right.
        muted: Rows, counted from 0, that are there to compare with and not what was measured.
        folded: What stands for the table until a reader unfolds it; None shows it at once.
    """

    title: str
    table: Table
    remarks: tuple[str, ...] = ()
    words: tuple[int, ...] = ()
    muted: tuple[int, ...] = ()
    folded: str | None = None


_DISTRIBUTION = ("mean", "p50", "p90", "p99", "p99.9", "max")


def link(plan: Plan) -> str:
    """A link as a header names it: `veth link, 2 ms delay`; empty for the loopback, which is the usual one."""
    if plan.link is Link.LOOPBACK:
        return ""
    return f"{plan.link} link" + (f", {plan.delay_ms:g} ms delay" if plan.delay_ms else "")


def port_range(result: Result) -> str:
    """The range as a header names it, beside that of the host it was measured on, if the result tells."""
    if result.plan is None:
        return ""
    ports, host = result.plan.port_range, _host_range(result)
    words = [] if host is None else ["the host's" if host == ports else f"the host's is {host}"]
    words += [f"{count(result.plan.reserved)} of its ports reserved"] if result.plan.reserved else []
    return f"range {ports}" + (f" ({'; '.join(words)})" if words else "")


def _host_range(result: Result) -> PortRange | None:
    settings = result.environment.get("host_sysctls")
    text = settings.get("net.ipv4.ip_local_port_range") if isinstance(settings, dict) else None
    try:
        return PortRange.parse("-".join(str(text).split()))
    except UsageError:  # a file may say anything
        return None


def latency(summary: Summary) -> Table:
    """Latency of all attempts, per parity and of the failed; groups without an attempt are left out."""
    rows = [
        (name, count(group.latency.count), *_distribution(group.latency))
        for name, group in summary.groups.items()
        if group.latency.count
    ]
    return Table(("latency", "n", *_DISTRIBUTION), rows)


def _distribution(values: Distribution) -> tuple[str, ...]:
    p999 = "-" if values.p999 is None else duration(values.p999)
    return (*map(duration, (values.mean, values.p50, values.p90, values.p99)), p999, duration(values.maximum))


def tries(summary: Summary) -> Table:
    """Tries of the same groups."""
    rows = [
        (name, f"{group.tries_mean:.2f}", count(group.tries_max))
        for name, group in summary.groups.items()
        if group.acquire.count
    ]
    return Table(("tries", "mean", "max"), rows)


def acquire(summary: Summary) -> Table:
    """Acquire time and tries of the same groups."""
    rows = [
        (
            name,
            duration(group.acquire.mean),
            duration(group.acquire.p99),
            f"{group.tries_mean:.2f}",
            count(group.tries_max),
        )
        for name, group in summary.groups.items()
        if group.acquire.count
    ]
    return Table(("acquire", "mean", "p99", "tries mean", "tries max"), rows)


def facts(result: Result, summary: Summary) -> list[str]:
    """Wall time, totals by round, errors by name and the harness floor: each where it is known, in a line."""
    lines = []
    if summary.attempts and result.origin is not Origin.TALK_CSV:
        each = duration(summary.wall_ns / summary.attempts)
        held = f"; {count(summary.established)} open at the end" if result.plan else ""
        lines.append(f"wall time: {duration(summary.wall_ns)}, {each} an attempt{held}")
    if len(summary.rounds_total_ns) > 1:
        totals = ", ".join(duration(total) for total in summary.rounds_total_ns)
        lines.append(f"total time by round: {totals}; median {duration(summary.round_total_ns)}")
    if summary.errors:
        lines.append("errors: " + ", ".join(f"{name} {count(n)}" for name, n in summary.errors.items()))
    if summary.floor_ns is not None:
        lines.append(f"harness floor: {summary.floor_ns / NS_PER_US:.1f} µs")
    return lines


def knee_lines(strategy: StrategyResult, knee: Knee, kernel: str = "") -> list[str]:
    """Where the strategy turned slow, that it did not or cannot be seen to, and where it first failed."""
    lines = []
    if knee.connection is not None:
        first = " of the first address" if knee.is_of_first else ""
        whose = "its" if knee.is_of_first else "the"
        share = "" if knee.share is None else f" with {knee.share:.1%} of {whose} range in use"
        lines.append(
            f"knee: connection {count(knee.connection)}{first}{share}, "
            f"from there on above {SLOWDOWN:g} x {duration(knee.baseline_ns)}"
        )
    elif knee.is_judged and knee.last_ns > knee.limit_ns:
        lines.append("knee: none, the connections become slower without a step")
    elif knee.fullest is not None and is_unseen(strategy.strategy, knee, kernel):
        lines.append(f"knee: cannot be seen, only {knee.fullest:.1%} of the range in use")
    elif knee.is_judged:
        far = f" up to {knee.fullest:.1%} of the range in use" if knee.shows_half is False else ""
        lines.append(
            f"knee: none{far}, the rolling median does not stay above {SLOWDOWN:g} x {duration(knee.baseline_ns)}"
        )
    if knee.is_growing:
        first, last = duration(knee.baseline_ns), duration(knee.last_ns)
        lines.append(f"grows steadily: median {first} in the first 5% of the connections, {last} in the last 5%")
    if knee.first_failed is not None:
        lines.append(f"first failed: attempt {count(knee.first_failed)}{_share(strategy, knee.in_use_at_failure)}")
    return lines


def _share(strategy: StrategyResult, in_use: int | None) -> str:
    if strategy.capacity is None or in_use is None:
        return ""
    return f" with {in_use / strategy.capacity:.1%} of the range in use"
