"""`connbench inspect` on every host of a fleet: what each answered, or why it did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest

from connbench.errors import ERRORS_BY_EXIT_CODE, ConnbenchError, ExitCode, InputError, RunFault, UsageError
from connbench.fleet.hosts import LONGEST_REASON, Answer, Hosts, run_everywhere
from connbench.path_conditions import FAIL_IF
from connbench.report.path_report import PathOfHost
from connbench.results.inspection_file import LONGEST_DOCUMENT, InspectionRecord, read_inspection
from connbench.safe_text import printable
from connbench.thresholds import Failure, Threshold

ITS_OWN = (FAIL_IF, "--format", "--top")
"""Options of `fleet inspect`, which each host gets from it."""

OF_ONE_HOST = ("--watch", "--duration", "--exporter", "--nagios", "--warn-if", "--help", "-h")
"""Options of `inspect` that one document of each host does not go with."""


@dataclass(frozen=True, slots=True)
class HostInspection:
    """What a host answered.

    Attributes:
        host: Its name in the host set.
        inspection: What it found; None if it did not answer.
        fault: Why it did not.
    """

    host: str
    inspection: InspectionRecord | None
    fault: ConnbenchError | None = None


@dataclass(frozen=True, slots=True)
class FleetInspection:
    """What all hosts answered.

    Attributes:
        hosts: The answer of each.
        most_rows: How many paths to show; 0 for all.
    """

    hosts: Sequence[HostInspection]
    most_rows: int

    @property
    def answered(self) -> list[tuple[str, InspectionRecord]]:
        """The hosts that answered, with what they found."""
        return [(one.host, one.inspection) for one in self.hosts if one.inspection is not None]

    @property
    def lost(self) -> list[HostInspection]:
        """The hosts that did not answer."""
        return [one for one in self.hosts if one.inspection is None]

    @property
    def rows(self) -> list[PathOfHost]:
        """The fullest paths of all hosts, the fullest first, to be shown."""
        found = [(host, row) for host, inspection in self.answered for row in inspection.rows]
        return nlargest(self.most_rows or len(found), found, key=lambda one: one[1].used_share)

    @property
    def paths(self) -> int:
        """The number of paths on all hosts, of which `rows` may be a part."""
        return sum(inspection.paths for _, inspection in self.answered)

    @property
    def troubled(self) -> list[PathOfHost]:
        """The fullest path that needs attention of each host that has one, the fullest first."""
        found = [
            next(((host, row) for row in inspection.rows if row.needs_attention), None)
            for host, inspection in self.answered
        ]
        return sorted(filter(None, found), key=lambda one: -one[1].used_share)

    @property
    def failures(self) -> list[tuple[str, Failure]]:
        """The conditions of --fail-if that are true, or cannot be judged, and on which host."""
        return [
            (host, Failure(one.subject, one.condition, one.outcome))
            for host, inspection in self.answered
            for one in inspection.conditions or ()
            if one.outcome
        ]


def check_options(words: Sequence[str]) -> None:
    """Check options for `connbench inspect` on the hosts, as far as this host can.

    Raises:
        UsageError: One of them is not for them.
    """
    names = [word.partition("=")[0] for word in words]
    own = next((name for name in names if name in ITS_OWN), None)
    if own:
        raise UsageError(f"{own} is an option of connbench fleet inspect", "write it before the --")
    alone = next((name for name in names if name in OF_ONE_HOST), None)
    if alone:
        raise UsageError(f"{alone} is for connbench inspect on one host", f"leave out {alone}")


def inspect_everywhere(
    hosts: Hosts, options: Sequence[str], conditions: Sequence[Threshold], most_rows: int
) -> FleetInspection:
    """Have every host inspect its ports.

    Args:
        hosts: The hosts.
        options: Further options of `connbench inspect`.
        conditions: Those of --fail-if, which each host judges for itself: it knows all of its paths.
        most_rows: How many paths to show, the fullest; 0 for all.

    Raises:
        UsageError: The hosts say that the options are wrong.
        EnvironmentFault: The program that reaches hosts is not installed here.
    """
    conditions_there = [word for one in conditions for word in (FAIL_IF, str(one))]
    words = (*hosts.connbench, "inspect", "--format", "json", "--top", str(most_rows), *conditions_there, *options)
    answers = run_everywhere(hosts, words, LONGEST_DOCUMENT)
    wrong = [fault_of_end(answer, "inspect") for answer in answers.values() if answer.exit_code == ExitCode.USAGE]
    if len(wrong) == len(answers):
        raise wrong[0]
    return FleetInspection([_read(answer, len(conditions)) for answer in answers.values()], most_rows)


def _read(answer: Answer, conditions: int) -> HostInspection:
    """What a host answered, checked."""
    if answer.fault:
        return HostInspection(answer.host, None, answer.fault)
    if answer.exit_code not in {ExitCode.OK, ExitCode.THRESHOLD}:
        return HostInspection(answer.host, None, fault_of_end(answer, "inspect"))
    try:
        inspection = read_inspection(bytes(answer.stdout), answer.host)
    except InputError as fault:
        return HostInspection(answer.host, None, fault)
    if len(inspection.conditions or ()) != conditions:
        silent = InputError(f"{answer.host} does not say what became of {FAIL_IF}", "install this connbench there")
        return HostInspection(answer.host, None, silent)
    return HostInspection(answer.host, inspection)


def fault_of_end(answer: Answer, command: str) -> ConnbenchError:
    """The fault with which connbench ended on a host, from what it wrote to stderr, with the host's name.

    Args:
        answer: What the host answered.
        command: What was run there, for messages.
    """
    lines = answer.stderr.decode(errors="replace").splitlines()
    message = next((line.removeprefix("connbench: ") for line in lines if line.startswith("connbench: ")), "")
    hint = next((line.strip().removeprefix("-> ") for line in lines if line.startswith("  -> ")), "")
    kind = ERRORS_BY_EXIT_CODE.get(answer.exit_code or 0, RunFault)
    reason = message or f"connbench {command} has ended with exit code {answer.exit_code}: {answer.last_words}"
    return kind(f"{answer.host}: {printable(reason)[:LONGEST_REASON]}", printable(hint)[:LONGEST_REASON])
