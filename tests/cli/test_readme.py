"""README and docs: each command in them runs, each link leads somewhere, and each block of code fits a terminal."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from documented_commands import PAGES, PROGRAMS, ROOT, code_of, commands_of, commands_on_hosts
from required_programs import require
from run_connbench import HANG_S, INSIDE

SMALLER = "--port-range 40000-40499"
"""A run of all 56,512 ports takes minutes: it gets this range."""

FEWER = {"window": "10,50", "churn": "50", "fill": "50%,95%", "sources": "1"}
"""Values that a sweep gets instead of its own."""

SHORTER = {"20k": "2k", "2k": "200", "1200": "120"}
"""Churn that a run gets instead of its own."""

HOST = (
    *("--listen", "127.0.0.1:8080/2000", "--sysctl", "net.core.somaxconn=4096"),
    *("--sysctl", "net.ipv4.ip_local_port_range=40000 40999"),  # what `--port-range host` takes
)
BIN = Path(sys.executable).parent

NOT_HERE = {
    *commands_on_hosts(),  # tests/netns/test_many_hosts.py
    "make test",  # runs this test: within itself it would not end
    "connbench run --strategy range --sources 20 -n 1M",  # takes a minute: `make test-all` tries it
    "connbench reproduce --quick",  # what `scaled` makes of the full one
    "connbench serve --bind 0.0.0.0 --port 8080",  # serves until Ctrl-C: tests/cli/test_serve.py
    "connbench inspect --watch 2",  # until `q`: tests/cli/test_watch_command.py
    "connbench inspect --exporter 127.0.0.1:9436",  # until Ctrl-C, too
    # to a machine that is not there: tests/netns/test_in_flight.py
    "connbench run --strategy bind,window --target 192.0.2.7:8080 --allow-remote --in-flight 1000 -n 20k",
    # through a host that forwards: tests/cli/test_host_route.py
    (
        "connbench run --strategy plain,bind --port-range 40000-40999 --target 192.0.2.7:8080 --allow-remote "
        "--allow-host-route"
    ),
    # compares what the kernel lab wrote
    "connbench compare before/6.12/result.json.gz after/6.18/result.json.gz",
}


def scaled(command: str) -> str:
    """The command in a form that takes seconds, with this interpreter's `connbench` instead of the one in .venv."""
    words, redirection, file = command.partition(" > ")
    if words.startswith("connbench calibrate"):
        words += f" {SMALLER}"
    if words.startswith("connbench run") and not {"-n", "--port-range"} & set(words.split()):
        words = words.replace("run", f"run {SMALLER}", 1)
    words = re.sub(r"(run .*--churn) (20k|2k|1200)\b", lambda found: f"{found[1]} {SHORTER[found[2]]}", words)
    if "--format csv" in words or words.startswith("connbench profile"):
        words = words.replace("--port-range 20000-29999", SMALLER)
    if words.startswith("connbench sweep"):
        words = re.sub(r"--(window|churn|fill|sources) [\d,%]+", lambda found: f"--{found[1]} {FEWER[found[1]]}", words)
        words += f" {SMALLER} --rounds 1"
    if words.startswith("connbench reproduce") and "--quick" not in words:
        words += " --quick"
    if words.startswith("make"):
        ready = ".venv/.ready-{}.{}".format(*sys.version_info)
        mine = {"--directory": ROOT, "--old-file": ready, "PYTHON": sys.executable, "BIN": BIN}
        words += "".join(f" {name}={shlex.quote(str(value))}" for name, value in mine.items())
    return words + redirection + file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader's folder, for all pages: later commands read what earlier ones wrote, and may not write it again."""
    return tmp_path_factory.mktemp("reader")


def test_commands_are_found() -> None:
    """The tests read every line that begins with a command: README's first and last, the CI job's, all of each page."""
    readme = commands_of("README.md")
    assert readme[0] == "connbench inspect"
    assert readme[-1] == "connbench plot result.json.gz -o scatter.png"
    assert any(command.endswith("--fail-if 'window: odd.p50 > 3x even.p50'") for command in commands_of("ci.md"))
    for page in PAGES:
        assert len(commands_of(page)) == sum(bool(re.match(rf" *(\$ )?({PROGRAMS}) ", line)) for line in code_of(page))


def test_readme_is_short() -> None:
    """What a reader needs in the first five minutes; everything else has a page of its own. Pictures have no words."""
    assert len(re.sub(r"<[^>]+>", "", PAGES["README.md"]).split()) <= 1500


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_there_for_light_and_dark(page: str) -> None:
    """What HTML in a page names, which has a place beside the page as a link has."""
    folder = ROOT if page == "README.md" else ROOT / "docs"
    named = re.findall(r'(src|srcset)="([^"]+)"', PAGES[page])
    assert [name for _, name in named if not (folder / name).is_file()] == []
    assert [name for kind, name in named if ("-dark." in name) is not (kind == "srcset")] == []


def test_readme_links_to_pages() -> None:
    """Not to the middle of one: a page begins with what it is about."""
    assert [target for target in re.findall(r"\]\(([^):]+)\)", PAGES["README.md"]) if "#" in target] == []


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "examples" / "README.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file that is there, and a heading that is in it."""
    for target in re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8")):
        name, _, heading = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
        anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
        assert not heading or heading in anchors, target


@pytest.mark.parametrize("page", PAGES)
def test_code_fits_a_terminal(page: str) -> None:
    """A line of a block of code is 80 characters at most, without the indentation that makes it one."""
    assert [line for line in code_of(page) if len(line) > 80] == []


@pytest.mark.parametrize("command", dict.fromkeys(c for page in PAGES for c in commands_of(page) if c not in NOT_HERE))
def test_command_runs(folder: Path, command: str) -> None:
    """Each command runs once, however many pages have it, and does its work; on a busy machine a gate may fail."""
    if command.startswith("ss "):
        require("ss")
    finished = subprocess.run(
        [*INSIDE, *HOST, "--", "bash", "-c", scaled(command)],
        cwd=folder,
        env={**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    busy = {"--fail-if": ExitCode.THRESHOLD}
    allowed = {ExitCode.OK, *(code for word, code in busy.items() if f" {word}" in command)}
    assert finished.returncode in allowed, finished.stderr
    assert "Traceback" not in finished.stderr
    words = shlex.split(command)
    for option, name in pairwise(words):
        assert option not in {"-o", "--html", ">"} or (folder / name).stat().st_size > 0
