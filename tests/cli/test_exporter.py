"""What `--exporter` of trace and inspect has in common: it serves metrics, whatever its clients do."""

from __future__ import annotations

import socket
import struct
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from connbench.commands import exporter
from connbench.commands.exporter import exporter_address, exporting
from connbench.errors import TargetError, UsageError
from connbench.model import Endpoint
from run_connbench import HANG_S

ANY_PORT = Endpoint("127.0.0.1", 0)


class Counting(Collector):
    """One metric: how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def collect(self) -> Iterator[Metric]:
        """The metric."""
        self.asked += 1
        yield GaugeMetricFamily("asked", "How often.", value=self.asked)


class Wrong(Collector):
    """A collector with a bug."""

    def collect(self) -> Iterator[Metric]:
        """Fail."""
        yield GaugeMetricFamily("share", "Of nothing.", value=1 / 0)


def scrape(address: Endpoint) -> dict[str, float]:
    """The values that an exporter serves, by name, as Prometheus reads them."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=HANG_S) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {sample.name: sample.value for family in families for sample in family.samples}


def connected(address: Endpoint) -> socket.socket:
    """A client that has said nothing yet."""
    return socket.create_connection((address.host, address.port), timeout=HANG_S)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_each_scrape_asks_anew(host: str) -> None:
    """Over IPv4 and IPv6."""
    with exporting(Endpoint(host, 0), Counting()) as address:
        assert [scrape(address) for _ in range(2)] == [{"asked": 1}, {"asked": 2}]
    with pytest.raises(ConnectionRefusedError):
        connected(address)


def test_a_port_in_use() -> None:
    """The refusal names the address and what to do."""
    with exporting(ANY_PORT, Counting()) as taken:
        with pytest.raises(TargetError) as fault, exporting(taken, Counting()):
            pass
        assert scrape(taken) == {"asked": 1}
    assert fault.value.message == f"--exporter {taken} cannot listen: Address already in use"
    assert fault.value.hint == "name an address of this machine and a free port"


def test_clients_that_say_nothing_keep_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are served beside them, further ones than it has threads for are sent away, and the end does not wait."""
    monkeypatch.setattr(exporter, "MOST_CLIENTS", 3)
    with ExitStack() as clients, exporting(ANY_PORT, Counting()) as address:
        for _ in range(2):
            clients.enter_context(connected(address))
        assert scrape(address) == {"asked": 1}
        clients.enter_context(connected(address)).sendall(b"GET ")
        with connected(address) as surplus:
            assert surplus.recv(1) == b""


def test_clients_that_say_nothing_are_left(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """After a time the exporter closes the connection, and has nothing to tell about it."""
    monkeypatch.setattr(exporter, "CLIENT_SECONDS", 0.05)
    with exporting(ANY_PORT, Counting()) as address:
        with connected(address) as client:
            client.sendall(b"GET /metr")
            assert client.recv(1) == b""
        assert scrape(address) == {"asked": 1}
    assert capfd.readouterr().err == ""


def test_a_client_that_resets(capfd: pytest.CaptureFixture[str]) -> None:
    """Nobody is told."""
    with exporting(ANY_PORT, Counting()) as address:
        client = connected(address)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"GET /metrics HTTP/1.1\r\n")
        client.close()
        assert scrape(address)["asked"] >= 1
    assert capfd.readouterr().err == ""


def test_a_bug_is_told_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    """The client gets no answer, and the server goes on."""
    with exporting(ANY_PORT, Wrong()) as address:
        for _ in range(2):
            with connected(address) as client:
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                assert client.recv(1) == b""
    said = capfd.readouterr().err
    assert "division by zero" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:9435", Endpoint("127.0.0.1", 9435)),
        ("[::1]:0", Endpoint("::1", 0)),
        ("::1:9435", Endpoint("::1", 9435)),
    ],
)
def test_addresses(text: str, endpoint: Endpoint) -> None:
    """Of both families; port 0 is a free one."""
    assert exporter_address(text) == endpoint


@pytest.mark.parametrize("text", ["", ":", "9435", "127.0.0.1", "127.0.0.1:", "here:80", "127.0.0.1:65536"])
def test_what_is_no_address(text: str) -> None:
    """The refusal has an example."""
    with pytest.raises(UsageError, match="not an address and a port"):
        exporter_address(text)
