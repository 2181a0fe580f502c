"""`connbench inspect --format`: each format of this host's sockets, as the command prints it."""

from __future__ import annotations

import csv
import io
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connbench.inspect.command import FORMATS
from connbench.linux import sysctl
from run_connbench import connbench, in_process

HOST = "127.0.0.1"
CONNECTIONS = 5


@pytest.fixture(scope="module")
def target() -> Iterator[int]:
    """The port of a target that this process has connections to."""
    with ExitStack() as held:
        listener = held.enter_context(socket.create_server((HOST, _port_below_range()), backlog=CONNECTIONS))
        for _ in range(CONNECTIONS):
            held.enter_context(socket.create_connection(listener.getsockname()))
        yield listener.getsockname()[1]


def _port_below_range() -> int:
    """A free port outside the range, so that the listener's ends are none of it."""
    for port in range(sysctl.read_port_range()[0] - 1, 1023, -1):
        with socket.socket() as tried:
            try:
                tried.bind((HOST, port))
            except OSError:
                continue
            return port
    raise AssertionError("every port below the range is in use")


def printed(output_format: str) -> str:
    """What the command prints of all paths."""
    finished = in_process("inspect", "--top", "0", "--format", output_format)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_each_format_counts_the_same_connections(target: int) -> None:
    """A program reads back what the text shows."""
    [row] = [one for one in json.loads(printed("json"))["rows"] if one["target_port"] == target]
    assert (row["used"], row["established"], row["source"], row["target"]) == (CONNECTIONS, CONNECTIONS, HOST, HOST)
    assert row["forecasts"][0]["strategy"] == "plain"
    [cells] = [one for one in csv.DictReader(io.StringIO(printed("csv"))) if one["target_port"] == str(target)]
    assert (cells["used"], cells["plain_until_exhaustion"]) == ("5", str(row["forecasts"][0]["until_exhaustion"]))
    families = text_string_to_metric_families(printed("prometheus"))
    [used] = [family for family in families if family.name == "connbench_inspect_used_ports"]
    assert sum(one.value for one in used.samples if one.labels["target_port"] == str(target)) == CONNECTIONS
    name = f"{HOST} -> {HOST}:{target}"
    assert f"\n{name} " in printed("text")
    assert name.replace(">", "&gt;") in printed("markdown")


def test_the_formats_are_those_of_the_help() -> None:
    """The help names each, and an unknown one is refused with them."""
    assert "Print text, json, csv, markdown, prometheus or openmetrics." in " ".join(
        connbench("inspect", "--help").stdout.split()
    )
    assert set(FORMATS) == {"text", "json", "csv", "markdown", "prometheus", "openmetrics"}
    refused = in_process("inspect", "--format", "xml")
    assert refused.returncode == 2
    assert "xml" in refused.stderr
