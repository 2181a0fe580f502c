"""`connbench serve`."""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress

import click

from connbench.commands.messages import print_error, print_message
from connbench.commands.options import format_option
from connbench.commands.result_writer import Stdout
from connbench.commands.sections import Command, Section, option
from connbench.commands.values import count
from connbench.errors import (
    ENDS_IN_GOOD_ORDER,
    ConnbenchError,
    ExitCode,
    Interrupted,
    OutputError,
    RunFault,
    UnexpectedFault,
    UsageError,
)
from connbench.model import MAX_PORT, Endpoint, is_of_many
from connbench.serve.statistics import MOST_PROCESSES

TICK_S = 0.2
"""Time between two looks at the flags that signals set, and at the accepting processes."""

EPILOG = """\b
Try:
  connbench serve --port 8080 &
  connbench run --strategy window --target 127.0.0.1:8080

\b
Exit codes: 0 ended by Ctrl-C or SIGTERM, after the last report; 2 wrong
usage; 4 the limits do not allow that many processes; 5 serve cannot listen
on the address; 6 an accepting process was lost; 7 the output cannot be
written; 129 SIGHUP and 131 SIGQUIT, after the last report."""


@click.command("serve", cls=Command, epilog=EPILOG)
@option(
    Section.PORTS,
    "--bind",
    "host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDR",
    help="Listen on this address.",
)
@option(
    Section.PORTS,
    "--port",
    type=count("PORT", 0, MAX_PORT),
    default=9023,
    show_default=True,
    help="Listen on this port; 0 takes a free one and prints it.",
)
@option(
    Section.PLACE,
    "--processes",
    type=count("K", 1, MOST_PROCESSES),
    help="Accept in K processes.  [default: one for each CPU, and more until they can hold 65,535 connections, as far "
    "as CPUs, memory and the limits on processes allow]",
)
@format_option(("text", "json"))
def command(host: str, port: int, processes: int | None, output_format: str) -> int:
    """Accept and hold connections: a target for connbench run.

    It prints the address once it listens. It discards all data that it receives, and closes a connection when the peer
    closes it. SIGUSR1 prints a report: how many connections it accepted, holds and closed, how many wait in the queue,
    and how many the kernel dropped. Ctrl-C, SIGTERM, SIGHUP or SIGQUIT prints the last report and ends it. If stdout
    is closed, as in `| head -1`, it goes on, and prints its reports to stderr.

    Several processes accept from one queue. Each process holds as many connections as RLIMIT_NOFILE allows (raised to
    its hard limit); a full process leaves new connections to the others. If a process is killed, its connections are
    lost, and the others go on.

    connbench run tries each target before it measures: it opens one more connection, and resets it at once. The report
    counts that connection, too.
    """
    address = Endpoint(_address(host), port)

    from connbench.serve import report as serve_report
    from connbench.serve.server import serving

    as_json = output_format == "json"
    reports = _Reports()
    with serving(address, processes) as server:
        reports.say((serve_report.info_json if as_json else serve_report.info_text)(server.info))
        write = serve_report.statistics_json if as_json else serve_report.statistics_text
        while not server.stop[0] and server.acceptors.is_any_running:
            if server.take_request():
                reports.say(write(server.statistics()))
            for lost in server.take_losses():
                print_error(
                    RunFault(
                        f"accepting process {lost.pid} {lost.end}: its {lost.open:,} connections are gone", lost.advice
                    )
                )
            time.sleep(TICK_S)
        server.take_losses()
        statistics = server.statistics()
        reports.say(write(statistics))
    gone = len(statistics.processes) - len(statistics.running)
    if gone:
        kind = UnexpectedFault if ExitCode.BUG in server.acceptors.ends.values() else RunFault
        raise kind(f"{gone} of {len(statistics.processes)} accepting processes were lost", "start it again")
    if reports.failure:
        raise reports.failure
    if server.stop[0] and (ended := Interrupted(server.stop[0])).exit_code not in ENDS_IN_GOOD_ORDER:
        raise ended
    return ExitCode.OK


class _Reports:
    """Writes reports to stdout; from the first write that fails, to stderr."""

    def __init__(self) -> None:
        self._stdout = Stdout()

    @property
    def failure(self) -> ConnbenchError | None:
        """Why writing to stdout failed; None if its reader closed it, which is no failure."""
        failure = self._stdout.failure
        return OutputError(failure.message, "send it elsewhere") if isinstance(failure, OutputError) else failure

    def say(self, text: str) -> None:
        """Print a text. A failing stdout does not end the server, which would lose the connections that it holds.

        Raises:
            OutputError: The first text, which has the address, cannot be written for want of space.
        """
        stdout = self._stdout
        was_over = stdout.is_over
        stdout.print(text)
        if not stdout.is_over:
            return
        if self.failure and not stdout.has_printed:
            raise self.failure
        if not was_over:
            reason = stdout.failure.message if stdout.failure else "stdout was closed by its reader"
            print_message(f"{reason}; serve goes on, and its reports go to stderr")
        with suppress(OSError):  # stderr is closed, too
            click.echo(text, err=True)


def _address(text: str) -> str:
    try:
        address = str(ipaddress.ip_address(text.strip("[]")))
    except ValueError as error:
        raise UsageError(f"--bind {text!r} is not an IP address", "for example 127.0.0.1, ::1 or 0.0.0.0") from error
    if is_of_many(address):
        raise UsageError(
            f"--bind {address} is a multicast or broadcast address", "for example 127.0.0.1, ::1 or 0.0.0.0"
        )
    return address
