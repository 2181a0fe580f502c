"""docs/many-hosts.md: its commands run on hosts, and what it gives to Ansible, Slurm and Kubernetes does as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from connbench.errors import ExitCode
from connbench.results.fleet_file import Fleet
from connbench.results.input_file import read_any
from documented_commands import code_of, commands_on_hosts
from fleet_hosts import Hosts, fleet_of
from required_programs import PATH
from run_connbench import COMMAND, HANG_S

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "many-hosts"
PAGE = (ROOT / "docs" / "many-hosts.md").read_text(encoding="utf-8")
LOAD = "-n 100 --port-range 40000-40199"
"""A run of the page's commands, which name a host's whole range, gets this."""


def job() -> Any:  # noqa: ANN401  # a Job of Kubernetes
    """The Job."""
    return yaml.safe_load((FOLDER / "job.yml").read_text(encoding="utf-8"))


def fleet_in(file: Path) -> Fleet:
    """A file that has to be one of a fleet."""
    found = read_any(file)
    assert isinstance(found, Fleet)
    return found


def here(command: str, hosts: Hosts) -> str:
    """A command of the page for the hosts of the test, with a load that takes seconds."""
    words = (
        re.sub(r"\b(web|client)(?=[\[\d])", "c", command)
        .replace("[1-8]", "[1-3]")
        .replace("--rounds 5", "--rounds 2")
        .replace("192.0.2.7:443", f"{hosts.target}:8080")
    )
    if "--via" not in words:  # sshd gives a command no PATH that has connbench
        words = re.sub(r"(fleet \w+ -w \S+)", rf"\1 --python {sys.executable}", words)
    return re.sub(r" -- (?!.*-n )", f" -- {LOAD} " if "--target" not in words else " -- -n 100 ", words)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Three clients with sshd, the groups that the page configures, and the namespaces that it makes."""
    folder = tmp_path_factory.mktemp("many")
    with fleet_of(folder, clients=3, ssh=True) as made, made.serving():
        configured = folder / "home" / ".config" / "clustershell"
        (configured / "groups.d").mkdir(parents=True)
        for name, first in (("groups.conf", "[Main]"), ("groups.d/fleet.yaml", "fleet:")):
            [text] = re.findall(rf"^ {{4}}{re.escape(first)}\n(?: {{4}}.*\n)+", PAGE, re.MULTILINE)
            (configured / name).write_text(here(dedent(text), made), encoding="utf-8")
        for line in code_of("many-hosts.md"):
            if line.startswith("ip netns add"):
                assert made.run(*line.split()).returncode == 0
        made.remember()
        yield made


@pytest.mark.parametrize("command", dict.fromkeys(commands_on_hosts()))
def test_command_runs_on_hosts(hosts: Hosts, command: str) -> None:
    """Each command of the pages, in their order: later ones read what earlier ones wrote. Nothing is left on a host.

    On a busy machine a measurement may be unsound.
    """
    if "merge" in command:
        for name in ("web1", "web2"):
            made = hosts.connbench("run", "--strategy", "range", *LOAD.split(), "--force", "-o", f"c{name[3:]}.json.gz")
            assert made.returncode == ExitCode.OK, made.stderr
    for option in re.findall(r"-o (\S+)", command):  # of another page
        (hosts.folder / option).unlink(missing_ok=True)
    path = f"{Path(sys.executable).parent}:{PATH}"
    finished = hosts.run("sh", "-c", here(command, hosts), PATH=path)
    busy = {ExitCode.UNSOUND, *([ExitCode.THRESHOLD] if "--fail-if" in command else [])}
    assert finished.returncode in {ExitCode.OK, *busy}, finished.stderr
    for option in re.findall(r"-o (\S+)", command):
        assert (hosts.folder / here(option, hosts)).stat().st_size > 0
    hosts.until_nothing_is_left()


def begin_with(*words: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with this connbench and the folder's own programs first in PATH."""
    own = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        words,
        cwd=folder,
        env={**os.environ, **variables, "PATH": own},
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )


def test_slurm_script_measures_on_each_node_at_once(tmp_path: Path) -> None:
    """With an srun that starts the command once for each of two nodes, both on this machine."""
    srun = tmp_path / "srun"
    srun.write_text('#!/bin/sh\nfor node in n1 n2; do SLURMD_NODENAME=$node "$@" & done; wait\n', encoding="utf-8")
    srun.chmod(0o755)
    script = (FOLDER / "slurm.sh").read_text(encoding="utf-8")
    assert "sh -c 'results=$1; shift; exec connbench run" in script
    soon = tmp_path / "soon.sh"
    soon.write_text(script.replace("+ 30", "+ 3").replace("every 60s", "every 2s"), encoding="utf-8")
    load = ("--strategy", "plain,range", *LOAD.split())
    finished = begin_with("sh", "soon.sh", *load, folder=tmp_path, SLURM_JOB_ID="7")
    assert finished.returncode == ExitCode.OK, finished.stderr
    merged = fleet_in(tmp_path / "connbench-7" / "fleet.json.gz")
    assert merged.is_together
    assert [host.name for host in merged.hosts] == ["n1", "n2"]
    assert all(host.is_measured for host in merged.hosts)


