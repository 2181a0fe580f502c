"""Choose and check the strategies of a plan, their parameters and their loads."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace

from connbench.errors import EnvironmentFault, UsageError, suggest
from connbench.findings import UNSUPPORTED, Finding, Severity
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported, options_of
from connbench.model import LOAD_FIELDS, MOST_ROWS, Load, Placement, Plan, PortRange, Protocol, RoundPlan, StrategySpec
from connbench.planner.endpoints import parse_sources
from connbench.planner.request import RunRequest
from connbench.strategies import DEFAULT_NAMES, PARAMETERS, STRATEGIES, Strategy, takers
from connbench.units import format_percent

DEFAULT_WINDOW = 500
"""Ports of a window."""


def choose_strategies(
    request: RunRequest, ports: PortRange, further: Sequence[RunRequest] = ()
) -> tuple[StrategySpec, ...]:
    """Choose the strategies of a run with their parameters and loads, each combination once.

    Args:
        request: What the user asks for; the default strategies where it names none.
        ports: The port range.
        further: More requests, as of a sweep, whose strategies take turns with those of `request`.

    Raises:
        UsageError: A strategy is unknown or named twice, no strategy takes a parameter, or a parameter does not fit the
            range.
    """
    requests = (request, *further)
    names = tuple(dict.fromkeys(name for one in requests for name in _names(one)))
    for one in requests:
        _check_parameters(one, names)
    return tuple(
        dict.fromkeys(
            replace(_specify(STRATEGIES[name], one, ports), load=choose_load(one, is_one_of_several=bool(further)))
            for one in requests
            for name in _names(one)
        )
    )


def _names(request: RunRequest) -> tuple[str, ...]:
    names = request.strategies or DEFAULT_NAMES
    for name in names:
        if name not in STRATEGIES:
            raise UsageError(f"unknown strategy {name!r}", suggest(name, STRATEGIES))
        if names.count(name) > 1:
            raise UsageError(f"strategy {name} is named twice", "to repeat it, use --rounds")
    return names


def _check_parameters(request: RunRequest, names: tuple[str, ...]) -> None:
    taken = frozenset().union(*(STRATEGIES[name].takes for name in names))
    for parameter in PARAMETERS:
        if getattr(request, parameter) is not None and parameter not in taken:
            able = ", ".join(strategy.name for strategy in takers(parameter))
            raise UsageError(
                f"{_option_of(parameter, request)} does nothing for {', '.join(names)}", f"it is for {able}"
            )
    if request.residue is not None and request.stride is None:
        raise UsageError(
            f"--residue {request.residue} does nothing without --stride", "add --stride K, or leave it out"
        )
    if request.source is not None:
        parse_sources(request.source)  # if it is not an address, say that first
    asked = [f"--source {request.source}"] if request.source is not None else []
    asked += [f"--sources {request.sources}"] if request.sources is not None else []
    without_source = [name for name in names if not STRATEGIES[name].chooses_source]
    if asked and without_source:
        able = next(strategy.name for strategy in STRATEGIES.values() if strategy.chooses_source)
        raise UsageError(
            f"{asked[0]}: {' and '.join(without_source)} cannot choose its source",
            f"use a strategy that can, as in --strategy {able}; or leave out {asked[0].split()[0]}",
        )


def _option_of(parameter: str, request: RunRequest) -> str:
    """The option that a request has a strategy's parameter from."""
    if parameter == "reuse" and request.reuse is not None:
        return request.reuse.argument
    return PARAMETERS[parameter][0]


def _check_ports_taken(spec: StrategySpec, ports: PortRange) -> None:
    """Check that a strategy can begin at the first port that was asked for, and that ports fit the stride.

    Raises:
        UsageError: One does not.
    """
    if spec.first_port is not None and spec.first_port not in ports:
        raise UsageError(f"--from {spec.first_port} is not in the range {ports}", f"give {ports.low} to {ports.high}")
    stride, residue = spec.stride, spec.residue or 0
    if stride is None:
        return
    if residue >= stride:
        raise UsageError(f"--residue {residue} is no remainder of --stride {stride}", f"give 0 to {stride - 1}")
    if spec.window not in {None, 1}:
        raise UsageError(
            f"--window {spec.window} and --stride {stride}: with a stride a window is one port", "leave out --window"
        )
    if spec.placement is Placement.CLIPPED:
        raise UsageError(
            f"--placement {spec.placement} and --stride {stride}: a window of one port is never clipped",
            "leave out --placement",
        )
    if not spec.port_numbers(ports):
        raise UsageError(
            f"--stride {stride}: no port of {ports} has port % {stride} = {residue}",
            f"give a range of {stride} ports or more, or another --residue",
        )


