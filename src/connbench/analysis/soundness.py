"""Finds what makes a measurement unsound in its counters, workers and samples, and says what to do about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from connbench.analysis.knee import GROWTH, knee_of
from connbench.analysis.router_losses import SLOW_CONNECT_NS, RouterLosses, find_router_losses
from connbench.analysis.summary import Summary, achieved_rate, count_errors, errno_name, summarize
from connbench.findings import Finding, Severity
from connbench.model import HALF, Clock, Close, Listener, Phase, Plan, Protocol, RoundPlan, StrategySpec
from connbench.model.round_report import OVERFLOW_COUNTERS
from connbench.model.time_wait import ALWAYS, MOST_WAITING, TIME_WAIT_S, TW_REUSE, TimeWait
from connbench.results.result import PARTIAL, Origin, Result, Round, StrategyResult
from connbench.samples import GIVEN_UP, NO_PORT_FREE, TIMED_OUT, UNKNOWN_ERRNO
from connbench.units import MS_PER_S, NS_PER_US, duration, format_measured_rate

EHASH_ENTRIES = "net.ipv4.tcp_ehash_entries"
SWITCHES_PER_ATTEMPT = 0.01
STEAL_SHARE = 0.01
FLOOR_SHARE = 0.25

RATE_REACHED = 0.95
"""Share of the requested rate that counts as reached: of few replacements, the last ones may come a little late."""

NOISE = {"cpu-load", "cpus", "governor", "involuntary-switches", "steal"}
"""Findings that the machine was busy. A count of instructions does not depend on that, so they are left out there."""

LATE_START_US = 5000
"""Later than this a turn of --start-at did not begin at its time."""

RETRANSMISSION_COUNTERS = ("TcpExt.TCPSynRetrans",)


def findings(result: Result) -> list[Finding]:
    """The findings of a result: those from before the run first, then each strategy's, in their order."""
    found = [*result.known]
    if result.origin is not Origin.RUN:
        found.append(_attempts_alone(result))
    for strategy in result.strategies:
        label = strategy.strategy.label
        for measured in strategy.rounds:
            number = measured.number if result.most_rounds > 1 else None
            found += (
                replace(f, strategy=label, round=number)
                for f in _find_in_round(result.plan, strategy.strategy, measured, result.kernel)
            )
        found += (replace(f, strategy=label) for f in _find_high_floor(summarize(strategy)))
        if result.plan and strategy.strategy.phase is not Phase.CHURN:
            found += (replace(f, strategy=label) for f in _find_in_bind(result.plan, strategy))
    found += _find_missing_rounds(result)
    return [f for f in found if result.clock is not Clock.INSTRUCTIONS or f.code not in NOISE]


def _find_in_bind(plan: Plan, strategy: StrategyResult) -> Iterator[Finding]:
    """What a program that binds to a port does and these figures do not show, or not at first sight."""
    spec = strategy.strategy
    if spec.load.protocol is not Protocol.TCP:
        return
    targets = len(plan.targets)
    if spec.takes_port_in_bind and targets > 1:
        yield Finding(
            "port-for-all-targets",
            Severity.NOTE,
            f"bind() takes a port for every target: the {targets:,} targets have no more ports than one",
            "set IP_BIND_ADDRESS_NO_PORT, and connect() takes a port for one target",
        )
    samples, churn = strategy.samples, spec.load.churn
    tries = int(samples.tries.sum())
    failed = tries - int((~samples.failed).sum())
    closes_by_fin = churn is not None and churn.close is Close.FIN  # reuse takes these ports at once
    if spec.shares_ports and targets == 1 and failed and not closes_by_fin:
        yield Finding(
            "reuse-without-use",
            Severity.NOTE,
            f"with one target no port is shared: {failed:,} of {tries:,} tries passed bind() and failed in connect()",
            f"connect to several targets, or leave out {spec.reuse and spec.reuse.option}",
        )
    if spec.traits.has_list and spec.load.concurrency > 1:
        yield Finding(
            "list-of-each-client",
            Severity.NOTE,
            "each client begins at a place of its own in the list of ports, and meets no port of another before it",
            "a program whose processes all begin at one port calls bind() more often: expect more tries than these",
        )
    if spec.searches_in_bind and any(not one.traits.binds_to_port for one in plan.strategies):
        yield Finding(
            "bound-ports",
            Severity.NOTE,
            "each strategy has the ports to itself: on one host connect() of the others passes over every port that "
            "bind() took, whatever its target",
            "count the ports of all programs on the host together",
        )


