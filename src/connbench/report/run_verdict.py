"""The verdict on a run: what a reader should take away, in a few sentences with figures, and what to run next."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from math import floor
from shlex import quote

import numpy as np

from connbench.analysis.knee import Trend, find_knee, find_trend, is_unseen, medians_around_knee
from connbench.analysis.levels import is_profile
from connbench.analysis.router_losses import ALL_BUT_FULL, LOST_IN_ROUTER, RouterLosses
from connbench.analysis.soundness import findings
from connbench.analysis.summary import errno_name, summarize
from connbench.analysis.sweep_analysis import is_sweep
from connbench.findings import Finding, Severity, merge_alike
from connbench.model import (
    LOAD_FIELDS,
    MAX_PORT,
    Churn,
    Close,
    Link,
    Listener,
    Loop,
    Phase,
    Placement,
    Plan,
    PortRange,
    Protocol,
    RoundPlan,
    Spread,
    StrategySpec,
    fewest_to_show_half,
    first_sources,
    ip_version,
)
from connbench.model.knee_rule import FEWEST_CONNECTIONS
from connbench.model.plan import DEFAULT_TIMEOUT, FEWEST_PROPOSED_PORTS, FIRST_NAT_PORT
from connbench.results.result import Origin, Result, StrategyResult
from connbench.safe_text import printable
from connbench.samples import GIVEN_UP, NO_PORT_FREE, UNKNOWN_ERRNO
from connbench.strategies import PARAMETERS, SHOWN_WHERE_SLOW, STRATEGIES
from connbench.units import about, count, format_percent, per_second
from connbench.wording import listed

LATE = 0.95
"""Share of the ports: a strategy that becomes slow only beyond it is reported as fast up to there."""

FEW_CALLS = 1.05
"""bind() calls for each connection up to which a verdict does not count them."""

CUT_SHORT = "Next: the run was cut short; run it again for the rest."
"""The last sentence of the verdict on a partial result."""

LEAVING_PORT = tuple(name for name, s in STRATEGIES.items() if s.defers_port and s.searches_range)
"""The strategies that leave the port to connect(): to measure where bind() becomes slow."""

LEAVE_TO_CONNECT = (
    "Set IP_BIND_ADDRESS_NO_PORT before bind(): then connect() chooses the port, for its own target only "
    f"(as {listed(LEAVING_PORT)} do)."
)
"""What to do about a slow bind()."""

_Measured = tuple[StrategyResult, Trend]


def run_verdict(result: Result) -> tuple[str, ...]:
    """The verdict on a run: sentences without any markup; none where nothing was measured, for a sweep or a profile.

    The last one says what to run next. Where figures cannot be used, the first one says so. A strategy is called fast
    to the last connection only where enough of its ports were in use to show it.
    """
    if is_sweep(result) or is_profile(result):
        return ()
    usable, warning = usable_strategies(result)
    if not usable:
        return warning
    churned = [s for s in usable if s.strategy.phase is Phase.CHURN]
    if result.plan and result.plan.link is Link.NAT:
        return (*warning, *_through_router(result, result.plan, churned or usable))
    said = _of_churn(result, churned) if churned else _of_filling(result, usable)
    return (*warning, *said, *_bind_calls(result, churned or usable), _next_step(result, churned or usable))


def usable_strategies(result: Result) -> tuple[list[StrategyResult], tuple[str, ...]]:
    """The strategies that have attempts and whose figures can be used, and sentences about those that cannot.

    Where there is none, the sentences are the whole verdict.
    """
    measured = [s for s in result.strategies if any(len(r.samples) for r in s.rounds)]
    if not measured:
        return [], ()
    invalid = [f for f in findings(result) if f.severity is Severity.INVALID]
    unsound = {f.strategy for f in invalid}
    usable = [] if None in unsound else [s for s in measured if s.strategy.label not in unsound]
    if not usable:
        [first, *_] = merge_alike(_firsts(invalid))
        cure = f"Next: {printable(first.advice)}; then measure again."
        return [], (f"Do not use these figures: {first.text}.", cure)
    return usable, (_unusable(invalid),) if invalid else ()


def _firsts(invalid: Sequence[Finding]) -> list[Finding]:
    """The first finding of each strategy; only the one about all of them, if there is one."""
    firsts = {finding.strategy: finding for finding in reversed(invalid)}
    return [firsts[None]] if None in firsts else [firsts[name] for name in dict.fromkeys(f.strategy for f in invalid)]


def _unusable(invalid: Sequence[Finding]) -> str:
    firsts = _firsts(invalid)
    messages = {finding.message for finding in firsts}
    reasons = [firsts[0].message] if len(messages) == 1 else [kind.message for kind in merge_alike(firsts)]
    labels = [finding.strategy for finding in firsts if finding.strategy]
    return f"Do not use the figures of {listed(labels)}: {printable('; '.join(reasons))}."


def _name(result: Result, strategy: StrategyResult) -> str:
    """The strategy's label, without the load if all strategies have the same load, as in a run."""
    spec = strategy.strategy
    settings = [other.setting for other in result.specs if other.phase is spec.phase]
    return spec.setting if len(set(settings)) == len(settings) else spec.label


