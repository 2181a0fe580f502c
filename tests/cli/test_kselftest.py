"""`--kselftest`: KTAP on stdout, and the exit codes of the kernel's selftests."""

from __future__ import annotations

from pathlib import Path

import pytest

from connbench.commands.answers import Kselftest
from connbench.errors import ExitCode
from run_connbench import connbench, in_process

EXAMPLE = str(Path(__file__).parents[1] / "files" / "example.json.gz")


@pytest.mark.parametrize(
    ("arguments", "code", "last"),
    [
        (("report", EXAMPLE, "--fail-if", "p99 > 1s"), Kselftest.PASS, "ok 5 range: not p99 > 1s"),
        (("report", EXAMPLE, "--fail-if", "p99 > 1ns"), Kselftest.FAIL, "not ok 5 range: not p99 > 1ns"),
        (("compare", EXAMPLE, EXAMPLE, "--fail-if", "slower"), Kselftest.PASS, "ok 5 range: not slower"),
        (("report", "missing.json"), Kselftest.FAIL, "not ok 1 connbench"),
        (("run", "--strategy", "plian"), Kselftest.FAIL, "not ok 1 connbench"),
        (("run", "--bogus"), Kselftest.FAIL, "not ok 1 connbench"),
        (("report", EXAMPLE, "--format", "json"), Kselftest.FAIL, "not ok 1 connbench"),
    ],
)
def test_exit_codes_are_those_of_kselftest(arguments: tuple[str, ...], code: Kselftest, last: str) -> None:
    """A test that fails is 1, and so is a command that fails: none is 4 but for the machine's sake."""
    finished = in_process(*arguments, "--kselftest")
    assert finished.stdout.startswith("KTAP version 1\n1..")
    assert finished.stdout.splitlines()[-1] == last
    assert finished.returncode == code
    assert (code == Kselftest.PASS) == (not finished.stderr)


def test_format_alone_keeps_the_exit_codes() -> None:
    """And prints the same."""
    arguments = ("report", EXAMPLE, "--fail-if", "p99 > 1ns")
    tested, printed = in_process(*arguments, "--kselftest"), in_process(*arguments, "--format", "ktap")
    assert tested.stdout == printed.stdout
    assert in_process("report", "missing.json", "--format", "ktap").returncode == ExitCode.INPUT


def test_machine_that_cannot_is_skipped() -> None:
    """Exit code 4, a plan without a test, and the way out on stderr."""
    denied = ("--deny", "port-range")
    finished = connbench("run", "--strategy", "range", "--kselftest", inside=denied)
    assert finished.returncode == Kselftest.SKIP
    version, plan = finished.stdout.splitlines()
    assert version == "KTAP version 1"
    assert plan.startswith("1..0 # SKIP strategy range needs IP_LOCAL_PORT_RANGE")
    assert "connbench: strategy range needs" in finished.stderr


def test_run_and_profile_are_tests() -> None:
    """All that was measured passes, strategy by strategy."""
    run = in_process("run", "-q", "--kselftest", "--port-range", "40000-40063", "--strategy", "bind", "--rounds", "2")
    assert "\nok 1 bind: measured\n" in run.stdout
    profile = in_process("profile", "-q", "--format", "ktap", "--port-range", "40000-40063", "--strategy", "bind")
    assert "\nok 1 bind, profile: measured\n" in profile.stdout
