"""Every format of a result by name."""

from __future__ import annotations

from collections.abc import Callable

from connbench.analysis.summary import summarize
from connbench.report import json as machine
from connbench.report import markdown, prometheus, talk, text
from connbench.results.csv_file import csv_rows
from connbench.results.result import Result
from connbench.results.talk_csv import talk_rows


def _talk(result: Result) -> str:
    return "\n\n".join(talk.six_lines(summarize(strategy), with_empty=True) for strategy in result.strategies)


FORMATS: dict[str, Callable[[Result], str]] = {
    "text": text.report,
    "talk": _talk,
    "json": machine.json_document,
    "csv": csv_rows,
    "talk-csv": talk_rows,
    "markdown": markdown.markdown,
    "prometheus": prometheus.prometheus,
}
