"""Draws the pictures of docs/how-connect-picks-a-port.md from the model of the port search.

    .venv/bin/python scripts/explain.py

Nothing is measured: the same code gives the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from connbench.draws import Draws, mix
from connbench.model import (
    Churn,
    Endpoint,
    Listener,
    Load,
    Namespace,
    Phase,
    Placement,
    Plan,
    PortRange,
    Protocol,
    Reuse,
    RoundPlan,
    StrategySpec,
)
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import TcpPortSpace
from connbench.portmodel.simulation import USUAL, KernelParameters, port_spaces_of, search_key, simulate
from connbench.report.charts.canvas import PALETTES, Grid, legend_below, styled, to_bytes
from connbench.report.series import COLOURS as LINES
from reference_walk import Search, traced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOCS = Path(__file__).parent.parent / "docs"
TALK = PortRange(9024, 65535)
EIGHT, SIXTEEN = PortRange(9024, 9031), PortRange(9024, 9039)
PLAIN, RANGE, RANDOM = StrategySpec("plain"), StrategySpec("range"), StrategySpec("random")
EARLY = StrategySpec("early")
REUSING = replace(EARLY, reuse=Reuse.ADDRESS)
WINDOWS = {size: StrategySpec("window", size, Placement.INSIDE, 0) for size in (4, 100, 500, 1000, 5000, 10000)}
SLICES = 128
"""A filling is divided in this many parts, one point each: 441 or 442 attempts of the talk's range."""

TRIALS = 8
"""Rounds of UDP: a few very long searches dominate its means."""

