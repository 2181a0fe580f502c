"""A strategy of a plan: its name, its parameters and its load."""

from __future__ import annotations

from dataclasses import dataclass, replace

from connbench.kernel_release import ONE_STEP_SINCE, PARITY_WALK_SINCE, version_of
from connbench.model.choices import Phase, Placement, Protocol
from connbench.model.load import NO_LOAD, Load
from connbench.safe_text import printable
from connbench.strategies import Strategy, strategy_of

HALF = 0.5
"""Share of the ports beyond which a search of one parity first finds all ports of that parity in use."""


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy with its parameters and its load.

    Attributes:
        name: Its name in `connbench.strategies`.
        window: The ports of a window; None if the strategy has no windows.
        placement: Where a random window may lie; None if the strategy places none.
        retries: How often an attempt draws again; None for no limit, and if the strategy does not draw.
        load: How many connections it opens, and how.
        phase: The phase of a round that attempts under this name belong to; FILL in a plan.
    """

    name: str
    window: int | None = None
    placement: Placement | None = None
    retries: int | None = None
    load: Load = NO_LOAD
    phase: Phase = Phase.FILL

    @property
    def traits(self) -> Strategy:
        """Its row in the table of strategies."""
        return strategy_of(self.name)

    @property
    def setting(self) -> str:
        """The name and the parameters that differ from the default, as in `window 500 clipped, 3 retries`."""
        words = [printable(self.name)]
        if self.window is not None:
            words.append(str(self.window))
        if self.placement is Placement.CLIPPED:
            words.append(self.placement)
        text = " ".join(words)
        if self.retries is not None and self.retries != self.traits.default_retries:
            text += f", {self.retries} {'retry' if self.retries == 1 else 'retries'}"
        return text

    @property
    def label(self) -> str:
        """The setting and the load, as in `window 500, fill 80%, churn 20000`."""
        before = "before " if self.phase is Phase.FILL else ""
        churn = f"{before}{self.load.churn_label}" if self.load.churn else ""
        return ", ".join(filter(None, (self.setting, self.load.label, churn)))

    @property
    def has_ports_per_target(self) -> bool:
        """Whether a connection takes its port for one target only.

        connect() of TCP looks for a free 4-tuple. bind() to a port takes the port for every target, and so does UDP.
        """
        return self.load.protocol is Protocol.TCP and not self.traits.binds_to_port

    def searches_one_parity_first(self, kernel: str) -> bool:
        """Whether connect() tries all ports of one parity of the range before those of the other; `kernel` as below."""
        return self.traits.searches_range and self.walks_parities(kernel)

    def walks_parities(self, kernel: str) -> bool:
        """Whether connect() tries the ports of one parity before those of the other, in the range or in a window of it.

        From Linux 4.6 it does so without IP_LOCAL_PORT_RANGE; before 6.8 also with it.

        Args:
            kernel: The kernel's release; an unknown one, an empty text, counts as 6.8 or later.
        """
        version = version_of(kernel) or ONE_STEP_SINCE
        strategy = self.traits
        walks = strategy.is_modelled and not strategy.binds_to_port and self.load.protocol is Protocol.TCP
        return walks and version >= PARITY_WALK_SINCE and (version < ONE_STEP_SINCE or not strategy.sets_port_range)

    @property
    def phases(self) -> tuple[StrategySpec, ...]:
        """The phases of a round: the filling, and the churn if the load has one; or a profile alone."""
        if self.load.profile:
            return (replace(self, phase=Phase.PROFILE),)
        return (self, replace(self, phase=Phase.CHURN)) if self.load.churn else (self,)
