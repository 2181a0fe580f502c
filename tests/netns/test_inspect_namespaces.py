"""`inspect` of other network namespaces: by process, by name, all of them, and one that vanishes meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from connbench.errors import ExitCode
from fault_at_moment import Step, at
from required_programs import require
from run_connbench import COMMAND, HANG_S, INSIDE, connbench
from server_host import clients, serving

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="entering another network namespace needs root")

HELD = 30


class Container(NamedTuple):
    """The processes of a namespace that has connections."""

    server: subprocess.Popen[str]
    client: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The process that connbench finds first."""
        return min(process.pid for process in self)

    @property
    def entering(self) -> tuple[Step]:
        """The moment at which the command is about to enter the namespace."""
        return (Step("command", "open", f"/proc/{self.pid}/ns/net"),)

    def end(self) -> None:
        """End both, and with them the namespace."""
        for process in self:
            process.kill()
            process.wait()


@contextmanager
def started() -> Iterator[Container]:
    """A namespace beside that of the command."""
    with serving() as server, clients(server, HELD) as client:
        yield Container(server, client)


@pytest.fixture(scope="module")
def container() -> Iterator[Container]:
    """One that stays."""
    with started() as found:
        yield found


@pytest.fixture
def vanishing() -> Iterator[Container]:
    """One that a test ends."""
    with started() as found:
        yield found


def namespaces_of(document: dict[str, Any]) -> dict[str, int]:
    """The number of ports in use of the fullest path of each namespace that has one."""
    return {row["namespace"]: row["used"] for row in reversed(document["rows"])}


def test_by_process(container: Container) -> None:
    """A namespace has the name of the process that was asked for, and the port range is its own."""
    finished = connbench("inspect", "--netns", str(container.pid), "--format", "json")
    assert finished.returncode == ExitCode.OK, finished.stderr
    document = json.loads(finished.stdout)
    [namespace] = document["namespaces"]
    assert namespace["namespace"].startswith(str(container.pid))
    assert namespace["port_range"] == {"low": 40000, "high": 40255}
    assert namespaces_of(document) == {namespace["namespace"]: HELD}


def test_by_name(container: Container) -> None:
    """A name that ip-netns(8) gave."""
    ip = require("ip")
    attached = f"mkdir /run/netns && {ip} netns attach blue {container.pid}"
    command = f"{attached} && {COMMAND} inspect --netns blue --format json"
    finished = subprocess.run(
        [*INSIDE, "--tmpfs", "/run:mode=755", "--", "sh", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert namespaces_of(json.loads(finished.stdout)) == {"blue": HELD}


@pytest.mark.parametrize("output_format", ["text", "json", "csv", "markdown", "prometheus"])
def test_name_may_have_any_bytes(container: Container, output_format: str) -> None:
    """Those that are no text, or would steer a terminal, are replaced in each format."""
    name, ip = os.fsdecode(b"b\xffu\x07e\n"), require("ip")
    attach = f'mkdir /run/netns && {ip} netns attach "$0" "$1" && shift && exec "$@"'
    asked = [COMMAND, "inspect", "--netns", name, "--format", output_format]
    finished = subprocess.run(
        [*INSIDE, "--tmpfs", "/run:mode=755", "--", "sh", "-c", attach, name, str(container.pid), *asked],
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert "b\ufffdu\ufffde\ufffd" in finished.stdout


def test_all(container: Container) -> None:
    """Each namespace once, however many processes are in it, and that of the command first."""
    finished = connbench("inspect", "--all-netns", "--top", "0", "--format", "json")
    assert finished.returncode == ExitCode.OK, finished.stderr
    document = json.loads(finished.stdout)
    names = [namespace["namespace"] for namespace in document["namespaces"]]
    assert names[0] == ""
    assert len(set(names)) == len(names)
    own = [used for name, used in namespaces_of(document).items() if name.split()[:1] == [str(container.pid)]]
    assert own == [HELD]


def test_one_of_all_that_vanishes_is_left_out(vanishing: Container, tmp_path: Path) -> None:
    """A container ends while the command looks at the others."""
    with at(vanishing.entering, "inspect", "--all-netns", "--format", "json", folder=tmp_path) as run:
        vanishing.end()
    run.ended(ExitCode.OK)
    names = [namespace["namespace"] for namespace in json.loads(run.stdout)["namespaces"]]
    assert str(vanishing.pid) not in {name.partition(" ")[0] for name in names}


def test_the_one_that_vanishes_is_named(vanishing: Container, tmp_path: Path) -> None:
    """A container that was asked for ends before the command is in its namespace; then there is no such process."""
    asked = ("inspect", "--netns", str(vanishing.pid))
    with at(vanishing.entering, *asked, folder=tmp_path) as run:
        vanishing.end()
    run.ended(ExitCode.ENVIRONMENT, f"there is no network namespace {vanishing.pid}")
    assert run.stdout == ""
    again = connbench(*asked)
    assert (again.returncode, again.stdout) == (ExitCode.ENVIRONMENT, "")
    assert f"there is no process {vanishing.pid}" in again.stderr
    assert len(again.stderr.splitlines()) == 2
