"""Predictions of plans and of results: no socket is made."""

from __future__ import annotations

import errno
import json
import socket
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest

from connbench.commands import cli
from connbench.errors import ConnbenchError, EnvironmentFault, InputError, OutputError, UsageError
from connbench.linux.sysctl import RESERVED_PORTS
from connbench.model import Churn, Close, Link, Load, Phase, PortRange, Profile, Protocol, Reuse
from connbench.model.round_report import RoundReport
from connbench.model.time_wait import TW_REUSE
from connbench.planner.planner import plan_offline
from connbench.planner.request import RunRequest
from connbench.portmodel import prediction as prediction_module
from connbench.portmodel.agreement import PredictedFigure, agreement, rank_correlation
from connbench.portmodel.algorithm import ALGORITHMS, Algorithm
from connbench.portmodel.calibration import USUAL, USUAL_BEFORE, usual_of
from connbench.portmodel.calibration_file import calibration_document
from connbench.portmodel.prediction import predict, predict_result
from connbench.report.charts.canvas import Options, styled
from connbench.report.charts.predicted import Overlay, draw
from connbench.report.json import json_document
from connbench.report.prediction_report import agreement_text, knee, prediction_text
from connbench.results.result import Result, Round
from connbench.samples import GIVEN_UP
from factories import PLAN, result_of, samples_of
from factories import round_of as round_made
from run_connbench import invoke, spec

SMALL = PortRange(40000, 40999)
WIDER = PortRange(40000, 41999)
"""With a half that takes long enough to walk for a knee."""


def written(folder: Path, result: Result) -> Path:
    """A result in a file."""
    path = folder / "result.json"
    path.write_text(json_document(result), encoding="utf-8")
    return path


def measured() -> Result:
    """Plain and a small window on 1,000 ports, as the usual costs would have them."""
    plan = replace(PLAN, strategies=(spec("plain"), spec("window", 50)), connections=1000, port_range=SMALL)
    result = Result(plan, {"kernel": "6.12.1"})
    for one in predict(plan, Algorithm.FROM_6_8):
        result.add(one.plan.strategy, Round(1, USUAL.samples(one)))
    return result


def test_plan_of_a_prediction_makes_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for a source of another machine's, nor for a kernel that lacks what a strategy needs."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket is made")

    monkeypatch.setattr(socket, "socket", refuse)
    plan = plan_offline(
        RunRequest(strategies=("window", "range"), source="192.0.2.1-192.0.2.3", targets=("198.51.100.7:443",))
    )
    assert plan.connections == 3 * 56_512
    assert len(plan.sources) == 3
    assert plan.seed == 1


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("--sysctl net.core.somaxconn=9", "net.core.somaxconn: the model does not heed it"),
        ("--sysctl net.ipv4.tcp_tw_reuse=1 --tcp-tw-reuse 1", "--tcp-tw-reuse and --sysctl net.ipv4.tcp_tw_reuse"),
        (f"--sysctl {RESERVED_PORTS}=9024 --reserved-ports 9024", f"--reserved-ports and --sysctl {RESERVED_PORTS}"),
        ("--sysctl net.ipv4.tcp_tw_reuse=always", "net.ipv4.tcp_tw_reuse is 'always', which is not a number"),
    ],
)
def test_sysctls_that_the_model_does_not_take(words: str, fault: str) -> None:
    """Nothing is predicted for a kernel that was not asked for."""
    with pytest.raises(UsageError, match=fault):
        invoke("predict", "-n", "10", "--strategy", "plain", *words.split())


def test_options_of_a_prediction_name_no_namespace() -> None:
    """Nothing is measured there, in a namespace of its own or the host's: its defaults are the same everywhere."""
    command = cli.get_command(click.Context(cli), "predict")
    assert command
    options = [option for option in command.params if isinstance(option, click.Option)]
    assert "[default: 9024-65535]" in next(option.help or "" for option in options if option.name == "port_range")
    assert not [option.name for option in options if "namespace" in (option.help or "") and option.name != "link"]


