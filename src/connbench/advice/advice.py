"""The rules of advice: what to use, what it costs, why, and what more source addresses change.

`advise` is the way in. Each rule gives the items of its topic; the verdict says the most important ones in sentences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil

from connbench.advice.candidates import default_search, find_candidates, is_candidate, is_simulated, prefers_parity
from connbench.advice.scenario import BELOW_KNEE, Advice, AdviceItem, Candidate, Scenario, SufficientSources
from connbench.advice.snippets import SnippetSpec, snippets
from connbench.draws import MOST_DRAWS
from connbench.linux.sockopts import LOCAL_PORT_RANGE, NO_PORT
from connbench.model import Protocol, StrategySpec
from connbench.model.time_wait import ALWAYS, MOST_WAITING, TW_REUSE
from connbench.strategies import STRATEGIES, Strategy, Window
from connbench.units import duration
from connbench.wording import listed

NEXT = "Next: "
"""The beginning of the line of the verdict that is a command."""

MOST_SOURCES = 4096
"""The most source addresses that are simulated."""

GENERAL_LANGUAGES = {"Python", "C", "Go"}
"""Languages of programs that make their own calls: nginx and haproxy set the option by themselves."""

SIMULATED_NUMBERS = 4
"""How many numbers of sources are simulated, from the fewest that have enough ports."""


def advise(scenario: Scenario) -> Advice:
    """Simulate the strategies of a scenario, and say which to use.

    Where none keeps budget and SLO, the advice says with how many source addresses one does.
    """
    candidates = find_candidates(scenario)
    kept = [one for one in candidates if one.is_kept and is_candidate(one.spec.traits)]
    sufficient = None if kept else find_sufficient_sources(scenario)
    items = [
        *_today(scenario),
        *_kernel(scenario),
        *_ports(scenario),
        *_exhaustion(scenario),
        *_time_wait(scenario),
        *_knee(scenario),
        *_left_out(scenario),
        *(_uses(scenario, kept) if kept else _more_sources(scenario, candidates, sufficient)),
        *_below_knee(scenario),
    ]
    verdict = _verdict(scenario, candidates, sufficient, items)
    return Advice(scenario, tuple(candidates), tuple(items), verdict, sufficient)


def _today(scenario: Scenario) -> Iterator[AdviceItem]:
    """What the program does today, where bind() takes the port: what that costs, and the option that ends it."""
    today = scenario.today
    if today is None or not today.binds_to_port or scenario.protocol is not Protocol.TCP:
        return
    in_use, capacity = scenario.ports_in_use(today), scenario.capacity(today)
    seconds = scenario.time_wait_seconds(today)
    kept = f"; a port that bind() takes stays in TIME_WAIT for {seconds:g} s, whatever {TW_REUSE} is" if seconds else ""
    are = f"{in_use:,} of {capacity:,} are in use" if in_use <= capacity else f"{in_use:,} are needed of {capacity:,}"
    yield AdviceItem(
        "today",
        f"today bind() takes each port for every target, and {are}",
        f"if connect() chooses the port, each target has {scenario.unreserved:,} ports of a source{kept}",
    )
    if today.searches_in_bind:
        yield from _bind_early(scenario, today)
    if today.has_list and scenario.fits(today):
        free = 1 - scenario.in_use_each(today) / scenario.unreserved
        mean = f"{1 / free:,.1f}" if free else f"{scenario.unreserved:,}"
        yield AdviceItem(
            "today-list",
            f"a program that goes through a list makes about {mean} bind() calls a connection, if connections end in no"
            " order",
            "a program that begins at the lowest port for each connection, as curl --local-port does, makes up to"
            f" {min(scenario.in_use_each(today) + 1, scenario.unreserved):,}",
        )
    if today.chooses_port:
        yield AdviceItem(
            "today-reuse",
            "with SO_REUSEADDR before bind() its sockets share a port, each for another target",
            "then take another port, too, if connect() fails with EADDRNOTAVAIL: the 4-tuple is in use",
        )


def _bind_early(scenario: Scenario, today: Strategy) -> Iterator[AdviceItem]:
    """What the search of bind() costs, and the option that leaves the port to connect()."""
    if is_simulated(scenario, today):
        quick, each, probed = scenario.second_parity, scenario.in_use_each(today), len(scenario.ports) // 2
        in_use = scenario.ports_in_use(today)
        port_ns = float(scenario.calibration.port_ns_at(min(max(1, in_use), quick * scenario.sources)))
        cost = duration(probed * port_ns * scenario.calibration.bind_factor)
        yield AdviceItem(
            "today-search",
            f"bind() probes {probed:,} ports in vain, about {cost}, once {quick:,} ports are in use; here {each:,} are",
            "bind() searches first the parity that connect() leaves for last; SO_REUSEADDR does not help, because"
            " bind() to port 0 shares no port",
        )
    if NO_PORT.name not in scenario.options:
        yield AdviceItem("bind-late", f"you bind early, and {NO_PORT.name} needs Linux {NO_PORT.since}", "")
        return
    spec = SnippetSpec(scenario.ports, sources=scenario.sources, names_source=True)
    yield AdviceItem(
        "bind-late",
        f"you bind early: set one more option before bind(), {NO_PORT.name} (Linux {NO_PORT.since})",
        "bind() then takes the address only, and connect() chooses the port, for one target; docs/strategies.md names"
        " programs that do so",
        {language: text for language, text in snippets(spec).items() if language in GENERAL_LANGUAGES},
    )


def _kernel(scenario: Scenario) -> Iterator[AdviceItem]:
    if scenario.doubt or LOCAL_PORT_RANGE.name not in scenario.options:
        since = f"Linux has it from {LOCAL_PORT_RANGE.since} on; a distribution may have backported it"
        names = listed([one.name for one in STRATEGIES.values() if one.sets_port_range and is_candidate(one)])
        yield AdviceItem("kernel", f"{names} need {LOCAL_PORT_RANGE.name}", scenario.doubt or since)


def _ports(scenario: Scenario) -> Iterator[AdviceItem]:
    in_use, capacity, waiting = scenario.ports_in_use(), scenario.capacity(), scenario.in_time_wait()
    share = f"{in_use / capacity:.1%}" if in_use <= capacity else f"{in_use / capacity:,.1f} times as many as there are"
    kind = "" if scenario.protocol is Protocol.TCP else "UDP sockets "
    reason = f"{scenario.connections:,} {kind}open at once{_by_littles_law(scenario)}"
    if waiting and scenario.arrivals:
        product = f"{scenario.arrivals.rate:,g}/s x {scenario.time_wait_seconds():g} s"
        most = f", cut to {MOST_WAITING}" if scenario.is_time_wait_capped() else ""
        reason += f", {waiting:,} in TIME_WAIT ({product}{most})"
    yield AdviceItem("ports", f"{in_use:,} of {capacity:,} ports are in use, {share}", reason)


def _by_littles_law(scenario: Scenario) -> str:
    """How many are open by Little's law, rate times hold, and whether the user asked for more."""
    arrivals = scenario.arrivals
    if arrivals is None or arrivals.hold is None:
        return ""
    product = f"{arrivals.rate:,g}/s x {arrivals.hold:g} s"
    asked_for_more = arrivals.at_once != scenario.connections
    return f" (-n; {product} are {arrivals.at_once:,})" if asked_for_more else f" ({product})"


