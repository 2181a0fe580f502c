"""Words that connbench no longer uses: neither names nor prose contain them, in any file of the project."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[2]

RETIRED = {
    "lane": "client",
    "crew": "scheduler, or workers",
    "turnover": "churn",
    "victim": "replaced connection",
    "holder": "worker",
    "counsel": "advice",
    "outlet": "result writer",
    "looked at": "probed",
    "on paper": "predicted",
}
"""Each word, and the term of docs/glossary.md or of the code that stands for it now."""

EXCEPTIONS = {
    ("src/connbench/model/load.py", "lane"): "the former name of an option, which old scripts use",
    ("src/connbench/results/file_checks.py", "lane"): "a name in files of earlier versions",
    ("src/connbench/results/file_checks.py", "holder"): "a name in files of earlier versions",
    ("src/connbench/results/output_file.py", "holder"): "the process that has a lock",
    ("tests/unit/test_csv_file.py", "lane"): "a name in files of earlier versions",
    ("tests/unit/test_json_file.py", "lane"): "a name in files of earlier versions",
    ("tests/unit/test_json_file.py", "holder"): "a name in files of earlier versions",
    ("tests/cli/test_arguments_and_help.py", "lane"): "the former name of an option",
}

FORMS = [form.replace(" ", r"[\s_]") for word in RETIRED for form in (word, word.capitalize(), word.upper())]
WORD = re.compile(rf"(?<![A-Za-z])({'|'.join(FORMS)})(?:s|S)?(?![a-z])")


def files() -> list[Path]:
    """The project's own texts: code, help, messages, pages and documentation. The changelog names what was."""
    folders = chain(
        *((ROOT / name).rglob("*") for name in ("src", "scripts", "examples")), (ROOT / "tests").rglob("*.py")
    )
    pages = (*ROOT.glob("docs/*.md"), *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")))
    kinds = {"", ".py", ".js", ".css", ".html", ".c", ".h", ".bt", ".md", ".toml"}
    found = [path for path in (*folders, *pages) if path.suffix in kinds and "__pycache__" not in path.parts]
    return [path for path in found if path.is_file() and path != Path(__file__)]


def test_no_retired_word_comes_back() -> None:
    """Each exception is still needed, and every other place uses the word of today."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in files():
        text = path.read_text(encoding="utf-8")
        for match in WORD.finditer(text):
            word = re.sub(r"[\s_]", " ", match[1].lower())
            line = text.count("\n", 0, match.start()) + 1
            found.setdefault((str(path.relative_to(ROOT)), word), []).append(f"line {line}: write {RETIRED[word]}")
    assert {place: lines for place, lines in found.items() if place not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() - found.keys() == set()


def test_retired_words_are_recognised() -> None:
    """In prose, in names of functions and classes, and as plurals, but not inside other words."""
    for text in (
        "each lane",
        "two lanes",
        "of_lane",
        "LaneTask",
        "LANES",
        "ports_looked_at",
        "looked\nat",
        "Crew",
    ):
        assert WORD.search(text), text
    for text in ("a plane", "screwed", "placeholder", "planes", "counselling"):
        assert not WORD.search(text), text
