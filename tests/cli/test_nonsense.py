"""Nonsense for every option of every command: refused in two lines, or accepted as a value; no traceback."""

from __future__ import annotations

import contextlib
import io
import socket
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Never

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from allowed_namespace import NAMESPACE
from connbench import commands as cli
from connbench.advice import advice
from connbench.commands import session as measuring
from connbench.errors import ExitCode
from connbench.fleet import checking, controller, inspections
from connbench.inspect import command as inspect_command
from connbench.inspect import inspection
from connbench.interrupts import Interrupts
from connbench.planner import planner as make
from connbench.portmodel import prediction as predict
from connbench.report.json import json_document
from connbench.serve import server
from connbench.trace import command as trace_command
from factories import PLAIN, result_of, round_of, samples_of

ENDLESS = "9" * 4301
"""More digits than int() takes (sys.int_max_str_digits)."""

ABROAD = unicodedata.lookup("ARABIC-INDIC DIGIT THREE")

NONSENSE = (
    "", " ", "0", "-1", "+1", "nan", "inf", "1e309", "1e-99", "1_000", " 1", "1 ", "0x10", ABROAD,
    "\N{SUPERSCRIPT TWO}", ENDLESS, f"-{ENDLESS}", f"0.{ENDLESS}", f"{ENDLESS}%", f"{ENDLESS}ms", f"{ENDLESS}/s",
    f"1-{ENDLESS}:1", f"1,{ENDLESS}", "0%", "101%", "-1ms", "0/s", "9-1", "9-1:1", "1,1", ",", "1,,1", "0,1", "0-5:1",
    "x" * 70_000, "x " * 35_000, "\udcff", "::error::x", "\n::error::x\x1b[2J\u2028y", "##[error]x",
    "0.0.0.0", "255.255.255.255", "127.0.0.1,::1", "::1-127.0.0.1", "224.0.0.1", "ff02::1%\x07",  # noqa: S104  # to be refused
    f"::1/{ENDLESS}", "::/0", f"127.0.0.1:{ENDLESS}", f"127.0.0.1:{ABROAD}", "224.0.0.1:1", "0.0.0.0:1",
    "p99 <= -1ms", f"p99 < {ENDLESS}ms", f"p{ENDLESS} < 1ms", f"p99 > {ENDLESS}", f"{'x' * 300}: p99 > 1ms",
    "0.0", "999.1",
)  # fmt: skip

PIECES = ("-", ":", ",", "ms", "%", "/s", "e", "p99 <", "plain", "127.9.9.1", "1")

TAKEN = {ExitCode.OK, None}
REFUSED = {ExitCode.USAGE, ExitCode.ENVIRONMENT, ExitCode.TARGET, ExitCode.OUTPUT, ExitCode.INPUT}

BESIDE = {
    "--churn-rate": ["--churn", "10"],
    "--close": ["--churn", "10"],
    "--delay": ["--link", "veth"],
    "--duration": ["--watch", "1"],
    "--hold": ["--rate", "1/s"],
    "--placement": ["--strategy", "window"],
    "--window": ["--strategy", "window"],
    "--listener": ["--isolate", "always"],
    "--backported": ["--kernel", "5.10"],
    "--height": ["--kind", "ports", "-o", "chart.png"],
    "--width": ["--kind", "ports", "-o", "chart.png"],
}
"""An option that this one needs beside it to have an effect."""

LONGEST = 1400
"""Most characters of a message with its advice: the longest lists every choice."""


class Reached(BaseException):  # no error, and no handler of errors is to take it
    """The values were accepted; the command would now measure, simulate, serve or trace."""


def _reached(*_: object, **__: object) -> Never:
    raise Reached


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands plan for real, and stop there; files that a value names lie in a folder of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "choose_namespace", lambda *_, **__: (NAMESPACE, []))  # forks, which numpy's threads forbid
        patch.setattr(make, "choose_link_namespace", lambda request, **_: NAMESPACE if request.link == "veth" else None)
        patch.setattr(make, "check_link", lambda _: None)
        patch.setattr(socket, "getaddrinfo", partial(socket.getaddrinfo, flags=socket.AI_NUMERICHOST))  # no DNS
        patch.setattr(measuring, "begin", _reached)
        patch.setattr(predict, "predict", _reached)
        patch.setattr(advice, "advise", _reached)
        patch.setattr(server, "serving", _reached)
        patch.setattr(trace_command, "watch", _reached)
        patch.setattr(inspection, "inspect", _reached)
        patch.setattr(inspect_command, "_watch", _reached)
        patch.setattr(controller, "run_fleet", _reached)
        patch.setattr(checking, "check_everywhere", _reached)
        patch.setattr(inspections, "inspect_everywhere", _reached)
        patch.chdir(tmp_path_factory.mktemp("nonsense"))
        result = result_of({PLAIN: [round_of(samples_of([10_000] * 20))]})
        Path("result.json").write_text(json_document(result), encoding="utf-8")
        yield


def _commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)
        elif command:
            yield (*path, name), command


COMMANDS = dict(_commands(cli.cli))
FILES = {"report": ["result.json"], "plot": ["result.json", "--terminal"], "compare": ["result.json", "result.json"]}