FILLS = (0.40, 0.45, 0.48, 0.49, 0.495, 0.50, 0.505, 0.52, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
REPLACEMENTS = 20_000
UDP_MACHINE = KernelParameters(udp_slots=16384)
"""The size of UDP's hash table on the machine that the page's times were measured on."""

SEARCHED = {
    "connect() alone": PLAIN,
    "random port, bind()": RANDOM,
    "random window of 500": WINDOWS[500],
    "IP_LOCAL_PORT_RANGE on the whole range": RANGE,
}
"""The searches that the curves compare; each has the same colour in every picture."""

IN_BIND = {
    "connect() alone": PLAIN,
    "bind() chooses the port": EARLY,
    "the same with SO_REUSEADDR": REUSING,
}
"""The searches that the curves of bind()'s search compare."""

COLOURS, TAKEN, IN_VAIN = PALETTES["safe"], "#dcdcdc", "#9a9a9a"
FROM_6_8 = Algorithm.FROM_6_8
Curves = dict[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]
"""For each label the share of the range in use (x), and the values drawn over it (y)."""


def round_of(
    strategy: StrategySpec, ports: PortRange = TALK, connections: int | None = None, seed: int = 1
) -> RoundPlan:
    """A round from one source to one target; without `connections` as many as there are ports."""
    plan = Plan(
        strategies=(strategy,),
        connections=len(ports) if connections is None else connections,
        port_range=ports,
        sources=("127.9.9.1",),
        targets=(Endpoint("127.9.9.2", 9023),),
        listener=Listener.BACKLOG,
        namespace=Namespace.NETWORK,
        seed=seed,
    )
    return RoundPlan(plan, strategy, 1)


def searches(
    plan: RoundPlan, algorithm: Algorithm, machine: KernelParameters = USUAL
) -> list[tuple[PortRange, Search]]:
    """For each connection of a filling the range that it searches and its search; one path, one try each."""
    [space] = port_spaces_of(plan, algorithm, machine)
    draws, key = Draws.of(plan), search_key(plan, machine)
    found = []
    for row in plan.rows_of(Phase.FILL):
        number = draws.number(row)
        ports = (
            plan.plan.port_range
            if not plan.strategy.traits.sets_port_range
            else PortRange(number & 0xFFFF, number >> 16)
        )
        found.append((ports, traced(cast("TcpPortSpace", space), ports.low, ports.high, mix(key, row) >> 32)))
    return found


def sliced(values: npt.NDArray[Any], parts: int = SLICES) -> npt.NDArray[np.float64]:
    """The means of `parts` consecutive parts of a column."""
    return np.array([part.mean() for part in np.array_split(values, parts)])


def cost(searched: Mapping[str, StrategySpec] = SEARCHED) -> Curves:
    """Ports that a connection probes while the talk's range fills."""
    share = (np.arange(SLICES) + 0.5) / SLICES
    return {
        label: (share, sliced(simulate(round_of(strategy), FROM_6_8)[Phase.FILL].ports_probed))
        for label, strategy in searched.items()
    }


def failing() -> Curves:
    """Connections, in %, that find no port in their window, over the share of the range in use."""
    curves: Curves = {}
    for size in list(WINDOWS)[1:]:
        failed = simulate(round_of(WINDOWS[size]), FROM_6_8)[Phase.FILL].failed
        curves[f"{size:,} ports"] = sliced(np.cumsum(~failed) / len(TALK)), 100 * sliced(failed)
    return curves


def replaced(strategy: StrategySpec, fill: float) -> float:
    """The mean number of ports that a replacement probes while this share of the range is held."""
    load = Load(fill=fill, churn=Churn(REPLACEMENTS))
    plan = round_of(replace(strategy, load=load), connections=round(fill * len(TALK)))
    return float(simulate(plan, FROM_6_8)[Phase.CHURN].ports_probed.mean())


def churned(fills: Sequence[float] = FILLS) -> Curves:
    """The values of `replaced` for each share."""
    return {
        label: (np.array(fills), np.array([replaced(strategy, fill) for fill in fills]))
        for label, strategy in SEARCHED.items()
    }


def datagrams() -> Curves:
    """Ports that UDP's search probes while the talk's range fills: the mean of `TRIALS` rounds."""
    curves: Curves = {}
    for label, searched in (("whole range", "connect() alone"), ("random window of 500", "random window of 500")):
        strategy = replace(SEARCHED[searched], load=Load(protocol=Protocol.UDP))
        share, tried = np.zeros(SLICES // 4), np.zeros(SLICES // 4)
        for trial in range(TRIALS):
            attempts = simulate(round_of(strategy, seed=trial), FROM_6_8, replace(UDP_MACHINE, trial=trial))[Phase.FILL]
            share += sliced(np.cumsum(~attempts.failed), SLICES // 4) / len(TALK) / TRIALS
            tried += sliced(attempts.ports_probed, SLICES // 4) / TRIALS
        curves[label] = share, tried
    return curves


def draw_search(
    axes: Axes, ports: PortRange, found: Sequence[tuple[PortRange, Search]], title: str, error: str = "EADDRNOTAVAIL"
) -> None:
    """Draw a row for each connection: its probed ports, numbered in order; the one it took is coloured."""
    taken: set[int] = set()
    for row, (window, search) in enumerate(found):
        for port in range(ports.low, ports.high + 1):
            draw_cell(axes, port - ports.low, row, TAKEN if port in taken else "white", "")
        for number, port in enumerate(search.ports_probed, 1):
            colour = IN_VAIN if port != search.port else COLOURS.odd if port % 2 else COLOURS.even
            draw_cell(axes, port - ports.low, row, colour, str(number))
        if window != ports:
            outline(axes, window.low - ports.low, row, len(window))
        looked = len(search.ports_probed)
        text = f"{looked} port{'s' * (looked > 1)}" if search.port else f"{looked} ports: {error}"
        axes.text(len(ports) + 0.15, row + 0.5, text, va="center", fontsize=9)
        taken |= {search.port}
    axes.set(xlim=(0, len(ports)), ylim=(len(found), 0), title=title, ylabel="connection")
    columns, rows = range(len(ports)), range(len(found))
    axes.set_xticks([column + 0.5 for column in columns], [str(ports.low + column) for column in columns], fontsize=9)
    axes.set_yticks([row + 0.5 for row in rows], [str(row + 1) for row in rows])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def draw_cell(axes: Axes, column: int, row: int, colour: str, text: str) -> None:
    """Draw the state of a port for one connection."""
    from matplotlib.patches import Rectangle  # noqa: PLC0415  # loaded when something is drawn

    axes.add_patch(Rectangle((column + 0.04, row + 0.08), 0.92, 0.84, facecolor=colour, edgecolor="#bbbbbb", lw=0.6))
    axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color="white", weight="bold", fontsize=9)


def outline(axes: Axes, column: int, row: int, width: int) -> None:
    """Draw the window of a connection."""
    right, bottom = column + width, row + 1
    x, y = [column, right, right, column, column], [row, row, bottom, bottom, row]
    axes.plot(x, y, color="black", lw=1.4, clip_on=False)


def draw_curves(curves: Curves, ylabel: str, yscale: str, lowest: int = 0, marker: str = "") -> Figure:
    """Draw lines over the share of the range in use, from `lowest` percent on."""
    from matplotlib.ticker import StrMethodFormatter  # noqa: PLC0415  # loaded when something is drawn

    colours = dict(zip(SEARCHED, LINES, strict=False))
    unused = [colour for colour in LINES if colour not in {colours.get(label) for label in curves}]
    colours |= zip([label for label in curves if label not in SEARCHED], unused, strict=False)
    figure = Grid(1, 1, 860, 420).figure()
    axes = figure.subplots()
    for label, (share, values) in curves.items():
        axes.plot(100 * share, values, label=label, color=colours[label], lw=1.8, marker=marker, ms=4)
    axes.set(xlabel="ports of the range in use, %", ylabel=ylabel, yscale=yscale, xlim=(lowest, 100))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    legend_below(figure, axes.get_lines(), 860)
    return figure


def eight() -> Figure:
    """Nine connections over eight ports, with both searches."""
    figure = Grid(1, 2, 1000, 400).figure()
    panels = figure.subplots(1, 2)
    shown = {"connect() alone": PLAIN, "IP_LOCAL_PORT_RANGE set, Linux 6.8 and later": RANGE}
    for axes, (title, strategy) in zip(panels, shown.items(), strict=True):
        draw_search(axes, EIGHT, searches(round_of(strategy, EIGHT, 9), FROM_6_8), title)
    return figure


def eight_in_bind() -> Figure:
    """Nine connections over eight ports, where bind() chooses the port."""
    figure = Grid(1, 2, 1000, 400).figure()
    panels = figure.subplots(1, 2)
    shown = {"bind() chooses the port": EARLY, "the same with SO_REUSEADDR": REUSING}
    for axes, (title, strategy) in zip(panels, shown.items(), strict=True):
        found = searches(round_of(strategy, EIGHT, 9), FROM_6_8)
        draw_search(axes, EIGHT, found, title, "EADDRINUSE")
    return figure


def windows() -> Figure:
    """Sixteen connections over sixteen ports, each in a window of its own."""
    figure = Grid(1, 1, 900, 520).figure()
    found = searches(round_of(WINDOWS[4], SIXTEEN), FROM_6_8)
    draw_search(figure.subplots(), SIXTEEN, found, "Random windows of 4 ports, Linux 6.8 and later")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "search-eight": eight,
    "search-windows": windows,
    "search-cost": lambda: draw_curves(cost(), "ports probed, mean", "log"),
    "search-bind": eight_in_bind,
    "search-bind-cost": lambda: draw_curves(cost(IN_BIND), "ports probed, mean", "log"),
    "search-failures": lambda: draw_curves(failing(), "connections that find no port, %", "linear", 60),
    "search-churn": lambda: draw_curves(churned(), "ports probed, mean", "log", 40, "o"),
    "search-udp": lambda: draw_curves(datagrams(), "ports probed, mean", "log"),
}
"""The pictures of the page, by the names of their files."""


def main() -> None:
    """Draw all pictures."""
    with styled():
        for name, draw in PICTURES.items():
            data = to_bytes(draw(), "png")
            (DOCS / f"{name}.png").write_bytes(data)
            print(f"docs/{name}.png: {len(data) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