def _of_filling(result: Result, strategies: Sequence[StrategyResult]) -> Iterator[str]:
    courses = [(s, find_trend(s)) for s in strategies]
    slow = [(s, course) for s, course in courses if course.knee.connection is not None and not _is_late(course)]
    shown = [
        (s, course)
        for s, course in courses
        if (s, course) not in slow
        and course.median_ns is not None
        and (course.knee.is_judged or course.knee.shows_half)
        and not is_unseen(s.strategy, course.knee, result.kernel)
    ]
    hidden = [one for one in courses if one not in slow and one not in shown]
    in_bind = [one for one in slow if one[0].strategy.searches_in_bind]
    if in_connect := [one for one in slow if one not in in_bind]:
        yield f"{'; '.join(_turns(result, in_connect))}."
    for strategy, course in in_bind:
        yield f"{_name(result, strategy)}: bind() turns slow at {_knees([course])}{_in_calls(strategy, course)}."
    if shown:
        is_unknown = any(course.knee.shows_half is None for _, course in shown)
        beyond = "; the file does not say how many ports there were, so a knee may lie further on" if is_unknown else ""
        yield f"{'; '.join(_stays(result, shown))}{beyond}."
    if in_bind or any(s.strategy.searches_in_bind and course.grows for s, course in shown):
        yield LEAVE_TO_CONNECT
    if hidden:
        yield _too_small(result, hidden)


def _is_late(course: Trend) -> bool:
    """Whether it turned slow among its last few ports alone."""
    in_use = course.knee.in_use
    return bool(in_use is not None and course.knee.ports and in_use >= LATE * course.knee.ports)


def _turns(result: Result, slow: Sequence[_Measured]) -> Iterator[str]:
    """Where strategies become slow; those at the same share of their ports with the same failures share a sentence."""
    for alike in _grouped(slow, lambda s, c: _share(c.knee.in_use, c) + _failures(s, c)):
        courses = [course for _, course in alike]
        yield (
            f"{_names(result, alike)} {'turns' if len(alike) == 1 else 'turn'} slow at {_knees(courses)}: "
            f"{_figure(result)} {span([c.before_ns for c in courses])} before, "
            f"{span([c.after_ns for c in courses])} after{_failures(*alike[0])}"
        )


def _in_calls(strategy: StrategyResult, course: Trend) -> str:
    """What bind() and connect() take before and after the knee, and how many attempts fail."""
    bind, connect = ([about(t or 0.0) for t in medians_around_knee(strategy, of)] for of in ("bind_ns", "latency_ns"))
    failures = _failures(strategy, course)
    return f", p50 {bind[0]} before, {bind[1]} after; connect() takes {connect[0]} before, {connect[1]} after{failures}"


