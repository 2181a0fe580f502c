"""What a phase of a round would find and look at, and what was measured of the same, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from connbench.model import Phase, Protocol, RoundPlan
from connbench.model.time_wait import USUAL as AS_USUAL
from connbench.model.time_wait import TimeWait, is_over_loopback
from connbench.portmodel.simulated import Walk
from connbench.results.result import Mask, Samples, StrategyResult
from connbench.strategies import Window

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A phase, walked through by the model.

    Attributes:
        plan: The round, seen from the phase.
        walk: The attempts.
        open_before: Connections open when each attempt begins, int64: what the kernel's tables are filled by.
        reserved: Ports of the range that no search may have (net.ipv4.ip_local_reserved_ports).
        time_wait: When a port that churn has closed by FIN may be taken again.
    """

    plan: RoundPlan
    walk: Walk
    open_before: Counts
    reserved: int = 0
    time_wait: TimeWait = AS_USUAL

    @classmethod
    def of_phase(cls, plan: RoundPlan, walks: dict[Phase, Walk], phase: Phase, reserved: int = 0) -> Prediction:
        """One phase of a simulated round; churn keeps as many connections as the filling has left, or nearly."""
        walk = walks[phase]
        opened = np.cumsum(~walks[Phase.FILL].failed)
        is_fill = phase is Phase.FILL
        before: Counts = opened - ~walk.failed if is_fill else np.full(len(walk), opened[-1])
        return cls(plan.in_phase(phase), walk, before.astype(np.int64), reserved)

    @property
    def is_over_loopback(self) -> bool:
        """Whether the connections stay on the loopback."""
        return is_over_loopback(self.plan.plan)

    @property
    def time_wait_seconds(self) -> float:
        """How long a port that churn has closed by FIN cannot be taken."""
        binds_to_port = self.plan.strategy.traits.binds_to_port
        return self.time_wait.seconds(is_loopback=self.is_over_loopback, binds_to_port=binds_to_port)

    @property
    def searches(self) -> bool:
        """Whether ports are looked at within the calls that the latency is of.

        A TCP program that picks the port has bound to it before, one port at a time.
        """
        return self.plan.strategy.load.protocol is Protocol.UDP or not self.plan.strategy.traits.binds_to_port

    @property
    def is_of_last_try(self) -> bool:
        """Whether the latency is of the last try alone; that of UDP is of all (see `DatagramSamples`)."""
        return self.plan.strategy.load.protocol is not Protocol.UDP

    @property
    def jumps(self) -> bool:
        """Whether each search begins somewhere else, among ports that no cache has: in a window drawn at random."""
        return self.plan.strategy.traits.window is Window.RANDOM and self.plan.strategy.load.protocol is Protocol.TCP

    @property
    def capacity(self) -> int | None:
        """Connections there are ports for; None for churn, whose attempts do not add up."""
        return self.plan.capacity if self.plan.strategy.phase is Phase.FILL else None

    @property
    def failures(self) -> int:
        """Attempts without a port."""
        return int(self.walk.failed.sum())

    @property
    def most_open(self) -> int:
        """Connections open at the end, or all along."""
        return int(self.open_before[-1]) + 1 if len(self.open_before) else 0

    @cached_property
    def groups(self) -> dict[str, Mask]:
        """All attempts, the successful by the parity of their port, and the failed."""
        failed, odd = self.walk.failed, self.walk.port % 2 == 1
        return {
            "all": np.ones(len(failed), dtype=np.bool_),
            "even": ~failed & ~odd,
            "odd": ~failed & odd,
            "errored": failed,
        }


@dataclass(frozen=True, eq=False)
class Pair:
    """One strategy's phase, predicted and measured: a round each, in the same order and of the same length.

    A round that was cut short is compared as far as it came.
    """

    strategy: StrategyResult
    rounds: tuple[tuple[Prediction, Samples], ...]
