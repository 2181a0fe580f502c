"""Result files that no run writes: good ones of every form, with something in them changed.

A change is of bytes, or of what the file says: a key left out, twice or of another type, columns swapped, a number too
large, a row too many. `rng` decides all of it, so that hypothesis can find the smallest change that does harm.
"""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from connbench.analysis.sweep_analysis import is_sweep
from connbench.commands.reports import formats_of
from connbench.errors import Interrupted
from connbench.model import Churn, Close, Load, Plan, PortRange, Protocol, RoundPlan, StrategySpec
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.calibration import USUAL
from connbench.portmodel.prediction import predict
from connbench.report.formats import FORMATS
from connbench.results.file_checks import RENAMED
from connbench.results.result import Result, Round
from factories import BIND, ENVIRONMENT, PLAIN, PLAN, RANDOM, WINDOW, round_of

FILES = Path(__file__).with_name("files")

SMALL = replace(
    PLAN, connections=60, port_range=PortRange(9024, 9087), sources=("127.9.9.1", "127.9.9.3"), rounds=2, reserved=1
)
SETTINGS = {
    "net.ipv4.ip_local_port_range": "9024 9087",
    "net.ipv4.ip_local_reserved_ports": "9030",
    "net.ipv4.tcp_tw_reuse": "2",
    "net.ipv4.tcp_max_tw_buckets": "16384",
    "net.ipv4.tcp_ehash_entries": "-8192",
}


def made_by_model(plan: Plan, *, is_reproduction: bool = False) -> Result:
    """A result as a run of the plan would leave it, by the model; only its first round differs from the others."""
    environment = {**ENVIRONMENT, "affinity": [0, 1], "host_sysctls": dict(SETTINGS), "time": "2026-01-01T00:00:00"}
    result = Result(plan, environment, is_reproduction=is_reproduction)
    for number in range(1, plan.rounds + 1):
        for one in predict(replace(plan, seed=plan.seed + number - 1), Algorithm.FROM_6_8):
            spec, samples = one.plan.strategy, USUAL.samples(one)
            samples = samples.chosen(samples.started_ns >= 0)
            assert len(samples) == RoundPlan(plan, spec, number).attempts
            measured = round_of(samples, number)
            result.add(spec, replace(measured, report=replace(measured.report, settings=SETTINGS)))
    return result


def _with(spec: StrategySpec, **load: Any) -> StrategySpec:  # noqa: ANN401  # any field of Load
    return replace(spec, load=Load(**load))


NARROW = replace(WINDOW, window=16)
STRATEGIES = (PLAIN, BIND, NARROW, replace(RANDOM, retries=3), StrategySpec("range"), StrategySpec("partition", 16))
LOADS = (
    _with(BIND, concurrency=2, sources=1, connections=50),
    _with(NARROW, fill=0.5, churn=Churn(40)),
    _with(BIND, protocol=Protocol.UDP, connections=40),
    _with(RANDOM, connections=30, concurrency=2, churn=Churn(20, Close.RST, 100.0)),
)
SWEEP = tuple(_with(replace(WINDOW, window=width), fill=fill) for width in (8, 32) for fill in (0.25, 0.5))


def _stopped(result: Result) -> Result:
    """The same, cut short in the last round of its last strategy."""
    last = result.rounds[list(result.rounds)[-1]]
    last[-1] = Round(last[-1].number, last[-1].samples, last[-1].report, Interrupted(15))
    return result


def _seeds() -> dict[str, bytes]:
    run = made_by_model(replace(SMALL, strategies=STRATEGIES))
    loads = _stopped(made_by_model(replace(SMALL, strategies=LOADS, rounds=1)))
    sweep = made_by_model(replace(SMALL, strategies=SWEEP))
    assert is_sweep(sweep)
    one = made_by_model(replace(SMALL, strategies=(PLAIN,), rounds=1, sources=("127.9.9.1",)))
    again = made_by_model(replace(SMALL, strategies=STRATEGIES[:3], rounds=1), is_reproduction=True)
    found = {
        "json": FORMATS["json"](run).encode(),
        "loads": FORMATS["json"](loads).encode(),
        "sweep": FORMATS["json"](sweep).encode(),
        "one": FORMATS["json"](one).encode(),
        "reproduction": formats_of(again)["json"](again).encode(),
        "schema 3": (FILES / "schema-3.json").read_bytes(),
        "schema 4": gzip.decompress((FILES / "schema-4.json.gz").read_bytes()),
        "csv": FORMATS["csv"](loads).encode(),
        "schema 4 csv": (FILES / "schema-4.csv").read_bytes(),
        "old csv": (FILES / "partial-0.1.csv").read_bytes(),
        "talk csv": b"port, latency_us\n" + b"".join(f"{9024 + i}, {10 + i}.5\n".encode() for i in range(50)),
    }
    found["talk csv without a header"] = FORMATS["talk-csv"](one).encode()
    found["gzip"] = gzip.compress(found["loads"], 1, mtime=0)
    return found


