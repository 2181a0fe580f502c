"""A fleet: what several hosts measured with the same run, in memory and in files.

A fleet file is JSON with the result of each host as its own file would have it, or connbench's CSV with a first column
`host`. `connbench.report.json.fleet_document` writes the JSON; the rest is here. The hosts of a file are decoded one
after the other, and each is checked as a file of its own would be.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePath
from typing import Annotated, Any

import msgspec

from connbench.errors import ConnbenchError, InputError, RunFault
from connbench.model import MAX_JSON_INTEGER, Phase
from connbench.results.csv_file import (
    HEADER,
    LINE_END,
    NOT_ALL,
    csv_rows,
    fault_in,
    fault_row,
    is_own_header,
    read_csv,
    with_line,
    words_of,
)
from connbench.results.file_checks import CHANGED, check_numbers, shown
from connbench.results.json_file import FaultRecord, as_input_errors, check_schema, part, read_json
from connbench.results.result import Result
from connbench.safe_text import csv_cell, printable

HOST = "host"
"""The first column of a CSV of several hosts."""

NO_RESULT = "it measured nothing"

_CELL = re.compile(r'((?:"(?:[^"\n]|"")*")|[^",\n]*),')
"""The first cell of a line, with its comma."""

MOST_HOSTS = 10_000
LONGEST_HOST = 255
"""Characters of a host's name: DNS allows 253."""

LONGEST_CELL = 2 * LONGEST_HOST + 3
"""Characters of a host's name in a CSV: each may be a quote, and is then written as two."""

FARTHEST_US = MAX_JSON_INTEGER
"""The largest difference of two clocks, in us: 285 years. A host without a clock of its own begins in 1970."""


@dataclass(frozen=True, eq=False)
class HostRecord:
    """What one host measured.

    Attributes:
        name: The host, as the user named it.
        result: Its result, with the host as its name; None if it measured nothing.
        fault: Why it has no result, or a part; None if it came to its end.
        left_out: Whether it has no result and was allowed to have none.
        offset_us: Its clock minus that of the machine that ran `connbench fleet`, in us; None if that is not known.
        error_us: The largest error of that offset, and of those of all turns, in us.
        offsets_us: The offset before each turn, of hosts that measured together.
    """

    name: str
    result: Result | None
    fault: ConnbenchError | None = None
    left_out: bool = False
    offset_us: float | None = None
    error_us: float | None = None
    offsets_us: tuple[float, ...] = ()

    @property
    def is_measured(self) -> bool:
        """Whether it has a result with a round."""
        return self.result is not None and bool(self.result.rounds)


@dataclass(frozen=True, eq=False)
class Fleet:
    """Several hosts and what each of them measured.

    Attributes:
        hosts: At least one, each with another name.
        is_together: Whether all of them measured at the same time.
        name: The file that it was read from, as the user named it; empty for a run of this process.
    """

    hosts: tuple[HostRecord, ...]
    is_together: bool = False
    name: str = ""

    @property
    def results(self) -> list[Result]:
        """The results of the hosts that measured something; the name of each is its host."""
        return [host.result for host in self.hosts if host.result is not None and host.result.rounds]

    @property
    def is_partial(self) -> bool:
        """Whether a host measured less than its plan, or nothing."""
        return any(
            host.fault is not None or host.result is None or not host.is_measured or host.result.is_partial
            for host in self.hosts
        )


def results_of(measured: Iterable[Result | Fleet]) -> list[Result]:
    """The results, and in place of each fleet those of its hosts; beside other files with the name of theirs."""
    every = list(measured)
    found: list[Result] = []
    for one in every:
        if not isinstance(one, Fleet):
            found.append(one)
        elif len(every) == 1:
            found += one.results
        else:
            found += (replace(r, name=f"{r.name} in {PurePath(one.name).name}") for r in one.results)
    return found


def domain_of(hosts: Sequence[str]) -> str:
    """The domain that all of several hosts have: `.example.com` of `a.example.com` and `b.example.com`; else empty."""
    labels = [host.split(".") for host in hosts]
    shortest = min(map(len, labels), default=1)
    shared = next((n for n in range(shortest - 1) if len({some[-n - 1] for some in labels}) > 1), shortest - 1)
    domain = "".join(f".{label}" for label in labels[0][len(labels[0]) - shared :]) if len(labels) > 1 else ""
    return domain if any(map(str.isalpha, domain)) else ""  # that of addresses is none


