"""Records a command in a terminal, and draws what the terminal showed as an SVG that moves by CSS alone.

A picture of the recording is a picture of a real run, at its own pace. Where nothing moves (a reader who asked for less
motion, a program that shows the first moment only), the SVG shows the last moment.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from operator import attrgetter

import pyte

CELL, LINE, SIZE, MARGIN = 8.4, 18, 14, 12
"""Width of a character and height of a line in pixels, size of the font, and free space around the text."""

TYPED_S, PAUSE_S, HELD_S = 0.05, 0.6, 10.0
"""How long a typed character takes, how long the command waits for Enter, and how long the last moment stays."""

MOST_A_SECOND = 10
"""Moments a second: what changes faster is drawn as it is at the next one."""

FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours: the ground, the text, and those that programs name."""

    ground: str
    text: str
    named: Mapping[str, str]


THEMES = {
    "light": Theme(
        "#ffffff",
        "#1f2328",
        {"red": "#cf222e", "green": "#116329", "brown": "#7d4e00", "blue": "#0969da", "magenta": "#8250df"}
        | {"cyan": "#1b7c83", "white": "#6e7781", "black": "#24292f", "brightblack": "#8c959f"},
    ),
    "dark": Theme(
        "#0d1117",
        "#e6edf3",
        {"red": "#ff7b72", "green": "#3fb950", "brown": "#d29922", "blue": "#58a6ff", "magenta": "#bc8cff"}
        | {"cyan": "#39c5cf", "white": "#b1bac4", "black": "#484f58", "brightblack": "#6e7681"},
    ),
}
"""GitHub's own colours, so that the picture stands on the page as a block of code does."""


@dataclass(frozen=True, slots=True)
class Run:
    """Characters of one look, and the column where they begin."""

    column: int
    text: str
    colour: str
    is_bold: bool


Row = tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """What the terminal shows from a time on, in s since the begin."""

    at: float
    rows: tuple[Row, ...]


def record(command: Sequence[str], shown: str, columns: int, lines: int) -> list[Moment]:
    """Run a command in a terminal of this size, and return what it showed: first how `shown` is typed.

    Raises:
        subprocess.CalledProcessError: The command failed.
    """
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    moments, at = [], 0.0
    stream.feed(b"$ ")
    for character in shown:
        moments.append(Moment(at, _rows(screen)))
        stream.feed(character.encode())
        at += TYPED_S
    moments.append(Moment(at, _rows(screen)))
    stream.feed(b"\r\n")
    start = time.monotonic() - at - PAUSE_S
    for piece in _output(command, columns, lines):
        stream.feed(piece)
        now = time.monotonic() - start
        if now - moments[-1].at >= 1 / MOST_A_SECOND:
            moments.append(Moment(now, _rows(screen)))
    moments.append(Moment(time.monotonic() - start, _rows(screen)))
    return moments


def _output(command: Sequence[str], columns: int, lines: int) -> Iterator[bytes]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        while True:
            select.select([ours], [], [])
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: the command has ended
                break
            yield piece
        os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _rows(screen: pyte.Screen) -> tuple[Row, ...]:
    """The rows of a screen, without the blanks at their ends."""
    found = []
    for line in range(screen.lines):
        row, width = screen.buffer[line], len(screen.display[line].rstrip())
        cells = [(row[column], column) for column in range(width)]
        runs = [(look, list(some)) for look, some in groupby(cells, key=lambda cell: attrgetter("fg", "bold")(cell[0]))]
        found.append(
            tuple(Run(some[0][1], "".join(cell.data for cell, _ in some), *look) for look, some in runs if some)
        )
    return tuple(found)


def svg(moments: Sequence[Moment], columns: int, theme: Theme, title: str) -> str:
    """The recording as an SVG: each row is drawn once for each time that it looks different, and shown at its time."""
    height = max(len(moment.rows) - _blank_at_end(moment.rows) for moment in moments)
    whole = moments[-1].at + HELD_S
    drawn, keyframes = [], []
    numbers: dict[tuple[float, float], str] = {}
    for line in range(height):
        changes = [(moment.at, moment.rows[line]) for moment in moments]
        begins = [change for place, change in enumerate(changes) if not place or changes[place - 1][1] != change[1]]
        for place, (begin, row) in enumerate(begins):
            end = begins[place + 1][0] if place + 1 < len(begins) else whole
            if not row:
                continue
            styled = ""
            if begin > 0 or end < whole:
                kind = "r l" if end == whole else "r"
                name = numbers.setdefault((begin, end), f"k{len(numbers)}")
                styled = f' class="{kind}" style="animation-name:{name}"'
            shift = f"translate({MARGIN} {MARGIN + LINE * (line + 0.8):g})"
            drawn.append(f'<g{styled} transform="{shift}">{_text(row, theme)}</g>')
    for (begin, end), name in numbers.items():
        hidden = "" if begin == 0 else "0%{visibility:hidden}"
        after = "" if end == whole else f"{end / whole:.3%}{{visibility:hidden}}"
        keyframes.append(f"@keyframes {name}{{{hidden}{begin / whole:.3%}{{visibility:visible}}{after}}}")
    width, tall = columns * CELL + 2 * MARGIN, height * LINE + 2 * MARGIN
    style = (
        f"text{{font:{SIZE}px {FONT};fill:{theme.text};white-space:pre}}"
        f".r{{visibility:hidden;animation:{whole:.2f}s step-end infinite}}.l{{visibility:visible}}"
        f"@media (prefers-reduced-motion:reduce){{.r{{animation:none}}}}{''.join(keyframes)}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {tall:g}" width="{width:g}" height="{tall:g}" '
        f'role="img"><title>{escape(title)}</title><style>{style}</style>'
        f'<rect width="100%" height="100%" rx="6" fill="{theme.ground}"/>\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _blank_at_end(rows: Sequence[Row]) -> int:
    return next((place for place, row in enumerate(reversed(rows)) if row), len(rows))


def _text(row: Row, theme: Theme) -> str:
    """A row: each run of characters at its column and as wide as its cells, whatever the font is."""
    found = []
    for run in row:
        if not run.text.strip():
            continue
        colour = theme.named.get(run.colour) or theme.named.get(run.colour.removeprefix("bright"), "")
        if len(run.colour) == 6 and not colour:  # one of 256, or of all: pyte has it as hexadecimal digits
            colour = f"#{run.colour}"
        look = (f' style="fill:{colour}"' if colour else "") + (' font-weight="bold"' if run.is_bold else "")
        found.append(
            f'<text x="{run.column * CELL:g}" textLength="{len(run.text) * CELL:g}" lengthAdjust="spacingAndGlyphs" '
            f'xml:space="preserve"{look}>{escape(run.text, quote=False)}</text>'
        )
    return "".join(found)
