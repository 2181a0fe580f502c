"""What users type and read: lists, units, similar words, help, and what a shell completes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from connbench.commands import COMMANDS, cli
from connbench.commands.sections import Section
from connbench.commands.values import Quantities, Quantity, Word, Words
from connbench.errors import ExitCode
from connbench.strategies import STRATEGIES
from run_connbench import COMMAND, connbench, in_process

SMALL = ("--port-range", "40000-40063", "--seed", "3", "-q", "--format", "json")


def plan_of(*arguments: str) -> dict[str, Any]:
    """The plan of a run, by the file that it would write."""
    finished = in_process("run", *SMALL, *arguments)
    assert finished.returncode == ExitCode.OK, finished.stderr
    plan: dict[str, Any] = json.loads(finished.stdout)["plan"]
    return plan


def load_of(*arguments: str) -> dict[str, Any]:
    """The load of such a run's one strategy."""
    load: dict[str, Any] = plan_of("--strategy", "bind", *arguments)["strategies"][0]["load"]
    return load


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command by its words, those of `trace` too."""
    context = click.Context(cli)
    yield (), cli
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command
        yield (name,), command
        if isinstance(command, click.Group):
            yield from (((name, inner), command.commands[inner]) for inner in command.commands)


ALL = dict(commands())
named = pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words) or "connbench")


def test_strategies_by_commas_and_by_repetition() -> None:
    """Both, in the order given."""
    plan = plan_of("-n", "4", "--strategy", "range,bind", "--strategy", "plain")
    assert [one["name"] for one in plan["strategies"]] == ["range", "bind", "plain"]


def test_predict_takes_strategies_by_commas() -> None:
    """`predict` takes what `run` takes."""
    finished = connbench("predict", "--port-range", "40000-40063", "--strategy", "bind,plain", "--format", "json")
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert re.findall(r'"(bind|plain)"', finished.stdout)[:2] == ["bind", "plain"]


@pytest.mark.parametrize("number", ["1000", "1,000", "1k", "1e3"])
def test_a_count_is_one_number_however_written(number: str) -> None:
    """-n for one; the same reader stands behind every count (see below)."""
    assert plan_of("--strategy", "plain", "--port-range", "40000-41063", "-n", number)["connections"] == 1000


def test_concurrency_was_called_lanes() -> None:
    """The former name of the option is read, too; the help does not list it."""
    assert [load_of("-n", "4", option, "2")["concurrency"] for option in ("--concurrency", "--lanes")] == [2, 2]
    assert "--lanes" not in connbench("run", "--help").stdout
    assert "--lanes needs a value" in connbench("run", "--lanes").stderr


def test_times_and_rates_have_units_and_numbers_alone_mean_what_they_meant() -> None:
    """Ms for giving up, seconds for the time-out, a second for a rate."""
    limits = [load_of("-n", "4", "--give-up-after", text)["give_up_ms"] for text in ("2000", "2s", "2000ms")]
    assert limits == [2000, 2000, 2000]
    assert [
        plan_of("-n", "4", "--strategy", "bind", "--timeout", text)["timeout"] for text in ("2", "2s", "2000ms")
    ] == [2, 2, 2]
    churns = [load_of("-n", "4", "--churn", "2", "--churn-rate", text)["churn"] for text in ("50", "50/s", "3k/min")]
    assert [churn["rate"] for churn in churns] == [50, 50, 50]


@named
def test_every_option_reads_by_a_reader_of_ours(words: tuple[str, ...]) -> None:
    """None of click's own numbers and choices, which know no units, suggest nothing and refuse in other words."""
    foreign = {
        parameter.name: parameter.type
        for parameter in ALL[words].params
        if isinstance(parameter.type, (click.types.IntParamType, click.types.FloatParamType))
        or (isinstance(parameter.type, click.Choice) and not isinstance(parameter.type, Word))
    }
    assert foreign == {}


