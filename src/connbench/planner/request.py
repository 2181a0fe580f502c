"""What the user asks for, before the planner fills in the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from connbench.model import Close, Isolation, Link, Listener, Loop, Placement, PortRange, Protocol, Reuse, Spread
from connbench.model.plan import DEFAULT_TIMEOUT

DEFAULT_SEED = 1
"""The seed of a prediction; a run draws its own."""


class CpuChoice(Enum):
    """`--cpu` without numbers: the last usable CPUs, one for each client, or any that the scheduler chooses."""

    LAST = "last"
    ANY = "none"


@dataclass(frozen=True, slots=True)
class RunRequest:
    """The values of the options; None or an empty tuple where the user leaves the choice to connbench.

    `fill` is a share of 1, and so are `levels`, in ascending order; `give_up_ms` is in ms, `churn_rate` in replacements
    a second, `timeout` and `start_every` in seconds, `start_at_us` in us since 1970.
    """

    strategies: tuple[str, ...] = ()
    connections: int | None = None
    port_range: PortRange | None = None
    source: str | None = None
    sources: int | None = None
    spread: Spread = Spread.ROUND_ROBIN
    family: int | None = None
    targets: tuple[str, ...] = ()
    protocol: Protocol = Protocol.TCP
    fill: float | None = None
    concurrency: int = 1
    give_up_ms: float | None = None
    churn: int | None = None
    churn_rate: float | None = None
    close: Close | None = None
    in_flight: int | None = None
    levels: tuple[float, ...] | None = None
    samples: int | None = None
    listener: Listener | None = None
    isolate: Isolation = Isolation.AUTO
    link: Link = Link.LOOPBACK
    delay_ms: float = 0.0
    clients: int | None = None
    nat_ports: PortRange | None = None
    nat_random: bool = False
    ehash_entries: int | None = None
    sysctls: tuple[str, ...] = ()
    window: int | None = None
    placement: Placement | None = None
    retries: int | None = None
    reuse: Reuse | None = None
    first_port: int | None = None
    stride: int | None = None
    residue: int | None = None
    seed: int | None = None
    rounds: int = 1
    start_at_us: int | None = None
    start_every: float | None = None
    timeout: float = DEFAULT_TIMEOUT
    cpus: tuple[int, ...] | CpuChoice = CpuChoice.LAST
    allow_remote: bool = False
    allow_host_route: bool = False
    loop: Loop | None = None

    @property
    def listener_hint(self) -> str:
        """How to have connbench start the listener instead of using one that is running, as a hint says it.

        UDP takes no --listener. A backlog listener never closes its end, so a churn by FIN needs one that accepts.
        """
        if self.protocol is Protocol.UDP:
            return "leave out --target"
        listener = Listener.ACCEPT if self.close is Close.FIN else Listener.BACKLOG
        return f"leave out --target, or add --listener {listener} for a listener of its own there"