def _knees(courses: Sequence[Trend]) -> str:
    """The connections from which on strategies are slow, and how full their range is there."""
    numbers = sorted({course.knee.connection or 0 for course in courses})
    where = " to ".join(map(count, dict.fromkeys((numbers[0], numbers[-1]))))
    share = _share(courses[0].knee.in_use, courses[0])
    first = " of the first address" if courses[0].knee.is_of_first else ""
    return f"connection {where}{first}{f' ({share})' if share else ''}"


def _stays(result: Result, shown: Sequence[_Measured]) -> Iterator[str]:
    """The strategies that do not become slow: first those that stay at one latency, then those that grow."""
    late = [(s, course) for s, course in shown if _is_late(course)]
    growing = [(s, course) for s, course in shown if (s, course) not in late and course.grows]
    steady = [one for one in shown if one not in late and one not in growing]
    for alike in _grouped(steady, lambda s, c: _reach(c) + _failures(s, c)):
        level = _stay(result, alike, [course.median_ns for _, course in alike])
        failures, reach = _failures(*alike[0]), _reach(alike[0][1])
        yield level + (f"{reach}{failures}" if failures else f" to the last connection{reach}, without an error")
    for alike in _grouped(late, _failures):
        level = _stay(result, alike, [course.before_ns for _, course in alike])
        yield f"{level} up to {_knees([c for _, c in alike])}{_failures(*alike[0]) or ', without an error'}"
    for position, (strategy, course) in enumerate(growing):
        first, last = about(course.first_ns or 0.0), about(course.last_ns or 0.0)
        call = " in bind()" if strategy.strategy.searches_in_bind else ""
        words = (
            f"from {first} to {last}{call}"
            if position
            else f"slows down{call} from {first} in the first 5 % of the connections to {last} in the last 5 % "
            f"({_figure(result)})"
        )
        yield f"{_name(result, strategy)} {words}{_failures(strategy, course)}"


def _reach(course: Trend) -> str:
    """How many of the ports were in use, if half or less; else empty."""
    share = percent(course.knee.fullest) if course.knee.fullest is not None else ""
    return f" ({share} of the ports in use)" if course.knee.shows_half is False else ""


def _grouped(
    measured: Sequence[_Measured], key: Callable[[StrategyResult, Trend], str]
) -> Iterator[Sequence[_Measured]]:
    """Those of the same key together, in the order of their first."""
    for value in dict.fromkeys(key(*one) for one in measured):
        yield [one for one in measured if key(*one) == value]


def _names(result: Result, measured: Sequence[_Measured]) -> str:
    return listed([_name(result, s) for s, _ in measured])


def _stay(result: Result, alike: Sequence[_Measured], levels: Sequence[float | None]) -> str:
    verb = "stays" if len(alike) == 1 else "stay"
    return f"{_names(result, alike)} {verb} at {span(levels)} ({_figure(result)})"


def _too_small(result: Result, hidden: Sequence[_Measured]) -> str:
    names = _names(result, hidden)
    most = max((course for _, course in hidden), key=lambda course: course.held)
    of = f" of {count(most.knee.ports)} port{'s' if most.knee.ports > 1 else ''}" if most.knee.ports else ""
    calls = searching_calls([s for s, _ in hidden])
    why = f"{listed(calls)} {'turn' if len(calls) > 1 else 'turns'} slow when more than half are in use"
    if most.held < FEWEST_CONNECTIONS:
        why = f"{FEWEST_CONNECTIONS} are needed"
    elif most.knee.ports and most.held > most.knee.ports // 2:
        why = f"{count(fewest_to_show_half(most.knee.ports))} are needed"
    verb = "turns" if len(hidden) == 1 else "turn"
    opened = f"{count(most.held)} connection{'s' if most.held != 1 else ''}"
    return f"{opened}{of} cannot show whether {names} {verb} slow: {why}."


