"""What all charts share: size, style, colours, legend, and the way into a file."""

from __future__ import annotations

import io
import logging
import os
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from math import ceil
from pathlib import Path, PurePath
from types import ModuleType
from typing import TYPE_CHECKING, Any

from connbench.errors import EnvironmentFault, UsageError
from connbench.findings import printable
from connbench.report.series import Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
RASTER_DPI = 200
"""Of the points within an SVG: sharp on a screen of twice the usual density."""

POINTS_PER_PIXEL = 72 / DPI
GLYPH = 0.56
"""Width of an average character of DejaVu Sans, in font sizes; of a bold one `BOLD_GLYPH`."""

BOLD_GLYPH = 0.66
TITLE_SIZE = 11.0

STYLE: Any = {  # later releases of matplotlib type each key by its name, earlier ones none
    "figure.dpi": DPI,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 10,
    "axes.titlesize": TITLE_SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.parse_math": False,  # a $ in a file's name is a $
    "svg.hashsalt": "connbench",  # identifiers in an SVG are the same each time
}


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of what is told apart by parity and outcome."""

    even: str
    odd: str
    failed: str
    trend: str


PALETTES = {
    "safe": Palette(even="#0072b2", odd="#d55e00", failed="#000000", trend="#e69f00"),
    "talk": Palette(even="#2ca02c", odd="#d62728", failed="#000000", trend="#ff8c00"),
}
"""One that holds for every kind of colour blindness (Okabe and Ito, Color Universal Design), and the talk's own."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to draw.

    Attributes:
        yscale: `linear` or `log`; None for what the kind of chart usually has.
        palette: A name of `PALETTES`.
        width: Of the picture, in pixels; None for what its panels need.
        height: As `width`.
        latency_ms: Least and greatest latency of the scatter's axis; None for what the points need.
    """

    yscale: str | None = None
    palette: str = "safe"
    width: int | None = None
    height: int | None = None
    latency_ms: tuple[float, float] | None = None

    @property
    def colours(self) -> Palette:
        """The palette itself."""
        return PALETTES[self.palette]


@dataclass(frozen=True, slots=True)
class Grid:
    """Panels side by side and one below the other, and the size of their picture in pixels."""

    rows: int
    columns: int
    width: int
    height: int

    @property
    def panel_width(self) -> float:
        """Of one panel, with its axis."""
        return self.width / self.columns

    def figure(self) -> Figure:
        """A figure of this size, whose panels make room for their own titles and labels."""
        from matplotlib.figure import Figure  # noqa: PLC0415  # loaded when something is drawn

        return Figure(figsize=(self.width / DPI, self.height / DPI), layout="constrained")


WIDTHS = {1: 1200, 2: 1400, 3: 1800}
"""Of a picture, by the panels side by side."""

SINGLE_HEIGHT = 700
LEGEND_ROWS, LEGEND_ROW = 8, 20
"""Rows of a legend that a picture has room for, and the height of one in pixels."""


MOST_PANELS, MOST_LINES = 48, 48
"""What of a picture is drawn: thousands of panels or lines take minutes, and no reader tells them apart."""


def grid(panels: int, options: Options, least: tuple[int, int], row_height: int) -> Grid:
    """Lay out panels: one alone, two or four in pairs, more in threes, fewer side by side where the width is small.

    Args:
        panels: How many.
        options: With the size that was asked for.
        least: Width and height in pixels below which a panel cannot be read.
        row_height: Of a row, where there are several and no height was asked for.

    Raises:
        UsageError: The size that was asked for is too small.
    """
    columns = 1 if panels == 1 else 2 if panels in {2, 4} else 3
    if options.width is not None:
        columns = max(1, min(columns, options.width // least[0]))
    width = options.width or WIDTHS[columns]
    rows = ceil(panels / columns)
    height = options.height or (SINGLE_HEIGHT if rows == 1 else rows * row_height)
    if width < least[0]:
        raise UsageError(f"--width {width} is too narrow to be read", f"give {least[0]} or more, or leave it out")
    if height < rows * least[1]:
        raise UsageError(
            f"--height {height} is too little for {rows} {'row' if rows == 1 else 'rows'} of panels",
            f"give {rows * least[1]} or more, or leave it out",
        )
    return Grid(rows, columns, width, height)


def require() -> None:
    """Make sure that matplotlib is there.

    Raises:
        EnvironmentFault: It is not.
    """
    if find_spec("matplotlib") is None:
        raise EnvironmentFault(
            "charts are drawn by matplotlib, and it is not installed", "pip install 'connbench[plot]'"
        )


@contextmanager
def styled() -> Iterator[None]:
    """Draw in connbench's style, whatever matplotlibrc the user has, and leave no setting changed.

    Raises:
        EnvironmentFault: matplotlib is not installed.
    """
    require()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # that a font cache is built concerns nobody
    matplotlib = _load()
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        # A file's name in a script that the font lacks is drawn as boxes: nothing can be done about that here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _load() -> ModuleType:
    """matplotlib, also where no folder can be written: it insists on one for its settings and its cache of fonts."""
    found = find_spec("matplotlib")
    assert found is not None  # noqa: S101  # `require` has looked
    assert found.origin is not None  # noqa: S101  # as above: a package that is installed
    # With the settings that it brings it imports without such a folder; `styled` sets its own in any case.
    os.environ["MATPLOTLIBRC"] = str(Path(found.origin).with_name("mpl-data") / "matplotlibrc")
    matplotlib = import_module("matplotlib")
    try:
        matplotlib.get_configdir(), matplotlib.get_cachedir()
    except OSError:
        nowhere = partial(str, os.devnull)  # no folder: nothing is found there, and what should go there is left out
        matplotlib.get_configdir = matplotlib.get_cachedir = nowhere  # type: ignore[attr-defined]  # a module's functions
    return matplotlib


def to_bytes(figure: Figure, file_format: str) -> bytes:
    """The figure as a file of this format; without the date, so that the same figure gives the same bytes."""
    file = io.BytesIO()
    if file_format == "svg":
        figure.savefig(file, format="svg", dpi=RASTER_DPI, metadata={"Date": None})
    else:
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def folded(text: str, width: float, size: float = TITLE_SIZE, glyph: float = BOLD_GLYPH) -> str:
    """Text in lines that fit into so many pixels at a font size in points; of more than three the end is left out."""
    characters = max(12, int(width * POINTS_PER_PIXEL / (size * glyph)))
    return textwrap.fill(text, characters, max_lines=3, placeholder=" ...", break_on_hyphens=False)


def size_to_fit(text: str, width: float, largest: float = 10.0, smallest: float = 6.5) -> float:
    """Font size in points at which the longest line of a text fits into so many pixels."""
    longest = max(map(len, text.splitlines()))
    return min(largest, max(smallest, width * POINTS_PER_PIXEL / (longest * GLYPH)))


def panels_of(figure: Figure, grid: Grid, used: int, *, sharex: bool = False, sharey: bool = False) -> list[Axes]:
    """So many panels in the places of a grid, row by row; the places left over stay empty."""
    panels = list(figure.subplots(grid.rows, grid.columns, squeeze=False, sharex=sharex, sharey=sharey).flatten())
    for empty in panels[used:]:
        empty.remove()
    return panels[:used]


def legend_below(figure: Figure, handles: Sequence[Any], width: int, *, may_grow: bool = False) -> None:
    """A legend below all panels, in as many columns as the width has room for; a long one may make the picture grow."""
    if not handles:
        return
    size = STYLE["legend.fontsize"]
    for handle in handles:
        handle.set_label(folded(str(handle.get_label()), width - 90, size, GLYPH))
    longest = max(len(line) for handle in handles for line in str(handle.get_label()).splitlines())
    columns = max(1, min(len(handles), int(width * 0.96 * POINTS_PER_PIXEL / ((longest * GLYPH + 5) * size))))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns)
    more = ceil(len(handles) / columns) - LEGEND_ROWS
    if may_grow and more > 0:
        figure.set_figheight(figure.get_figheight() + more * LEGEND_ROW / DPI)


def left_out(there: int, drawn: int, what: str) -> str:
    """That only so many of the panels or lines there are have room; empty where all have."""
    return f"the first {drawn:,} of {there:,} {what} are drawn" if there > drawn else ""


def name_origin(figure: Figure, series: Sequence[Series], width: int, left_out: str = "") -> None:
    """Write above all panels the kernel, the files' names without their folders, and what of them is left out."""
    results = {id(one.result): one.result for one in series}.values()
    kernels = dict.fromkeys(f"Linux {r.environment['kernel']}" for r in results if r.environment.get("kernel"))
    names = dict.fromkeys(PurePath(r.name).name for r in results if r.name)
    words = printable(" · ".join((", ".join(kernels) or "kernel unknown", *filter(None, [left_out, ", ".join(names)]))))
    size = STYLE["legend.fontsize"]
    figure.suptitle(folded(words, width - 40, size, GLYPH), x=0.01, ha="left", fontsize=size, color="#555555")


def share_text(series: Series, in_use: int | None) -> str:
    """` (50.0 % in use)`: which part of the range, where the range is known, else nothing."""
    if series.strategy.capacity is None or in_use is None:
        return ""
    return f" ({in_use / series.strategy.capacity:.1%} in use)"