MISTAKES = {
    "strategy": ("run --strategy plan,bind", "unknown strategy 'plan'", "did you mean plain?"),
    "strategy of predict": ("predict --strategy windw", "unknown strategy 'windw'", "did you mean window?"),
    "strategy of sweep": ("sweep --strategy plain,rnge", "unknown strategy 'rnge'", "did you mean range?"),
    "far strategy": ("run --strategy fastest", "unknown strategy 'fastest'", f"known: {', '.join(STRATEGIES)}"),
    "strategy in capitals": ("run --strategy PLAIN", "unknown strategy 'PLAIN'", "did you mean plain?"),
    "no strategy": (
        "run --strategy plain,",
        "--strategy 'plain,' has an empty name",
        f"known: {', '.join(STRATEGIES)}",
    ),
    "command": ("rnu", "there is no command 'rnu'", "did you mean run?"),
    "far command": ("zzz", "there is no command 'zzz'", f"known: {', '.join(COMMANDS)}"),
    "command of trace": ("trace paritty", "there is no command 'paritty' for trace", "did you mean parity?"),
    "option": ("run --conections 5", "there is no option --conections for run", "did you mean --connections?"),
    "far option": ("run --zzz", "there is no option --zzz for run", "connbench run --help lists what there is"),
    "option of the group": ("--verison", "there is no option --verison", "did you mean --version?"),
    "choice": ("run --isolate alwys", "--isolate alwys is unknown", "did you mean always?"),
    "far choice": ("run --link x", "--link x is unknown", "known: loopback, veth"),
    "format": ("report --format markdwn x.json", "--format markdwn is unknown", "did you mean markdown?"),
    "shell": ("completion bsh", "shell bsh is unknown", "did you mean bash?"),
    "word in a list": ("sweep --close rst,fn", "--close 'rst,fn': 'fn' is unknown", "did you mean fin?"),
    "strategy as an argument": (
        "run plain,bind",
        "the argument 'plain,bind' for run is one too many",
        "write --strategy plain,bind",
    ),
    "argument": ("run it", "the argument 'it' for run is one too many", "write connbench run [OPTIONS]"),
    "third file": (
        "compare a b c",
        "the argument 'c' for compare is one too many",
        "write connbench compare [OPTIONS] BASE NEW",
    ),
    "no file": ("report", "FILE... is missing for report", "write connbench report [OPTIONS] FILE..."),
    "no shell": ("completion", "SHELL is missing for completion", "write connbench completion [OPTIONS] SHELL"),
    "no value": ("run --window", "--window needs a value", "write --window N"),
    "no value of a few": ("run --spread", "--spread needs a value", "write --spread HOW, as in --spread round-robin"),
    "no value with a unit": ("run --fill", "--fill needs a value", "write --fill SHARE, as in --fill 50%"),
    "value of a flag": ("run --plot=yes", "--plot takes no value", "write --plot alone"),
    "part of a count": ("run -n 1.5", "-n 1.5 is not a whole number", "write a whole number, as in 10000, 10k or 1e4"),
    "unit of a count": (
        "run --concurrency 2s",
        "--concurrency 2s is not a whole number",
        "write a whole number, as in 10000",
    ),
    "more than a run can have": ("run -n 1e99", "-n 1e99 is not possible", "give 1 to 10,000,000"),
    "concurrency": ("sweep --concurrency 1,2000", "--concurrency 2000 is not possible", "give 1 to 1,024"),
    "no time": ("run --timeout soon", "--timeout soon is not a time", "write a time, as in 250us, 1ms, 5s"),
    "no point in time": (
        "run --start-at soon",
        "--start-at soon is not a point in time",
        "write a point in time, as in",
    ),
    "past": ("run --start-at @1000000000", "--start-at 2001-09-09 01:46:40", "name a later time"),
    "interval without a start": ("run --start-every 5s", "--start-every counts from --start-at", "name the time"),
    "time out of bounds": ("run --timeout 25h", "--timeout 25h is not possible", "give 1ms to 24h"),
    "interval": ("trace parity --interval 1us", "--interval 1us is not possible", "give 100ms to 24h"),
    "rate": ("run --churn 5 --churn-rate 5/m", "--churn-rate 5/m is not a rate", "write a rate, as in 100/s"),
    "hold": ("advise --rate 5 --hold 5", "--hold 5 is not a time", "write a time, as in 250us, 1ms, 5s"),
    "language": ("advise -n 5 --code pyhton", "--code pyhton is unknown", "did you mean python?"),
    "share": ("run --fill 80", "--fill 80 is not a share", "write a share, as in 80%"),
    "port": ("serve --port 70000", "--port 70000 is not possible", "give 0 to 65,535"),
    "thousands in a list": ("sweep -n 1,000", "000 is not a value", "write 1,000 as 1000 or 1k"),
}


