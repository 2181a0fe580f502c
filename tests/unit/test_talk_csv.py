"""The talk author's CSV: written as he does, and read as he reads it."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbench.analysis.summary import summarize
from connbench.errors import InputError, UsageError
from connbench.findings import Severity
from connbench.model import StrategySpec
from connbench.report.formats import FORMATS
from connbench.results.result import Origin, Result
from connbench.results.talk_csv import check_one_round, is_talk_csv, read_talk_csv, talk_rows
from connbench.samples import UNKNOWN_ERRNO
from factories import BIND, PLAIN, result_of, round_of, samples_of, unhurried

Row = tuple[int, float]

rows = st.lists(st.tuples(st.integers(1, 65535) | st.just(-1), st.floats(0, 1000)), min_size=1, max_size=30)


def text_of(rows: list[Row]) -> str:
    """The author's file of these attempts."""
    return "".join(f"{port},{seconds}\n" for port, seconds in rows)


def authors_lines(rows: list[Row]) -> str:
    """The six lines as the author computes them, from his file's floats."""

    def latency(chosen: list[float]) -> str:
        lowest, highest, total = float("inf"), 0.0, 0.0
        for seconds in chosen:
            lowest, highest, total = min(lowest, seconds), max(highest, seconds), total + seconds
        if not chosen:
            return "latency min: infms max: 0ms avg: 0.0ms"
        in_ms = (round(seconds * 1000, 3) for seconds in (lowest, highest, total / len(chosen)))
        return "latency min: {}ms max: {}ms avg: {}ms".format(*in_ms)

    every = [seconds for _, seconds in rows]
    errored = [seconds for port, seconds in rows if port == -1]
    even = [seconds for port, seconds in rows if port != -1 and port % 2 == 0]
    odd = [seconds for port, seconds in rows if port != -1 and port % 2 == 1]
    return "\n".join(
        [
            f"connection attempts: {len(rows)} errored: {len(errored)} total: {len(even) + len(odd)}",
            f"total time: {round(sum(every), 3)}s",
            latency(every),
            f"even ports: {len(even)} {latency(even)}",
            f"odd ports: {len(odd)} {latency(odd)}",
            f"errored ports: {len(errored)} {latency(errored)}",
        ]
    )


MANY = [(-1 if i % 37 == 5 else 9024 + i, 1.1e-05 + i * 3.3e-07 + (i % 11) * 1.7e-06) for i in range(5000)]


@pytest.mark.parametrize(
    "rows",
    [
        MANY,
        [(9024, 1.5e-05)],
        [(9025, 2.884e-3), (9027, 1e-7), (-1, 0.000759)],
        [(-1, 0.0), (-1, 6.8e-05)],
        [(9024, 0.0)],
        [(9024, 3600.0), (9026, 0.0005)],
    ],
    ids=["many", "one", "odd and failed", "failed alone", "no time at all", "an hour"],
)
def test_six_lines_are_the_authors(rows: list[Row]) -> None:
    """The report of a talk CSV prints exactly what the author's own figures give: no latency is rounded before."""
    assert FORMATS["talk"](read_talk_csv(text_of(rows), "x.csv", "s")) == authors_lines(rows)


def test_total_is_rounded_to_whole_ns() -> None:
    """Fractions of a ns are added up first, and then rounded, not cut off."""
    [strategy] = read_talk_csv("9024,1.3e-09\n9026,1.3e-09\n", "x.csv", "s").strategies
    assert summarize(strategy).total_ns == 3
    assert summarize(strategy).rounds_total_ns == (3,)


def test_latency_between_two_figures_goes_where_the_author_has_it() -> None:
    """Halves of the last decimal, of which a float of seconds has a little more or less, are rounded as his."""
    for tenths_of_us in range(5, 5000, 10):
        rows = [(9024, float(f"{tenths_of_us}e-7"))]
        assert FORMATS["talk"](read_talk_csv(text_of(rows), "x.csv")) == authors_lines(rows)


@unhurried
@given(rows)
def test_what_is_read_is_written_back(rows: list[Row]) -> None:
    """Ports, failures and seconds survive reading and writing; his floats are within a fraction of a ns."""
    read = read_talk_csv(text_of(rows), "x.csv", "s")
    back = [line.split(",") for line in talk_rows(read).splitlines()]
    assert [int(port) for port, _ in back] == [port for port, _ in rows]
    assert [float(seconds) for _, seconds in back] == pytest.approx([s for _, s in rows], rel=1e-15, abs=1e-18)