def test_plan_of_a_prediction_has_the_ports_of_a_run() -> None:
    """The talk's range, times the sources; `plain` and `--sources` are refused as in a run."""
    assert plan_offline(RunRequest(strategies=("plain",))).port_range == PortRange(9024, 65535)
    assert plan_offline(RunRequest(strategies=("bind",), sources=2, port_range=SMALL)).connections == 2000
    assert plan_offline(RunRequest(strategies=("bind",), family=6)).targets[0].host == "2001:db8::2"
    for wrong in (
        RunRequest(strategies=("plain",), sources=2),
        RunRequest(strategies=("bind",), sources=0),
        RunRequest(strategies=("bind",), sources=2, source="127.0.0.1"),
        RunRequest(strategies=("plain",), concurrency=10, connections=5),
    ):
        with pytest.raises(UsageError):
            plan_offline(wrong)


def test_open_connections_are_counted_by_those_that_have_a_port() -> None:
    """Ten ports and twelve attempts: nought to ten are open before each; in the churn all along."""
    strategy = replace(spec("bind"), load=Load(connections=12, churn=Churn(3)))
    filled, churned = predict(
        replace(PLAN, strategies=(strategy,), port_range=PortRange(40000, 40009)), Algorithm.FROM_6_8
    )
    assert filled.open_before.tolist() == [*range(11), 10]
    assert churned.open_before.tolist() == [10, 10, 10]
    assert (filled.failures, filled.most_open) == (2, 10)
    assert (filled.plan.strategy.phase, churned.plan.strategy.phase) == (Phase.FILL, Phase.CHURN)
    assert (filled.capacity, churned.capacity) == (10, None)
    assert {name: int(mask.sum()) for name, mask in filled.groups.items()} == {
        "all": 12,
        "even": 5,
        "odd": 5,
        "errored": 2,
    }


def test_levels_of_a_profile_are_predicted() -> None:
    """Half of the range is full at 60 %: plain probes it, range few ports, and a full range is probed in vain."""
    load = Load(profile=Profile((0.1, 0.6, 1.0), 20))
    plain, every, windows, drawn = (
        predict(replace(PLAN, strategies=(replace(one, load=load),), port_range=SMALL), Algorithm.FROM_6_8)[0]
        for one in (spec("plain"), spec("range"), spec("window", 50), spec("random"))
    )
    for one in (plain, every, windows, drawn):
        assert one.open_before.tolist() == [100] * 20 + [600] * 20 + [1000] * 20
        assert one.attempts.failed.tolist() == [False] * 40 + [True] * 20
        assert (one.plan.strategy.phase, one.most_open, one.capacity) == (Phase.PROFILE, 1000, None)
    sparse, half, full = plain.attempts.ports_probed.reshape(3, 20)
    assert sparse.max() < 20
    assert half.min() > 500
    assert half.max() < 520
    assert set(full.tolist()) == {1000}
    assert every.attempts.ports_probed[:40].max() < 40
    assert set(windows.attempts.ports_probed[40:].tolist()) == {50}
    assert plain.working_set[[0, 20, 40]].tolist() == [100, plain.attempts.ports_probed[20], 1000]


