"""A fleet file reads back as the fleet that it was written from, and every other file is refused in a sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connbench.errors import ConnbenchError, InputError, Interrupted, RunFault, TargetError
from connbench.report.formats import FLEET_FORMATS, FORMATS
from connbench.results import fleet_file
from connbench.results.csv_file import HEADER, csv_rows, read_csv
from connbench.results.fleet_file import Fleet, HostRecord, fleet_rows
from connbench.results.input_file import parse_any, read, read_any
from connbench.results.plain_document import SCHEMA
from connbench.results.result import Result
from factories import BIND, PLAIN, result_of, round_of, samples_of, unhurried
from generated_results import EXAMPLES, fault_facts, fleets, result_facts
from json_units import without_unit
from mutants import SMALL, made_by_model, mutant

Document = dict[str, Any]

FORMS = ("json", "csv")
"""The formats of a file that is read again."""


def of_host(name: str, result: Result) -> Result:
    """The result under the name of its host."""
    return replace(result, name=name)


FIRST, SECOND = (of_host(f"web{k}", result_of({BIND: [round_of(samples_of([10_000 * k] * 3))]})) for k in (1, 2))
FLEET = Fleet(
    (
        HostRecord("web1", FIRST, offset_us=-1.5, error_us=20.0, offsets_us=(-1.5, -1.25)),
        HostRecord("web2", SECOND, RunFault("the connection to web2 was lost", "measure again")),
        HostRecord("web3", None, TargetError("web3 does not answer"), left_out=True),
    ),
    is_together=True,
)
RUN = made_by_model(replace(SMALL, strategies=(PLAIN, BIND), rounds=1))
JSON, CSV = (
    FLEET_FORMATS[form](replace(FLEET, hosts=(HostRecord("a", of_host("a", RUN)), *FLEET.hosts[1:]))) for form in FORMS
)


def again(fleet: Fleet, form: str = "json") -> Fleet:
    """The fleet that is read from the file that is written."""
    found = parse_any(FLEET_FORMATS[form](fleet).encode(), f"again.{form}", None)
    assert isinstance(found, Fleet)
    return found


def refusal(text: str) -> str:
    """Why a file with this content is refused, after a check of the form of the message."""
    with pytest.raises(InputError) as refused:
        parse_any(text.encode(errors="surrogatepass"), "x.json", None)
    check_refusal(refused.value)
    return refused.value.message


def check_refusal(error: ConnbenchError) -> None:
    """A line that names the file and the reason, and a line with the way out."""
    assert error.message.startswith("x.json")
    assert error.hint
    assert len(error.message) < 500
    assert (error.message + error.hint).isprintable()


@settings(unhurried, max_examples=EXAMPLES)
@given(fleets())
def test_json_comes_back_as_it_was(fleet: Fleet) -> None:
    """Each host with its result, its fault and its clock, and whether they ran together."""
    read = again(fleet)
    assert (read.is_together, read.is_partial, read.name) == (fleet.is_together, fleet.is_partial, "again.json")
    for back, host in zip(read.hosts, fleet.hosts, strict=True):
        assert replace(back, result=None, fault=None).__dict__ == replace(host, result=None, fault=None).__dict__
        assert fault_facts(back.fault) == fault_facts(host.fault)
        assert result_facts(back.result) == result_facts(host.result)
        assert back.result is None or back.result.name == host.name


@settings(unhurried, max_examples=EXAMPLES)
@given(fleets())
def test_csv_of_a_fleet_has_the_csv_of_each_host(fleet: Fleet) -> None:
    """Rows and faults of a host are read as those of a file of its own; a last row says why a host has only a part."""
    read = again(fleet, "csv")
    assert [host.name for host in read.hosts] == [host.name for host in fleet.hosts]
    for back, host in zip(read.hosts, fleet.hosts, strict=True):
        alone = read_csv(csv_rows(host.result), "x") if host.result else None
        if host.fault and alone:  # its row says it instead
            alone.known = tuple(one for one in alone.known if one.message != "partial: not all rounds were run")
        assert result_facts(back.result) == result_facts(alone)
        assert (back.fault is None) == (host.fault is None)
    assert fleet_rows(read) == fleet_rows(fleet)


def test_document_has_the_document_of_each_host() -> None:
    """What reads a result of one host reads the same keys here, and each number has its unit."""
    document = json.loads(FLEET_FORMATS["json"](FLEET))
    assert list(document) == ["schema", "connbench", "summary", "fleet"]
    assert (document["schema"], document["fleet"]["together"]) == (SCHEMA, True)
    first, _, last = document["fleet"]["hosts"]
    assert first["result"] == json.loads(FORMATS["json"](FIRST))
    assert (first["offset_us"], first["error_us"], first["offsets_us"], first["fault"]) == (
        -1.5,
        20.0,
        [-1.5, -1.25],
        None,
    )
    assert (last["result"], last["left_out"], last["fault"]["message"]) == (None, True, "web3 does not answer")
    assert without_unit({**document, "fleet": document["fleet"]["hosts"][1:]}) == set()


def test_hosts_are_those_that_measured() -> None:
    """`results` has those, under their names; a fleet is partial if a host is."""
    read = again(FLEET)
    assert [result.name for result in read.results] == ["web1", "web2"]
    assert read.is_partial
    assert not again(replace(FLEET, hosts=FLEET.hosts[:1])).is_partial
    cut = result_of({BIND: [round_of(samples_of([1]), fault=Interrupted(2))]})
    assert again(replace(FLEET, hosts=(HostRecord("a", of_host("a", cut)),))).is_partial


def test_a_result_without_a_round_is_written_as_none() -> None:
    """A host that was stopped before its first round has a plan, and nothing to show."""
    empty = HostRecord("web2", of_host("web2", Result(FIRST.plan, {})), RunFault("stopped"))
    for form in FORMS:
        back = again(replace(FLEET, hosts=(FLEET.hosts[0], empty)), form).hosts[1]
        assert (back.result, back.fault and back.fault.message) == (None, "stopped")


def test_a_command_for_one_host_refuses_a_fleet(tmp_path: Path) -> None:
    """`read` says what to give; `read_any` reads both, packed too."""
    path = tmp_path / "x.json.gz"
    for text in (JSON, CSV):
        path.write_bytes(gzip.compress(text.encode()))
        assert isinstance(read_any(path), Fleet)
        with pytest.raises(InputError, match="has several hosts, and one is needed") as refused:
            read(path)
        assert "give the result file of one host" in refused.value.hint
    path.write_text(FORMATS["json"](FIRST), encoding="utf-8")
    assert isinstance(read_any(path), Result)


def host(document: Document, number: int = 0) -> Document:
    """A host of a document."""
    found: Document = document["fleet"]["hosts"][number]
    return found


CHANGES: dict[str, tuple[Callable[[Document], object], str]] = {
    "newer schema": (lambda d: d.update(schema=SCHEMA + 1), f"schema {SCHEMA + 1}"),
    "no schema": (lambda d: d.pop("schema"), "not a result of connbench"),
    "number for a fleet": (lambda d: d.update(fleet=1), "Expected `object`, got `int`"),
    "null for a fleet": (lambda d: d.update(fleet=None), "Expected `object`, got `null`"),
    "no hosts": (lambda d: d["fleet"].update(hosts=[]), "length >= 1"),
    "hosts that are a group": (lambda d: d["fleet"].update(hosts={}), "Expected `array`, got `object`"),
    "host that is none": (lambda d: d["fleet"].update(hosts=["x"]), "Expected `object`, got `str`"),
    "number for together": (lambda d: d["fleet"].update(together=1), "together"),
    "host twice": (lambda d: d["fleet"]["hosts"].append(host(d)), "host web1 occurs twice"),
    "no name": (lambda d: host(d).pop("host"), "missing required field `host`"),
    "number for a name": (lambda d: host(d).update(host=1), "Expected `str`, got `int`"),
    "empty name": (lambda d: host(d).update(host=""), "a host has no name"),
    "blank name": (lambda d: host(d).update(host="  "), "a host has no name"),
    "name with a blank before it": (lambda d: host(d).update(host=" a"), "' a' is not the name of a host"),
    "control character in a name": (lambda d: host(d).update(host="a\x1b[2J"), "'a�[2J' is not the name of a host"),
    "name of two lines": (lambda d: host(d).update(host="a\nb"), "'a�b' is not the name of a host"),
    "command to a runner in a name": (lambda d: host(d).update(host="a::error::x"), "is not the name of a host"),
    "name that turns the line": (lambda d: host(d).update(host="a\u202eb"), "'a�b' is not the name of a host"),
    "long name": (lambda d: host(d).update(host="x" * 10_000), "has 10000 characters, not 1 to 255"),
    "words for an offset": (lambda d: host(d).update(offset_us="soon"), "Expected `float | null`, got `str`"),
    "endless offset": (lambda d: host(d).update(offset_us=1e17), "host web1: offset_us is 1e+17"),
    "endless offset of a turn": (lambda d: host(d).update(offsets_us=[0, -1e300]), "host web1: offset_us is -1e+300"),
    "words for offsets": (lambda d: host(d).update(offsets_us=["0"]), "host web1: offsets_us: Expected `float`"),
    "negative error": (lambda d: host(d).update(error_us=-1), "host web1: error_us is -1"),
    "words for left out": (lambda d: host(d).update(left_out="no"), "Expected `bool`, got `str`"),
    "left out with a result": (lambda d: host(d).update(left_out=True), "host web1 was left out, and has a result"),
    "neither result nor fault": (lambda d: host(d, 2).update(fault=None), "host web3 has neither a result nor a fault"),
    "fault without a message": (lambda d: host(d, 2).update(fault={}), "host web3: fault"),
    "fault of a host that was well": (
        lambda d: host(d, 2)["fault"].update(exit_code=0),
        "no round ends with exit code 0",
    ),
    "nothing measured": (lambda d: d["fleet"].update(hosts=[host(d, 2)]), "holds no attempts"),
    "fleet for a result": (
        lambda d: host(d).update(result=json.loads(json.dumps(d))),
        "host web1 is JSON, but not a result",
    ),
    "list for a result": (lambda d: host(d).update(result=[]), "host web1 is JSON, but not a result"),
    "result of another schema": (lambda d: host(d)["result"].update(schema=1), "host web1 has schema 1"),
    "result without a round": (lambda d: host(d)["result"].update(strategies=[]), "host web1 holds no attempts"),
    "reproduction": (lambda d: host(d)["result"].update(reproduction={}), "host web1 is a reproduction"),
    "port in two": (
        lambda d: host(d)["result"]["strategies"][0]["rounds"][0]["samples"].update(port=[9024, 9025.5, 1]),
        "host web1 is not a sound result: column port is not a list",
    ),
    "15 MB of offsets": (lambda d: host(d).update(offsets_us=[0] * (5 << 20)), "offsets_us takes more than 8 MiB"),
}


@pytest.mark.parametrize(("change", "words"), CHANGES.values(), ids=CHANGES)
def test_what_no_run_writes_is_refused(change: Callable[[Document], object], words: str) -> None:
    """A wrong type, a value that is not possible, a host twice: the message names the host."""
    document = json.loads(FLEET_FORMATS["json"](FLEET))
    change(document)
    assert words in refusal(json.dumps(document))


def test_too_many_hosts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs memory, however little it says."""
    monkeypatch.setattr(fleet_file, "MOST_HOSTS", 2)
    assert "it has more than 2 hosts" in refusal(JSON)
    assert "it has more than 2 hosts" in refusal(CSV)


