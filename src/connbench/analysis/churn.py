"""What churn says of itself: how fast connections were replaced, and what kept it from going on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from connbench.findings import Finding, Severity
from connbench.model import HALF, Close, Phase, Plan, RoundPlan, StrategySpec
from connbench.model.time_wait import TIME_WAIT_S, TW_REUSE, TimeWait, is_over_loopback
from connbench.results.result import Round
from connbench.samples import NO_PORT_FREE, NS_PER_S

TW_BUCKETS = "net.ipv4.tcp_max_tw_buckets"

RATE_REACHED = 0.95
"""Share of the rate asked for from which on it was reached: the last replacements of few may come a little late."""


def achieved_rate(spec: StrategySpec, measured: Round) -> float | None:
    """Replacements a second of a round's churn; None where there are too few to tell.

    Each lane begins with one at once, so that the time between the first and the last is that of all others.
    """
    samples = measured.samples
    others = len(samples) - spec.load.concurrency
    span = float(samples.started_ns[-1] - samples.started_ns[0]) if len(samples) else 0.0
    return others / span * NS_PER_S if others > 0 and span > 0 else None


def rate_text(rate: float) -> str:
    """A rate as people read it: whole, thousands set apart, from 100 on, with three digits below."""
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def judge_churn(plan: Plan, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    """What the reader of a round's churn must know; `kernel` is the release, empty where the file does not say."""
    churn, achieved = spec.load.churn, achieved_rate(spec, measured)
    if churn and churn.rate and achieved and achieved < RATE_REACHED * churn.rate:
        yield Finding(
            "churn-rate",
            Severity.WARNING,
            f"{rate_text(achieved)} replacements a second were made of {rate_text(churn.rate)} asked for",
            "lower --churn-rate to what it can do, or share it out with --concurrency",
        )
    in_turn = max(Counter(worker.client for worker in measured.report.workers).values(), default=0)
    if in_turn > 1:
        # With 800 of 1,000 ports in use, a median connect() of 17 us where three take turns, of 13.5 us with one.
        yield Finding(
            "churn-in-turn",
            Severity.WARNING,
            f"{in_turn} worker processes take turns in a lane: a replacement just after a change of process is slower, "
            "for its caches are cold",
            "raise RLIMIT_NOFILE (ulimit -n) for a single one, or compare only loads with as many",
        )
    overflow = measured.report.counters.get("TcpExt.TCPTimeWaitOverflow", 0)
    if churn and churn.close is Close.FIN and overflow:
        most = int(measured.report.settings.get(TW_BUCKETS) or 0)
        yield Finding(
            "time-wait-overflow",
            Severity.WARNING,
            f"{overflow:,} closed connections had no TIME_WAIT: {TW_BUCKETS} is {most:,}, beyond which ports are free "
            "at once",
            "close fewer than that within a minute: lower --churn or --churn-rate",
        )
    without_port = int(np.isin(measured.samples.errno, list(NO_PORT_FREE)).sum())
    if churn and churn.close is Close.FIN and without_port and measured.report.time_wait:
        yield Finding(
            "time-wait",
            Severity.NOTE,
            f"{without_port:,} of {len(measured.samples):,} replacements found no port: "
            f"{measured.report.time_wait:,} are in TIME_WAIT",
            _advice(plan, spec, measured),
        )
    if churn and churn.close is Close.FIN:
        yield from _judge_reuse(plan, spec, measured, kernel)


def _judge_reuse(plan: Plan, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    """Whether the loopback alone kept ports in TIME_WAIT from running out, or from filling half of the range.

    tcp_tw_reuse 2, the default, is for the loopback alone (`tcp_twsk_unique` in net/ipv4/tcp_ipv4.c).
    """
    settings, churn = measured.report.settings, spec.load.churn
    seconds = time_wait_seconds(plan, spec, settings)
    if not churn or settings.get(TW_REUSE) != "2" or seconds == TIME_WAIT_S:
        return
    planned = RoundPlan(plan, spec, measured.number)
    rate = achieved_rate(spec, measured)
    closed = min(len(measured.samples), round(rate * TIME_WAIT_S)) if rate else len(measured.samples)
    free = planned.capacity - planned.connections
    half = int(planned.capacity * HALF)
    if closed > free:
        hidden = f"the {free:,} free ports do not last for {closed:,} replacements in that time"
    elif planned.connections <= half < planned.connections + closed and spec.searches_one_parity_first(kernel):
        hidden = f"{planned.connections + closed:,} of {planned.capacity:,} ports are taken then, and connect() is slow"
    else:
        return
    yield Finding(
        "loopback-reuse",
        Severity.WARNING,
        f"the loopback alone lets connect() use a closed port again after {seconds:g} s (tcp_tw_reuse is 2); over any "
        f"other link it takes {TIME_WAIT_S:g} s, and {hidden}",
        "add --link veth to measure that"
        if plan.namespace.is_own
        else "set net.ipv4.tcp_tw_reuse to 0 on this host, or measure with --link veth and connbench's own listener",
    )


def advice_on_retransmission(planned: RoundPlan) -> str:
    """Who may have dropped a SYN that the listener's queue did not drop, and the way out.

    close() with SO_LINGER 0 frees a port before it sends the RST (see `connbench.linux.peerreset`). The kernel counts
    the SYN that another lane sends meanwhile nowhere but in TCPSynRetrans, so this is what can be, and not what was.
    """
    load = planned.strategy.load
    has_closed = planned.strategy.phase is Phase.CHURN or load.give_up_ms is not None
    if not (planned.resets_while_others_connect and has_closed):
        queue = "" if planned.is_listener_ours else "the target's queue, "
        return f"find out who drops them: {queue}a firewall, the path"
    ways = ["--concurrency 1"]
    if load.give_up_ms is None:
        ways.append("--close fin")
    if not planned.is_listener_ours:
        ways.append("a listener of connbench's own (no --target)")
    return (
        "a port that one lane closes by reset is free before the RST is sent; the SYN of another lane that takes the "
        f"port can arrive first and is dropped: use {' or '.join(ways)}"
    )


def _advice(plan: Plan, spec: StrategySpec, measured: Round) -> str:
    """A rate at which ports that were closed are free again before those that are left have run out."""
    planned = RoundPlan(plan, spec, measured.number)
    free = planned.capacity - planned.connections
    if free <= 0:
        return "every port is in use, and none is free while one is in TIME_WAIT: lower --fill, or use --close rst"
    seconds = time_wait_seconds(plan, spec, measured.report.settings)
    fitting = rate_text(free / seconds).replace(",", "")  # to be given as it stands
    return f"a port is free again after {seconds:g} s: --churn-rate {fitting} fits, or use --close rst"


def time_wait_seconds(plan: Plan, spec: StrategySpec, settings: dict[str, str]) -> float:
    """How long a port in TIME_WAIT cannot be had, by the namespace's sysctls."""
    binds_to_port = spec.name == "random"
    return TimeWait.of(settings).seconds(is_loopback=is_over_loopback(plan), binds_to_port=binds_to_port)
