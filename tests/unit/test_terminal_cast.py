"""`make pictures`: a recording has what the terminal showed, and as an SVG it is there at its time and at the end."""

from __future__ import annotations

import re
import subprocess
from xml.etree import ElementTree as ET

import pytest

from terminal_cast import THEMES, Moment, Run, record, svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(moment: Moment) -> list[str]:
    """The rows of a moment, without the empty ones at the end."""
    return "\n".join("".join(run.text for run in row) for row in moment.rows).rstrip().split("\n")


def test_recording_has_what_the_terminal_showed() -> None:
    """The command as it is typed, and what stays of what it prints; in colour where the program wants it."""
    script = "printf '50%%\\r100%%\\n\\033[31mred\\033[0m <b>'; test -t 1"
    moments = record(["bash", "-c", script], "go", 20, 5)
    assert [texts(one) for one in moments[:3]] == [["$"], ["$ g"], ["$ go"]]
    assert texts(moments[-1]) == ["$ go", "100%", "red <b>"]
    assert [run.colour for run in moments[-1].rows[2]] == ["red", "default"]
    assert [one.at for one in moments] == sorted(one.at for one in moments)


def test_last_moment_is_shown_where_nothing_moves() -> None:
    """Each row is drawn for each time that it looks different; those of the end are shown without an animation."""
    typed = (Run(0, "$ go", "default", is_bold=False),)
    rows = [(Run(0, percent, "green", is_bold=True),) for percent in ("50%", "100%")]
    moments = [Moment(at, (typed, row, ())) for at, row in ((0, ()), (1, rows[0]), (2.5, rows[1]))]
    for theme in THEMES.values():
        text = svg(moments, 20, theme, "a <title>")
        root = ET.fromstring(text)  # noqa: S314  # our own
        shown = [(one.get("class"), "".join(one.itertext())) for one in root.iter(f"{SVG}g")]
        assert shown == [(None, "$ go"), ("r", "50%"), ("r l", "100%")]
        assert re.search(r"\.l\{visibility:visible\}", text)
        names = set(re.findall(r"animation-name:(k\d+)", text))
        assert names == set(re.findall(r"@keyframes (k\d+)", text))
        assert root.findtext(f"{SVG}title") == "a <title>"


def test_failed_command_is_no_recording() -> None:
    """A picture of an error would be one of the documentation."""
    with pytest.raises(subprocess.CalledProcessError):
        record(["false"], "false", 20, 5)