def _exhaustion(scenario: Scenario) -> Iterator[AdviceItem]:
    """When the ports are exhausted, if they are."""
    arrivals, capacity = scenario.arrivals, scenario.capacity()
    if arrivals is None or scenario.fits():
        return
    free = max(0, capacity - (scenario.connections - arrivals.at_once))  # other connections stay open
    waiting = scenario.time_wait_seconds()
    held = "" if arrivals.hold is None else f" {arrivals.hold:g} s open"
    kept = " and".join(filter(None, (held, f" {waiting:g} s in TIME_WAIT" if waiting else "")))
    yield AdviceItem(
        "exhaustion",
        f"at {arrivals.rate:,g}/s all {capacity:,} ports are in use after {free / arrivals.rate:,.1f} s",
        f"each connection keeps its port for{kept}; then connect() fails until a port is free",
    )


def _time_wait(scenario: Scenario) -> Iterator[AdviceItem]:
    """What frees the ports in TIME_WAIT."""
    if not scenario.in_time_wait():
        return
    server_closes = replace(scenario, client_closes=False)
    reusing = replace(scenario, time_wait=replace(scenario.time_wait, reuse=ALWAYS))
    reuse_helps = reusing.in_time_wait() < scenario.in_time_wait()
    changes = [(server_closes, "if the server closes first, {:,} ports are in use")]
    if reuse_helps:
        changes.append((reusing, f"with {TW_REUSE}=1, {{:,}}"))
    # Where the ports do not suffice, a change after which they do not suffice either is no advice.
    lines = [words.format(one.ports_in_use()) for one, words in changes if one.fits() or scenario.fits()]
    if lines:
        reason = "but not where bind() takes the port" if reuse_helps else ""
        yield AdviceItem("time-wait", "; ".join(lines), reason)


