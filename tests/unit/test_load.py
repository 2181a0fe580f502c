"""The schema of the load: every field is in it, and its option, its column and its limits agree."""

from __future__ import annotations

import shlex
from dataclasses import fields

import pytest
from hypothesis import given

from connbench.commands.values import load_type
from connbench.errors import UsageError
from connbench.model import LOAD_FIELDS, Churn, Load, Profile, StrategySpec
from connbench.model.load import LoadField, Unit
from connbench.planner.request import RunRequest
from connbench.results.csv_file import SPEC_COLUMNS, from_columns, to_columns
from connbench.results.file_checks import check_spec
from factories import BIND, unhurried
from generated_results import loads

NUMBERS = [field for field in LOAD_FIELDS if field.unit not in {Unit.WORD, Unit.SHARES, Unit.SYSCTLS}]
[SYSCTLS] = [field for field in LOAD_FIELDS if field.unit is Unit.SYSCTLS]
named = pytest.mark.parametrize("field", LOAD_FIELDS, ids=lambda field: field.name)


def test_every_field_of_the_load_is_in_the_schema() -> None:
    """A field without a row would be lost in a CSV file, in a label and in the limits."""
    own = {(one.name,) for one in fields(Load)} - {("churn",), ("profile",)}
    parts = {("churn", one.name) for one in fields(Churn)} | {("profile", one.name) for one in fields(Profile)}
    assert {field.path for field in LOAD_FIELDS} == own | parts
    assert {field.name for field in LOAD_FIELDS} <= {one.name for one in fields(RunRequest)}


@unhurried
@given(loads)
def test_a_load_comes_back_from_its_values_and_from_columns(load: Load) -> None:
    """By name, and as the text of a CSV file."""
    assert Load.of({field.name: field.of(load) for field in LOAD_FIELDS}) == load
    spec = StrategySpec("plain", load=load)
    assert from_columns(dict(zip(SPEC_COLUMNS, to_columns(spec), strict=True))) == spec


@unhurried
@given(loads)
def test_an_argument_is_what_its_option_reads(load: Load) -> None:
    """`--give-up-after 5ms`, proposed for another run, asks for the same value, to the digits that are shown."""
    for field in set(LOAD_FIELDS) - {SYSCTLS}:
        option, _, text = field.argument(load).partition(" ")
        if option:
            assert option in field.options
            read = load_type(field).convert(text, None, None)
            assert read == (field.of(load) if field.unit is Unit.WORD else pytest.approx(field.of(load), rel=1e-5))


@unhurried
@given(loads)
def test_the_arguments_of_sysctls_are_what_their_option_reads(load: Load) -> None:
    """`--sysctl 'net.ipv4.tcp_rmem=4096 8192 65536' --sysctl ...`, as a shell splits it: one option for each."""
    words = shlex.split(SYSCTLS.argument(load))
    assert words[::2] == ["--sysctl"] * len(load.sysctls)
    assert sum((load_type(SYSCTLS).convert(text, None, None) for text in words[1::2]), ()) == load.sysctls


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_limits_are_those_of_requests_and_of_files(field: LoadField) -> None:
    """The least and the largest value are possible, and nothing beyond them."""
    for value in (field.low, field.high):
        field.check(value)
        check_spec(_with(field, value))
    for value in (0, field.high * 2):
        with pytest.raises(UsageError, match=f"{field.options[0]} .* is not possible"):
            field.check(value)
        with pytest.raises(ValueError, match=f"{field.name} is "):
            check_spec(_with(field, value))


def _with(field: LoadField, value: object) -> StrategySpec:
    return StrategySpec(BIND.name, load=_load(field, value))


def _load(field: LoadField, value: object) -> Load:
    """A load with this value; a field of a profile or of a churn needs the one or the other."""
    return Load.of(({"levels": (0.5, 1.0)} if field.part == "profile" else {"churn": 1}) | {field.name: value})


@pytest.mark.parametrize("levels", [(), (0.5, 0.5), (0.8, 0.5), (0.5, 1.1), (-0.1, 0.5), (float("nan"),)], ids=str)
def test_levels_ascend_from_0_to_1(levels: tuple[float, ...]) -> None:
    """In a request as in a file."""
    [field] = [field for field in LOAD_FIELDS if field.unit is Unit.SHARES]
    with pytest.raises(UsageError, match=r"--at .* is not possible"):
        field.check(levels)
    with pytest.raises(ValueError, match="levels is "):
        check_spec(_with(field, levels))


@pytest.mark.parametrize(
    "texts",
    [
        ("kernel.pid_max=1",),
        ("net.ipv4.tcp_tw_reuse",),
        ("net/ipv4/tcp_tw_reuse=1",),
        ("net..x=1",),
        ("net.ipv4.tcp_tw_reuse=1\n",),
        ("net.ipv4.tcp_tw_reuse=\x1b[31m",),
        ("net.ipv4.tcp_rmem=1  2",),
        ("net.b=1", "net.a=1"),
        ("net.a=1", "net.a=2"),
        (f"net.a={'1' * 5000}",),
    ],
    ids=lambda texts: repr(texts)[:40],
)
def test_what_is_no_sysctl_of_a_namespace(texts: tuple[str, ...]) -> None:
    """In a request as in a file: another form, another order, a name twice, what would change a terminal's colour."""
    with pytest.raises(UsageError, match=r"(?s)--sysctl .* is not possible"):
        SYSCTLS.check(texts)
    with pytest.raises(ValueError, match="sysctls is "):
        check_spec(_with(SYSCTLS, texts))


@pytest.mark.parametrize(
    ("option", "read"),
    [
        (
            "net.ipv4.tcp_tw_reuse=0,1,2",
            ("net.ipv4.tcp_tw_reuse=0", "net.ipv4.tcp_tw_reuse=1", "net.ipv4.tcp_tw_reuse=2"),
        ),
        ("net.ipv4.tcp_tw_reuse=1,1", ("net.ipv4.tcp_tw_reuse=1",)),
        ("net.ipv4.ip_local_reserved_ports=8081,8080", ("net.ipv4.ip_local_reserved_ports=8080-8081",)),
        (
            "net.ipv4.ip_local_reserved_ports=;8080,9148",
            ("net.ipv4.ip_local_reserved_ports=", "net.ipv4.ip_local_reserved_ports=8080,9148"),
        ),
        ("net.a=1,2;3", ("net.a=1,2", "net.a=3")),
        ("net.ipv4.tcp_rmem=1\t2  3", ("net.ipv4.tcp_rmem=1 2 3",)),
    ],
)
def test_a_list_of_values(option: str, read: tuple[str, ...]) -> None:
    """A comma separates them in `sweep`; a semicolon does where a value has commas of its own."""
    assert load_type(SYSCTLS, is_list=True).convert(option, None, None) == read


@named
def test_a_label_says_what_is_not_usual(field: LoadField) -> None:
    """Each field has words of its own for a header."""
    several = {Unit.SHARES: (0.5, 1.0), Unit.SYSCTLS: ("net.core.somaxconn=9", "net.ipv6.conf.all.forwarding=1")}
    value = list(field.words)[-1] if field.words else several.get(field.unit, field.high)
    load = _load(field, value)
    assert field.label(value) in StrategySpec("bind", load=load).label
    assert field.label(value) not in StrategySpec("bind").label
