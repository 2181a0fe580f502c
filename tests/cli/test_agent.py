"""`connbench agent`, driven by lines as a controller sends them."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connbench.fleet.agent import Channel
from connbench.fleet.protocol import SILENCE_S
from connbench.results.input_file import parse_result
from run_connbench import COMMAND, HANG_S, children, wait_until

SMALL = ["--strategy", "range,window", "-n", "300", "--port-range", "40000-40999", "--rounds", "2"]
LONG = [
    "--strategy",
    "range",
    "--port-range",
    "40000-40099",
    "--fill",
    "50%",
    "--churn",
    "1e6",
    "--churn-rate",
    "100/s",
]


class Driven:
    """An agent, and both ends of its pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "agent"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.hello = self.hear("hello")

    def say(self, do: str, **fields: object) -> None:
        """Send an order."""
        self.send(json.dumps({"do": do, **fields}).encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def hear(self, *kinds: str) -> dict[str, Any]:
        """The next event of one of these kinds."""
        assert self.process.stdout
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] in kinds:
                return event
        raise AssertionError(f"it ended before it said {kinds}")

    def close_stdin(self) -> None:
        """What the end of a controller does, whatever ends it."""
        assert self.process.stdin
        self.process.stdin.close()


@contextmanager
def driven() -> Iterator[Driven]:
    """An agent that has said hello; it ends with the context."""
    agent = Driven()
    with agent.process:
        try:
            yield agent
        finally:
            agent.process.kill()


def test_a_run_in_turns() -> None:
    """Each turn waits for its go, and begins no earlier than that says; the result is read from the process."""
    with driven() as agent:
        agent.say("plan", options=SMALL, together=True)
        ready = agent.hear("ready")
        assert (ready["turns"], ready["attempts"]) == (4, 1200)
        starts = []
        for turn in range(1, 5):
            assert agent.hear("waiting")["turn"] == turn
            agent.say("ping", number=turn)
            pong = agent.hear("pong")
            assert pong["number"] == turn
            starts.append(pong["now_ns"] + 100_000_000)
            agent.say("go", at_ns=starts[-1])
        done = agent.hear("done")
        assert done["fault"] is None
        file = Path(f"/proc/{agent.hello['pid']}/fd/{done['descriptor']}")
        assert file.stat().st_size == done["size"]
        result = parse_result(gzip.decompress(file.read_bytes()), "it", None)
        begins = sorted(
            one.report.epoch_us * 1000 + int(one.samples.started_ns[0])
            for each in result.strategies
            for one in each.rounds
        )
        assert len(begins) == 4
        assert all(begin >= start - 1000 for begin, start in zip(begins, starts, strict=True))
        agent.say("end")
        assert agent.process.wait(HANG_S) == 0


def test_what_it_cannot_plan_it_says() -> None:
    """The fault of the plan, with its exit code, and that of an option that the controller has to keep for itself."""
    for options, code, words in (
        (["--strategy", "nonsense"], 2, "nonsense"),
        (["-o", "there.json"], 2, "--output is an option of connbench fleet run here"),
        (["--target", "127.0.0.1:1"], 5, "127.0.0.1:1"),
    ):
        with driven() as agent:
            agent.say("plan", options=options, together=False)
            fault = agent.hear("failed")["fault"]
            assert (fault["exit_code"], words in fault["message"]) == (code, True)
            assert agent.process.wait(HANG_S) == code


@pytest.mark.parametrize("moment", ["before the plan", "before go", "before the turn", "in a turn"])
def test_it_ends_with_its_controller(moment: str) -> None:
    """Whenever stdin ends: neither the agent nor a process of its round is left."""
    with driven() as agent:
        if moment != "before the plan":
            agent.say("plan", options=LONG, together=moment == "before the turn")
            agent.hear("ready")
        if moment == "before the turn":
            agent.hear("waiting")
        if moment == "in a turn":
            agent.say("go", at_ns=0)
            while agent.hear("progress")["done"] == 0:
                pass
        started = children(agent.process.pid)
        assert bool(started) == (moment in {"before the turn", "in a turn"})
        agent.close_stdin()
        agent.process.wait(HANG_S)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started), "the round ends")


def test_a_stopped_engine_does_not_keep_it() -> None:
    """The engine that does not end by itself is killed, and nothing is left of it."""
    with driven() as agent:
        agent.say("plan", options=LONG, together=False)
        agent.hear("ready")
        agent.say("go", at_ns=0)
        while agent.hear("progress")["done"] == 0:
            pass
        [engine] = children(agent.process.pid)
        os.kill(engine, signal.SIGSTOP)
        agent.close_stdin()
        agent.process.wait(HANG_S)
        wait_until(lambda: not Path(f"/proc/{engine}").exists(), "the engine ends")


@pytest.mark.parametrize("how", ["order", "signal"])
def test_stop_keeps_what_was_measured(how: str) -> None:
    """By an order or by a signal: done has the result so far, and says what ended it."""
    with driven() as agent:
        agent.say("plan", options=LONG, together=False)
        agent.hear("ready")
        agent.say("go", at_ns=0)
        while "churn" not in agent.hear("progress")["label"]:
            pass
        if how == "order":
            agent.say("stop", signal=int(signal.SIGTERM))
        else:
            agent.process.terminate()
        done = agent.hear("done")
        assert done["fault"]["exit_code"] == 143
        agent.say("stop")  # as of a Ctrl-C at this moment: the result stays until it was copied
        agent.say("ping", number=1)
        agent.hear("pong")
        data = Path(f"/proc/{agent.hello['pid']}/fd/{done['descriptor']}").read_bytes()
        assert parse_result(gzip.decompress(data), "it", None).is_partial
        agent.say("end")
        assert agent.process.wait(HANG_S) == 143


@pytest.mark.parametrize(
    "line", [b"\n", b'{"do":"format"}\n', b'{"do":"go","at_ns":-1}\n', b"[" * 100_000, b"\xff\xfe\n", b"x" * 100_000]
)
def test_no_order_is_refused(line: bytes) -> None:
    """Any other bytes than an order: it says so and ends."""
    with driven() as agent:
        agent.send(line)
        fault = agent.hear("failed")["fault"]
        assert fault["exit_code"] == 6
        assert "the controller sent" in fault["message"]
        assert agent.process.wait(HANG_S) == 6


def test_a_silent_controller_is_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut link ends no pipe: without a ping for `SILENCE_S` it ends as well."""
    read, write = os.pipe()
    monkeypatch.setattr(os, "dup", lambda number: {0: read, 1: write}[number])
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    channel = Channel()
    assert channel.next_order() is None
    assert channel.closed_at is None
    later = time.monotonic() + SILENCE_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert channel.next_order() is None
    assert channel.closed_at is not None
    os.close(read)
    os.close(write)