def _knee(scenario: Scenario) -> Iterator[AdviceItem]:
    half = scenario.first_parity
    total = half * scenario.spaces()
    probed = len(scenario.ports) // 2  # the search probes reserved ports, too
    names = [
        one.name
        for one in STRATEGIES.values()
        if one.searches_range
        and (one.sets_port_range or one is default_search(scenario))
        and prefers_parity(scenario, one)
    ]
    if not names or not half or not scenario.fits():
        return
    in_use = scenario.ports_in_use()
    cost = probed * float(scenario.calibration.port_ns_at(min(max(1, in_use), total)))
    where = (
        f"here {in_use:,} are, beyond it"
        if scenario.in_use_each() > half
        else f"{in_use:,} are {in_use / total:.1%} of it"
    )
    yield AdviceItem(
        "knee",
        f"the knee of {' and '.join(names)} is at {total + 1:,} ports in use, {where}",
        f"a search that begins with the full parity probes {half:,} ports in vain: {duration(cost)}",
    )


def _left_out(scenario: Scenario) -> Iterator[AdviceItem]:
    """Why a strategy that draws its ports is no candidate where the others are."""
    ports = scenario.longest_unreserved
    for one in STRATEGIES.values():
        needed, there_are = scenario.in_use_each(one), len(ports)
        if not (one.chooses_port and is_candidate(one)) or not scenario.fits() or needed <= there_are:
            continue
        stretch = f" in a row that are not reserved ({ports})" if scenario.reserved_in_range else ""
        seconds = scenario.time_wait_seconds(one)
        yield AdviceItem(
            one.name,
            f"{one.name} is left out: it needs {needed:,} ports, and there are {there_are:,}{stretch}",
            f"each of its ports stays in TIME_WAIT for {seconds:g} s" if seconds > scenario.time_wait_seconds() else "",
        )


def _uses(scenario: Scenario, kept: Sequence[Candidate]) -> Iterator[AdviceItem]:
    """The best candidate, and the best that needs no IP_LOCAL_PORT_RANGE if that is another one."""
    yield _use(scenario, kept[0])
    without_option = next((one for one in kept if not one.spec.traits.sets_port_range), None)
    if without_option and without_option is not kept[0]:
        yield _use(scenario, without_option, topic="without-option")


def _use(scenario: Scenario, candidate: Candidate, topic: str = "use") -> AdviceItem:
    """The item that says to use a candidate."""
    spec = candidate.spec
    condition = "" if topic == "use" else f"without {LOCAL_PORT_RANGE.name} "
    line = f"{condition}use {_used(scenario, spec)}"
    return AdviceItem(topic, line, _costs(scenario, candidate), snippets_for(scenario, spec))


def _used(scenario: Scenario, spec: StrategySpec) -> str:
    """A strategy with what the program does for it, in words."""
    turns = f", from {scenario.sources} addresses in turn" if scenario.sources > 1 else ""
    return f"{spec.label} ({_usage(scenario, spec.traits)}){turns}"


def _usage(scenario: Scenario, strategy: Strategy) -> str:
    is_searched_in_bind = scenario.protocol is Protocol.UDP and strategy.chooses_source and strategy.is_default_search
    return "bind() to an address and port 0, which chooses the port" if is_searched_in_bind else strategy.usage


def _costs(scenario: Scenario, candidate: Candidate) -> str:
    """The time that an attempt takes, and the share of attempts that fail."""
    statistic = scenario.slo.statistic if scenario.slo else "p99"
    value = "" if statistic == "mean" else f", {statistic} {duration(candidate.slo_ns)}"
    errors = f"{candidate.errors:.2%} of the attempts fail" if candidate.errors else "no attempt fails"
    return f"{duration(candidate.mean_ns)} an attempt{value}, {errors}"