@lru_cache(maxsize=2)
def with_short_names(fleet: Fleet) -> tuple[Fleet, str]:
    """A fleet whose hosts have names without the domain that all of them have; and that domain, empty without one.

    The last two that were asked for are kept.
    """
    domain = domain_of([host.name for host in fleet.hosts])
    if not domain:
        return fleet, ""
    names = [host.name.removesuffix(domain) for host in fleet.hosts]
    hosts = (
        replace(host, name=name, result=host.result and replace(host.result, name=name))
        for host, name in zip(fleet.hosts, names, strict=True)
    )
    return replace(fleet, hosts=tuple(hosts)), domain


def check_host(name: str) -> None:
    """Check that a name can be that of a host: of one line, printable, without blanks around it.

    Raises:
        ValueError: It cannot be; the message has the name.
    """
    if not name.strip():
        raise ValueError("a host has no name")
    if len(name) > LONGEST_HOST:
        raise ValueError(
            f"the name of host {shown(printable(name))} has {len(name)} characters, not 1 to {LONGEST_HOST}"
        )
    if printable(name) != name or name != name.strip():
        raise ValueError(f"{shown(printable(name))!r} is not the name of a host")


def check_kind(result: Result) -> None:
    """Check that a result is one of a run or a sweep: the figures of hosts are not those of other results.

    Raises:
        ValueError: It is another one; the message says which.
    """
    if result.is_reproduction:
        raise ValueError("is a reproduction")
    if any(spec.phase is Phase.PROFILE for spec in result.specs):
        raise ValueError("is a profile")


def is_fleet_json(data: bytes) -> bool:
    """Whether a JSON document is of several hosts."""
    try:
        return bool(msgspec.json.decode(data, type=_Head).fleet)
    except (msgspec.DecodeError, RecursionError):  # what reads it as a result says what is wrong
        return False


def of_several_hosts(name: str) -> InputError:
    """The error for a fleet file where a result of one host is needed."""
    return InputError(
        f"{name} has several hosts, and one is needed",
        "give the result file of one host; connbench report reads a file of several",
    )


class _Head(msgspec.Struct, frozen=True):
    fleet: msgspec.Raw = msgspec.Raw()


class _HostRecord(msgspec.Struct, frozen=True):
    host: str
    result: msgspec.Raw
    fault: msgspec.Raw = msgspec.Raw()
    left_out: bool = False
    offset_us: float | None = None
    error_us: float | None = None
    offsets_us: msgspec.Raw = msgspec.Raw()


class _Hosts(msgspec.Struct, frozen=True):
    hosts: Annotated[list[_HostRecord], msgspec.Meta(min_length=1)]
    together: bool = False


def read_fleet_json(data: bytes, name: str) -> Fleet:
    """Read what `connbench.report.json.fleet_document` of this or an earlier version wrote.

    Args:
        data: The whole file; `is_fleet_json` holds for it.
        name: The file's name, for messages.

    Raises:
        InputError: The document has a schema that is not read, or holds what no run writes; as `read_json`.
    """
    check_schema(data, name, "fleet")
    with as_input_errors(data, name):
        fleet = msgspec.json.decode(msgspec.json.decode(data, type=_Head).fleet, type=_Hosts)
        names: set[str] = set()
        for record in fleet.hosts:
            _check_new(record.host, names)
        hosts = tuple(_host(record, name) for record in fleet.hosts)
    return _measured(Fleet(hosts, fleet.together, name))


def _check_new(host: str, names: set[str]) -> None:
    check_host(host)
    if host in names:
        raise ValueError(f"host {host} occurs twice")
    if len(names) >= MOST_HOSTS:
        raise ValueError(f"it has more than {MOST_HOSTS:,} hosts")
    names.add(host)


def _measured(fleet: Fleet) -> Fleet:
    if not fleet.results:
        raise InputError(f"{fleet.name} holds no attempts", "none of its hosts measured anything")
    return fleet


def _host(record: _HostRecord, name: str) -> HostRecord:
    """The record of a host, with its result decoded."""
    place = f"host {record.host}"
    offsets: tuple[float, ...] = part(f"{place}: offsets_us", record.offsets_us, tuple[float, ...]) or ()
    check_numbers(f"{place}: offset_us", (record.offset_us, *offsets), -FARTHEST_US, FARTHEST_US)
    check_numbers(f"{place}: error_us", [record.error_us], 0, FARTHEST_US)
    fault: FaultRecord | None = part(f"{place}: fault", record.fault, FaultRecord)
    result = None
    document = memoryview(record.result)
    if bytes(document[:5]) != b"null":
        result = _named(read_json(document, f"{name}, {place}"), record.host)
        if not result.rounds:
            raise InputError(f"{name}, {place} holds no attempts", CHANGED)
    elif fault is None:
        raise ValueError(f"{place} has neither a result nor a fault that says why")
    if result and record.left_out:
        raise ValueError(f"{place} was left out, and has a result")
    revived = fault.revive() if fault else None
    return HostRecord(record.host, result, revived, record.left_out, record.offset_us, record.error_us, offsets)