def _through_router(result: Result, plan: Plan, strategies: Sequence[StrategyResult]) -> Iterator[str]:
    """How many connections came through the router of --link nat, what they took, and what to run next."""
    ports = plan.nat_capacity or 0
    for strategy in strategies:
        summary = summarize(strategy)
        losses = [RouterLosses.of(plan, strategy.strategy, measured) for measured in strategy.rounds]
        late = sum(one.late for one in losses if one)
        delayed = f", {count(late)} of them after a second or more, for the router dropped their SYN" if late else ""
        yield (
            f"{count(summary.connected)} of {count(summary.attempts)} connections came through the router's "
            f"{count(ports)} ports with {_name(result, strategy)}, at {about(summary.all.acquire.p50)} "
            f"({_figure(result)}){delayed}{_failures(strategy, None)}."
        )
    known = [f for f in findings(result) if f.code in LOST_IN_ROUTER]
    if known or result.is_partial:
        yield f"Next: {printable(known[0].advice)}." if known else CUT_SHORT
        return
    planned = max((RoundPlan(plan, s.strategy, 1) for s in strategies), key=lambda one: one.connections)
    yield (
        f"Next: the same with --nat-ports {_narrower(planned)} shows what happens when the router's ports run out."
        if planned.connections < ALL_BUT_FULL * ports
        else "Next: the same with --churn 10000 --close fin shows how closed connections keep the router's ports."
    )


