"""Writes the table of an attempt's columns in docs/figures.md, from the schema in `connbench.samples`.

With --check it writes nothing, and exits with 1 if the table is not that of the schema.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from connbench.samples import COLUMNS, Column

DOCUMENT = Path(__file__).parents[1] / "docs" / "figures.md"
TABLE = re.compile(r"(?<=## One attempt\n\n)(\|.*\n)+")


def table() -> str:
    """The table: a row for each column, in the order of files."""
    return "".join(["| column | unit | meaning |\n", "|---|---|---|\n", *map(_row, COLUMNS)])


def _row(column: Column) -> str:
    return f"| `{column.name}` | {column.unit} | {column.meaning} |\n".replace("|  |", "| |")


def main() -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the table is old")
    is_check = parser.parse_args().check
    text = DOCUMENT.read_text(encoding="utf-8")
    written, found = TABLE.subn(lambda _: table(), text)
    if found != 1:
        raise SystemExit(f"{DOCUMENT} has no table under the heading One attempt")
    if written != text and is_check:
        print(
            f"The table of columns in {DOCUMENT.name} is not that of samples.py: make columns writes it.",
            file=sys.stderr,
        )
        return 1
    if written != text:
        DOCUMENT.write_text(written, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