def _find_missing_rounds(result: Result) -> Iterator[Finding]:
    """Planned rounds that are missing: no round tells it, because a run can stop between two rounds."""
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
        f"{result.name}: a {result.origin} contains only the attempts, not where or how soundly they were measured",
        "read the run's .json instead: it contains everything",
    )


def _find_in_round(plan: Plan | None, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    if measured.fault:
        planned = f" of {RoundPlan(plan, spec, measured.number).attempts}" if plan else ""
        yield Finding(
            PARTIAL,
            Severity.WARNING,
            f"partial, {len(measured.samples)}{planned} attempts: {measured.fault.message}",
            measured.fault.hint or "run it again for the rest",
        )
    is_tcp = spec.load.protocol is Protocol.TCP
    if plan:
        yield from find_router_losses(plan, spec, measured)
    if is_tcp and plan:
        yield from _find_dropped_syns(plan, spec, measured)
    if is_tcp and not _is_lost_in_router(plan, spec, measured):
        yield from _find_timeouts(plan, spec, measured)
    yield from _find_other_failures(measured)
    yield from _find_no_connection(plan, spec, measured)
    if spec.shares_4_tuples and spec.phase is Phase.FILL:
        yield from _find_shared_4_tuples(spec, measured)
    if not plan:
        return
    yield from _find_closed_by_listener(measured)
    if spec.phase is Phase.CHURN:
        yield from _find_in_churn(plan, spec, measured, kernel)
    elif is_tcp and not spec.searches_in_bind:  # its connections become slower by its search, too
        yield from _find_crowded_hash_table(plan, measured)
    yield from _find_noise(plan, spec, measured)
    yield from _find_late_start(plan, spec, measured)


def _find_shared_4_tuples(spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    """UDP sockets with the same source, port and target: bind() and connect() allow it, and one of them receives."""
    made = measured.samples.chosen(~measured.samples.failed)
    source, port, target = (one.astype(np.int64) for one in (made.source, made.port, made.target))
    _, sockets = np.unique(target << 32 | source << 16 | port, return_counts=True)
    alike = sockets[sockets > 1]
    if len(alike) and spec.reuse:
        yield Finding(
            "shared-4-tuple",
            Severity.WARNING,
            f"{alike.sum():,} of {len(made):,} sockets have the source, port and target of another: the kernel gives "
            f"what arrives to one socket of each, and {(alike - 1).sum():,} receive nothing",
            f"leave out {spec.reuse.argument}, and bind() gives each socket a port of its own"
            + (
                "; or open no more than there are ports for each target"
                if spec.traits.has_list
                else "; or let the program keep a list of the ports that it has for each target"
            ),
        )


def _is_lost_in_router(plan: Plan | None, spec: StrategySpec, measured: Round) -> bool:
    """Whether a router dropped SYNs: that is what --link nat measures, and `find_router_losses` says it."""
    losses = RouterLosses.of(plan, spec, measured) if plan else None
    return losses is not None and losses.dropped > 0


def _find_dropped_syns(plan: Plan, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    overflow = _moved(measured, OVERFLOW_COUNTERS)
    if overflow:
        yield Finding(
            "listener-overflow",
            Severity.INVALID,
            f"the listener's queue overflowed ({overflow})",
            "give the target a larger backlog and net.core.somaxconn"
            if plan.listener is Listener.EXTERNAL
            else "use --isolate always: connbench then makes the queue large enough",
        )
    retransmitted = _moved(measured, RETRANSMISSION_COUNTERS)
    if retransmitted and not _is_lost_in_router(plan, spec, measured):
        severity, who_waited = Severity.INVALID, "their connect() waited for a timer"
        if spec.load.in_flight:
            severity, who_waited = Severity.WARNING, "their handshakes waited for a timer, and no connect() did"
        yield Finding(
            "syn-retransmission",
            severity,
            f"SYNs were sent again ({retransmitted}): {who_waited}",
            "the listener's queue dropped them: see the finding above"
            if overflow
            else _advice_on_retransmission(RoundPlan(plan, spec, measured.number)),
        )


def _find_timeouts(plan: Plan | None, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    samples = measured.samples
    waited, waiting = ("handshakes", samples.handshake_ns) if spec.load.in_flight else ("connect()", samples.connect_ns)
    slow = int((waiting > SLOW_CONNECT_NS).sum())
    if slow:
        yield Finding(
            "slow-connect",
            Severity.WARNING,
            f"{slow:,} {waited} took more than 0.9 s",
            "that is a SYN timer, not the port search"
            + (": see the counters in --format json" if plan else "; a CSV has no counters that would show it"),
        )
    unanswered = int((samples.errno == TIMED_OUT).sum())
    if unanswered:
        yield Finding(
            "timed-out",
            Severity.INVALID,
            f"{unanswered:,} {'connect()' if spec.load.in_flight is None else 'handshakes'} had no answer to the SYN "
            f"within {_patience(plan, spec)} "
            f"({errno_name(TIMED_OUT)}); a slow port search is not the reason",
            _advice_on_silence(plan, spec, measured),
        )


def _patience(plan: Plan | None, spec: StrategySpec) -> str:
    """The option that limits how long a connect() waits for an answer, with its value if that is known."""
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


def _find_other_failures(measured: Round) -> Iterator[Finding]:
    numbers = measured.samples.errno
    others = count_errors(numbers[~np.isin(numbers, [*NO_PORT_FREE, TIMED_OUT, GIVEN_UP, UNKNOWN_ERRNO])])
    if others:
        yield Finding(
            "failed-otherwise",
            Severity.INVALID,
            "attempts failed for a reason other than ports: " + ", ".join(f"{k} {v}" for k, v in others.items()),
            "check that the target still accepts; these attempts say nothing about the port search",
        )


def _find_no_connection(plan: Plan | None, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    """A phase without a connection: it does not say what a connection costs, well measured as it may be.

    A churn whose ports all stay in TIME_WAIT shows just that; `time-wait` says so.
    """
    samples = measured.samples
    if spec.phase is Phase.PROFILE and plan:  # with all ports in use, attempts are to fail
        samples = samples.chosen(samples.in_use < RoundPlan(plan, spec, measured.number).capacity)
    numbers = set(samples.errno.tolist())
    if not numbers or not numbers <= {
        *NO_PORT_FREE,
        GIVEN_UP,
        UNKNOWN_ERRNO,
    }:  # other failures have a finding of their own
        return
    if spec.phase is Phase.CHURN and measured.report.time_wait and numbers <= set(NO_PORT_FREE):
        return
    reasons = ", ".join(f"{name} {times:,}" for name, times in count_errors(samples.errno).items())
    yield Finding(
        "no-connection",
        Severity.INVALID,
        f"none of {len(samples):,} attempts made a connection ({reasons})",
        _advice_without_connection(plan, spec, numbers),
    )


def _advice_without_connection(plan: Plan | None, spec: StrategySpec, numbers: set[int]) -> str:
    if numbers == {GIVEN_UP}:
        return f"give more time than --give-up-after {spec.load.give_up_ms or 0:g} ms"
    if plan is None or UNKNOWN_ERRNO in numbers:
        return "find out why before you compare its times with others"
    if spec.phase is Phase.CHURN:
        return "no port became free again: lower --fill, or use --close rst"
    number = RoundPlan(plan, spec, 1).reserved
    reserved = f", of which {number:,} are reserved" if number else ""
    return f"no port was free in {plan.port_range}{reserved}: choose another --port-range, or find out what uses them"


def _find_closed_by_listener(measured: Round) -> Iterator[Finding]:
    held = measured.report.held
    if not measured.fault and measured.report.established < held:
        yield Finding(
            "not-held",
            Severity.INVALID,
            f"only {measured.report.established} of {held} connections were still open at the end",
            "the listener closed the others, which freed their ports: make it keep as many from that --source",
        )


def _find_crowded_hash_table(plan: Plan, measured: Round) -> Iterator[Finding]:
    """Connections that become slower because the kernel's table of connections is crowded, and not by the search.

    Each lookup in the table walks past the sockets of one entry. connect() does one lookup for each port that it
    probes, and the listener's end does some more.
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
        f"that is not the port search; --ehash-entries {enough} gives the run a larger table (Linux 6.1)"
        if plan.namespace.is_own
        else f"that is not the port search; boot with thash_entries={enough} for a larger table",
    )


def _moved(measured: Round, names: tuple[str, ...]) -> str:
    counters = measured.report.counters
    return ", ".join(f"{name.partition('.')[2]} {counters[name]}" for name in names if counters.get(name))


def _find_late_start(plan: Plan, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    planned_us = None if spec.phase is Phase.CHURN else RoundPlan(plan, spec, measured.number).start_at_us
    if planned_us is None or not len(measured.samples) or not measured.report.epoch_us:
        return
    late_us = measured.report.epoch_us + measured.samples.started_ns[0] / NS_PER_US - planned_us
    if late_us > LATE_START_US:
        yield Finding(
            "late-start",
            Severity.WARNING,
            f"it began {duration(late_us * NS_PER_US)} after the time that --start-at and --start-every name",
            "name a later time, or give each turn more time with --start-every",
        )


def _find_noise(plan: Plan, spec: StrategySpec, measured: Round) -> Iterator[Finding]:
    report = measured.report
    switches = sum(worker.involuntary_switches for worker in report.workers)
    attempts = len(measured.samples)
    if attempts and switches > max(1, attempts * SWITCHES_PER_ATTEMPT):
        yield Finding(
            "involuntary-switches",
            Severity.WARNING,
            f"{switches} involuntary context switches in {attempts} attempts{_worst_client(plan, spec, measured)}",
            "clients took turns on a CPU: set --concurrency to the number of CPUs or less"
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


def _worst_client(plan: Plan, spec: StrategySpec, measured: Round) -> str:
    """Which of several clients was interrupted most."""
    if spec.load.concurrency < 2:
        return ""
    by_client: Counter[int] = Counter()
    for worker in measured.report.workers:
        by_client[worker.client] += worker.involuntary_switches
    [(client, switches)] = by_client.most_common(1)
    cpu = RoundPlan(plan, spec, measured.number).cpu_of(client)
    return f", {switches} of them in client {client}" + ("" if cpu is None else f" on CPU {cpu}")


def _measured_cpus(spec: StrategySpec) -> str:
    return "the measured CPU" if spec.load.concurrency < 2 else "a measured CPU"


def _find_high_floor(summary: Summary) -> Iterator[Finding]:
    floor, median = summary.floor_ns, summary.all.latency.p50
    if floor and median and floor > FLOOR_SHARE * median:
        yield Finding(
            "harness-floor",
            Severity.NOTE,
            f"the harness floor is {floor / median:.0%} of the median latency",
            "subtract it before you compare with another tool's figures",
        )


def _find_in_churn(plan: Plan, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    """The findings of a round's churn; `kernel` is its release, empty if that is not known."""
    churn, achieved = spec.load.churn, achieved_rate(spec, measured)
    if churn and churn.rate and achieved and achieved < RATE_REACHED * churn.rate:
        yield Finding(
            "churn-rate",
            Severity.WARNING,
            f"the churn made {format_measured_rate(achieved)} replacements a second, and --churn-rate asks for "
            f"{format_measured_rate(churn.rate)}",
            "lower --churn-rate, or divide it among more clients with --concurrency",
        )
    in_turn = max(Counter(worker.client for worker in measured.report.workers).values(), default=0)
    if in_turn > 1:
        # Measured with 800 of 1,000 ports in use: a median of 17 µs with three processes, of 13.5 µs with one.
        yield Finding(
            "churn-in-turn",
            Severity.WARNING,
            f"{in_turn} worker processes of one client take turns: replacements just after a change of process are "
            "slower, because the caches are cold",
            "raise RLIMIT_NOFILE (ulimit -n) so that one process is enough, or compare only with loads that need as "
            "many workers",
        )
    overflow = measured.report.counters.get("TcpExt.TCPTimeWaitOverflow", 0)
    if churn and churn.close is Close.FIN and overflow:
        most = int(measured.report.settings.get(MOST_WAITING) or 0)
        yield Finding(
            "time-wait-overflow",
            Severity.WARNING,
            f"{overflow:,} closed connections had no TIME_WAIT: {MOST_WAITING} is {most:,}, and beyond it the kernel "
            "frees ports at once",
            "close fewer than that within a minute: lower --churn or --churn-rate",
        )
    without_port = int(np.isin(measured.samples.errno, list(NO_PORT_FREE)).sum())
    waits = measured.report.time_wait > 0 and _time_wait_seconds(plan, spec, measured.report.settings) > 0
    if churn and churn.close is Close.FIN and without_port and waits:
        yield Finding(
            "time-wait",
            Severity.NOTE,
            f"{without_port:,} of {len(measured.samples):,} replacements found no free port: "
            f"{measured.report.time_wait:,} {'is' if measured.report.time_wait == 1 else 'are'} in TIME_WAIT",
            _advice(plan, spec, measured),
        )
    if churn and churn.close is Close.FIN:
        yield from _find_loopback_reuse(plan, spec, measured, kernel)


def _find_loopback_reuse(plan: Plan, spec: StrategySpec, measured: Round, kernel: str) -> Iterator[Finding]:
    """Ports in TIME_WAIT that would run out, or fill half of the range, over any other link than the loopback.

    tcp_tw_reuse 2, the default, holds for the loopback alone (`tcp_twsk_unique` in net/ipv4/tcp_ipv4.c).
    """
    settings, churn = measured.report.settings, spec.load.churn
    seconds = _time_wait_seconds(plan, spec, settings)
    if not churn or settings.get(TW_REUSE) != "2" or seconds == TIME_WAIT_S or spec.shares_ports:
        return
    planned = RoundPlan(plan, spec, measured.number)
    rate = achieved_rate(spec, measured)
    closed = min(len(measured.samples), round(rate * TIME_WAIT_S)) if rate else len(measured.samples)
    free = planned.capacity - planned.connections
    half = int(planned.capacity * HALF)
    if closed > free:
        hidden = (
            f"the {free:,} free ports do not last for {closed:,} replacements in that time"
            if free
            else f"no port is free for the {closed:,} replacements in that time"
        )
    elif planned.connections <= half < planned.connections + closed and spec.searches_one_parity_first(kernel):
        hidden = (
            f"{planned.connections + closed:,} of {planned.capacity:,} ports are in use then, and connect() is slow"
        )
    else:
        return
    yield Finding(
        "loopback-reuse",
        Severity.WARNING,
        f"connect() can use a closed port again after {seconds:g} s only on the loopback (tcp_tw_reuse is 2); over any "
        f"other link it takes {TIME_WAIT_S:g} s, and {hidden}",
        f"add --link veth, or --sysctl {TW_REUSE}=0, to measure that"
        if plan.namespace.is_own
        else "set net.ipv4.tcp_tw_reuse to 0 on this host, or measure with --link veth and connbench's own listener",
    )


def _advice_on_retransmission(planned: RoundPlan) -> str:
    """What may have dropped a SYN that the listener's queue did not drop, and what to do.

    close() with SO_LINGER 0 frees a port before it sends the RST (see `connbench.linux.sock_destroy`). The kernel
    counts the SYN that another client sends meanwhile only in TCPSynRetrans: so this names what can be the cause.

    A shared port is taken at once, even from FIN_WAIT_2, before the other end has closed (`tcp_twsk_unique` without
    `twp`): its old connection answers the SYN with a challenge ACK, the client resets it, and sends the SYN again.
    """
    spec = planned.strategy
    load, is_churn = spec.load, spec.phase is Phase.CHURN
    has_closed = is_churn or load.give_up_ms is not None
    if is_churn and spec.shares_ports and load.churn and load.churn.close is Close.FIN:
        return (
            "connect() takes a shared port at once, even if the other end has not closed the old connection, which "
            "answers with a challenge ACK: use a larger --port-range, or give the other end time by --churn-rate"
        )
    if not (planned.resets_while_others_connect and has_closed):
        queue = "" if planned.is_listener_ours else "the target's queue, "
        nat = "the host's NAT (conntrack -S counts insert_failed and drop), " if planned.plan.masquerade else ""
        return f"find out who drops them: {queue}{nat}a firewall, the path"
    ways = ["--concurrency 1"]
    if load.give_up_ms is None:
        ways.append("--close fin")
    if not planned.is_listener_ours:
        ways.append("a listener of connbench's own (no --target)")
    return (
        "a port that one client closes by reset is free before its RST is sent; the SYN of another client that takes "
        f"the port can arrive first and is dropped: use {' or '.join(ways)}"
    )


def _advice(plan: Plan, spec: StrategySpec, measured: Round) -> str:
    """A rate at which closed ports become free again before the remaining ones run out."""
    planned = RoundPlan(plan, spec, measured.number)
    free = planned.capacity - planned.connections
    if free <= 0:
        return "every port is in use, or in TIME_WAIT: fill fewer ports, or use --close rst"
    seconds = _time_wait_seconds(plan, spec, measured.report.settings)
    fitting = format_measured_rate(free / seconds).replace(",", "")  # the reader can paste it
    advice = f"a port is free again after {seconds:g} s: --churn-rate {fitting} fits, or use --close rst"
    reusing = _time_wait_seconds(plan, spec, {**measured.report.settings, TW_REUSE: str(ALWAYS)})
    if plan.namespace.is_own and reusing < seconds:
        advice += f"; with --sysctl {TW_REUSE}={ALWAYS} it is free after {reusing:g} s"
    return advice


def _time_wait_seconds(plan: Plan, spec: StrategySpec, settings: dict[str, str]) -> float:
    """How long connect() cannot take a port in TIME_WAIT, by the namespace's sysctls."""
    return TimeWait.of(settings).seconds_of(plan, spec)