def _specify(strategy: Strategy, request: RunRequest, ports: PortRange) -> StrategySpec:
    takes = strategy.takes
    window = placement = None
    if "window" in takes:
        usual = min(DEFAULT_WINDOW, len(ports)) if request.stride is None or "stride" not in takes else 1
        window = usual if request.window is None else request.window
        if not 1 <= window <= len(ports):
            raise UsageError(
                f"--window {window} does not fit the {len(ports)} port{'s' if len(ports) > 1 else ''} of {ports}",
                f"give 1 to {len(ports)}" if len(ports) > 1 else "leave out --window",
            )
    if "placement" in takes:
        placement = request.placement or Placement.INSIDE
    reuse, first_port, stride = (
        getattr(request, parameter) if parameter in takes else None for parameter in ("reuse", "first_port", "stride")
    )
    residue = (request.residue or 0) if stride is not None else None
    spec = StrategySpec(
        strategy.name, window, placement, reuse=reuse, first_port=first_port, stride=stride, residue=residue
    )
    _check_ports_taken(spec, ports)
    retries = request.retries if "retries" in takes and request.retries is not None else spec.default_retries
    return replace(spec, retries=retries if spec.draws_again else None)


def only_supported(specs: tuple[StrategySpec, ...]) -> tuple[tuple[StrategySpec, ...], list[Finding]]:
    """Divide strategies into those that this kernel can run and findings about the others."""
    supported, missing = [], []
    for spec in specs:
        try:
            check_supported((spec,))
        except EnvironmentFault as fault:
            message = f"left out: {fault.message.removeprefix(f'strategy {spec.name} ')}"
            missing.append(Finding(UNSUPPORTED, Severity.NOTE, message, fault.hint, spec.label))
        else:
            supported.append(spec)
    return tuple(supported), missing


def with_all_strategies(request: RunRequest) -> tuple[RunRequest, list[Finding]]:
    """The request with every strategy that this kernel can run, and findings about the others."""
    supported, missing = only_supported(tuple(map(StrategySpec, STRATEGIES)))
    return replace(request, strategies=tuple(spec.name for spec in supported)), missing


def check_supported(specs: tuple[StrategySpec, ...]) -> None:
    """Check that this kernel has the socket options that strategies need.

    Raises:
        EnvironmentFault: It lacks one.
    """
    for spec in specs:
        for option in options_of(spec.traits):
            if not is_supported(option):
                raise EnvironmentFault(
                    f"strategy {spec.name} needs {option.name}, which kernel {platform.release()} does not have",
                    f"Linux {option.since} has it; `connbench strategies` lists what runs here",
                )


def choose_load(request: RunRequest, *, is_one_of_several: bool) -> Load:
    """Choose the load of a request's strategies.

    Args:
        request: What the user asks for.
        is_one_of_several: Whether the run has other requests too. Then the numbers of connections and sources belong
            to the load; of a single request they belong to the plan.

    Raises:
        UsageError: A value is outside its limits, or two options exclude each other, or one needs another.
    """
    if request.fill is not None and request.connections is not None:
        raise UsageError(
            f"-n {request.connections} and --fill {format_percent(request.fill)} both set the number of connections",
            "leave one of them out",
        )
    values = {field.name: getattr(request, field.name) for field in LOAD_FIELDS}
    for field in LOAD_FIELDS:
        field.check(values[field.name])
    _check_churn(request)
    if request.in_flight is not None and request.protocol is Protocol.UDP:
        raise UsageError(
            f"--in-flight {request.in_flight}: UDP has no handshake", "leave out --in-flight, or --protocol udp"
        )
    if not is_one_of_several:
        values |= {"connections": None, "sources": None}
    return Load.of(values)


def _check_churn(request: RunRequest) -> None:
    if request.churn is None:
        for field in LOAD_FIELDS:
            value = getattr(request, field.name)
            if field.is_of_churn and value is not None:
                option = f"{field.options[0]} {field.unit.format(value)}"
                raise UsageError(f"{option} does nothing without --churn", "add --churn N, or leave it out")
    elif request.close and request.protocol is Protocol.UDP:
        raise UsageError(f"--close {request.close}: UDP has neither RST nor FIN", "leave out --close")


def check_rounds(plan: Plan) -> None:
    """Check that every strategy of a plan has an attempt for each client, and at most `MOST_ROWS` attempts.

    Raises:
        UsageError: One has not.
    """
    for spec in plan.strategies:
        planned = RoundPlan(plan, spec, 1)
        if planned.rows > MOST_ROWS:
            raise UsageError(f"{spec.label}: {planned.rows:,} attempts are too many", f"ask for at most {MOST_ROWS:,}")
        if spec.load.concurrency > planned.connections and not spec.load.profile:
            raise UsageError(
                f"--concurrency {spec.load.concurrency} is more than the {planned.connections} connections",
                "ask for a lower concurrency, or for more connections",
            )