@pytest.mark.parametrize(("typed", "fault", "way_out"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported_in_two_lines_with_the_remedy(typed: str, fault: str, way_out: str) -> None:
    """The first names the fault and the value, the second what to write; exit code 2."""
    finished = in_process(*typed.split())
    assert (finished.returncode, finished.stdout) == (ExitCode.USAGE, "")
    first, second = finished.stderr.splitlines()
    assert first.startswith("connbench: ")
    assert fault in first
    assert second.startswith(f"  -> {way_out}")


def help_of(words: tuple[str, ...]) -> str:
    """What --help prints at 80 columns."""
    finished = CliRunner().invoke(cli, [*words, "--help"], prog_name="connbench", env={"COLUMNS": "80"})
    assert finished.exit_code == 0
    return finished.stdout


VERBS = {
    *(
        "Accept",
        "Add",
        "Allow",
        "Begin",
        "Begin",
        "Attach",
        "Choose",
        "Close",
        "Connect",
        "Create",
        "Draw",
        "Exit",
        "Fail",
        "Fit",
        "Give",
    ),
    *(
        "Leave",
        "Advise",
        "Hold",
        "Keep",
        "Reuse",
        "Read",
        "Listen",
        "Make",
        "Measure",
        "Open",
        "Place",
        "Print",
        "Replace",
        "Report",
        "Set",
        "Save",
        "Serve",
        "Show",
    ),
    *("Reach", "Simulate", "Start", "Stop", "Use", "Write"),
}
"""What an option does is said first."""

COMMAND_VERBS = {
    *(
        "Accept",
        "Advise",
        "Check",
        "Compare",
        "Draw",
        "List",
        "Make",
        "Measure",
        "Name",
        "Open",
        "Predict",
        "Print",
        "Repeat",
        "Show",
        "Watch",
    ),
}


@named
def test_each_line_of_help_begins_with_a_verb(words: tuple[str, ...]) -> None:
    """What an option does, in a sentence; defaults and values stand behind it."""
    assert (ALL[words].help or "").split()[0] in COMMAND_VERBS
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option) and parameter.name not in {"version", "help"}:
            text = (parameter.help or "").partition("  [default")[0]
            assert text.split()[0] in VERBS, text
            assert text.endswith("."), text


@named
def test_what_measures_on_chosen_cpus_takes_the_loop_too(words: tuple[str, ...]) -> None:
    """A command that measures has both options, and no other command has one."""
    names = {parameter.name for parameter in ALL[words].params}
    measures = {("run",), ("sweep",), ("profile",), ("reproduce",), ("calibrate",)}
    assert {"cpus", "loop"} & names == ({"cpus", "loop"} if words in measures else set())


@pytest.mark.parametrize("words", [(name,) for name in COMMANDS], ids=COMMANDS.get)
def test_the_list_of_commands_begins_with_verbs_and_fits_a_line(words: tuple[str, ...]) -> None:
    """At 80 columns each command is a line."""
    [name] = words
    assert COMMANDS[name].split()[0] in COMMAND_VERBS
    assert re.search(rf"^  {name} +{re.escape(COMMANDS[name])}$", help_of(()), re.MULTILINE)


@named
def test_help_names_every_word_that_can_be_chosen(words: tuple[str, ...]) -> None:
    """Where the value is one of a few words all of them are in its line, or in the text above."""
    above = ALL[words].help or ""
    for parameter in ALL[words].params:
        known = parameter.type.choices if isinstance(parameter.type, Word) else ()
        known = parameter.type.known if isinstance(parameter.type, Words) else known
        text = f"{getattr(parameter, 'help', '')} {parameter.metavar} {above}"
        assert [word for word in known if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text)] == []


@pytest.mark.parametrize("command", ["profile", "run", "sweep", "predict", "advise", "reproduce"])
def test_help_is_in_sections(command: str) -> None:
    """Those of the design, in its order, in columns of one width; each option stands in one of them."""
    text = help_of((command,))
    headings = re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE)
    assert [heading for heading in (section.value for section in Section) if heading in headings] == headings
    assert {"What to open", "Output"} <= set(headings)
    starts = {len(found) for found in re.findall(r"^  -.+?  +(?=[A-Z])", text, re.MULTILINE)}
    assert len(starts) == 1
    missing = [p.name for p in ALL[command,].params if isinstance(p, click.Option) and not hasattr(p, "section")]
    assert missing == []


