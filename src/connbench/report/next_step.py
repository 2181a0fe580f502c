"""What to run after a run, for the end of its verdict."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from shlex import quote

from connbench.analysis.knee import find_knee, is_unseen
from connbench.findings import printable
from connbench.model import (
    LOAD_FIELDS,
    MAX_PORT,
    Churn,
    Close,
    Link,
    Listener,
    Placement,
    Plan,
    PortRange,
    Protocol,
    RoundPlan,
    Spread,
    StrategySpec,
    first_sources,
    ip_version,
)
from connbench.model.plan import DEFAULT_TIMEOUT, FEWEST_PORTS
from connbench.results.result import Result, StrategyResult
from connbench.strategies import RANGE, WINDOW
from connbench.units import format_percent, per_second

CUT_SHORT = "Next: the run was cut short; run it again for the rest."
"""What a verdict ends with where the result is partial."""


def next_step(result: Result, strategies: Sequence[StrategyResult]) -> str:
    """The command that tells more than this run does, as a sentence.

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
        kept = _settings(specs) + _number(first) + _conditions(plan, specs)
        rounds = f" --rounds {plan.rounds}" if plan.rounds > 1 else ""
        helping = f"--strategy {RANGE.name} --strategy {WINDOW.name}"
        return f"Next: connbench run {helping}{kept}{rounds}{ports} shows what helps."
    sources = f" --sources {len(first.sources)}" if len(first.sources) > 1 else ""
    targets = "".join(f" --target {target}" for target in plan.targets) if plan.listener is Listener.EXTERNAL else ""
    asked = f"-n {first.connections}{sources}{targets}{ports}"
    return f"Next: connbench advise {asked} says which strategy and setting fit such a load."


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
    retries = dict.fromkeys(spec.retries for spec in specs if spec.retries not in {None, spec.traits.default_retries})
    words = []
    if windows:
        words.append(f"--window {_list(windows)}")
    if Placement.CLIPPED in placements:
        words.append(f"--placement {_list(placements)}")
    if retries:
        words.append(f"--retries {_list(retries)}")
    return "".join(f" {word}" for word in words)


def _conditions(plan: Plan, strategies: Sequence[StrategySpec]) -> str:
    """Where from, where to and how it was measured: with anything else the figures are not to be compared."""
    load = strategies[0].load
    words = [*_source_words(plan, strategies), *_target_words(plan)]
    words += [field.argument(load) for field in LOAD_FIELDS if field.section == "LOAD" and not field.is_of_churn]
    if plan.link is Link.VETH:
        words.append("--link veth" + (f" --delay {plan.delay_ms:g}ms" if plan.delay_ms else ""))
    if (
        plan.listener is Listener.ACCEPT
        and plan.namespace.is_own
        and not (load.churn and load.churn.close is Close.FIN)
    ):
        words.append("--listener accept")
    if not plan.namespace.is_own and plan.listener is not Listener.EXTERNAL:
        words.append("--isolate never")
    if plan.timeout != DEFAULT_TIMEOUT:
        words.append(f"--timeout {plan.timeout:g}s")
    return "".join(f" {word}" for word in words if word)


def _source_words(plan: Plan, strategies: Sequence[StrategySpec]) -> list[str]:
    """The source addresses where they are not the default ones, and no strategy leaves them to the kernel."""
    sources = plan.sources[: strategies[0].load.sources]
    family, is_external = ip_version(sources[0]), plan.listener is Listener.EXTERNAL
    default = ("::1",) if family == 6 and not plan.namespace.is_own else first_sources(1, family, plan.link)
    words = [f"--family {family}"] if family == 6 and not is_external else []
    if not all(spec.traits.chooses_source for spec in strategies):
        return words
    if sources == first_sources(len(sources), family, plan.link) and not is_external:
        words += [f"--sources {len(sources)}"] if len(sources) > 1 else []
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
    """The targets where they listened already."""
    if plan.listener is not Listener.EXTERNAL:
        return []
    words = [f"--target {quote(printable(str(target)))}" for target in plan.targets]
    return words if all(target.is_loopback for target in plan.targets) else [*words, "--allow-remote"]


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
        low = min(planned.plan.port_range.low, MAX_PORT + 1 - FEWEST_PORTS)
        ports = PortRange(low, low + FEWEST_PORTS - 1)
    if ports is None:
        return f"Next: the same with -n {planned.capacity}, as many connections as there are ports."
    return f"Next: the same with --port-range {ports} and without -n, so that the connections fill the range."