def find_crowded_clients(plan: Plan, usable: int) -> list[Finding]:
    """Find out whether clients have to share CPUs, so that some wait while others run.

    Args:
        plan: The plan.
        usable: How many CPUs this process may use.
    """
    clients = max(spec.load.concurrency for spec in plan.strategies)
    cpus = len(set(plan.cpus)) or usable
    if clients <= cpus:
        return []
    each = plan.client_namespaces
    fitting = f"--concurrency {cpus // each * each}" if each <= cpus else f"--clients {cpus}"
    return [
        Finding(
            "clients-share-cpus",
            Severity.WARNING,
            f"{clients} clients are on {cpus} CPU{'s' if cpus > 1 else ''}: some wait while others run",
            f"they compete for CPU time as well; {fitting} shows what the kernel's locks cost",
        )
    ]


def find_fuller_than_router(plan: Plan) -> list[Finding]:
    """Find strategies with more connections than the router of --link nat has ports for."""
    ports = plan.nat_capacity
    rounds = [RoundPlan(plan, spec, 1) for spec in plan.strategies]
    most = max(min(planned.connections, planned.capacity) for planned in rounds)
    if ports is None or most <= ports:
        return []
    return [
        Finding(
            "more-than-nat-ports",
            Severity.NOTE,
            f"{most:,} connections are asked for, and the router has {ports:,} ports: each connect() beyond them waits "
            f"for its --timeout of {plan.timeout:g} s, and a few in a row end the round",
            "give a shorter --timeout, or fewer connections (-n, --fill)",
        )
    ]


def most_handshakes(plan: Plan) -> int:
    """The connections that a listener gets in the round that has the most of them."""
    return max(RoundPlan(plan, spec, 1).handshakes for spec in plan.strategies)


def find_slow_levels(plan: Plan) -> list[Finding]:
    """Find the strategies of a profile that have to open connections of their own to reach a level.

    The others, and these where the kernel has IP_LOCAL_PORT_RANGE, take a port by its number, which searches nothing.
    """
    names = [spec.name for spec in plan.strategies if spec.load.profile and not spec.traits.binds_to_port]
    if not names or is_supported(LOCAL_PORT_RANGE):
        return []
    return [
        Finding(
            "levels-by-strategy",
            Severity.NOTE,
            f"{' and '.join(names)}: kernel {platform.release()} has no {LOCAL_PORT_RANGE.name} to take a port by its "
            "number with, so the strategy itself opens the connections up to each level",
            "that takes as long as connbench run to the highest level: give lower levels (--at) or a smaller "
            "--port-range",
        )
    ]


FEWEST_FOR_KNEE = 100
"""Ports of the smallest range in which a knee is expected: with fewer the search is too short to see one."""


def find_unseen_knee(plan: Plan, kernel: str) -> list[Finding]:
    """Find strategies whose connections use too few ports to show where their search turns slow.

    A strategy that searches the ports of one parity first turns slow when half of the ports are in use. A run that
    stays below that half cannot show it. Of a strategy with several loads, the one that uses the largest share counts.
    A profile has the levels that were asked for.

    Args:
        plan: The complete plan.
        kernel: The kernel's release.
    """
    fullest: dict[str, tuple[float, StrategySpec]] = {}
    for spec in plan.strategies:
        if spec.searches_one_parity_first(kernel) and not spec.load.profile:
            planned = RoundPlan(plan, spec, 1)
            if planned.ports_each >= FEWEST_FOR_KNEE and planned.fullest > fullest.get(spec.setting, (0.0, spec))[0]:
                fullest[spec.setting] = planned.fullest, spec
    unseen = {setting: found for setting, found in fullest.items() if not RoundPlan(plan, found[1], 1).shows_half}
    if not unseen:
        return []
    used, spec = max(unseen.values(), key=lambda found: found[0])
    planned = RoundPlan(plan, spec, 1)
    calls = sorted({"bind()" if one.searches_in_bind else "connect()" for _, one in unseen.values()})
    turn = f"{' and '.join(calls)} {'turns' if len(calls) == 1 else 'turn'}"
    place = " that each source has for each target" if planned.spaces > 1 else ""
    return [
        Finding(
            "knee-unseen",
            Severity.NOTE,
            f"{' and '.join(unseen)}: {planned.connections:,} connections use {_share(used)} of the "
            f"{planned.ports_each:,} ports{place}; {turn} slow once half of them are in use, "
            "which this run cannot show",
            _way_out(planned),
        )
    ]


def _share(used: float) -> str:
    return f"{used:.1%}" if used >= 0.001 else "less than 0.1%"


def _way_out(planned: RoundPlan) -> str:
    """How to see the knee: use more of the ports, or the same number of connections with a smaller range."""
    if planned.strategy.load.fill is not None:
        return "give a larger share, as in --fill 80%"
    everything = "leave out -n: the default is as many connections as there are ports"
    narrower = planned.smaller_range
    if narrower is None:
        return everything
    return f"give -n {len(narrower) * planned.spaces} --port-range {narrower}, or {everything}"