@unhurried
@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=20))
def test_whole_ns_survive_the_authors_form(times: list[int]) -> None:
    """A run's own latencies, in whole ns, are the same ns after a conversion to seconds and back."""
    text = talk_rows(result_of({PLAIN: [round_of(samples_of(times, prepare_ns=[0] * len(times)))]}))
    [strategy] = read_talk_csv(text, "x.csv", "s").strategies
    assert strategy.samples.latency_ns.round().astype(int).tolist() == times


def test_failed_attempt_has_port_minus_1() -> None:
    """A failed attempt has port -1, and the time of the call that failed."""
    samples = samples_of([10_000, 0, 5_000], prepare_ns=[100, 2000, 100], errno=[0, errno.EADDRINUSE, errno.ETIMEDOUT])
    assert talk_rows(result_of({PLAIN: [round_of(samples)]})) == "9024,1e-05\n-1,2e-06\n-1,5e-06\n"


def test_attempts_are_taken_for_what_they_tell() -> None:
    """Each is one try, with an unknown errno if it failed, and follows the one before."""
    [strategy] = read_talk_csv("9024,2e-05\n-1,0.5\n65535,1E-3\n1,4\n", "folder/x.csv").strategies
    samples = strategy.samples
    assert strategy.strategy == StrategySpec("x")
    assert samples.port.tolist() == [9024, 0, 65535, 1]
    assert samples.errno.tolist() == [0, UNKNOWN_ERRNO, 0, 0]
    assert samples.connect_ns.tolist() == samples.acquire_ns.tolist() == pytest.approx([2e4, 5e8, 1e6, 4e9])
    assert samples.started_ns.tolist() == pytest.approx([0, 2e4, 500_020_000, 501_020_000])
    assert samples.tries.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "kernel", "strategy"),
    [
        ("1700000000-6.1.75.csv", "6.1.75", "1700000000-6.1.75"),
        ("/tmp/1700000000-6.8.0-rc1+.csv", "6.8.0-rc1+", "1700000000-6.8.0-rc1+"),  # noqa: S108  # a name, no file
        ("mine.csv", None, "mine"),
        ("-6.1.csv", None, "-6.1"),
    ],
)
def test_name_tells_the_kernel(name: str, kernel: str | None, strategy: str) -> None:
    """`EPOCH-KERNEL.csv` is how the author names his files."""
    result = read_talk_csv("9024,1e-05\n", name)
    assert (result.plan, result.origin, result.name) == (None, Origin.TALK_CSV, name)
    assert result.environment.get("kernel") == kernel
    assert [spec.name for spec in result.rounds] == [strategy]


def test_line_ends_of_windows_are_read() -> None:
    """A file that another system saved has the same content."""
    [strategy] = read_talk_csv("9024,1e-05\r\n9025,2e-05\r\n", "x.csv").strategies
    assert strategy.samples.port.tolist() == [9024, 9025]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("9024", "'9024' is not port,seconds"),
        ("9024,", "not port,seconds"),
        ("", "'' is not port,seconds"),
        ("9024,1e-", "not port,seconds"),
        ("9024,1.2.3", "not port,seconds"),
        ("9024,-0.1", "not port,seconds"),
        ("9024,nan", "not port,seconds"),
        ("9024,inf", "not port,seconds"),
        ("9024,fast", "not port,seconds"),
        ("9024,0.1,0", "not port,seconds"),
        ("9024;0.1", "not port,seconds"),
        ("9024.5,0.1", "not port,seconds"),
        ("9024,\u0661", "not port,seconds"),
        ("9024,1e999", "inf s is not a latency"),
        ("9024,1e30", "1e+30 s is not a latency"),
        ("9024,1e305", "inf s is not a latency"),
        ("70000,0.1", "70000 is not a port"),
        ("0,0.1", "0 is not a port"),
        ("-2,0.1", "-2 is not a port"),
        ("99999999999999999999,0.1", "not port,seconds"),
    ],
)
def test_what_the_author_never_wrote_is_refused(row: str, reason: str) -> None:
    """A row of another form is refused with the file's name and its line."""
    with pytest.raises(InputError) as refused:
        read_talk_csv(f"9024,0.1\n{row}\n9025,0.2\n", "folder/x.csv")
    assert refused.value.message.startswith("folder/x.csv, line 2: ")
    assert reason in refused.value.message
    assert refused.value.hint


def test_cut_off_row_is_found_even_if_it_looks_whole() -> None:
    """1.2e-0 is a number too, but not what was written: the line end after it is missing."""
    with pytest.raises(InputError, match=r"^x\.csv is cut off in line 2: it has no line break"):
        read_talk_csv("9024,1.2e-05\n9025,1.2e-0", "x.csv")


SHAPE = [(9024 + i if i % 9 else -1, 5e-6 if i < 60 else 2e-3) for i in range(100)]
"""Those of a plain run: fast, and from the middle on slow."""