SEEDS = _seeds()
"""Files as connbench writes them, and wrote them."""

NUMBERS = [
    -1,
    0,
    1,
    2,
    59,
    65535,
    65536,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
    10**30,
    10**400,
    0.5,
    -0.0,
    1e300,
]
WORDS = [
    "",
    "x",
    "\x00",
    "\u202e",
    "::error::x",
    "\x1b[2J",
    "9" * 5000,
    "1_0",
    "\u0663",
    "plain",
    "churn",
    "\U0001f600",
]
DEEP = "[" * 900 + "]" * 900
OTHERS: list[Any] = [None, True, False, [], {}, [[]], {"": []}, [None], ["x"], {"x": 1}]
TOKENS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"\\ud800",
    b"\\u0000",
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b'"',
    b"{",
]
TOKENS += [
    b"[",
    b"]",
    b"}",
    b",",
    b":",
    b"-",
    b"\n",
    b"\r\n",
    b"\n\n\n",
    b" ",
    b"9" * 5000,
    DEEP.encode(),
    b"\xef\xbb\xbf",
]
TOKENS += [b"\xe2\x80\xa8", b"# partial", b"null", b"1" * 20, b"0.1", b"e5", b"\t"]
MARK = "\U0001f9ea"
"""Stands for text that json.dumps does not write."""

RAW = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-",
    '"\\ud800"',
    '"\\u0000"',
    "9" * 5000,
    DEEP,
    '{"a":' * 900 + "1" + "}" * 900,
]


def mutant(data: bytes, rng: Random) -> bytes:
    """The file with one to three changes."""
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        data = _changed(data, rng)
    return data


def _changed(data: bytes, rng: Random) -> bytes:
    if data.startswith(b"\x1f\x8b"):
        try:
            return rng.choice(PACKED)(data, rng)
        except (OSError, EOFError, ValueError, gzip.zlib.error):  # type: ignore[attr-defined]  # changed before
            return _bytes(data, rng)
    if rng.random() < 0.25:
        return _bytes(data, rng)
    if data.lstrip()[:1] == b"{":
        return _json(data, rng)
    return _table(data, rng)


def _repacked(data: bytes, rng: Random) -> bytes:
    return gzip.compress(_json(gzip.decompress(data), rng), 1, mtime=0)


def _two_members(data: bytes, rng: Random) -> bytes:
    whole = gzip.decompress(data)
    middle = rng.randrange(len(whole) + 1)
    parts = (whole[:middle], *[b""] * rng.randrange(3), whole[middle:])
    return b"".join(gzip.compress(part, 1, mtime=0) for part in parts)


def _twice(data: bytes, _: Random) -> bytes:
    return data + data


def _bytes(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    length = rng.choice([1, 1, 2, 8, 100])
    token = rng.choice([*TOKENS, bytes([rng.randrange(256)]), data[at : at + length]])
    return rng.choice(
        [
            data[:at] + token + data[at + length :],
            data[:at] + token + data[at:],
            data[:at] + data[at + length :],
            data[:at],
        ]
    )


PACKED: tuple[Callable[[bytes, Random], bytes], ...] = (_repacked, _repacked, _repacked, _two_members, _twice, _bytes)


def _json(data: bytes, rng: Random) -> bytes:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):  # changed before
        return _bytes(data, rng)
    parents = list(_nodes(document, ()))
    # What decides most stands in few places: a column has as many numbers as a plan has fields.
    parent, key = rng.choice(rng.choice(_by_depth(parents)))
    text = _change(document, parent, key, rng)
    return text.encode("utf-8", errors="replace")


