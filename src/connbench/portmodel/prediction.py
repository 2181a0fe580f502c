"""Predictions: each phase of a plan's rounds, simulated; and the same beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from connbench.errors import EnvironmentFault, InputError, UsageError
from connbench.linux.limits import available_memory
from connbench.model import Phase, Plan, Protocol, RoundPlan, Spread, StrategySpec
from connbench.model.time_wait import TW_REUSE, TimeWait, is_over_loopback
from connbench.model.time_wait import USUAL as AS_USUAL
from connbench.portmodel.algorithm import Algorithm, algorithm_of
from connbench.portmodel.simulation import USUAL, KernelParameters, SimulatedAttempts, simulate
from connbench.results.result import Mask, Result, Samples, StrategyResult
from connbench.safe_text import printable
from connbench.strategies import STRATEGIES, Window
from connbench.units import memory

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A phase, simulated by the model.

    Attributes:
        plan: The round, seen from the phase.
        attempts: The attempts.
        open_before: Connections open when each attempt begins, int64; they fill the kernel's tables.
        reserved: The number of ports of the range that searches pass over (net.ipv4.ip_local_reserved_ports).
        prefers_parity: Whether searches probe all ports of one parity before the others.
        spaces: How many port spaces are used in turn.
        time_wait: When connect() may reuse a port that churn closed by FIN.
    """

    plan: RoundPlan
    attempts: SimulatedAttempts
    open_before: Counts
    reserved: int = 0
    prefers_parity: bool = False
    spaces: int = 1
    time_wait: TimeWait = AS_USUAL

    @classmethod
    def of_phase(
        cls, plan: RoundPlan, phases: dict[Phase, SimulatedAttempts], phase: Phase, reserved: int, algorithm: Algorithm
    ) -> Prediction:
        """Predict one phase of a simulated round; churn keeps about as many connections open as the filling."""
        attempts = phases[phase]
        if phase is Phase.PROFILE:
            before = np.repeat(plan.levels, len(attempts) // len(plan.levels))
        else:
            opened = np.cumsum(~phases[Phase.FILL].failed)
            before = opened - ~attempts.failed if phase is Phase.FILL else np.full(len(attempts), opened[-1])
        traits, is_tcp = plan.strategy.traits, plan.strategy.load.protocol is Protocol.TCP
        prefers_parity = is_tcp and algorithm.prefers_parity(has_option=traits.sets_port_range)
        is_random = traits.window is Window.RANDOM
        return cls(
            plan.in_phase(phase),
            attempts,
            before.astype(np.int64),
            reserved,
            prefers_parity and not is_random,
            1 if plan.plan.spread is Spread.FILL else plan.spaces,
        )

    @property
    def is_over_loopback(self) -> bool:
        """Whether the connections stay on the loopback."""
        return is_over_loopback(self.plan.plan)

    @property
    def time_wait_seconds(self) -> float:
        """How long a port that churn closed by FIN stays in use, in seconds."""
        return self.time_wait.seconds_of(self.plan.plan, self.plan.strategy)

    @property
    def searches(self) -> bool:
        """Whether the kernel probes ports within the calls that `Samples.searched_ns` measures.

        A TCP program that chooses the port calls bind() before, which probes that port alone.
        """
        strategy = self.plan.strategy
        return strategy.load.protocol is Protocol.UDP or not strategy.traits.chooses_port

    @property
    def searches_in_bind(self) -> bool:
        """Whether the search is in bind() of TCP, so that the latency, connect()'s, does not show it."""
        return self.plan.strategy.searches_in_bind

    @property
    def is_of_last_try(self) -> bool:
        """Whether the latency is that of the last try; with UDP it is that of all tries (see `DatagramSamples`)."""
        return self.plan.strategy.load.protocol is not Protocol.UDP

    @property
    def searches_window(self) -> bool:
        """Whether each search begins elsewhere, among ports that are in no cache: in a random window."""
        return self.plan.strategy.traits.window is Window.RANDOM and self.plan.strategy.load.protocol is Protocol.TCP

    @cached_property
    def working_set(self) -> Counts:
        """How many ports in use the searches probe between two probes of the same port, for each attempt, int64.

        Their entries in the kernel's tables compete for the CPU's caches, so this number decides what a port costs. If
        one parity comes first, each search of a filling's second half probes that parity again, and few ports of the
        other. With several port spaces, used in turn, those of the other spaces come between. Otherwise a search
        begins where the last one ended, or anywhere, and all ports in use come first.
        """
        if not self.prefers_parity:
            return self.open_before
        first_parity = (len(self.plan.plan.port_range) + 1) // 2
        probed = np.maximum(self.attempts.ports_probed // self.attempts.tries, first_parity)
        working_set: Counts = np.minimum(self.open_before, probed * self.spaces)
        return working_set

    @property
    def capacity(self) -> int | None:
        """The most connections that the ports allow; None for churn, whose attempts replace connections."""
        return self.plan.capacity if self.plan.strategy.phase is Phase.FILL else None

    @property
    def failures(self) -> int:
        """Attempts without a port."""
        return int(self.attempts.failed.sum())

    @property
    def most_open(self) -> int:
        """The most connections that are open at once."""
        return int(self.open_before[-1]) + int(not self.attempts.failed[-1]) if len(self.open_before) else 0

    @cached_property
    def groups(self) -> dict[str, Mask]:
        """All attempts, the successful by the parity of their port, and the failed."""
        failed, odd = self.attempts.failed, self.attempts.port % 2 == 1
        return {
            "all": np.ones(len(failed), dtype=np.bool_),
            "even": ~failed & ~odd,
            "odd": ~failed & odd,
            "errored": failed,
        }


@dataclass(frozen=True, eq=False)
class Pair:
    """One strategy's phase, predicted and measured: a round each, in the same order and of the same length.

    A partial round is compared up to its last attempt.
    """

    strategy: StrategyResult
    rounds: tuple[tuple[Prediction, Samples], ...]


KEPT_BYTES = 70
"""Bytes of a predicted attempt while its prediction is kept: 65 were measured."""

WORKING_BYTES = 130
"""Further bytes of an attempt while it is simulated, or its figures are computed: 110 were measured."""

SPACE_BYTES = 512
"""Bytes of a port space besides its ports, which take one each: 450 were measured."""


_PREDICTED = f"it predicts {', '.join(name for name, strategy in STRATEGIES.items() if strategy.is_modelled)}"


def predict(plan: Plan, algorithm: Algorithm, kernel: KernelParameters = USUAL) -> list[Prediction]:
    """Predict the first round of each strategy of a plan: a prediction for each phase, in order.

    Args:
        plan: The plan.
        algorithm: The search of connect().
        kernel: What else the search depends on, where a strategy's load does not name a sysctl.

    Raises:
        UsageError: The model does not know a strategy.
        EnvironmentFault: The memory is too small for the attempts or the port spaces.
    """
    unknown = _unmodelled(plan)
    if unknown is not None:
        raise UsageError(f"the model does not know the strategy {unknown}", _PREDICTED)
    rounds = [RoundPlan(plan, spec, 1) for spec in plan.strategies]
    check_memory(rounds)
    return [
        found
        for planned in rounds
        for found in _round(planned, algorithm, kernel.with_settings(planned.strategy.load.settings))
    ]


def check_memory(rounds: Sequence[RoundPlan]) -> None:
    """Check, before the first prediction, that there is memory for the predictions of these rounds.

    Raises:
        EnvironmentFault: There is not.
    """
    rows = [planned.rows for planned in rounds]
    widest = max(rounds, key=lambda planned: planned.spaces * (len(planned.plan.port_range) + SPACE_BYTES))
    spaces = widest.spaces * (len(widest.plan.port_range) + SPACE_BYTES)
    needed, free = KEPT_BYTES * sum(rows) + WORKING_BYTES * max(rows) + spaces, available_memory()
    if needed > free:
        raise EnvironmentFault(
            f"the prediction of {sum(rows):,} attempts, from {len(widest.sources):,} addresses to "
            f"{len(widest.plan.targets):,} targets, needs about {memory(needed)}, and {memory(free)} are free",
            "predict fewer connections, strategies, addresses or targets",
        )


@lru_cache(maxsize=4)
def _round(plan: RoundPlan, algorithm: Algorithm, kernel: KernelParameters = USUAL) -> list[Prediction]:
    phases = simulate(plan, algorithm, kernel)
    reserved = plan.plan.port_range.count_of(kernel.reserved)
    found = [Prediction.of_phase(plan, phases, phase, reserved, algorithm) for phase in phases]
    return [replace(one, time_wait=kernel.time_wait) for one in found]


def predict_result(
    result: Result,
    algorithm: Algorithm | None = None,
    reserved: frozenset[int] | None = None,
    tw_reuse: int | None = None,
) -> list[Pair]:
    """Predict every phase of every strategy of a result, with the same plan, seed and round.

    Args:
        result: What was measured.
        algorithm: The search of connect(); None for that of the kernel it was measured on.
        reserved: net.ipv4.ip_local_reserved_ports; None for those that each round has recorded.
        tw_reuse: net.ipv4.tcp_tw_reuse; None for what each round has recorded.

    Raises:
        InputError: The file has no plan, as a CSV; it has a strategy that the model does not know; or a setting that
            it recorded cannot be read.
        EnvironmentFault: There is no memory for the predictions.
    """
    if result.plan is None:
        raise InputError(
            f"{result.name} has no plan to predict: it is a {result.origin}", "name the .json that run -o wrote"
        )
    unknown = _unmodelled(result.plan)
    if unknown is not None:
        raise InputError(f"{result.name} has a strategy {unknown!r}, which the model does not know", _PREDICTED)
    chosen = algorithm or algorithm_of(result.kernel)
    whole = [(_whole(result.plan, one.strategy), one.rounds) for one in result.strategies]
    planned = [RoundPlan(result.plan, spec, measured.number) for spec, rounds in whole for measured in rounds]
    if planned:
        check_memory(planned)
    try:
        return [_pair(result.plan, strategy, chosen, reserved, tw_reuse) for strategy in result.strategies]
    except UsageError as fault:
        way_out = "give the right value with --reserved-ports or --tcp-tw-reuse"
        raise InputError(f"{result.name}: {fault.message}", way_out) from fault


def _unmodelled(plan: Plan) -> str | None:
    """The first strategy of a plan that the model does not know, by a name that can be printed."""
    return next((printable(one.name[:40]) for one in plan.strategies if not one.traits.is_modelled), None)


def _pair(
    plan: Plan,
    strategy: StrategyResult,
    algorithm: Algorithm,
    reserved: frozenset[int] | None,
    tw_reuse: int | None,
) -> Pair:
    spec = strategy.strategy
    rounds = []
    for measured in strategy.rounds:
        planned = RoundPlan(plan, _whole(plan, spec), measured.number)
        settings = measured.report.settings
        given = {} if tw_reuse is None else {TW_REUSE: str(tw_reuse)}
        kernel = USUAL.with_settings({**settings, **given})
        if reserved is not None:
            kernel = replace(kernel, reserved=reserved)
        found = next(p for p in _round(planned, algorithm, kernel) if p.plan.strategy.phase is spec.phase)
        rounds.append((_first(found, len(measured.samples)), measured.samples))
    return Pair(strategy, tuple(rounds))


def _whole(plan: Plan, spec: StrategySpec) -> StrategySpec:
    """The strategy of the plan that a phase belongs to."""
    return next(one for one in plan.strategies if spec in one.phases)


def _first(prediction: Prediction, number: int) -> Prediction:
    part = slice(number)
    return replace(prediction, attempts=prediction.attempts.part(part), open_before=prediction.open_before[part])