def scaled(per_second: float, header: str = "", blank: str = "") -> str:
    """The same attempts with their times in another unit."""
    return header + "".join(f"{port},{blank}{seconds * per_second!r}\n" for port, seconds in SHAPE)


def told(text: str, unit: str | None = None) -> str:
    """The six lines of a file."""
    return FORMATS["talk"](read_talk_csv(text, "x.csv", unit))


@pytest.mark.parametrize(
    "header",
    [
        "port,seconds",
        "port, latency_s",
        "Port,Time",
        '"port","seconds"',
        "local_port,connect (sec)",
        "source port , latency",
    ],
)
def test_header_and_blanks_are_read(header: str) -> None:
    """A header line and blanks after the commas change nothing."""
    text = scaled(1, f"{header}\n", " ")
    assert is_talk_csv(header)
    assert is_talk_csv(text.splitlines()[1])
    assert told(text) == authors_lines(SHAPE)


@pytest.mark.parametrize(
    ("header", "per_second"),
    [
        ("port,latency_ms", 1e3),
        ("port,milliseconds", 1e3),
        ("port,connect_us", 1e6),
        ("port,latency (µs)", 1e6),
        ("port,\N{GREEK SMALL LETTER MU}s", 1e6),
        ("PORT,LATENCY_NS", 1e9),
        ("port,time in nanoseconds", 1e9),
    ],
)
def test_header_tells_the_unit(header: str, per_second: float) -> None:
    """The column's name has the unit, and there is no warning."""
    text = scaled(per_second, f"{header}\n")
    assert told(text) == authors_lines(SHAPE)
    assert read_talk_csv(text, "x.csv").known == ()


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_unit_settles_what_the_times_are(unit: str, per_second: float) -> None:
    """The option overrides any header, and there is no warning."""
    for header in ("", "port,latency_ms\n"):
        text = scaled(per_second, header)
        assert told(text, unit) == authors_lines(SHAPE)
        assert read_talk_csv(text, "x.csv", unit).known == ()


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        (scaled(1e6), "read as seconds, and the median connect() then takes 5.0 s"),
        (scaled(1e9), "read as seconds, and the median connect() then takes 1 h 23 min"),
        (scaled(1e12), "read as seconds, and the median connect() then takes 1388 h 53 min"),
        (scaled(1, "port,seconds\n").replace("e-06", ""), "read as seconds (its header says so), and the median"),
        (scaled(1, "port,latency_ns\n"), "read as nanoseconds (its header says so), and the median connect() then"),
        (scaled(1, "port,latency_us\n"), "takes 0.005 ns"),
    ],
)
def test_times_that_no_connect_takes_are_refused(text: str, takes: str) -> None:
    """Micro- or nanoseconds read as seconds are hours a connect(): the file is refused with the option that helps."""
    with pytest.raises(InputError) as refused:
        read_talk_csv(text, "x.csv")
    assert takes in refused.value.message
    assert "--unit s, ms, us or ns" in refused.value.hint


def test_infinite_times_are_refused_without_a_warning() -> None:
    """Times beyond what a float of ns holds, all or half of them, are refused like any that are too long."""
    for text in ("9024,1e305\n", "9024,1e305\n9025,1e999\n9026,0.1\n9027,0.1\n"):
        with pytest.raises(InputError, match=r"^x\.csv"):
            read_talk_csv(text, "x.csv")


def test_times_that_are_rather_long_are_doubted() -> None:
    """Milliseconds read as seconds could be those of a distant target: a warning names both remedies."""
    result = read_talk_csv(scaled(1e3), "x.csv")
    [doubt] = result.known
    assert (doubt.severity, "5.00 ms" in doubt.message, "--unit ms" in doubt.advice) == (Severity.WARNING, True, True)
    assert doubt.text in FORMATS["text"](result)
    assert read_talk_csv(scaled(1), "x.csv").known == ()


def test_no_more_than_a_header_holds_no_attempts() -> None:
    """The message about a file that ends after its header says so."""
    with pytest.raises(InputError, match=r"^x\.csv holds no attempts$"):
        read_talk_csv("port,seconds\n", "x.csv")


@pytest.mark.parametrize("rounds", [{PLAIN: 2}, {PLAIN: 1, BIND: 1}], ids=["two rounds", "two strategies"])
def test_more_than_one_round_has_no_such_file(rounds: dict[StrategySpec, int]) -> None:
    """The form cannot separate strategies or rounds."""
    some: Result = result_of(
        {spec: [round_of(samples_of([1]), i + 1) for i in range(number)] for spec, number in rounds.items()}
    )
    with pytest.raises(UsageError, match="contains one round of one strategy, and this result has 2"):
        talk_rows(some)


def test_one_round_is_never_refused() -> None:
    """A single round is always accepted."""
    check_one_round(1)