def test_prediction_that_has_no_memory_is_refused_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts, and ports of thousands of addresses, are counted before one is simulated: what fits is simulated."""
    monkeypatch.setattr(prediction_module, "simulate", lambda *_: {})
    many = plan_offline(RunRequest(strategies=("bind", "range"), connections=1_000_000))
    wide = plan_offline(RunRequest(strategies=("bind",), connections=1, sources=4096, port_range=PortRange(1, 60000)))
    for plan, attempts, needed in (
        (many, "2,000,000 attempts", 2_000_000 * 70 + 1_000_000 * 130),
        (wide, "1 attempts", 4096 * 60000),
    ):
        monkeypatch.setattr(prediction_module, "available_memory", lambda least=needed: 2 * least)
        assert predict(plan, Algorithm.FROM_6_8) == []
        monkeypatch.setattr(prediction_module, "available_memory", lambda least=needed: least - 1)
        with pytest.raises(EnvironmentFault, match=rf"{attempts}, from .* needs about .* are free"):
            predict(plan, Algorithm.FROM_6_8)


def test_agreement_is_worked_out_by_hand() -> None:
    """Errors without those given up, totals, means by parity, and the ratio of predicted to measured."""
    samples = samples_of(
        [20_000, 40_000, 30_000, 30_000], errno=[0, 0, errno.EADDRNOTAVAIL, GIVEN_UP], port=[40000, 40001, 0, 0]
    )
    plain = spec("plain")
    plan = replace(PLAN, port_range=PortRange(40000, 40001))
    [pair] = predict_result(result_of({plain: [round_made(samples)]}, plan))
    found = agreement(pair, replace(USUAL, base_ns=(10_000.0,) * 4, failure_ns=5_000.0, port_ns=(1000.0,) * 4))
    assert found.errors == PredictedFigure(2, 1)
    assert found.total_ns.measured == 120_000
    assert found.total_ns.predicted == 11_000 + 12_000 + 7_000 + 7_000
    assert found.mean_ns["even"] == PredictedFigure(11_000, 20_000)
    assert found.mean_ns["odd"] == PredictedFigure(12_000, 40_000)
    assert found.mean_ns["odd"].ratio == pytest.approx(0.3)
    assert found.median_ns["even"] == found.mean_ns["even"]
    assert found.median_ns["all"] == PredictedFigure(9_000, 30_000)
    assert found.rank_correlation == pytest.approx(1)
    without = agreement(pair, None)
    assert without.total_ns.predicted is None
    assert without.total_ns.ratio is None


def test_median_stands_beside_the_mean() -> None:
    """One attempt that waited for the processor moves the mean alone, which no prediction can meet."""
    disturbed = samples_of([10_000, 10_000, 10_000, 1_000_000], port=[40000, 40002, 40004, 40006])
    result = result_of({spec("plain"): [round_made(disturbed)]}, replace(PLAN, port_range=PortRange(40000, 40007)))
    found = agreement(predict_result(result)[0], USUAL)
    assert (found.mean_ns["even"].measured, found.median_ns["even"].measured) == (257_500, 10_000)
    text = agreement_text(result, [(predict_result(result)[0], found)], Algorithm.FROM_6_8, {Protocol.TCP: USUAL}, 80)
    median = next(line for line in text.split("median latency")[1].splitlines() if line.startswith("plain"))
    assert median.split()[3:5] == ["10.0", "µs"]


def test_rank_correlation_that_tops_out_is_explained() -> None:
    """Of a filling of plain two halves are tied, sqrt(3)/2, whatever fails; others have none, nor a short one."""
    tied, noise = np.repeat([1, 500], 5000), np.random.default_rng(1).permutation(5000)
    best = rank_correlation(tied, np.concatenate([noise, 5000 + noise]))
    assert best == pytest.approx(3**0.5 / 2, abs=0.001)
    told = "rank corr. can be at most 0.87 (plain): "
    for part, words in ((1000, told), (1500, told), (700, "0.78 (plain): "), (400, "")):
        by_halves = replace(spec("early"), reuse=Reuse.ADDRESS)
        strategies = (spec("plain"), spec("window", 50), by_halves)
        plan = replace(PLAN, strategies=strategies, connections=part, port_range=SMALL)
        result = Result(plan, {"kernel": "6.12.1"})
        for one in predict(plan, Algorithm.FROM_6_8):
            result.add(one.plan.strategy, Round(1, USUAL.samples(one)))
        compared = [(pair, agreement(pair, USUAL)) for pair in predict_result(result)]
        text = agreement_text(result, compared, Algorithm.FROM_6_8, {Protocol.TCP: USUAL})
        assert words in text
        assert ("can be at most" in text) == bool(words)
        assert f"({by_halves.label})" not in text


def test_rank_correlation_is_spearmans() -> None:
    """Order alone counts, equal values share their ranks; nothing comes of values that are all the same."""
    up = np.array([1, 2, 3, 4, 5])
    assert rank_correlation(up, up**3) == pytest.approx(1)
    assert rank_correlation(up, np.array([2, 1, 4, 3, 5])) == pytest.approx(0.8)
    assert rank_correlation(up, np.ones(5)) is None
    assert rank_correlation(up[:1], up[:1]) is None


@pytest.mark.parametrize(("reuse", "knee"), [((), "1,001 with 50.0%"), (("--reuse-address",), "501 with 25.0%")])
def test_search_in_bind_is_said_to_be_there(
    reuse: tuple[str, ...], knee: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the table of ports probed, by the knee, and with times by a table of bind() beside that of connect()."""
    asked = ("predict", "--strategy", "early,sequential", *reuse, "--port-range", str(WIDER))
    invoke(*asked)
    out = capsys.readouterr().out
    assert f"knee: connection {knee} of the range in use, by ports probed" in out
    assert (out.count("ports probed in bind()  "), out.count("ports probed  ")) == (1, 1)
    costs = tmp_path / "costs.json"
    costs.write_text(calibration_document(USUAL), encoding="utf-8")
    invoke(*asked, "--calibrate", str(costs))
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split()[0] for line in lines if line.endswith("max")]
    assert heads == ["bind()", "latency", "ports", "latency", "ports"]


