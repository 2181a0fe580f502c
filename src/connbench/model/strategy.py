"""A strategy by name and parameters, and the load it is put to."""

from __future__ import annotations

from dataclasses import dataclass, replace

from connbench.findings import printable
from connbench.model.choices import Phase, Placement, Protocol
from connbench.model.load import NO_LOAD, Load
from connbench.release import ONE_STEP_SINCE, PARITY_WALK_SINCE, version_of
from connbench.strategies import Strategy, strategy_of

HALF = 0.5
"""Share of the ports beyond which a search that prefers one parity walks that whole half in vain."""


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy by name and the parameters it takes; None for those it does not take.

    `retries` is None for `random` too where it may draw until it has a port. `phase` is the part of a round that the
    attempts under this name belong to; a plan's strategies begin with the filling.
    """

    name: str
    window: int | None = None
    placement: Placement | None = None
    retries: int | None = None
    load: Load = NO_LOAD
    phase: Phase = Phase.FILL

    @property
    def traits(self) -> Strategy:
        """What it does, as the table of strategies says it."""
        return strategy_of(self.name)

    @property
    def setting(self) -> str:
        """Name and parameters where they are not the usual ones, as in `window 500 clipped, 3 retries`."""
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
        """The setting and the load it is put to, as in `window 500, fill 80%, churn 20000`."""
        before = "before " if self.phase is Phase.FILL else ""
        churn = f"{before}{self.load.churn_label}" if self.load.churn else ""
        return ", ".join(filter(None, (self.setting, self.load.label, churn)))

    @property
    def has_ports_per_target(self) -> bool:
        """Whether a port is taken for one target alone.

        The search of connect() goes by the whole 4-tuple; bind() to a port takes it for every target, and so does UDP.
        """
        return self.load.protocol is Protocol.TCP and not self.traits.binds_to_port

    def searches_one_parity_first(self, kernel: str) -> bool:
        """Whether connect() looks at all ports of one parity of the range before it looks at the others.

        That is the search without IP_LOCAL_PORT_RANGE from Linux 4.6 on; until 6.8 the option does not change it. A
        window of the option is searched so too, but then the halves are those of the window.

        Args:
            kernel: The kernel's release; empty if not known, which is taken for 6.8 or later.
        """
        version = version_of(kernel) or ONE_STEP_SINCE
        strategy = self.traits
        searches = strategy.is_default_search if version >= ONE_STEP_SINCE else strategy.searches_range
        is_searched = strategy.is_modelled and searches and self.load.protocol is Protocol.TCP
        return version >= PARITY_WALK_SINCE and is_searched

    @property
    def phases(self) -> tuple[StrategySpec, ...]:
        """What a round of it leaves behind: the filling, and the churn where there is one."""
        return (self, replace(self, phase=Phase.CHURN)) if self.load.churn else (self,)
