"""A strategy by name and parameters, and the load it is put to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

from connbench.findings import printable
from connbench.model.choices import Close, Phase, Placement, Protocol
from connbench.release import ONE_STEP_SINCE, PARITY_WALK_SINCE, version_of
from connbench.strategies import Strategy, strategy_of
from connbench.units import format_percent, per_second


@dataclass(frozen=True, slots=True)
class Churn:
    """Replacing held connections: one drawn at random is closed, one is opened.

    `rate` is in replacements a second of all clients together; None for as fast as it goes.
    """

    replacements: int
    close: Close = Close.RST
    rate: float | None = None

    def __str__(self) -> str:
        words = f"churn {self.replacements}"
        if self.close is Close.FIN:
            words += " by fin"
        if self.rate is not None:
            words += f" at {per_second(self.rate)}"
        return words


@dataclass(frozen=True, slots=True)
class Load:
    """What a strategy is put to.

    Attributes:
        connections: How many it is to open, where that is not the plan's number.
        fill: The same as a share of the ports there are, 0 to 1.
        sources: How many of the plan's source addresses it uses, where not all.
        protocol: What kind of sockets.
        concurrency: How many clients connect at the same time.
        give_up_ms: Acquire time above which an attempt is given up.
        churn: What follows once the connections are open.
    """

    connections: int | None = None
    fill: float | None = None
    sources: int | None = None
    protocol: Protocol = Protocol.TCP
    concurrency: int = 1
    give_up_ms: float | None = None
    churn: Churn | None = None

    @property
    def words(self) -> list[str]:
        """All of it that is not as usual, but for the churn."""
        found = []
        if self.protocol is not Protocol.TCP:
            found.append(self.protocol.upper())
        if self.sources is not None and self.sources > 1:
            found.append(f"{self.sources} sources")
        if self.connections is not None:
            found.append(f"n={self.connections}")
        if self.fill is not None:
            found.append(f"fill {format_percent(self.fill)}")
        if self.concurrency > 1:
            found.append(f"{self.concurrency} clients")
        if self.give_up_ms is not None:
            found.append(f"giving up after {self.give_up_ms:g} ms")
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild what `dataclasses.asdict` took apart."""
        churn = data["churn"] and Churn(**{**data["churn"], "close": Close(data["churn"]["close"])})
        return cls(**{**data, "protocol": Protocol(data["protocol"]), "churn": churn})


MAX_CONCURRENCY = 1024

HALF = 0.5
"""Share of the ports beyond which a search that prefers one parity walks that whole half in vain."""

NO_LOAD = Load()
"""As usual: the plan's number of TCP connections, one after the other."""


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
        words = [self.setting, *self.load.words]
        if self.load.churn:
            words.append(f"{'before ' if self.phase is Phase.FILL else ''}{self.load.churn}")
        return ", ".join(words)

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

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild what `dataclasses.asdict` took apart."""
        placement = data["placement"]
        return cls(
            **{
                **data,
                "placement": placement and Placement(placement),
                "load": Load.from_dict(data["load"]),
                "phase": Phase(data["phase"]),
            }
        )