def snippets_for(scenario: Scenario, spec: StrategySpec) -> Mapping[str, str]:
    """The code to paste for a strategy, by language; empty if the program calls connect() and nothing else."""
    strategy = spec.traits
    if strategy.is_default_search and not (scenario.names_source and strategy.chooses_source):
        return {}
    ports = scenario.longest_unreserved if strategy.chooses_port else scenario.ports
    return snippets(
        SnippetSpec(
            ports,
            window=len(ports) if strategy.window is Window.RANGE else spec.window,
            tries=MOST_DRAWS if strategy.chooses_port else 1 + (spec.retries or 0),
            sources=scenario.sources,
            names_source=scenario.names_source,
            draws_port=strategy.chooses_port,
            is_udp=scenario.protocol is Protocol.UDP,
            listed=scenario.longest_unreserved,
        )
    )


def _numbers_of_sources(scenario: Scenario) -> list[int]:
    """The numbers of source addresses to simulate: from the fewest with enough ports on, and the fewest below the knee.

    With fewer than the last one each source is beyond the knee of the first parity.
    """
    spaces_each = scenario.spaces() // scenario.sources
    fewest = max(scenario.sources + 1, ceil(scenario.ports_in_use() / (scenario.unreserved * spaces_each)))
    below_knee = ceil(scenario.ports_in_use() / max(1, scenario.first_parity * spaces_each))
    return sorted({*range(fewest, fewest + SIMULATED_NUMBERS), max(fewest, below_knee)})


def find_sufficient_sources(scenario: Scenario) -> SufficientSources | None:
    """The first of these numbers of sources with which a strategy keeps budget and SLO; None if there is none."""
    for number in _numbers_of_sources(scenario):
        candidates = find_candidates(replace(scenario, sources=number)) if number <= MOST_SOURCES else []
        if candidates and candidates[0].is_kept:
            return SufficientSources(number, tuple(candidates))
    return None


def _more_sources(
    scenario: Scenario, candidates: Sequence[Candidate], sufficient: SufficientSources | None
) -> Iterator[AdviceItem]:
    """How many source addresses suffice, if any number does."""
    why = _why_not(scenario, candidates)
    if sufficient:
        yield AdviceItem("sources", f"use {sufficient.sources} source addresses instead of {scenario.sources}", why)
        yield _use(replace(scenario, sources=sufficient.sources), sufficient.candidates[0])
        return
    numbers = _numbers_of_sources(scenario)
    simulated = [str(number) for number in numbers if number <= MOST_SOURCES]
    if simulated:
        line = f"no strategy keeps to {_limits(scenario)} with {listed(simulated, ' or ')} source addresses"
        is_possible = candidates or not scenario.fits()
        cure = "allow more errors (--error-budget) or more time (--slo)" if is_possible else "name another --port-range"
    else:
        line = f"the load needs {numbers[0]:,} source addresses or more"
        cure = "with more ports (--port-range) or more targets fewer suffice"
    yield AdviceItem("sources", line, f"{why}; {cure}")


def _why_not(scenario: Scenario, candidates: Sequence[Candidate]) -> str:
    """Why no strategy can be advised with the sources of the scenario."""
    if not scenario.fits():
        waiting = scenario.in_time_wait()
        of_them = f" ({scenario.connections:,} open, {waiting:,} in TIME_WAIT)" if waiting else ""
        return f"{scenario.ports_in_use():,} ports are needed{of_them}, and there are {scenario.capacity():,}"
    if not candidates:
        drawing = next(one for one in STRATEGIES.values() if one.chooses_port)
        return (
            f"without {NO_PORT.name} a program cannot choose a source and leave the port to the kernel,"
            f" and {drawing.name} needs {scenario.in_use_each(drawing):,} ports in a row that are not reserved:"
            f" there are {len(scenario.longest_unreserved):,}"
        )
    first = candidates[0]
    nearest = f"{first.spec.label}, {first.errors:.2%} errors, {duration(first.slo_ns)}"
    sources = "one source address" if scenario.sources == 1 else f"{scenario.sources} source addresses"
    return f"no strategy keeps to {_limits(scenario)} with {sources}; nearest: {nearest}"