def _nodes(node: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401  # JSON
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield path, node, key
        yield from _nodes(node[key], (*path, "*" if isinstance(key, int) else key))


def _by_depth(nodes: list[Any]) -> list[list[tuple[Any, Any]]]:
    """The places of a document, those of one kind together: one column is as likely to be chosen as one field."""
    groups: dict[Any, list[tuple[Any, Any]]] = {}
    for path, node, key in nodes:
        groups.setdefault((*path, "*" if isinstance(key, int) else key), []).append((node, key))
    return list(groups.values())


def _change(document: Any, parent: Any, key: Any, rng: Random) -> str:  # noqa: ANN401  # JSON
    old, raw = parent[key], ""
    match rng.randrange(12):
        case 0:
            del parent[key]
        case 10 | 11 if not isinstance(old, list | dict):  # everywhere the same, so that the parts still fit each other
            text, new = json.dumps(document), json.dumps(_value(old, rng))
            return re.sub(rf"(?<=[\[:,] ){re.escape(json.dumps(old))}(?=[,\]}}])", lambda _: new, text)
        case 1:
            if isinstance(parent, list):
                parent.insert(key, old)
            else:
                parent[rng.choice(WORDS)] = old
        case 2:
            other = rng.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
            parent[key], parent[other] = parent[other], parent[key]
        case 3:
            raw = rng.choice(RAW)
        case 4:  # the same key twice
            raw = json.dumps(old) + (f', "{key}": {json.dumps(rng.choice(OTHERS))}' if isinstance(parent, dict) else "")
        case _:
            parent[key] = _value(old, rng)
    if raw:
        parent[key] = MARK
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    return text.replace(json.dumps(MARK), raw).replace(f'"{MARK}"', raw)


def _value(old: Any, rng: Random) -> Any:  # noqa: ANN401  # JSON
    """Another value in the place of one, of its type or of any."""
    alike: list[Any] = [*NUMBERS]
    if isinstance(old, list) and old:
        alike = [old + old, old[:-1], old[1:], old[::-1], [*old, rng.choice(NUMBERS)], [old[0]] * len(old)]
    elif isinstance(old, int | float):
        alike = [old - 1, old + 1, old + 10, old + 1000]
    elif isinstance(old, str):
        alike = [*WORDS, old + rng.choice(WORDS), old[:-1]]
    return rng.choice(rng.choice([alike, alike, OTHERS, WORDS, NUMBERS]))


def _table(data: bytes, rng: Random) -> bytes:
    rows = [line.split(",") for line in data.decode(errors="replace").split("\n")]
    row = rng.randrange(len(rows))
    other = rng.randrange(len(rows))
    match rng.randrange(8):
        case 0:
            del rows[row]
        case 1:
            rows.insert(row, rows[other])
        case 2:
            rows[row], rows[other] = rows[other], rows[row]
        case 3:  # two columns of every row
            one, two = (rng.randrange(len(rows[row])) for _ in range(2))
            for cells in rows:
                if max(one, two) < len(cells):
                    cells[one], cells[two] = cells[two], cells[one]
        case _:
            _change_cell(rows[row], rows[other], rng)
    return "\n".join(",".join(one) for one in rows).encode(errors="replace")


def _change_cell(row: list[str], other: list[str], rng: Random) -> None:
    column = rng.randrange(len(row))
    old = row[column]
    cells = [[rng.choice(WORDS)], [str(rng.choice(NUMBERS))], [], [old, old], ["", ""], other[column : column + 1]]
    if old.strip().isdecimal():
        cells += [[str(int(old[:4000]) + more)] for more in (-1, 1, 10)]
    row[column : column + 1] = rng.choice(cells)


def columns_told(data: bytes) -> dict[tuple[str, int], dict[str, list[float]]] | None:
    """The columns of each round, as Python's own JSON reader reads them, by path and today's name; None for no JSON."""
    if data.startswith(b"\x1f\x8b"):
        data = gzip.GzipFile(fileobj=io.BytesIO(data)).read()
    try:
        document = json.loads(data.decode("utf-8-sig", errors="replace"))
    except (ValueError, RecursionError):
        return None
    return {
        (json.dumps(strategy["strategy"]), measured["number"]): {
            RENAMED.get(name, name): values for name, values in measured["samples"].items()
        }
        for strategy in document["strategies"]
        for measured in strategy["rounds"]
    }