def test_knee_is_reported_with_and_without_times(capsys: pytest.CaptureFixture[str]) -> None:
    """Half the range, as known without a calibration; with one the talk's six lines are there too."""
    invoke("predict", "--strategy", "plain", "--strategy", "window", "--port-range", WIDER)
    out = capsys.readouterr().out
    assert "connection attempts: 2000 errored: 0 total: 2000" in out
    assert "knee: connection 1,001 with 50.0% of the range in use, by ports probed" in out
    assert "knee: none, by ports probed" in out
    assert "µs" not in out
    assert max(map(len, out.splitlines())) <= 100
    predictions = predict(plan_offline(RunRequest(strategies=("plain",), port_range=WIDER)), Algorithm.FROM_6_8)
    timed = prediction_text(predictions, Algorithm.FROM_6_8, USUAL, 80)
    assert "total time: 0.0" in timed
    assert "odd ports: 1000 latency min:" in timed
    assert "calibration: a connection 13.0 µs" in timed
    assert max(map(len, timed.splitlines())) <= 80


def test_churn_and_udp_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A churn has a block of its own and no knee; UDP is predicted by its own search, and takes no other."""
    invoke("predict", "--strategy", "bind", "--port-range", SMALL, "--fill", "90%", "--churn", 100)
    out = capsys.readouterr().out
    assert out.count("predicted by") == 2
    assert out.count("knee:") == 1
    invoke("predict", "--strategy", "bind", "--port-range", SMALL, "--protocol", "udp", "--format", "json")
    [one] = json.loads(capsys.readouterr().out)["strategies"]
    assert one["errors"] == 0
    assert one["strategy"]["load"]["protocol"] == Protocol.UDP
    of_udp = ("predict", "--strategy", "bind", "--port-range", SMALL, "--protocol", "udp")
    invoke(*of_udp)
    assert "bind, UDP: predicted by UDP's search, range" in capsys.readouterr().out
    with pytest.raises(UsageError, match="--algorithm"):
        invoke(*of_udp, "--algorithm", "pre-6.8")


def test_group_without_an_attempt_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    """Three connections from even ports leave nothing to say of odd ones: the mean of no search is null."""
    invoke("predict", "--strategy", "plain", "-n", "3", "--port-range", SMALL, "--format", "json")
    [one] = json.loads(capsys.readouterr().out)["strategies"]
    assert one["ports_probed"]["even"]["mean"] == 1
    assert one["ports_probed"]["odd"] == {"count": 0} | dict.fromkeys(
        ("minimum", "mean", "p50", "p75", "p90", "p95", "p99", "p999", "maximum")
    )


def test_knee_of_addresses_used_up_one_by_one_is_the_first_one_s(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is measured: the second address begins with a fast half again."""
    load = ("-n", 3000, "--sources", 2, "--spread", "fill")
    invoke("predict", "--strategy", "bind", "--port-range", WIDER, *load)
    assert (
        "knee: connection 1,001 of the first address with 50.0% of its range in use, by ports probed"
    ) in capsys.readouterr().out