def test_pods_measure_at_once(tmp_path: Path) -> None:
    """The command of the Job's container, for two pods on this machine, towards a target that is connbench's own."""
    [container] = job()["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "-c"]
    [text] = container["args"]
    assert text.count("@START") == 1
    assert text.count("lb.example:443 --allow-remote") == 1
    own = text.replace("--target lb.example:443 --allow-remote", LOAD).replace("/results/", f"{tmp_path}/")
    for old, new in (("@START", '"@$(($(date +%s) + 3))"'), ("every 60s", "every 2s"), ("exec ", "")):
        own = own.replace(old, new)
    pods = " & ".join(f"HOSTNAME=connbench-{pod} sh -c {shlex.quote(own)}" for pod in range(2))
    merge = 'connbench fleet merge --together *.json.gz -o "fleet.json.gz"'
    finished = begin_with("sh", "-c", f"{pods} & wait; {merge}", folder=tmp_path)
    assert finished.returncode == ExitCode.OK, finished.stderr
    assert [host.name for host in fleet_in(tmp_path / "fleet.json.gz").hosts] == ["connbench-0", "connbench-1"]


def test_job_gives_each_pod_a_name_and_a_node() -> None:
    """As many pods at once as there are in all, none that begins again, and no right for them."""
    spec = job()["spec"]
    pod = spec["template"]["spec"]
    assert spec["completions"] == spec["parallelism"] > 1
    assert (spec["completionMode"], spec["backoffLimitPerIndex"], pod["restartPolicy"]) == ("Indexed", 0, "Never")
    [apart] = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["labelSelector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert pod["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {one["name"] for one in pod["containers"][0]["volumeMounts"]} == {one["name"] for one in pod["volumes"]}


def test_playbook_starts_what_the_page_says() -> None:
    """One play with the two options; its line on the page is the line of its own head."""
    [play] = yaml.safe_load((FOLDER / "playbook.yml").read_text(encoding="utf-8"))
    assert {"hosts", "vars", "tasks"} <= play.keys()
    text = (FOLDER / "playbook.yml").read_text(encoding="utf-8")
    assert "'--start-at', start.stdout, '--start-every', every" in text
    assert "ansible-playbook -i hosts.ini --forks 50 playbook.yml" in PAGE
    assert "ansible-playbook -i hosts.ini --forks 50 playbook.yml" in text


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ansible-core and kubernetes-validate, in an environment of their own."""
    folder = tmp_path_factory.mktemp("programs") / "venv"  # hosts of a fleet see nothing else of /tmp than their folder
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=HANG_S)
    install = [str(folder / "bin" / "pip"), "install", "--quiet", "ansible-core", "kubernetes-validate"]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, timeout=HANG_S)
    if installed.returncode:
        pytest.skip(f"ansible-core cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.mark.slow  # installs two packages of PyPI
def test_job_is_one_of_the_published_schema(programs: Path) -> None:
    """As Kubernetes publishes it."""
    checked = subprocess.run(
        [programs / "kubernetes-validate", "--strict", FOLDER / "job.yml"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.slow  # installs two packages of PyPI
def test_playbook_measures_on_two_hosts(programs: Path) -> None:
    """Both begin at once; the results are here, merged; nothing is left there. With too few forks nothing begins."""
    folder = programs.parents[1]
    with fleet_of(folder, clients=2, ssh=True) as hosts:
        (folder / "hosts.ini").write_text("c1\nc2\n", encoding="utf-8")
        own: dict[str, Any] = {
            "connbench": COMMAND,
            "results": str(folder / "results"),
            "run": ["--strategy", "plain,range", *LOAD.split()],
            "begin_in_s": 15,
            "every": "3s",
        }
        playbook = [str(programs / "ansible-playbook"), "-i", "hosts.ini", str(FOLDER / "playbook.yml")]
        variables = ["-e", yaml.safe_dump(own, default_flow_style=True, width=10_000).strip()]
        language = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "ANSIBLE_SSH_ARGS": ""}
        refused = hosts.run(*playbook, *variables, "--forks", "1", **language)
        assert refused.returncode != 0
        assert "Give --forks 2" in refused.stdout
        finished = hosts.run(*playbook, *variables, "--forks", "2", **language)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        merged = fleet_in(folder / "results" / "fleet.json.gz")
        assert merged.is_together
        assert [host.name for host in merged.hosts] == ["c1", "c2"]
        assert all(host.is_measured for host in merged.hosts)
        home = folder / "home" / ".ansible"
        assert not [path for path in home.rglob("*") if path.is_file() and "tmp" in path.parts]
        hosts.until_nothing_is_left()