def _narrower(planned: RoundPlan) -> PortRange:
    """As many ports of the router as there are connections to each target."""
    low = planned.plan.nat_ports.low if planned.plan.nat_ports else FIRST_NAT_PORT
    return PortRange(low, low + -(-planned.connections // len(planned.plan.targets)) - 1)


def _of_churn(result: Result, churned: Sequence[StrategyResult]) -> Iterator[str]:
    """The latency of a replacement with each strategy, the lowest first."""
    courses = [(find_trend(s).median_ns, _name(result, s)) for s in churned]
    medians = sorted((median, name) for median, name in courses if median is not None)
    if medians:
        words = ", ".join(f"{about(median)} with {name}" for median, name in medians)
        yield f"{_in_use(result, churned[0])} a new connection takes {words} ({_figure(result)})."
    failing = [s for s in churned if summarize(s).errored.latency.count]
    if failing:
        told = "; ".join(f"with {_name(result, s)}{_failures(s, None)}" for s in failing)
        yield f"{told[0].upper()}{told[1:]}."
    else:
        yield "No replacement failed."


def _bind_calls(result: Result, strategies: Sequence[StrategyResult]) -> Iterator[str]:
    """How often programs call bind() for a connection that do not draw a free port, but meet the ports in use."""
    calling = [
        (_name(result, s), float(s.samples.tries.sum()) / connected)
        for s in strategies
        if (s.strategy.traits.has_list or s.strategy.shares_ports) and (connected := summarize(s).connected)
    ]
    if any(calls > FEW_CALLS for _, calls in calling):
        yield f"For a connection {listed([f'{name} calls bind() {calls:.1f} times' for name, calls in calling])}."


def _in_use(result: Result, strategy: StrategyResult) -> str:
    if result.plan is None:
        return "During churn"
    planned = RoundPlan(result.plan, strategy.strategy, 1)
    if strategy.strategy.shares_4_tuples:
        return f"With {count(planned.connections)} sockets on {count(planned.capacity)} ports"
    in_use = min(planned.connections, planned.capacity)
    return f"With {count(in_use)} of {count(planned.capacity)} ports ({percent(in_use / planned.capacity)}) in use"


def _failures(strategy: StrategyResult, course: Trend | None) -> str:
    """The failed attempts by their reason, and where the first one was; empty if none failed."""
    summary = summarize(strategy)
    if not summary.errored.latency.count:
        return ""
    numbers, counts = np.unique(strategy.samples.errno, return_counts=True)
    by_reason: dict[str, int] = {}
    for number, times in zip(numbers.tolist(), counts.tolist(), strict=True):
        if number:
            by_reason[_reason(number)] = by_reason.get(_reason(number), 0) + times
    told = " and ".join(
        f"{count(times)} of {count(summary.attempts)} attempts ({percent(times / summary.attempts, 1)}) {reason}"
        for reason, times in by_reason.items()
    )
    if course and course.knee.ports and course.knee.in_use_at_failure == course.knee.ports:
        return f", {told}, for all ports are in use"
    share = _share(course.knee.in_use_at_failure, course) if course else ""
    return f", {told}" + (f", the first with {share} in use" if share else "")


def _reason(number: int) -> str:
    if number in NO_PORT_FREE:
        return "find no port"
    known = {GIVEN_UP: "are given up", UNKNOWN_ERRNO: "fail"}
    return known.get(number, f"fail with {errno_name(number)}")


def _share(in_use: int | None, course: Trend) -> str:
    if in_use is None or not course.knee.ports:
        return ""
    whose = "its ports" if course.knee.is_of_first else "the ports"
    return f"{percent(in_use / course.knee.ports)} of {whose}"


def percent(share: float, digits: int = 0) -> str:
    """A share from 0 to 1 in percent; less than 1 is never rounded to 100 %."""
    return f"{floor(share * 1000) / 10:.1f} %" if 0.99 <= share < 1 else f"{share * 100:.{digits}f} %"


def _figure(result: Result) -> str:
    if any(spec.load.in_flight for spec in result.specs):
        return "acquire p50 without the handshake"
    return "connect() p50" if result.origin is Origin.TALK_CSV else "acquire p50"


def span(values: Sequence[float | None]) -> str:
    """The range of times, or one time if all round to the same: `62 µs`, `5.2 to 6.7 µs`."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return "-"
    low, high = about(known[0]), about(known[-1])
    number, unit = low.split()
    return high if low == high else f"{number if high.endswith(f' {unit}') else low} to {high}"


# ---- what to run next


def _next_step(result: Result, strategies: Sequence[StrategyResult]) -> str:
    """The command that shows more than this run does, as a sentence.

    Args:
        result: The run.
        strategies: Those of it whose figures can be used, at least one.
    """
    plan = result.plan
    if result.is_partial:
        return CUT_SHORT
    if plan is None:
        return "Next: connbench run measures the same on this machine."
    ports = f" --port-range {plan.port_range}" if plan.namespace.is_own else ""
    specs = [s.strategy for s in strategies]
    load = specs[0].load
    if load.churn or load.protocol is Protocol.UDP:
        # To be pasted into a shell, and the name is what a file has.
        names = quote(",".join(dict.fromkeys(printable(s.strategy.name) for s in strategies)))
        udp = " --protocol udp" if load.protocol is Protocol.UDP else ""
        churn = _churn(load.churn) if load.churn else " --fill 50%-95%:5%"
        return (
            f"Next: connbench sweep --strategy {names}{_settings(specs)}{udp}{churn}{_conditions(plan, specs)}{ports} "
            "shows what each costs as the range fills."
        )
    first = RoundPlan(plan, specs[0], 1)
    planned = [RoundPlan(plan, s.strategy, 1) for s in strategies if _is_unseen(s, result.kernel)]
    fullest = max(planned, key=lambda one: one.fullest, default=None)
    if fullest and not fullest.shows_half:
        return _next_larger(fullest)
    if not any(s.strategy.traits.sets_port_range for s in strategies):
        shown = helping_where_slow(specs)
        kept = _settings([_as_taken(spec, shown) for spec in specs]) + _number(first) + _conditions(plan, specs)
        rounds = f" --rounds {plan.rounds}" if plan.rounds > 1 else ""
        helping = " ".join(f"--strategy {name}" for name in shown)
        return f"Next: connbench run {helping}{kept}{rounds}{ports} shows what helps."
    sources = f" --sources {len(first.sources)}" if len(first.sources) > 1 else ""
    are_named = plan.listener is Listener.EXTERNAL or len(plan.targets) > 1
    targets = "".join(f" --target {target}" for target in plan.targets) if are_named else ""
    asked = f"-n {first.connections}{sources}{targets}{ports}"
    return f"Next: connbench advise {asked} says which strategy and setting fit such a load."


def searching_calls(strategies: Iterable[StrategyResult]) -> list[str]:
    """The calls in which strategies search: bind(), connect() or both."""
    return sorted({"bind()" if s.strategy.searches_in_bind else "connect()" for s in strategies})


def helping_where_slow(specs: Sequence[StrategySpec]) -> tuple[str, ...]:
    """The names of the strategies to measure next, where those of `specs` may become slow."""
    return LEAVING_PORT if any(spec.searches_in_bind for spec in specs) else SHOWN_WHERE_SLOW


def _as_taken(spec: StrategySpec, names: Iterable[str]) -> StrategySpec:
    """The strategy without the parameters that none of these strategies takes: connbench refuses their options."""
    taken = frozenset[str]().union(*(STRATEGIES[name].takes for name in names))
    dropped = dict.fromkeys(name for name in (*PARAMETERS, "residue") if name not in taken)
    if "stride" in taken:
        del dropped["residue"]
    return replace(spec, **dropped)  # type: ignore[arg-type]  # None is a value of each


def _number(planned: RoundPlan) -> str:
    """How many connections, where they are not as many as there are ports."""
    if planned.strategy.load.fill is not None:
        return f" --fill {format_percent(planned.strategy.load.fill)}"
    return "" if planned.connections == planned.capacity else f" -n {planned.connections}"


def _churn(churn: Churn) -> str:
    """How connections are replaced: closed by fin they leave ports in TIME_WAIT, which by rst nobody would see."""
    rate = "" if churn.rate is None else f" --churn-rate {per_second(churn.rate)}"
    return f" --churn {churn.replacements}{rate}{' --close fin' if churn.close is Close.FIN else ''}"


def _settings(specs: Sequence[StrategySpec]) -> str:
    """What the strategies were set to, as `connbench sweep` takes it: in lists; retries that are not the default."""
    windows = dict.fromkeys(spec.window for spec in specs if spec.window)
    placements = dict.fromkeys(spec.placement for spec in specs if spec.placement)
    retries = dict.fromkeys(spec.retries for spec in specs if spec.retries not in {None, spec.default_retries})
    words = []
    if windows:
        words.append(f"--window {_list(windows)}")
    if Placement.CLIPPED in placements:
        words.append(f"--placement {_list(placements)}")
    if retries:
        words.append(f"--retries {_list(retries)}")
    words += dict.fromkeys(argument for spec in specs for argument in spec.port_arguments)
    return "".join(f" {word}" for word in words)


def _conditions(plan: Plan, strategies: Sequence[StrategySpec]) -> str:
    """Where from, where to and how it was measured: with anything else the figures are not to be compared."""
    load = strategies[0].load
    words = [*_source_words(plan, strategies), *_target_words(plan)]
    words += [
        field.argument(load) for field in LOAD_FIELDS if field.section in {"LOAD", "PLACE"} and not field.is_of_churn
    ]
    words += _link_words(plan)
    if plan.ehash_entries:
        words.append(f"--ehash-entries {plan.ehash_entries}")
    if len(plan.targets) > 1 and plan.listener in {Listener.ACCEPT, Listener.BACKLOG}:
        words.append(f"--listener {plan.listener}")  # without it the targets would have to listen already
    elif (
        plan.listener is Listener.ACCEPT
        and plan.namespace.is_own
        and not (load.churn and load.churn.close is Close.FIN)
    ):
        words.append("--listener accept")
    if not plan.namespace.is_own and plan.listener is not Listener.EXTERNAL:
        words.append("--isolate never")
    if plan.loop is Loop.PYTHON:
        words.append("--loop python")
    if plan.timeout != DEFAULT_TIMEOUT:
        words.append(f"--timeout {plan.timeout:g}s")
    return "".join(f" {word}" for word in words if word)


def _link_words(plan: Plan) -> Iterator[str]:
    """The link, where it is not the loopback."""
    if plan.link is Link.ROUTED:
        yield "--allow-host-route"
    if not plan.link.has_two_ends:
        return
    yield f"--link {plan.link}"
    if plan.delay_ms:
        yield f"--delay {plan.delay_ms:g}ms"
    if plan.link is Link.NAT and plan.sources == first_sources(
        len(plan.sources), ip_version(plan.sources[0]), plan.link
    ):
        yield f"--clients {plan.client_namespaces}"
    if plan.nat_ports:
        yield f"--nat-ports {plan.nat_ports}"
    if plan.nat_random:
        yield "--nat-random"


def _source_words(plan: Plan, strategies: Sequence[StrategySpec]) -> list[str]:
    """The source addresses where they are not the default ones, and no strategy leaves them to the kernel."""
    sources = plan.sources[: strategies[0].load.sources]
    family, is_external = ip_version(sources[0]), plan.listener is Listener.EXTERNAL
    default = ("::1",) if family == 6 and not plan.namespace.is_own else first_sources(1, family, plan.link)
    words = [f"--family {family}"] if family == 6 and not is_external else []
    if not all(spec.traits.chooses_source for spec in strategies):
        return words
    if sources == first_sources(len(sources), family, plan.link) and not is_external:
        words += [f"--sources {len(sources)}"] if len(sources) > 1 and plan.link is not Link.NAT else []
    elif is_external or sources != default:
        words.append(f"--source {_spelled(sources)}")
    if len(sources) > 1 and plan.spread is Spread.FILL:
        words.append("--spread fill")
    return words


def _spelled(sources: Sequence[str]) -> str:
    """Addresses by commas, those that follow one another as a range."""
    stretches: list[list[ipaddress.IPv4Address | ipaddress.IPv6Address]] = []
    for address in map(ipaddress.ip_address, sources):
        if stretches and int(address) == int(stretches[-1][-1]) + 1:
            stretches[-1][1:] = [address]
        else:
            stretches.append([address])
    return ",".join("-".join(map(str, stretch)) for stretch in stretches)


def _target_words(plan: Plan) -> list[str]:
    """The targets where they listened already, or are several: connbench chooses one by itself."""
    if plan.listener is not Listener.EXTERNAL and len(plan.targets) == 1:
        return []
    words = [f"--target {quote(printable(str(target)))}" for target in plan.targets]
    are_near = plan.link.has_two_ends or all(target.is_loopback for target in plan.targets)
    return words if are_near else [*words, "--allow-remote"]


def _list(values: Iterable[object]) -> str:
    return ",".join(map(str, values))


def _is_unseen(strategy: StrategyResult, kernel: str) -> bool:
    """Whether there were too few connections to look for a knee, or too few of the ports in use to see one."""
    knee = find_knee(strategy)
    return not knee.is_judged or is_unseen(strategy.strategy, knee, kernel)


def _next_larger(planned: RoundPlan) -> str:
    """The same with more of the ports in use: fewer ports, or more connections; more ports where there are too few."""
    if planned.strategy.load.fill is not None:
        return "Next: the same with a larger share, as in --fill 80%."
    ports = planned.smaller_range
    if planned.plan.namespace.is_own and planned.connections >= planned.capacity:
        fewest = min(FEWEST_PROPOSED_PORTS * (planned.strategy.stride or 1), MAX_PORT)
        low = min(planned.plan.port_range.low, MAX_PORT + 1 - fewest)
        ports = PortRange(low, low + fewest - 1)
    if ports is None:
        return f"Next: the same with -n {planned.capacity}, as many connections as there are ports."
    return f"Next: the same with --port-range {ports} and without -n, so that the connections fill the range."