@pytest.mark.parametrize("ports", [44, 45, 1000, 1001, 56_512])
@pytest.mark.parametrize("word", ["pre-6.8", "6.8"])
def test_knee_by_ports_probed_is_at_half(ports: int, word: str) -> None:
    """Whatever the range, wherever one parity goes first; nowhere else does a search look at half of it for good."""
    plan = plan_offline(
        RunRequest(
            strategies=("plain", "bind", "range", "window", "partition", "random"),
            window=20,
            port_range=PortRange(9024, 9023 + ports),
        )
    )
    found = {one.plan.strategy.name: knee(one, None) for one in predict(plan, ALGORITHMS[word])}
    at_half = {name for name, one in found.items() if one.connection is not None}
    assert at_half == {"plain", "bind"} | ({"range"} if word == "pre-6.8" else set())
    # Of an odd number the search leaves one port of the first parity out, which may be taken while others are free, or
    # after one of the other parity.
    assert {found[name].in_use for name in at_half} <= {ports // 2 + later for later in range(1 + 2 * (ports % 2))}
    assert found["random"].is_judged


def test_usual_costs_go_with_the_search(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The search before 6.8 is of kernels where each port costs more; what a file cannot tell is theirs, too."""
    assert usual_of(Protocol.TCP, Algorithm.PRE_6_8) is USUAL_BEFORE
    assert usual_of(Protocol.TCP, Algorithm.FROM_6_8) is USUAL
    assert usual_of(Protocol.UDP, Algorithm.PRE_6_8) is usual_of(Protocol.UDP, Algorithm.FROM_6_8)
    short = replace(PLAN, strategies=(spec("bind"),), connections=40, port_range=SMALL)
    result = Result(short, {"kernel": "6.1.0"})
    [one] = predict(short, Algorithm.PRE_6_8)
    result.add(one.plan.strategy, Round(1, USUAL.samples(one)))
    invoke("predict", written(tmp_path, result), "--format", "json")
    fitted = json.loads(capsys.readouterr().out)["calibrations"]["tcp"]
    assert fitted["port_ns"] == pytest.approx(USUAL_BEFORE.port_ns, rel=1e-4)


def test_algorithm_is_refused_over_a_result_of_udp(tmp_path: Path) -> None:
    """UDP has a search of its own, measured or predicted."""
    plan = plan_offline(RunRequest(strategies=("bind",), protocol=Protocol.UDP, connections=40, port_range=SMALL))
    [one] = predict(plan, Algorithm.FROM_6_8)
    result = Result(plan, {"kernel": "6.12.1"})
    result.add(one.plan.strategy, Round(1, usual_of(Protocol.UDP, Algorithm.FROM_6_8).samples(one)))
    path = written(tmp_path, result)
    invoke("predict", path)
    with pytest.raises(UsageError, match="--algorithm"):
        invoke("predict", path, "--algorithm", "pre-6.8")


@pytest.mark.parametrize(("name", "share", "seeds"), [("bind", 0.955, 1), ("random", 0.78, 4)])
def test_knee_of_udp_is_where_it_was_measured(name: str, share: float, seeds: int) -> None:
    """Of the talk's range on Linux 6.18, within a few percent; a connection of UDP costs far less than one of TCP.

    Draws have no edge as a search has: with about every third seed none is told for `random`.
    """
    requests = [RunRequest(strategies=(name,), protocol=Protocol.UDP, seed=seed) for seed in range(1, 1 + seeds)]
    knees = [knee(predict(plan_offline(request), Algorithm.FROM_6_8)[0], None).in_use for request in requests]
    shares = [in_use / 56_512 for in_use in knees if in_use is not None]
    assert len(shares) > seeds / 2
    assert shares == pytest.approx([share] * len(shares), abs=0.04)


@pytest.mark.parametrize("by", ["a result", "--reserved-ports ", f"--sysctl {RESERVED_PORTS}="])
def test_reserved_ports_are_failures_and_reported(by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 1,000 ports 100 are reserved, as an option says or the round has recorded: of 1,000 attempts as many fail.

    Without -n the reserved ones are not asked for.
    """
    result, listed = measured(), "39990-40099,50000"
    for rounds in result.rounds.values():
        rounds[0] = replace(rounds[0], report=RoundReport(settings={RESERVED_PORTS: listed}))
    path, of_result = written(tmp_path, result), by == "a result"
    option = f"{by}{listed}".split()
    of_plan = ("--strategy", "plain", "--port-range", SMALL, "-n", "1000", *option)
    asked = ("predict", path) if of_result else ("predict", *of_plan)
    invoke(*asked, "--format", "json")
    document = json.loads(capsys.readouterr().out)
    assert document["reserved"] == 100
    errors = document["strategies"][0]["errors"]
    assert (errors["predicted"] if of_result else errors) == 100
    invoke(*asked)
    assert "range 40000-40999 (100 of its ports reserved)" in capsys.readouterr().out
    if of_result:
        invoke(*asked, "--reserved-ports", "")
        assert "ports reserved" not in capsys.readouterr().out
    else:
        invoke("predict", "--strategy", "plain", "--port-range", SMALL, *option)
        out = capsys.readouterr().out
        assert "connection attempts: 900 errored: 0 " in out


CHURN_BY_FIN = (
    "bind",
    "-n",
    "6",
    "--port-range",
    "40000-40499",
    "--churn",
    "700",
    "--close",
    "fin",
    "--churn-rate",
    "100",
)


@pytest.mark.parametrize(
    ("more", "reuse", "seconds", "errors"),
    [
        ((), 2, 1, 0),
        (("--target", "192.0.2.7:80"), 2, 60, 206),
        (("--link", "veth"), 2, 60, 206),
        (("--target", "192.0.2.7:80", "--tcp-tw-reuse", "1"), 1, 1, 0),
        (("--tcp-tw-reuse", "0"), 0, 60, 206),
    ],
)
def test_time_wait_is_reported(
    more: tuple[str, ...], reuse: int, seconds: int, errors: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """700 connections at 100/s over 500 ports fail 206 times, but where connect() takes a port again after a second."""
    invoke("predict", "--strategy", *CHURN_BY_FIN, *more)
    out = capsys.readouterr().out
    assert f"tcp_tw_reuse {reuse}, target " in out
    assert f"a port in TIME_WAIT is free again after {seconds} s" in out
    invoke("predict", "--strategy", *CHURN_BY_FIN, *more, "--format", "json")
    document = json.loads(capsys.readouterr().out)
    assert (document["tcp_tw_reuse"], document["strategies"][1]["errors"]) == (reuse, errors)


@pytest.mark.parametrize(
    ("recorded", "link", "more", "errors"),
    [
        ("2", Link.LOOPBACK, (), 0),
        ("0", Link.LOOPBACK, (), 206),
        ("2", Link.VETH, (), 206),
        ("1", Link.VETH, (), 0),
        ("2", Link.VETH, ("--tcp-tw-reuse", "1"), 0),
    ],
)
def test_time_wait_of_a_file_is_what_it_records(  # a case's parts, and two fixtures
    recorded: str, link: Link, more: tuple[str, ...], errors: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The round's tcp_tw_reuse and the plan's link count, unless the option says otherwise."""
    strategy = replace(spec("bind"), load=Load(churn=Churn(700, Close.FIN, 100.0)))
    plan = replace(PLAN, strategies=(strategy,), connections=6, port_range=PortRange(40000, 40499), link=link)
    result = Result(plan, {"kernel": "6.18.0"})
    for one in predict(plan, Algorithm.FROM_6_8):
        measured = Round(1, USUAL.samples(one), RoundReport(settings={"net.ipv4.tcp_tw_reuse": recorded}))
        result.add(one.plan.strategy, measured)
    file = written(tmp_path, result)
    invoke("predict", file, *more, "--format", "json")
    document = json.loads(capsys.readouterr().out)
    assert document["strategies"][1]["errors"]["predicted"] == errors
    invoke("predict", file, *more)
    assert f"tcp_tw_reuse {more[-1] if more else recorded}, target " in capsys.readouterr().out


def test_reserved_ports_of_a_file_may_be_nonsense(tmp_path: Path) -> None:
    """A file says whose fault it is that its reserved ports cannot be read; on the command line it is the user's."""
    result = measured()
    for rounds in result.rounds.values():
        rounds[0] = replace(rounds[0], report=RoundReport(settings={RESERVED_PORTS: "8080-"}))
    with pytest.raises(InputError, match="reserved ports '8080-'"):
        invoke("predict", written(tmp_path, result))
    with pytest.raises(UsageError, match="reserved ports '1-99999'"):
        invoke("predict", "--strategy", "plain", "--reserved-ports", "1-99999")


def test_tcp_tw_reuse_of_a_file_may_be_nonsense(tmp_path: Path) -> None:
    """The same of what it recorded of TIME_WAIT: no run wrote such a file, and an option cannot stand in for it."""
    result = measured()
    for rounds in result.rounds.values():
        rounds[0] = replace(rounds[0], report=RoundReport(settings={TW_REUSE: "two"}))
    file = written(tmp_path, result)
    with pytest.raises(InputError, match="tcp_tw_reuse is 'two', which is not a number"):
        invoke("predict", file)


def test_rejected_patch_takes_the_knee_away(capsys: pytest.CaptureFixture[str]) -> None:
    """Looking at every port, plain looks at few; the JSON says by which search."""
    seen = {}
    for word in ("6.8", "rejected-patch"):
        invoke("predict", "--strategy", "plain", "--port-range", SMALL, "--algorithm", word, "--format", "json")
        document = json.loads(capsys.readouterr().out)
        assert document["algorithm"] == word
        seen[word] = document["strategies"][0]["ports_probed"]["all"]["mean"]
    assert seen["6.8"] > 200
    assert seen["rejected-patch"] < 20


def test_prediction_is_laid_over_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Fitted to a file that the model made, every total is met within a few percent, as is each parity's mean."""
    path = written(tmp_path, measured())
    invoke("predict", path, "--format", "json")
    document = json.loads(capsys.readouterr().out)
    assert document["algorithm"] == "6.8"
    for one in document["strategies"]:
        assert one["errors"]["predicted"] == one["errors"]["measured"]
        assert one["total_ns"]["predicted"] == pytest.approx(one["total_ns"]["measured"], rel=0.05)
        assert one["mean_ns"]["odd"]["predicted"] == pytest.approx(one["mean_ns"]["odd"]["measured"], rel=0.05)
        assert one["rank_correlation"] > 0.95
    invoke("predict", path)
    out = capsys.readouterr().out
    assert f"{path}: Linux 6.12.1" in out
    assert "median residual" in out


def test_times_of_a_plan_come_from_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--calibrate gives a plan its times; more connections than the file had are said to be extrapolated."""
    path = written(tmp_path, measured())
    invoke("predict", "--strategy", "plain", "--port-range", "20000-23999", "--calibrate", path, "--format", "json")
    [one] = json.loads(capsys.readouterr().out)["strategies"]
    assert one["extrapolated"]
    assert one["total_ns"] == pytest.approx(4000 * USUAL.base_ns[0] + 2000 * 2000 * 44, rel=0.1)
    invoke("predict", "--strategy", "plain", "--port-range", "20000-23999", "--calibrate", path)
    said = capsys.readouterr().out
    assert "extrapolated: plain has 4,000 connections open" in said


def test_neither_parity_hides_the_other_in_the_chart() -> None:
    """Points lie over each other in the order of the attempts, those that failed above them."""
    points = samples_of([13_000] * 5, port=[40000, 40001, 40002, 40003, 0], errno=[0] * 4 + [errno.EADDRNOTAVAIL])
    with styled():
        [panel] = draw([Overlay("range", points, None)], Options()).axes
    connected, failed = (np.asarray(points_of.get_facecolor()).tolist() for points_of in panel.collections)
    even, odd, *rest = connected
    assert even != odd
    assert (rest, len(failed)) == ([even, odd], 1)


def test_chart_is_drawn_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a plan and over a result; another is not overwritten without --force."""
    pytest.importorskip("matplotlib")
    path, chart = written(tmp_path, measured()), tmp_path / "chart.png"
    invoke("predict", path, "--chart", chart)
    first = chart.read_bytes()
    assert first.startswith(b"\x89PNG")
    with pytest.raises(OutputError, match="exists already"):
        invoke("predict", path, "--chart", chart)
    invoke("predict", "--strategy", "plain", "--port-range", SMALL, "--chart", chart, "--force")
    assert chart.read_bytes() != first
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["file.json", "--strategy", "plain"], "--strategy and RESULT file.json both set what to predict"),
        (["missing.json"], "missing.json cannot be read"),
        (["--strategy", "plain", "--calibrate", "missing.json"], "missing.json cannot be read"),
        (["--strategy", "nonsense"], "unknown strategy 'nonsense'"),
        (["--force"], "--force replaces a picture"),
        (["--strategy", "plain", "--chart", "x.txt"], "unknown ending"),
    ],
)
def test_faults_name_the_remedy(arguments: list[str], fault: str) -> None:
    """What cannot be predicted is refused in a line that names it, with a hint."""
    with pytest.raises(ConnbenchError, match=fault.replace("?", r"\?")) as raised:
        invoke("predict", *arguments)
    assert raised.value.hint


def test_costs_of_another_protocol_are_refused(tmp_path: Path) -> None:
    """A file of TCP tells nothing of UDP's search."""
    path = written(tmp_path, measured())
    with pytest.raises(UsageError, match="too few UDP connections to fit to"):
        invoke("predict", "--strategy", "bind", "--protocol", "udp", "--port-range", SMALL, "--calibrate", path)