def host_entry(record: HostRecord) -> dict[str, Any]:
    """What a fleet file has of a host beside its result, which follows as the last key, `result`."""
    return {
        HOST: record.name,
        "offset_us": record.offset_us,
        "error_us": record.error_us,
        "offsets_us": record.offsets_us,
        "fault": record.fault and FaultRecord.of(record.fault),
        "left_out": record.left_out,
    }


def fleet_rows(fleet: Fleet) -> str:
    """The rows of `csv_rows` for each host, after a column with its name.

    Why a host has no result, or a part, is its last row, which has no figures. Clock offsets are not written.
    """
    return "".join(_rows(fleet))


def _rows(fleet: Fleet) -> Iterator[str]:
    yield f"{HOST},{','.join(HEADER)}{LINE_END}"
    for host in fleet.hosts:
        cell = csv_cell(host.name)
        if re.search('[",]', cell):
            cell = '"' + cell.replace('"', '""') + '"'
        prefix = f"{cell},"
        rows = csv_rows(host.result).partition(LINE_END)[2] if host.result else ""
        if host.fault or not rows:
            rows += fault_row(host.fault.message if host.fault else NO_RESULT)
        yield f"{LINE_END}{rows[:-1]}".replace(LINE_END, LINE_END + prefix)[1:] + LINE_END


def is_fleet_header(line: str) -> bool:
    """Whether a file that begins with this line is one of `fleet_rows`, by this version or an earlier one."""
    return line.startswith(f"{HOST},") and is_own_header(line.removeprefix(f"{HOST},"))


def read_fleet_csv(text: str, name: str) -> Fleet:
    """Read what `fleet_rows` of this or an earlier version wrote. It does not say whether the hosts ran together.

    Args:
        text: The whole file; `is_fleet_header` holds for its first line.
        name: The file's name, for messages.

    Raises:
        InputError: A line is cut off or has another form, a host occurs twice, or a row is one that no run writes.
    """
    if not text.endswith(LINE_END):
        raise InputError(f"{name} is cut off in line {text.count(LINE_END) + 1}", "copy the whole file again")
    begin = text.index(LINE_END) + 1
    header = text[len(HOST) + 1 : begin]
    hosts: list[HostRecord] = []
    names: set[str] = set()
    first = 2
    while begin < len(text):
        found = _CELL.match(text, begin)
        with with_line(name, first):
            host = _host_in(found[1] if found else "")
            _check_new(host, names)
            prefix = f"{found[1] if found else ''},"
            rows = re.compile(rf"(?:{re.escape(prefix)}[^\n]*+\n)++").match(text, begin)
            assert rows  # noqa: S101  # it begins with the cell
            begin = rows.end()
            own = f"{LINE_END}{rows[0]}".replace(LINE_END + prefix, LINE_END)[1:]
            hosts.append(_host_of_rows(host, header, own, name, first))
        first += own.count(LINE_END)
    return _measured(Fleet(tuple(hosts), name=name))


def _host_in(cell: str) -> str:
    """The host that the first cell of a row names; empty if none can have the name."""
    return words_of(next(csv.reader([cell]))[0]) if 0 < len(cell) <= LONGEST_CELL else ""


def _host_of_rows(host: str, header: str, rows: str, name: str, first: int) -> HostRecord:
    """The record of a host with these rows, without its cell; the first row is line `first` of the file."""
    last = rows[rows.rfind(LINE_END, 0, -1) + 1 :]
    message = fault_in(last)
    if message not in {"", NOT_ALL}:
        rows = rows[: len(rows) - len(last)]
    result = _named(read_csv(header + rows, name, first), host)
    fault = RunFault(message) if message and not (message == NOT_ALL and result.rounds) else None
    return HostRecord(host, result if result.rounds else None, fault)


def _named(result: Result, host: str) -> Result:
    """A result of one kind that a fleet has, under the name of its host.

    Raises:
        ValueError: It is one of another kind.
    """
    result.name = host
    try:
        check_kind(result)
    except ValueError as error:
        raise ValueError(f"host {host} {error}, and a fleet file has runs") from error
    return result
