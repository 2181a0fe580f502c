"""Draws the README's two pictures from a result file: the plain search, and random windows of 500.

    .venv/bin/connbench run --strategy plain --strategy window --window 500 -o result.json.gz
    .venv/bin/python scripts/pictures.py result.json.gz

Both have the same latency axis, from the fastest attempt of both to the slowest, so that a reader can compare them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from connbench.report.charts import picture
from connbench.report.charts.canvas import Options
from connbench.report.series import series_of
from connbench.results.input_file import read
from connbench.units import NS_PER_MS

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = {"plain": "plain.png", "window 500": "window.png"}
WIDTH, HEIGHT = 1200, 700


def main(source: Path) -> int:
    """Draw both from one result; return the exit code."""
    series = {one.label: one for one in series_of([read(source)])}
    missing = PICTURES.keys() - series.keys()
    if missing:
        print(f"{source} has no {', '.join(sorted(missing))}: measure plain and window 500 in one run", file=sys.stderr)
        return 2
    latencies = [series[label].strategy.samples.latency_ns / NS_PER_MS for label in PICTURES]
    axis = 0.8 * min(values.min() for values in latencies), 1.7 * max(values.max() for values in latencies)
    for label, name in PICTURES.items():
        options = Options(width=WIDTH, height=HEIGHT, latency_ms=(float(axis[0]), float(axis[1])))
        data = picture("scatter", [series[label]], options, "png")
        (DOCS / name).write_bytes(data)
        print(f"{DOCS / name}: {len(data) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
