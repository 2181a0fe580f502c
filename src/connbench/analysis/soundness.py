"""Was the measurement clean? What the counters, the holders and the samples say about it, as findings with advice."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from connbench.analysis.summary import Summary, errno_name, summarize
from connbench.model import Finding, Listener, Plan, Severity
from connbench.results.result import Result, Round, StrategyResult

SLOW_CONNECT_NS = 900_000_000
"""A lost SYN is sent again after 1 s (RFC 6298): a connect() this slow was hardly the port search."""

SWITCHES_PER_ATTEMPT = 0.01
STEAL_SHARE = 0.01
FLOOR_SHARE = 0.25

OVERFLOW_COUNTERS = (
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPReqQFullDoCookies",
)
RETRANSMISSION_COUNTERS = ("TcpExt.TCPSynRetrans",)


def findings(result: Result) -> list[Finding]:
    """What a reader of the figures must know: what was known beforehand, then each strategy's, in their order."""
    found = [*result.known]
    for strategy in result.strategies:
        for measured in strategy.rounds:
            found += _judge_round(result.plan, strategy, measured)
        found += _judge_floor(strategy, summarize(strategy))
    return found


def _judge_round(plan: Plan, result: StrategyResult, measured: Round) -> Iterator[Finding]:
    where = result.strategy.label
    if plan.rounds > 1:
        where += f", round {measured.number}"
    if measured.fault:
        yield Finding(
            "partial",
            Severity.WARNING,
            f"{where}: partial, {len(measured.samples)} of {plan.connections} attempts: {measured.fault.message}",
            measured.fault.hint or "run it again for the rest",
        )
    yield from _judge_network(plan, where, measured)
    yield from _judge_machine(where, measured)


def _judge_network(plan: Plan, where: str, measured: Round) -> Iterator[Finding]:
    overflow = _moved(measured, OVERFLOW_COUNTERS)
    if overflow:
        yield Finding(
            "listener-overflow",
            Severity.INVALID,
            f"{where}: the listener's queue overflowed ({overflow})",
            "give the target a larger backlog and net.core.somaxconn"
            if plan.listener is Listener.EXTERNAL
            else "use --isolate always, where the queue is made large enough",
        )
    retransmitted = _moved(measured, RETRANSMISSION_COUNTERS)
    if retransmitted:
        yield Finding(
            "syn-retransmission",
            Severity.INVALID,
            f"{where}: SYNs were sent again ({retransmitted}); their connect() waited for a timer",
            "find out who drops them: the listener's queue, a firewall, the path",
        )
    samples = measured.samples
    slow = int((samples.connect_ns > SLOW_CONNECT_NS).sum())
    if slow:
        yield Finding(
            "slow-connect",
            Severity.WARNING,
            f"{where}: {slow} connect() took more than 0.9 s",
            "that is a SYN timer, not the port search: see the counters in --format json",
        )
    timed_out = int((samples.errno == errno.EINPROGRESS).sum())
    if timed_out:
        yield Finding(
            "timed-out",
            Severity.WARNING,
            f"{where}: {timed_out} connect() ran into the time-out ({errno_name(errno.EINPROGRESS)})",
            f"the target did not answer within --timeout {plan.timeout:g}",
        )


def _moved(measured: Round, names: tuple[str, ...]) -> str:
    counters = measured.report.counters
    return ", ".join(f"{name.partition('.')[2]} {counters[name]}" for name in names if counters.get(name))


def _judge_machine(where: str, measured: Round) -> Iterator[Finding]:
    report = measured.report
    switches = sum(holder.involuntary_switches for holder in report.holders)
    attempts = len(measured.samples)
    if attempts and switches > max(1, attempts * SWITCHES_PER_ATTEMPT):
        yield Finding(
            "involuntary-switches",
            Severity.WARNING,
            f"{where}: {switches} involuntary context switches in {attempts} attempts",
            "something else ran on the measured CPU: stop it, or choose another with --cpu",
        )
    if report.steal > STEAL_SHARE:
        yield Finding(
            "steal",
            Severity.WARNING,
            f"{where}: the hypervisor took {report.steal:.1%} of the CPU time",
            "compare medians of several --rounds, or use a machine of your own",
        )
    connected = attempts - int(measured.samples.failed.sum())
    if not measured.fault and report.held < connected:
        yield Finding(
            "not-held",
            Severity.INVALID,
            f"{where}: {report.held} connections open at the end, {connected} were made",
            "report this as a bug: the search was measured with ports that had become free",
        )


def _judge_floor(result: StrategyResult, summary: Summary) -> Iterator[Finding]:
    floor, median = summary.floor_ns, summary.all.latency.p50
    if floor and median and floor > FLOOR_SHARE * median:
        yield Finding(
            "harness-floor",
            Severity.NOTE,
            f"{result.strategy.label}: the harness itself is {floor / median:.0%} of the median latency",
            "subtract the harness floor before comparing with another tool's figures",
        )
