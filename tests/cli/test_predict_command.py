"""`connbench predict` and `advise` as installed: the prediction matches a real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connbench.errors import ExitCode
from connbench.linux.sysctl import PORT_RANGE, RESERVED_PORTS
from connbench.model.time_wait import MOST_WAITING, TW_REUSE
from run_connbench import connbench, in_process

OF_RUN = ("--strategy", "plain", "--strategy", "random", "--retries", "2", "--port-range", "40000-40399")


def test_run_is_met_by_its_prediction(tmp_path: Path) -> None:
    """Drawn ports fail exactly as often as predicted, and the report shows how plain's times follow its search."""
    file = tmp_path / "result.json"
    assert connbench("run", *OF_RUN, "--seed", "7", "-o", str(file), "-q").returncode == ExitCode.OK
    done = in_process("predict", str(file), "--format", "json")
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    plain, drawn = json.loads(done.stdout)["strategies"]
    assert plain["errors"] == {"predicted": 0, "measured": 0}
    assert drawn["errors"]["predicted"] == drawn["errors"]["measured"] > 0
    assert -1 <= plain["rank_correlation"] <= 1
    predicted = in_process("predict", *OF_RUN, "--seed", "7", "--format", "json")
    assert json.loads(predicted.stdout)["strategies"][1]["errors"] == drawn["errors"]["measured"]


def test_run_on_a_host_that_reserves_ports_is_met(tmp_path: Path) -> None:
    """The result records the host's reserved ports: the prediction from its file alone fails as often as the run."""
    file = tmp_path / "result.json"
    host = ("--sysctl", f"{PORT_RANGE}=40000 40399", "--sysctl", f"{RESERVED_PORTS}=40100-40199")
    words = ("run", "--strategy", "plain", "--isolate", "never", "-n", "350", "-o", str(file), "-q")
    assert connbench(*words, inside=host).returncode == ExitCode.OK
    document = json.loads(in_process("predict", str(file), "--format", "json").stdout)
    assert document["reserved"] == 100
    assert document["strategies"][0]["errors"] == {"predicted": 50, "measured": 50}


def test_time_wait_over_a_link_is_met(tmp_path: Path) -> None:
    """Over a veth pair no port is free again within a minute: of 60 connections, 24 find a port, 6 being open."""
    file = tmp_path / "result.json"
    churn = ("-n", "6", "--churn", "60", "--close", "fin", "--churn-rate", "100", "--link", "veth")
    words = ("run", "--strategy", "bind", "--port-range", "40000-40029", *churn, "-o", str(file), "-q")
    assert connbench(*words).returncode == ExitCode.OK
    document = json.loads(in_process("predict", str(file), "--format", "json").stdout)
    errors = document["strategies"][1]["errors"]
    assert errors["predicted"] == 36
    assert 31 <= errors["measured"] <= 36


@pytest.mark.parametrize(("most", "failed"), [(10, 0), (1000, 36)])
def test_settings_of_the_host_are_met(most: int, failed: int, tmp_path: Path) -> None:
    """Without tcp_tw_reuse no port is free again on the loopback either, except beyond tcp_max_tw_buckets."""
    file = tmp_path / "result.json"
    settings = {PORT_RANGE: "40000 40059", TW_REUSE: "0", MOST_WAITING: str(most)}
    host = tuple(word for name, value in settings.items() for word in ("--sysctl", f"{name}={value}"))
    # On a busy machine the other end closes late, and the SYN that meets it waits for a timer: connbench calls that
    # unsound, and what comes all at once then can find no port. It is rare with plain, which takes ports in turn.
    churn = ("-n", "6", "--churn", "90", "--close", "fin", "--churn-rate", "100", "--isolate", "never")
    for _ in range(10):
        ran = connbench("run", "--strategy", "plain", *churn, "-o", str(file), "--force", "-q", inside=host)
        if ran.returncode != ExitCode.UNSOUND:
            break
    assert ran.returncode == ExitCode.OK, ran.stdout + ran.stderr
    document = json.loads(in_process("predict", str(file), "--format", "json").stdout)
    errors = document["strategies"][1]["errors"]
    assert errors["predicted"] == failed
    # On a busy machine the other end may close one or two first, and has their TIME_WAIT then.
    assert failed - 5 <= errors["measured"] <= failed


def test_advice_is_given_and_refused() -> None:
    """Exit code 0 and prose, or 2 and two lines that say what is missing."""
    given = in_process("advise", "-n", "500", "--port-range", "40000-40999")
    assert (given.returncode, given.stderr) == (ExitCode.OK, "")
    assert given.stdout.startswith("Use ")
    assert "500 of 1,000 ports are in use, 50.0%" in given.stdout
    refused = in_process("advise")
    assert refused.returncode == ExitCode.USAGE
    assert refused.stderr.splitlines() == [
        "connbench: nothing says how many connections are open at once",
        "  -> give -n, or --rate and --hold",
    ]