ROWS = FLEET_FORMATS["csv"](FLEET).splitlines(keepends=True)
"""The header; three rows of web1; three of web2, and one with its fault; one of web3."""

TEXTS = {
    "host twice": ([*ROWS, ROWS[1]], "line 10: host web1 occurs twice"),
    "rows of two hosts by turns": ([*ROWS[:2], ROWS[4], ROWS[2]], "line 4: host web1 occurs twice"),
    "no host": ([*ROWS, ROWS[1].replace("web1", "")], "line 10: a host has no name"),
    "empty line": ([*ROWS, "\n"], "line 10: a host has no name"),
    "control character": ([*ROWS, ROWS[1].replace("web1", "a\x1b")], "line 10: 'a�' is not the name of a host"),
    "long name": ([*ROWS, ROWS[1].replace("web1", "x" * 200_000)], "line 10: a host has no name"),
    "quote that does not end": ([*ROWS, ROWS[1].replace("web1", '"web')], "line 10: a host has no name"),
    "cut off": ([*ROWS[:-1], ROWS[-1][:-2]], "is cut off in line 9"),
    "row of too few fields": ([*ROWS[:5], "web2,bind,1\n", *ROWS[6:]], "line 6: fields are missing"),
    "port that is none": ([*ROWS[:6], ROWS[6].replace(",9026,", ",70000,"), *ROWS[7:]], "line 7: port is 70000"),
    "fault amid the rows": ([*ROWS[:5], ROWS[7], *ROWS[5:7]], "line 7: round 1 of bind occurs twice"),
    "no rows": (ROWS[:1], "holds no attempts"),
    "no rows of an attempt": ([ROWS[0], ROWS[-1]], "holds no attempts"),
    "levels": (
        [
            f"host,{','.join(HEADER)}\n",
            "web1,plain,,,,,,,,,,,tcp,1,,,,,0.5 1,2,,,profile,1,,0,1,1,2,9024,0,1,0,0,0,0,0\n",
        ],
        "line 2: host web1 is a profile",
    ),
}