def _below_knee(scenario: Scenario) -> Iterator[AdviceItem]:
    """How many addresses keep a program quick that can set nothing but its source address, as nginx can."""
    ports_each = int(BELOW_KNEE * scenario.first_parity) * (scenario.spaces() // scenario.sources)
    is_beyond = scenario.in_use_each() > scenario.first_parity and prefers_parity(scenario, default_search(scenario))
    if not is_beyond or not ports_each or NO_PORT.name not in scenario.options:
        return
    number = ceil(scenario.ports_in_use() / ports_each)
    if number > MOST_SOURCES:
        return
    from_many = replace(scenario, sources=number)
    strategy = default_search(from_many)
    yield AdviceItem(
        "below-knee",
        f"if a program can set only its source address: {strategy.name}, from {number} addresses in turn",
        f"each address then has {ceil(scenario.ports_in_use() / number):,} ports in use, at most {BELOW_KNEE:.0%} of"
        " the way to its knee",
        {"nginx": snippets_for(from_many, StrategySpec(strategy.name))["nginx"]},
    )


def _limits(scenario: Scenario) -> str:
    """The error budget and the SLO that a strategy has to keep, in words."""
    budget = f"{scenario.budget:.2%} errors"
    return budget if scenario.slo is None else f"{budget} and {scenario.slo.text}"


def _verdict(
    scenario: Scenario,
    candidates: Sequence[Candidate],
    sufficient: SufficientSources | None,
    items: Sequence[AdviceItem],
) -> tuple[str, ...]:
    """What to use and what it costs, how full the ports are, and what to do next: a line each."""
    by_topic = {one.topic: one for one in items}
    today = [_sentence(by_topic[topic].line) for topic in ("bind-late", "today") if topic in by_topic]
    if "use" in by_topic and not sufficient:
        best = candidates[0]
        use, fullness = _use_sentence(scenario, best), _fullness_sentence(scenario, candidates)
        return (*today, use, fullness, *_next(scenario, best))
    sources = by_topic["sources"]
    lines = [*today, _sentence(by_topic["exhaustion"].line if "exhaustion" in by_topic else sources.reason)]
    if sufficient:
        with_more = replace(scenario, sources=sufficient.sources)
        lines.append(f"{_sentence(sources.line)} {_use_sentence(with_more, sufficient.candidates[0])}")
    else:
        lines.append(_sentence(sources.line))
    if "time-wait" in by_topic and scenario.in_time_wait():
        lines.append(_sentence(f"or {by_topic['time-wait'].line}"))
    return tuple(lines)


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _use_sentence(scenario: Scenario, best: Candidate) -> str:
    return f"Use {_used(scenario, best.spec)}: {_costs(scenario, best)}."


def _fullness_sentence(scenario: Scenario, candidates: Sequence[Candidate]) -> str:
    """How many ports are in use, where the knee is, and what connect() alone costs beyond it."""
    strategy = candidates[0].spec.traits
    in_use, capacity = scenario.ports_in_use(strategy), scenario.capacity(strategy)
    waiting = scenario.in_time_wait(strategy)
    of_them = f" ({waiting:,} in TIME_WAIT)" if waiting else ""
    words = f"{in_use:,} of {capacity:,} ports are in use, {in_use / capacity:.1%}{of_them}"
    default = next((one for one in candidates if one.spec.traits is default_search(scenario)), None)
    if default is None or not prefers_parity(scenario, default.spec.traits):
        return f"{words}."
    knee = scenario.first_parity * scenario.spaces() + 1
    if scenario.in_use_each() > scenario.first_parity:
        cost = (
            ""
            if default is candidates[0]
            else f": {default.spec.name} takes {duration(default.mean_ns)} there on average"
        )
        return f"{words}, beyond the knee at {knee:,}{cost}."
    return f"{words}; the knee is at {knee:,}."


def _next(scenario: Scenario, best: Candidate) -> list[str]:
    """The command that measures the advised strategy on this host; none where no command measures the same."""
    has_one_path = scenario.sources == scenario.targets == 1
    in_use = scenario.ports_in_use(best.spec.traits)
    if not scenario.is_here or not has_one_path or best.spec.retries or in_use < 2:
        return []
    window = f" --window {best.spec.window}" if best.spec.window else ""
    udp = " --protocol udp" if scenario.protocol is Protocol.UDP else ""
    today = f"{scenario.today.name}," if scenario.today and scenario.today.name != best.spec.name else ""
    how = f"--strategy {today}{best.spec.name}{window}{udp} --port-range {scenario.ports} -n {in_use}"
    return [f"{NEXT}connbench run {how}"]