def _beside(path: tuple[str, ...], parameter: click.Parameter) -> list[str]:
    """The other arguments, with which the value at hand has an effect."""
    known = {name for one in COMMANDS[path].params for name in one.opts}
    more = next((BESIDE[name] for name in parameter.opts if name in BESIDE), [])
    enough = ["-n", "100"] if path == ("advise",) and "-n" not in parameter.opts else []
    enough += ["-w", "h1"] if "-w" in known and "-w" not in parameter.opts else []
    return [*FILES.get(path[0], []), *enough, *(more if more and more[0] in known else [])]


def _lines() -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Every parameter of every command that takes a value."""
    for path, command in COMMANDS.items():
        yield from ((path, one) for one in command.params if not getattr(one, "is_flag", False))


def _line(path: tuple[str, ...], parameter: click.Parameter, value: str) -> list[str]:
    if isinstance(parameter, click.Argument):
        return [*path, "--", value]
    name = parameter.opts[-1]
    return [*path, *_beside(path, parameter), f"{name}={value}" if name.startswith("--") else name + value]


def _said(line: list[str]) -> tuple[int | None, str]:
    """Exit code (None: everything was accepted) and both streams, which cannot encode a surrogate."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2)]
    code: int | None = None
    with (
        contextlib.redirect_stdout(streams[0]),
        contextlib.redirect_stderr(streams[1]),
        contextlib.suppress(Reached),
    ):
        code = cli._run(line, Interrupts())  # noqa: SLF001  # main() ends the process
    said: Any = streams[1].buffer
    return code, said.getvalue().decode()


def _judge(line: list[str]) -> None:
    code, said = _said(line)
    shown = [word[:80] for word in line]
    assert code in TAKEN | REFUSED, (shown, code, said)
    if code in REFUSED:
        *_, last = lines = said.splitlines()
        assert said.startswith("connbench: "), (shown, said)
        has_caret = len(lines) == 4 and lines[2].strip() == "^"
        assert len(lines) == 2 or has_caret, (shown, said)
        assert last.startswith("  -> "), (shown, said)
        assert len(said) <= LONGEST, (shown, said)
        assert not any(long in said for long in ("9" * 300, "x" * 300)), (shown, said)
    for one in said.split("\n"):
        assert one.isprintable(), (shown, said)
        assert not one.lstrip().startswith("::error::"), (shown, said)
        assert "##[" not in one, (shown, said)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_nonsense_is_refused_in_two_lines_or_taken(path: tuple[str, ...]) -> None:
    """Each value for each option: a documented exit code, the value shortened, no control sequence and no command."""
    for command, parameter in _lines():
        if command == path:
            for value in NONSENSE:
                _judge(_line(path, parameter, value))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    place=st.sampled_from(list(_lines())),
    value=st.one_of(
        st.lists(st.sampled_from((*NONSENSE, *PIECES)), max_size=5).map("".join),
        st.text(st.characters(exclude_characters="\0"), max_size=30),
    ),
)
def test_nonsense_made_of_nonsense_is_so_too(place: tuple[tuple[str, ...], click.Parameter], value: str) -> None:
    """Pieces of values in any order, and any text: the same holds."""
    _judge(_line(*place, value))


def test_words_behind_no_option_are_refused_in_two_lines() -> None:
    """The message names the unknown command, option or argument, and no runner obeys it."""
    for value in NONSENSE:
        for line in ([value], [f"--{value}"], ["run", f"--{value}"], ["run", "--", value], ["trace", value]):
            if value.strip() or line != [value]:
                _judge(line)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (["run", "--source", "127.9.9.1,::1"], "IPv4 and IPv6"),
        (["predict", "--source", "127.9.9.1,::1"], "IPv4 and IPv6"),
        (["run", "--source", "224.0.0.1", "--link", "veth"], "single host"),
        (["predict", "--source", "255.255.255.255"], "single host"),
        (["run", "--source", "0.0.0.0"], "single host"),  # noqa: S104  # to be refused
        (["run", "--target", "0.0.0.0:80"], "single host"),
        (["run", "--target", "224.0.0.1:80", "--allow-remote"], "single host"),
        (["serve", "--bind", "224.0.0.1"], "multicast or broadcast"),
        (["serve", "--bind", "255.255.255.255"], "multicast or broadcast"),
        (["run", "--cpu", "0,0"], "named twice"),
        (["run", "--cpu", ABROAD], "neither CPUs' numbers nor none"),
        (["run", "--target", f"127.0.0.1:{ABROAD}"], "has no port"),
        (["run", "--port-range", f"1-{ENDLESS}"], "is not LOW-HIGH"),
        (["sweep", "--sources", "0,1"], "not possible"),
        (["sweep", "--sources", "0-5:1"], "not possible"),
        (["advise", "-n", "100", "--kernel", "0.0"], "not a release of Linux"),
        (["advise", "-n", "100", "--slo", "p99 < -1ms"], "is not STATISTIC < TIME"),
    ],
)
def test_impossible_value_is_refused_by_name(line: list[str], fault: str) -> None:
    """The message names what is wrong with the request, and no other fault."""
    code, said = _said(line)
    assert code == ExitCode.USAGE
    assert fault in said