@pytest.mark.parametrize(("rows", "words"), TEXTS.values(), ids=TEXTS)
def test_rows_that_no_run_writes_are_refused(rows: list[str], words: str) -> None:
    """The message names the line of the whole file."""
    assert words in refusal("".join(rows))


def test_names_of_hosts_survive_a_csv() -> None:
    """Commas, quotes and what a spreadsheet would take for a formula; a name that begins like another one."""
    names = ["a", "a,", 'a"b', "=1+1", "'x", "-web", "a b", "ab"]
    fleet = Fleet(tuple(HostRecord(name, of_host(name, FIRST)) for name in names))
    assert [host.name for host in again(fleet, "csv").hosts] == names
    assert {len(host.result.strategies[0].samples) for host in again(fleet, "csv").hosts if host.result} == {3}


@settings(unhurried, max_examples=5 * EXAMPLES)
@given(st.sampled_from([JSON, CSV]), st.randoms(use_true_random=False))
def test_mutant_is_refused_or_read(text: str, rng: Random) -> None:
    """Whatever changes in a fleet file, the message is a sentence, or each host has a name of its own and a content."""
    try:
        found = parse_any(mutant(text.encode(), rng), "x.json", None)
    except InputError as error:
        check_refusal(error)
        return
    if isinstance(found, Fleet):
        assert len({host.name for host in found.hosts}) == len(found.hosts)
        assert all(host.name.isprintable() and (host.result or host.fault) for host in found.hosts)
        assert all(result.rounds for result in found.results)
        for form in FORMS:
            assert [host.name for host in again(found, form).hosts] == [host.name for host in found.hosts]
        assert FLEET_FORMATS["text"](found)