def test_sections_of_run() -> None:
    """What is looked for together stands together."""
    parts = re.split(r"^(\w[\w ]+):$", help_of(("run",)), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(sections)[:-1] == ["What to open", "Ports and addresses", "Load", "Where it runs", "Output", "Gate"]
    for section, option in {
        "What to open": "--strategy",
        "Ports and addresses": "--target",
        "Load": "--churn",
        "Where it runs": "--isolate",
        "Output": "--format",
        "Gate": "--fail-if",
    }.items():
        assert f"  {option}" in sections[section]


@named
def test_help_breaks_no_word(words: tuple[str, ...]) -> None:
    """Neither a value at its hyphen, nor a default of one word after its colon; no line of a command is cut off."""
    lines = help_of(words).splitlines()
    assert not any(line.endswith("...") and "  " in line.strip() for line in lines if not line.startswith("Usage"))
    assert [line for line in lines if line.endswith("-") or (line.endswith("[default:") and len(line) < 70)] == []


def test_version_in_short() -> None:
    """-V is --version."""
    assert connbench("-V").stdout == connbench("--version").stdout != ""


def completed(*words: str) -> list[str]:
    """What bash is offered for the last of these words, by click's protocol."""
    finished = subprocess.run(
        [COMMAND],
        env={
            **os.environ,
            "_CONNBENCH_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("connbench", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.stderr == ""
    return [line.partition(",")[2] for line in finished.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("r",), ["run", "reproduce", "report"]),
        (("run", "--strategy", "p"), ["plain", "partition"]),
        (("run", "--strategy", "plain,"), [f"plain,{name}" for name in STRATEGIES if name != "plain"]),
        (("predict", "--strategy", "bind,w"), ["bind,window"]),
        (("sweep", "--strategy", "bind,w"), ["bind,window"]),
        (("plot", "--strategy", "wi"), ["window"]),
        (("run", "--fill", "8"), ["80%"]),
        (("sweep", "--fill", "50%-"), ["50%-95%:5%"]),
        (("profile", "--at", "5"), ["5%-100%:5%", "50%,80%,95%"]),
        (("run", "--format", "t"), ["text", "talk", "talk-csv"]),
        (("run", "--isolate", ""), ["auto", "always", "never"]),
        (("run", "--give-up-after", "1"), ["100us", "1ms", "10ms"]),
        (("run", "--churn", "5", "--churn-r"), ["--churn-rate"]),
        (("sweep", "--close", "rst,"), ["rst,fin"]),
        (("trace", "p"), ["parity"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
    ],
)
def test_what_a_shell_is_offered(words: tuple[str, ...], offered: list[str]) -> None:
    """Commands, options, strategies behind a comma too, words of choices and examples of shares and times."""
    assert completed(*words) == offered


BASH = shutil.which("bash")


@pytest.mark.skipif(BASH is None, reason="needs bash 4.4")
def test_completion_in_bash() -> None:
    """The printed script, sourced in a bash, completes a strategy behind a comma."""
    show = (
        "source <(connbench completion bash); COMP_WORDS=(connbench run --strategy plain,w); COMP_CWORD=3; "
        '_connbench_completion connbench plain,w --strategy; echo "${COMPREPLY[@]}"; complete -p connbench'
    )
    environment = {**os.environ, "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"}
    assert BASH
    finished = subprocess.run(
        [BASH, "--norc", "-c", show], capture_output=True, text=True, check=False, env=environment
    )
    assert finished.stderr == ""
    offered, registered = finished.stdout.splitlines()
    assert offered == "plain,window"
    assert registered.endswith("-F _connbench_completion connbench")


FISH = shutil.which("fish")


@pytest.mark.skipif(FISH is None, reason="needs fish")
def test_completion_in_fish(tmp_path: Path) -> None:
    """The printed script, sourced in a fish, does so too: a comma is no end of the value."""
    environment = {**os.environ, "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    show = "connbench completion fish | source; complete -C 'connbench run --strategy plain,w'"
    assert FISH
    command = [FISH, "--no-config", "-c", show]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (finished.stdout, finished.stderr) == ("plain,window\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str) -> None:
    """One for each shell, which asks connbench, and which that shell can read where it is installed."""
    script = connbench("completion", shell).stdout
    assert f"_CONNBENCH_COMPLETE={shell}_complete" in script
    program = shutil.which(shell)
    if program:
        checked = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")


def test_quantities_offer_what_they_take() -> None:
    """An example that is refused would be worse than none."""
    for words, command in ALL.items():
        for parameter in command.params:
            if isinstance(parameter.type, Quantity):
                for example in parameter.type.examples:
                    value = parameter.type.read(example, parameter.opts[0])
                    assert value or value == 0 or isinstance(parameter.type, Quantities), (words, example)
