"""Makes one fleet of result files: what `connbench fleet merge` does once it has read them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from connbench.errors import UsageError
from connbench.results.fleet_file import LONGEST_HOST, Fleet, HostRecord, check_host, check_kind
from connbench.results.result import Result
from connbench.wording import listed

ENDINGS = (".json.gz", ".csv.gz", ".json", ".csv")
"""What a host that is named by its file does not have of the file's name."""

UNNAMED = "host"
"""The name of a host whose file has no hostname, and no name that could be one."""

MOST_LISTED = 3
"""Files, or hosts, that a message lists; of more it has their number, too."""


@dataclass(frozen=True)
class _Part:
    """A host of one of the files; `stem` is the file's name without its ending, None for a host of a fleet file."""

    record: HostRecord
    file: str
    stem: str | None = None


def merge(found: Sequence[Result | Fleet], *, is_together: bool = False) -> tuple[Fleet, list[str]]:
    """Make one fleet of what files contain.

    A host is named by its hostname, or by its file if the file does not have it. The hosts ran together if the caller
    says so, if all of their plans begin at the same instant, or if the only file is a fleet that ran together.

    Args:
        found: The content of each file; its `name` is that of the file.
        is_together: Whether the hosts ran together, whatever their plans say.

    Returns:
        The fleet, and for the user which hosts got another name than their own.

    Raises:
        UsageError: Two files have the same run, a file is a profile or a reproduction, or `is_together` is given and a
            round does not say when it began.
    """
    parts = [part for one in found for part in _parts(one)]
    _check_same_run(parts)
    for part in parts:
        _check(part, is_together=is_together)
    names, messages = _unique(parts)
    hosts = tuple(_renamed(part.record, name) for part, name in zip(parts, names, strict=True))
    alone = found[0] if len(found) == 1 else None
    together = is_together or (isinstance(alone, Fleet) and alone.is_together) or _begin_at_once(hosts)
    return Fleet(hosts, together), messages


def _parts(one: Result | Fleet) -> Iterable[_Part]:
    if isinstance(one, Fleet):
        return [_Part(host, one.name) for host in one.hosts]
    name = PurePath(one.name).name
    stem = next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), PurePath(name).stem)
    host = next((told for told in (one.environment.get("hostname"), stem) if _is_host(told)), UNNAMED)
    return [_Part(HostRecord(str(host), one), one.name, stem)]


def _is_host(name: object) -> bool:
    try:
        check_host(str(name or ""))
    except ValueError:
        return False
    return True


def _check_same_run(parts: Sequence[_Part]) -> None:
    seen: dict[bytes, _Part] = {}
    for part in parts:
        key = _run_of(part.record.result)
        if key in seen:
            raise UsageError(f"{seen[key].file} and {part.file} have the same run", "give each run once")
        if key:
            seen[key] = part


def _run_of(result: Result | None) -> bytes:
    """A digest that no other run has: of the times and the ports of all attempts; empty without an attempt."""
    rounds = [one.samples for some in result.rounds.values() for one in some] if result else []
    digest = hashlib.blake2b()
    for samples in rounds:
        for column in (samples.started_ns, samples.acquire_ns, samples.port):
            digest.update(column.tobytes())
    return digest.digest() if any(map(len, rounds)) else b""


def _check(part: _Part, *, is_together: bool) -> None:
    result = part.record.result
    if result is None:
        return
    try:
        check_kind(result)
    except ValueError as error:
        raise UsageError(
            f"{part.file} {error}, and a fleet file has runs", "print such files with connbench report A B"
        ) from error
    if is_together and not all(one.report.epoch_us or one.fault for rounds in result.rounds.values() for one in rounds):
        raise UsageError(
            f"--together needs the time at which each round began, and {part.file} does not have it",
            "leave out --together, or merge JSON files that this version of connbench wrote",
        )


def _unique(parts: Sequence[_Part]) -> tuple[list[str], list[str]]:
    """A name for each part that no other has, and a message for each host that occurs more than once."""
    names = [part.record.name for part in parts]
    messages = []
    for name, count in Counter(names).items():
        if count > 1:
            places = [place for place, one in enumerate(names) if one == name]
            others = set(names) - {name}
            stems = [parts[place].stem or "" for place in places]
            are_names = len({*stems} - others) == count and all(map(_is_host, stems))
            new = stems if are_names else _numbered(name, count, others)
            for place, one in zip(places, new, strict=True):
                names[place] = one
            files = _listed([parts[place].file for place in places])
            all_or_both = "both" if count == 2 else "all"
            messages.append(f"{files} are {all_or_both} of host {name}: the fleet has them as hosts {_listed(new)}")
    return names, messages


def _numbered(name: str, count: int, others: set[str]) -> list[str]:
    """The name with the lowest numbers that make it another one than all others."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        number += 1
        one = f"{name[: LONGEST_HOST - len(str(number)) - 1]}-{number}"
        if one not in others:
            found.append(one)
    return found


def _listed(words: Sequence[str]) -> str:
    """Words as a list, the middle of a long one left out."""
    return listed(words) if len(words) <= MOST_LISTED + 1 else f"{', '.join(words[:MOST_LISTED])} ... {words[-1]}"


def _renamed(record: HostRecord, name: str) -> HostRecord:
    """The record under another name, its result too."""
    if record.result is not None:
        record.result.name = name
    return replace(record, name=name)


def _begin_at_once(hosts: Sequence[HostRecord]) -> bool:
    """Whether the plans of all hosts, two at least, begin at the same instant."""
    plans = [host.result.plan for host in hosts if host.result is not None]
    starts = {plan.start_at_us if plan else None for plan in plans}
    return len(plans) > 1 and len(starts) == 1 and None not in starts
