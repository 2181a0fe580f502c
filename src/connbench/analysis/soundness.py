"""Was the measurement clean? What the counters, the workers and the samples say about it, as findings with advice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from connbench.analysis.knee import GROWTH, knee_of
from connbench.analysis.summary import Summary, achieved_rate, count_errors, errno_name, summarize
from connbench.findings import Finding, Severity
from connbench.model import HALF, Clock, Close, Listener, Phase, Plan, Protocol, RoundPlan, StrategySpec
from connbench.model.time_wait import TIME_WAIT_S, TW_REUSE, TimeWait, is_over_loopback
from connbench.results.result import PARTIAL, Origin, Result, Round
from connbench.samples import GIVEN_UP, NO_PORT_FREE, TIMED_OUT, UNKNOWN_ERRNO
from connbench.units import MS_PER_S, duration, format_measured_rate

SLOW_CONNECT_NS = 900_000_000
"""A lost SYN is sent again after 1 s (RFC 6298): a connect() this slow was hardly the port search."""

EHASH_ENTRIES, CHILD_ENTRIES = "net.ipv4.tcp_ehash_entries", "net.ipv4.tcp_child_ehash_entries"
SWITCHES_PER_ATTEMPT = 0.01
STEAL_SHARE = 0.01
FLOOR_SHARE = 0.25

NOISE = {"cpu-load", "cpus", "governor", "involuntary-switches", "steal"}
"""Findings that a machine is not quiet: where instructions are counted, each run has the same of it."""

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
    if result.origin is not Origin.RUN:
        found.append(_attempts_alone(result))
    for strategy in result.strategies:
        label = strategy.strategy.label
        for measured in strategy.rounds:
            number = measured.number if result.most_rounds > 1 else None
            found += (
                replace(f, strategy=label, round=number)
                for f in _judge_round(result.plan, strategy.strategy, measured, result.kernel)
            )
        found += (replace(f, strategy=label) for f in _judge_floor(summarize(strategy)))
    found += _judge_completeness(result)
    return [f for f in found if result.clock is not Clock.INSTRUCTIONS or f.code not in NOISE]


def _judge_completeness(result: Result) -> Iterator[Finding]:
    """What the plan has and the result has not: a run that stopped between two rounds has no fault in any of them."""
    if not result.plan:
        return
    made = {spec: len(result.rounds.get(spec, ())) for spec in result.plan.phases}
    planned = result.plan.rounds
    several = planned > 1
    missing = [
        f"{spec.label} ({planned - rounds} of {planned})" if several else spec.label
        for spec, rounds in made.items()
        if rounds < planned
    ]
    if missing:
        what = "rounds not measured" if several else "not measured"
        yield Finding(PARTIAL, Severity.WARNING, f"partial, {what}: {'; '.join(missing)}", "run it again for the rest")


def _attempts_alone(result: Result) -> Finding:
    return Finding(
        "attempts-alone",
        Severity.NOTE,
        f"{result.name}: a {result.origin} holds the attempts alone, not where and how soundly they were measured",
        "a run's .json holds all of it",
    )


def _judge_round(plan: Plan | None, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    if measured.fault:
        planned = f" of {RoundPlan(plan, spec, measured.number).attempts}" if plan else ""
        yield Finding(
            PARTIAL,
            Severity.WARNING,
            f"partial, {len(measured.samples)}{planned} attempts: {measured.fault.message}",
            measured.fault.hint or "run it again for the rest",
        )
    is_tcp = spec.load.protocol is Protocol.TCP
    if is_tcp and plan:
        yield from _judge_network(plan, spec, measured)
    if is_tcp:
        yield from _judge_timers(plan, spec, measured)
    yield from _judge_failures(measured)
    yield from _judge_emptiness(plan, spec, measured)
    if not plan:
        return
    yield from _judge_held(measured)
    if spec.phase is Phase.CHURN:
        yield from _judge_churn(plan, spec, measured, kernel)
    elif is_tcp:
        yield from _judge_hash(plan, measured)
    yield from _judge_machine(plan, spec, measured)


def _judge_network(plan: Plan, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    overflow = _moved(measured, OVERFLOW_COUNTERS)
    if overflow:
        yield Finding(
            "listener-overflow",
            Severity.INVALID,
            f"the listener's queue overflowed ({overflow})",
            "give the target a larger backlog and net.core.somaxconn"
            if plan.listener is Listener.EXTERNAL
            else "use --isolate always, where the queue is made large enough",
        )
    retransmitted = _moved(measured, RETRANSMISSION_COUNTERS)
    if retransmitted:
        yield Finding(
            "syn-retransmission",
            Severity.INVALID,
            f"SYNs were sent again ({retransmitted}); their connect() waited for a timer",
            "the listener's queue dropped them: see the finding above"
            if overflow
            else _advice_on_retransmission(RoundPlan(plan, spec, measured.number)),
        )


def _judge_timers(plan: Plan | None, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    samples = measured.samples
    slow = int((samples.connect_ns > SLOW_CONNECT_NS).sum())
    if slow:
        yield Finding(
            "slow-connect",
            Severity.WARNING,
            f"{slow:,} connect() took more than 0.9 s",
            "that is a SYN timer, not the port search"
            + (": see the counters in --format json" if plan else "; a CSV has no counters that would show it"),
        )
    unanswered = int((samples.errno == TIMED_OUT).sum())
    if unanswered:
        yield Finding(
            "timed-out",
            Severity.INVALID,
            f"{unanswered:,} connect() had no answer to the SYN within {_patience(plan, spec)} "
            f"({errno_name(TIMED_OUT)}); a slow port search is not the reason",
            _advice_on_silence(plan, spec, measured),
        )


def _patience(plan: Plan | None, spec: StrategySpec) -> str:
    """The option that limits how long a connect() waits for the answer, with its value where that is known."""
    limit = spec.load.give_up_ms
    if limit is not None and (plan is None or limit < plan.timeout * MS_PER_S):
        return f"--give-up-after {limit:g} ms"
    return f"--timeout {plan.timeout:g} s" if plan else "--timeout"


def _advice_on_silence(plan: Plan | None, spec: StrategySpec, measured: Round) -> str:
    if plan is None:
        return "find out who dropped them: the target's queue, a firewall, the path"
    if _moved(measured, OVERFLOW_COUNTERS):
        return "the listener's queue dropped them: see the finding above"
    advice = _advice_on_retransmission(RoundPlan(plan, spec, measured.number))
    return f"{advice}; or allow more time than a round trip takes"


def _judge_failures(measured: Round) -> Iterator[Finding]:
    numbers = measured.samples.errno
    others = count_errors(numbers[~np.isin(numbers, [*NO_PORT_FREE, TIMED_OUT, GIVEN_UP, UNKNOWN_ERRNO])])
    if others:
        yield Finding(
            "failed-otherwise",
            Severity.INVALID,
            "attempts failed for another reason than ports: " + ", ".join(f"{k} {v}" for k, v in others.items()),
            "check that the target still accepts; such attempts say nothing of the port search",
        )


def _judge_emptiness(plan: Plan | None, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    """A phase without any connection says nothing of what one costs, though each failure was measured well."""
    samples = measured.samples
    numbers = set(samples.errno.tolist())
    if not numbers or not numbers <= {*NO_PORT_FREE, GIVEN_UP, UNKNOWN_ERRNO}:  # others are findings by themselves
        return
    reasons = ", ".join(f"{name} {times:,}" for name, times in count_errors(samples.errno).items())
    yield Finding(
        "no-connection",
        Severity.INVALID,
        f"not one of {len(samples):,} attempts had a connection ({reasons})",
        _advice_on_emptiness(plan, spec, numbers),
    )


def _advice_on_emptiness(plan: Plan | None, spec: StrategySpec, numbers: set[int]) -> str:
    if numbers == {GIVEN_UP}:
        return f"give more time than --give-up-after {spec.load.give_up_ms or 0:g} ms"
    if plan is None or UNKNOWN_ERRNO in numbers:
        return "find out why before its times are compared with any other"
    if spec.phase is Phase.CHURN:
        return "no port was free again: lower --fill, or use --close rst"
    reserved = f", of which {plan.reserved:,} are reserved" if plan.reserved else ""
    return f"no port was free in {plan.port_range}{reserved}: choose another --port-range, or find out who has them"


def _judge_held(measured: Round) -> Iterator[Finding]:
    held = measured.report.held
    if not measured.fault and measured.report.established < held:
        yield Finding(
            "not-held",
            Severity.INVALID,
            f"{measured.report.established} connections were left at the end of {held} held",
            "the listener closed them, and their ports were free again: let it hold as many, from that --source",
        )


def _judge_hash(plan: Plan, measured: Round) -> Iterator[Finding]:
    """Whether later connects are slower because the kernel's table of connections is crowded, and not by the search.

    Each lookup in the table walks past the sockets of one entry; a connect() makes one for each port that it looks at,
    and the listener's end some more.
    """
    entries = abs(int(measured.report.settings.get(EHASH_ENTRIES, "0") or 0))
    sockets = measured.report.established * (1 if plan.listener in {Listener.EXTERNAL, Listener.NONE} else 2)
    if not entries or sockets <= entries:
        return
    knee = knee_of(measured.samples)
    if knee.connection is not None or knee.last_ns <= GROWTH * knee.baseline_ns:
        return
    first, last, enough = duration(knee.baseline_ns), duration(knee.last_ns), 1 << (sockets - 1).bit_length()
    yield Finding(
        "hash-table",
        Severity.NOTE,
        f"{sockets:,} sockets are in an established-hash table of {entries:,} entries, {sockets / entries:.1f} each: "
        f"each lookup walks past them; median connect() {first} in the first 5% of the connections, {last} in the "
        "last 5%",
        f"that is not the port search; sysctl {CHILD_ENTRIES}={enough} on the host (Linux 6.1) gives new namespaces a "
        "larger table"
        if plan.namespace.is_own
        else f"that is not the port search; boot with thash_entries={enough} for a larger table",
    )


def _moved(measured: Round, names: tuple[str, ...]) -> str:
    counters = measured.report.counters
    return ", ".join(f"{name.partition('.')[2]} {counters[name]}" for name in names if counters.get(name))


def _judge_machine(plan: Plan, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    report = measured.report
    switches = sum(worker.involuntary_switches for worker in report.workers)
    attempts = len(measured.samples)
    if attempts and switches > max(1, attempts * SWITCHES_PER_ATTEMPT):
        yield Finding(
            "involuntary-switches",
            Severity.WARNING,
            f"{switches} involuntary context switches in {attempts} attempts{_worst_lane(plan, spec, measured)}",
            "clients took turns on a CPU: give --concurrency at most the number of CPUs"
            if 0 < len(set(plan.cpus)) < spec.load.concurrency
            else f"something else ran on {_measured_cpus(spec)}: stop it, or choose another with --cpu",
        )
    if report.steal > STEAL_SHARE:
        yield Finding(
            "steal",
            Severity.WARNING,
            f"the hypervisor took {report.steal:.1%} of the CPU time",
            "compare medians of several --rounds, or use a machine of your own",
        )


def _worst_lane(plan: Plan, spec: StrategySpec, measured: Round) -> str:
    """Where there are several lanes, which of them was interrupted most."""
    if spec.load.concurrency < 2:
        return ""
    by_lane: Counter[int] = Counter()
    for worker in measured.report.workers:
        by_lane[worker.client] += worker.involuntary_switches
    [(lane, switches)] = by_lane.most_common(1)
    cpu = RoundPlan(plan, spec, measured.number).cpu_of(lane)
    return f", {switches} of them in lane {lane}" + ("" if cpu is None else f" on CPU {cpu}")


def _measured_cpus(spec: StrategySpec) -> str:
    return "the measured CPU" if spec.load.concurrency < 2 else "a measured CPU"


def _judge_floor(summary: Summary) -> Iterator[Finding]:
    floor, median = summary.floor_ns, summary.all.latency.p50
    if floor and median and floor > FLOOR_SHARE * median:
        yield Finding(
            "harness-floor",
            Severity.NOTE,
            f"the harness itself is {floor / median:.0%} of the median latency",
            "subtract the harness floor before comparing with another tool's figures",
        )


TW_BUCKETS = "net.ipv4.tcp_max_tw_buckets"

RATE_REACHED = 0.95
"""Share of the rate asked for from which on it was reached: the last replacements of few may come a little late."""


def _judge_churn(plan: Plan, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    """What the reader of a round's churn must know; `kernel` is the release, empty where the file does not say."""
    churn, achieved = spec.load.churn, achieved_rate(spec, measured)
    if churn and churn.rate and achieved and achieved < RATE_REACHED * churn.rate:
        yield Finding(
            "churn-rate",
            Severity.WARNING,
            f"{format_measured_rate(achieved)} of the {format_measured_rate(churn.rate)} replacements a second that "
            "were asked for were made",
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
    seconds = _time_wait_seconds(plan, spec, settings)
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


def _advice_on_retransmission(planned: RoundPlan) -> str:
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
    seconds = _time_wait_seconds(plan, spec, measured.report.settings)
    fitting = format_measured_rate(free / seconds).replace(",", "")  # to be given as it stands
    return f"a port is free again after {seconds:g} s: --churn-rate {fitting} fits, or use --close rst"


def _time_wait_seconds(plan: Plan, spec: StrategySpec, settings: dict[str, str]) -> float:
    """How long a port in TIME_WAIT cannot be had, by the namespace's sysctls."""
    binds_to_port = spec.traits.binds_to_port
    return TimeWait.of(settings).seconds(is_loopback=is_over_loopback(plan), binds_to_port=binds_to_port)
