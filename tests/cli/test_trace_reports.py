"""What a trace prints and serves, by a bpftrace program without a probe: it counts beats as ports that were chosen."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from bpftrace_check import BPFTRACE, needs_bpf
from connbench.errors import Interrupted, RunFault, TargetError
from connbench.interrupts import ENDING_SIGNALS, Interrupts
from connbench.model import Endpoint
from connbench.trace.bpftrace import Bpftrace, running
from connbench.trace.command import TraceOptions, report_on
from connbench.trace.program import Trace
from run_connbench import HANG_S, wait_until

COUNTING = """
BEGIN { printf("ready\\n"); }
interval:ms:$1 {
    @ports[cgroup, pid, 0, comm] = count(); @all_ports[0] = count();
    @switches_of[cgroup, comm] = sum(1);
    print(@ports); print(@all_ports); print(@switches_of); printf("tick\\n");
}
"""

pytestmark = needs_bpf


@contextmanager
def counting() -> Iterator[Bpftrace]:
    """A bpftrace that reports 50 times a second."""
    with running(BPFTRACE, COUNTING, 20) as child:
        child.wait_until_ready(Interrupts())
        yield child


class After(Interrupts):
    """A signal, Ctrl-C by default, that comes once this many reports are printed."""

    def __init__(
        self,
        capsys: pytest.CaptureFixture[str],
        reports: int,
        line: str,
        sent: signal.Signals = signal.SIGINT,
    ) -> None:
        super().__init__()
        self._sent = sent
        self._capsys, self._reports, self._line = capsys, reports, line
        self.printed = ""

    def check(self) -> None:
        """Raise if it is time."""
        self.printed += self._capsys.readouterr().out
        if self.printed.count(self._line) >= self._reports:
            raise Interrupted(self._sent)


def asked_for(
    *, duration_s: float | None = None, as_json: bool = False, exporter: Endpoint | None = None
) -> TraceOptions:
    """A trace of parity."""
    return TraceOptions(Trace.PARITY, 0.02, duration_s, as_json, exporter, None)


def test_reports_end_with_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Once it is over there is a last report."""
    with counting() as child:
        report_on(child, asked_for(duration_s=0.2, as_json=True), Interrupts())
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["final"]


@pytest.mark.parametrize("sent", [signal.SIGHUP, signal.SIGQUIT])
def test_a_closed_terminal_ends_a_trace_with_its_code(sent: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    """The last report is printed as after Ctrl-C, which ends in 0; these end in 129 and 131."""
    interrupts = After(capsys, 1, "final", sent)
    with counting() as child, pytest.raises(Interrupted) as ended:
        report_on(child, asked_for(as_json=True), interrupts)
    assert ended.value.exit_code == 128 + sent
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["final"]


def test_reports_grow_until_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Each report has at least what the one before had; the last one, and it alone, says that it is."""
    interrupts = After(capsys, 3, "final")
    with counting() as child:
        report_on(child, asked_for(as_json=True), interrupts)
    reports = [json.loads(line) for line in (interrupts.printed + capsys.readouterr().out).splitlines()]
    assert len(reports) == 4
    assert [report["final"] for report in reports] == [False] * (len(reports) - 1) + [True]
    evens = [report["even"] for report in reports]
    assert evens == sorted(evens)
    assert evens[-1] > 0


def test_reports_into_a_pipe_are_set_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Between one table and the next is an empty line."""
    interrupts = After(capsys, 2, "ports chosen in")
    with counting() as child:
        report_on(child, asked_for(), interrupts)
    printed = interrupts.printed + capsys.readouterr().out
    assert printed.count("ports chosen in") == 3
    assert printed.count("\n\n") == 2 * printed.count("ports chosen in") - 1


def test_exporter_on_a_port_that_is_taken() -> None:
    """The refusal names the address, and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken, counting() as child:
        endpoint = Endpoint(*taken.getsockname())
        with pytest.raises(TargetError) as fault:
            report_on(child, asked_for(exporter=endpoint), Interrupts())
    assert fault.value.message == f"--exporter {endpoint} cannot listen: Address already in use"
    assert "a free port" in fault.value.hint


def test_exporter_serves_while_the_trace_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Counters grow from scrape to scrape; stdout gets the last report alone."""
    interrupts = Interrupts()
    said: list[str] = []
    served: list[float] = []

    def scrape() -> float:
        with urllib.request.urlopen(said[0], timeout=HANG_S) as answer:  # noqa: S310  # an address of our own
            found = re.search(r"^connect_port_parity_switches_total\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def address() -> bool:
        said.extend(re.findall(r"http://\S+", capsys.readouterr().err))
        return bool(said)

    def scrape_until_it_grows() -> None:
        try:
            wait_until(address, "the exporter's address is told")
            wait_until(lambda: scrape() > 0, "the first beats are in the metrics")
            served.append(scrape())
            wait_until(lambda: scrape() > served[0], "the counter grows")
            served.append(scrape())
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    scraper = Thread(target=scrape_until_it_grows)
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    interrupts.install()
    try:
        with counting() as child:
            scraper.start()
            report_on(child, asked_for(duration_s=None, exporter=Endpoint("127.0.0.1", 0)), interrupts)
    finally:
        scraper.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert 0 < served[0] < served[1]
    assert capsys.readouterr().out.count("ports chosen in") == 1


def test_reports_end_with_bpftrace(capsys: pytest.CaptureFixture[str]) -> None:
    """What ended it is told, and no report passes for the last one."""
    with counting() as child:
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(RunFault) as fault:
            report_on(child, asked_for(as_json=True), Interrupts())
    assert "killed by SIGKILL" in fault.value.message
    assert '"final": true' not in capsys.readouterr().out
