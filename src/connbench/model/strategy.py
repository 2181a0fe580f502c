"""A strategy of a plan: its name, its parameters and its load."""

from __future__ import annotations

from dataclasses import dataclass, replace

from connbench.kernel_release import ONE_STEP_SINCE, PARITY_WALK_SINCE, version_of
from connbench.model.addresses import PortRange
from connbench.model.choices import Phase, Placement, Protocol, Reuse
from connbench.model.load import NO_LOAD, Load
from connbench.safe_text import printable
from connbench.strategies import Strategy, strategy_of

HALF = 0.5
"""Share of the ports beyond which a search of one parity first finds all ports of that parity in use."""


def lower_half(ports: int) -> int:
    """How many of so many ports bind() with SO_REUSEADDR searches before the others; 0 if it has no halves.

    See `inet_csk_find_open_port` in net/ipv4/inet_connection_sock.c.
    """
    return ports // 4 * 2


@dataclass(frozen=True, slots=True)
class StrategySpec:
    """A strategy with its parameters and its load.

    Attributes:
        name: Its name in `connbench.strategies`.
        window: The ports of a window; None if the strategy has no windows.
        placement: Where a random window may lie; None if the strategy places none.
        retries: How often an attempt tries again; None for no limit, and if the strategy does not try again.
        reuse: The option that the program sets before bind(), so that sockets share a port; None for none.
        first_port: Where the program begins in its list of ports; None for the lowest, and without a list.
        stride: The program takes only ports with port % `stride` == `residue`; None for all ports of the range.
        residue: See `stride`.
        load: How many connections it opens, and how.
        phase: The phase of a round that attempts under this name belong to; FILL in a plan.
    """

    name: str
    window: int | None = None
    placement: Placement | None = None
    retries: int | None = None
    load: Load = NO_LOAD
    phase: Phase = Phase.FILL
    reuse: Reuse | None = None
    first_port: int | None = None
    stride: int | None = None
    residue: int | None = None

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
        if self.first_port is not None:
            words.append(f"from {self.first_port}")
        text = " ".join(words)
        if self.stride is not None:
            text += f", port % {self.stride} = {self.residue}"
        if self.reuse is not None:
            text += f", {self.reuse.option}"
        if self.retries is not None and self.retries != self.default_retries:
            text += f", {self.retries} {'retry' if self.retries == 1 else 'retries'}"
        return text

    @property
    def port_arguments(self) -> tuple[str, ...]:
        """What asks for `reuse`, `first_port`, `stride` and `residue` on the command line; empty if none is set."""
        return (
            *((self.reuse.argument,) if self.reuse is not None else ()),
            *((f"--from {self.first_port}",) if self.first_port is not None else ()),
            *((f"--stride {self.stride}",) if self.stride is not None else ()),
            *((f"--residue {self.residue}",) if self.residue else ()),
        )

    @property
    def label(self) -> str:
        """The setting and the load, as in `window 500, fill 80%, churn 20000`."""
        before = "before " if self.phase is Phase.FILL else ""
        churn = f"{before}{self.load.churn_label}" if self.load.churn else ""
        return ", ".join(filter(None, (self.setting, self.load.label, churn)))

    @property
    def has_ports_per_target(self) -> bool:
        """Whether a connection takes its port for one target only.

        connect() of TCP looks for a free 4-tuple. bind() to a port takes the port for every target, and so does UDP;
        not if the sockets share it.
        """
        return self.shares_ports or (self.load.protocol is Protocol.TCP and not self.traits.binds_to_port)

    @property
    def shares_ports(self) -> bool:
        """Whether bind() succeeds on a port that another socket of the program has.

        connect() of TCP then fails with EADDRNOTAVAIL if the 4-tuple is in use; that of UDP never fails. Where bind()
        itself chooses the port, that of TCP chooses none in use, reuse or not (`inet_bind_conflict` without `relax`).
        That of UDP does not look which ports such sockets have (`udp_lib_lport_inuse`).
        """
        return self.reuse is not None and (self.traits.chooses_port or self.shares_4_tuples)

    @property
    def shares_4_tuples(self) -> bool:
        """Whether two sockets can have the same source, port and target; only one of them then receives."""
        return self.reuse is not None and self.load.protocol is Protocol.UDP

    @property
    def searches_in_bind(self) -> bool:
        """Whether the search is in bind() that connect() could make; with UDP no option moves it there."""
        return self.traits.searches_in_bind and self.load.protocol is Protocol.TCP

    @property
    def searches_by_halves(self) -> bool:
        """Whether bind() searches the lower half of the range before the upper one (`attempt_half`)."""
        return self.searches_in_bind and self.reuse is Reuse.ADDRESS

    @property
    def takes_port_in_bind(self) -> bool:
        """Whether bind() puts the port in use: for every target, and never a port that is in TIME_WAIT."""
        return self.traits.binds_to_port and not self.shares_ports

    @property
    def has_bind_apart(self) -> bool:
        """Whether bind() takes the port, and the latency is connect()'s alone; that of UDP has bind() in it."""
        return self.traits.binds_to_port and self.load.protocol is Protocol.TCP

    @property
    def draws_again(self) -> bool:
        """Whether a further try can find a port after a failed one: it takes another port or window."""
        return self.traits.draws_again or self.stride is not None

    @property
    def default_retries(self) -> int | None:
        """Retries without `--retries`; None for as many as a port needs.

        With a stride IP_LOCAL_PORT_RANGE is one port, so that a strategy that does not fail otherwise needs them.
        """
        return None if self.stride is not None and self.traits.searches_range else self.traits.default_retries

    def port_numbers(self, ports: PortRange) -> range:
        """The ports of a range that the program takes: all, or those that `stride` and `residue` name; may be empty."""
        if self.stride is None:
            return range(ports.low, ports.high + 1)
        return range(ports.low + ((self.residue or 0) - ports.low) % self.stride, ports.high + 1, self.stride)

    def searches_one_parity_first(self, kernel: str) -> bool:
        """Whether the kernel tries all ports of one parity of the range before the others; `kernel` as below."""
        return self.traits.searches_range and self.walks_parities(kernel)

    def walks_parities(self, kernel: str) -> bool:
        """Whether the kernel tries the ports of one parity before the others, in the range or in a window of it.

        From Linux 4.6 connect() does so without IP_LOCAL_PORT_RANGE; before 6.8 also with it. bind() to port 0 begins
        with the parity that connect() leaves for last (ea8add2b1903).

        Args:
            kernel: The kernel's release; an unknown one, an empty text, counts as 6.8 or later.
        """
        version = version_of(kernel) or ONE_STEP_SINCE
        strategy, is_tcp = self.traits, self.load.protocol is Protocol.TCP
        walks = strategy.is_modelled and not strategy.chooses_port and self.stride is None and is_tcp
        return walks and version >= PARITY_WALK_SINCE and (version < ONE_STEP_SINCE or not strategy.sets_port_range)

    @property
    def phases(self) -> tuple[StrategySpec, ...]:
        """The phases of a round: the filling, and the churn if the load has one; or a profile alone."""
        if self.load.profile:
            return (replace(self, phase=Phase.PROFILE),)
        return (self, replace(self, phase=Phase.CHURN)) if self.load.churn else (self,)
