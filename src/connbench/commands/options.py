"""The options that more than one command has, and the lists of options of `run`, `sweep` and `predict`.

Those of the load are made from the schema of its fields, `connbench.model.load.LOAD_FIELDS`.
"""

from __future__ import annotations

from copy import copy
from itertools import chain, product
from pathlib import Path
from typing import Any

import click

from connbench.commands.answers import kselftest_option
from connbench.commands.sections import Option, Section, option
from connbench.commands.values import Quantity, Word, Words, count, counts, instant, load_type, time
from connbench.errors import InputError, UsageError
from connbench.linux import sysctl
from connbench.model import (
    LOAD_FIELDS,
    MAX_JSON_INTEGER,
    MAX_PORT,
    MOST_CLIENT_NAMESPACES,
    NO_LOAD,
    Isolation,
    Link,
    Listener,
    Loop,
    Placement,
    PortRange,
    Reuse,
    Spread,
    parse_ports,
)
from connbench.model.load import LoadField, Unit
from connbench.model.plan import MOST_EHASH_ENTRIES
from connbench.planner.request import DEFAULT_SEED, CpuChoice
from connbench.report.formats import FORMATS, PROFILE_FORMATS
from connbench.strategies import DEFAULT_NAMES, STRATEGIES, Strategy, takers
from connbench.thresholds import Expression, parse
from connbench.units import NS_IN, PERCENT_FORM, parse_number, parse_percent
from connbench.wording import listed

VALUES_EPILOG = """\b
Values: a count is 10000, 10,000, 10k or 1e4; a time is 250us, 1ms, 5s, 2min
or 1.5h; a rate is 100/s, 10k/s or 600/min."""

LISTS_EPILOG = """\b
Values: a count is 10000, 10k or 1e4 (a comma separates values: 1,000 is not
a thousand here); a time is 250us, 1ms, 5s, 2min or 1.5h; a rate is 100/s."""

PORTS = "LOW-HIGH|host"
"""How --port-range is written."""

FORMAT_NAMES = tuple(FORMATS)

SWEEP_ROUNDS = 3
"""The smallest number of rounds whose median one disturbed round cannot change."""

DEFAULT_BUDGET = "1%"

FILE = click.Path(path_type=Path, readable=False)

TIMEOUT = time("s", ("1s", "5s", "30s"), allows=lambda s: 0.001 <= s <= 86_400, bounds="1ms to 24h")
DELAY = time(
    "ms",
    ("1ms", "10ms", "50ms"),
    allows=lambda ms: ms == 0 or 0.001 <= ms <= 900,
    bounds="1us to 900ms: after a second the kernel sends a SYN again",
)
EVERY = time("s", ("10s", "1min"), allows=lambda s: 0.001 <= s <= 86_400, bounds="1ms to 24h")
BUDGET = Quantity(
    "SHARE",
    parse_percent,
    PERCENT_FORM,
    allows=lambda share: 0 <= share <= 1,
    bounds="0% to 100%",
    examples=("0%", DEFAULT_BUDGET, "5%"),
)
NAMES = Words("NAME,...", STRATEGIES, refuses=False)


def read_ports(text: str | PortRange) -> PortRange:
    """Read `LOW-HIGH`, or `host` for net.ipv4.ip_local_port_range as it is on this host."""
    if isinstance(text, PortRange):
        return text
    return PortRange(*sysctl.read_port_range()) if text.strip() == "host" else PortRange.parse(text)


def read_nat_ports(text: str | PortRange) -> PortRange:
    """Read `LOW-HIGH`."""
    try:
        return text if isinstance(text, PortRange) else PortRange.parse(text)
    except UsageError as error:
        raise UsageError(f"--nat-ports {text}: {error.message}", "for example 1024-65535") from error


def _cpus(text: str | CpuChoice) -> tuple[int, ...] | CpuChoice:
    """Read the numbers of CPUs, or `none`."""
    if isinstance(text, CpuChoice):
        return text
    if text == CpuChoice.ANY.value:
        return CpuChoice.ANY
    try:
        return tuple(parse_number(part.strip()) for part in text.split(","))
    except ValueError as error:
        fault = f"--cpu {text!r} is neither CPUs' numbers nor none"
        raise UsageError(fault, "for example --cpu 1, or --cpu 0,1") from error


def _takers(parameter: str) -> str:
    return listed([strategy.name for strategy in takers(parameter)])


def _default_retries(strategy: Strategy) -> str:
    retries: str | int | None = strategy.default_retries
    if retries is None:
        retries = "each port once" if strategy.has_list else "until it has a port"
    return f"{strategy.name} {retries}"


_SHARING = listed([strategy.name for strategy in takers("reuse") if strategy.chooses_port])
_REUSE_HELP = {
    Reuse.ADDRESS: f"Give each socket SO_REUSEADDR before bind(), with {_takers('reuse')}. With {_SHARING} connections "
    "to several targets then share a port.",
    Reuse.PORT: "Give each socket SO_REUSEPORT in place of SO_REUSEADDR.",
}


def _choose_reuse(context: click.Context, parameter: click.Parameter, is_given: bool) -> None:  # click's
    """Set the field `reuse` of a request, which two options share.

    Raises:
        UsageError: Both are given.
    """
    if not is_given:
        return
    if "reuse" in context.params:
        raise UsageError(f"{' and '.join(one.argument for one in Reuse)} are both given", "leave one of them out")
    context.params["reuse"] = next(one for one in Reuse if one.argument in parameter.opts)


def _reuse_option(reuse: Reuse) -> Option:
    return option(
        Section.OPEN,
        reuse.argument,
        is_flag=True,
        expose_value=False,
        callback=_choose_reuse,
        help=_REUSE_HELP[reuse],
    )


def _flatten(_context: click.Context, _option: click.Parameter, given: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Join the strategies of repeated options."""
    return tuple(name for names in given for name in names)


def _flatten_once(context: click.Context, parameter: click.Parameter, given: tuple[tuple[str, ...], ...]) -> object:
    """Join them, each strategy once, as every other list of a sweep has each value once."""
    return tuple(dict.fromkeys(_flatten(context, parameter, given)))


def _one_of_each(
    context: click.Context, parameter: click.Parameter, given: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """The sysctls of repeated options, in ascending order of their names."""
    names = [text.partition("=")[0] for text in chain(*given)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--sysctl {twice} is given twice", "give it one value; connbench sweep takes a list")
    return next(iter(_combined(context, parameter, given)), ())


def _combined(
    _context: click.Context, _parameter: click.Parameter, given: tuple[tuple[str, ...], ...]
) -> tuple[tuple[str, ...], ...]:
    """Each combination of the values of repeated options; values of the same sysctl make one list."""
    by_name: dict[str, dict[str, None]] = {}
    for text in chain(*given):
        by_name.setdefault(text.partition("=")[0], {})[text] = None
    return tuple(product(*(by_name[name] for name in sorted(by_name)))) if given else ()


def _check_readable(_context: click.Context, _parameter: click.Parameter, files: tuple[Path, ...]) -> tuple[Path, ...]:
    """Check that files can be opened before anything else is done; their content is read later."""
    for file in files:
        try:
            file.open("rb").close()
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}", "name a result file") from error
    return files


class _Formats(Word):
    """The formats of a command."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401  # click's signature
        """The name of a format.

        Raises:
            EnvironmentFault: The library that makes this format is not installed.
        """
        chosen = super().convert(value, param, ctx)
        if chosen in FORMATS:  # other commands have some of these formats, too
            FORMATS[chosen].check(chosen)
        return chosen


def format_option(names: tuple[str, ...]) -> Option:
    """The option --format of a command that prints one of these formats; text is the default."""
    return option(
        Section.OUTPUT,
        "--format",
        "output_format",
        type=_Formats(names),
        default="text",
        show_default=True,
        metavar="FORMAT",
        help=f"Print {', '.join(names[:-1])} or {names[-1]}.",
    )


def fail_if_option(*, with_base: bool = False) -> Option:
    """The option --fail-if; `with_base` allows `base.p99` and `slower`, where a second run is compared."""

    def expression(text: str) -> Expression:
        return parse(text, with_base=with_base)

    return option(
        Section.GATE,
        "--fail-if",
        "thresholds",
        multiple=True,
        type=expression,
        metavar="EXPR",
        help="Exit with code 1 if this is true, as in 'p99 > 5ms' or 'window: errors > 2%'. Repeatable.",
    )


def save_option(text: str) -> Option:
    """The option -o of a command that saves a file; `text` is its help."""
    return option(Section.OUTPUT, "-o", "--output", type=FILE, metavar="FILE", help=text)


def load_option(field: LoadField, *, is_list: bool = False) -> Option:
    """The option of a field of the load; with `is_list` that of `sweep`, which takes a list."""
    default = (is_list and field.sweep_default) or field.default
    texts = (field.help, field.sweep_help if is_list else "", f" [default: {default}]" if default else "")
    several: dict[str, Any] = (
        {"multiple": True, "callback": _combined if is_list else _one_of_each} if field.unit is Unit.SYSCTLS else {}
    )
    return option(
        Section[field.section],
        *field.options,
        field.name,
        former=field.former,
        type=load_type(field, is_list=is_list),
        default=None if is_list else field.of(NO_LOAD),
        metavar=f"{field.metavar},..." if is_list else field.metavar,
        help=" ".join(filter(None, texts)),
        **several,
    )


def _load_options(section: Section) -> list[Option]:
    """The options of the load's fields that stand in a section of the help."""
    return [load_option(field) for field in LOAD_FIELDS if field.section == section.name]


unit_option = option(
    Section.INPUT,
    "--unit",
    type=Word(NS_IN, {"µs": "us", "\N{GREEK SMALL LETTER MU}s": "us"}),
    metavar="UNIT",
    help="Read the times of a CSV of port and time in this unit: s, ms, us or ns.  [default: as its header says, or s]",
)
strategy_option = option(
    Section.OPEN,
    "--strategy",
    "strategies",
    multiple=True,
    type=NAMES,
    callback=_flatten,
    help=f"Measure these strategies, in this order: {', '.join(STRATEGIES)}. Repeatable.  "
    f"[default: {','.join(DEFAULT_NAMES)}]",
)
seed_option = option(
    Section.OPEN,
    "--seed",
    type=count(high=MAX_JSON_INTEGER),
    help="Draw the windows and ports that another run with this seed drew. The kernel still decides which connection "
    "gets which port.  [default: random, and printed]",
)
cpu_option = option(
    Section.PLACE,
    "--cpu",
    "cpus",
    type=_cpus,
    metavar="N,...|none",
    default=CpuChoice.LAST,
    help="Connect on these CPUs, one for each client; none lets the scheduler choose.  [default: the last usable ones]",
)
loop_option = option(
    Section.PLACE,
    "--loop",
    type=Word([one.value for one in Loop], {one.language: one.value for one in Loop}, kind=Loop),
    metavar="c|python",
    help="Make the attempts with the loop in C, or with the same loop in Python.  [default: c, where it is built]",
)
output_option = save_option("Save the result to FILE (.json, .json.gz, .csv or .parquet) after every round.")
page_option = option(
    Section.OUTPUT,
    "--html",
    "page",
    type=FILE,
    metavar="FILE",
    help="Write one HTML page of all results to FILE (.html). It opens in any browser, also offline.",
)
force_option = option(Section.OUTPUT, "--force", is_flag=True, help="Replace output files that exist.")
quiet_option = option(Section.OUTPUT, "-q", "--quiet", is_flag=True, help="Show no progress bar.")


def algorithm_option(default: str) -> Option:
    """--algorithm, of the commands that simulate; `default` is what the help names as the default."""
    from connbench.portmodel.algorithm import ALGORITHMS  # most commands that load this module simulate nothing

    return option(
        Section.KERNEL,
        "--algorithm",
        type=Word(ALGORITHMS),
        metavar="NAME",
        help=f"Simulate this port search of connect(): {', '.join(ALGORITHMS)}.  [default: {default}]",
    )


calibrate_option = option(
    Section.KERNEL,
    "--calibrate",
    "calibrating",
    multiple=True,
    type=FILE,
    callback=_check_readable,
    metavar="FILE",
    help="Read the costs of a port from this file of connbench calibrate, or fit them to this result file. Repeatable "
    "for results.",
)


def reserved_ports_option(default: str) -> Option:
    """The option --reserved-ports of a command with this default."""
    return option(
        Section.PORTS,
        "--reserved-ports",
        "reserved",
        type=parse_ports,
        metavar="LIST",
        help="Leave out the ports that ip_local_reserved_ports names, as in 8080,30000-32767; '' for none.  "
        f"[default: {default}]",
    )


def tw_reuse_option(default: str) -> Option:
    """The option --tcp-tw-reuse of a command with this default."""
    return option(
        Section.KERNEL,
        "--tcp-tw-reuse",
        "tw_reuse",
        type=count("0|1|2", 0, 2),
        help="Allow connect() to reuse a port after a second in TIME_WAIT, as net.ipv4.tcp_tw_reuse says: 0 never, 1 "
        f"always, 2 over the loopback.  [default: {default}]",
    )


error_budget_option = option(
    Section.GATE,
    "--error-budget",
    "budget",
    type=BUDGET,
    default=DEFAULT_BUDGET,
    show_default=True,
    help="Allow this share of the attempts to fail, at each load.",
)
charts_option = option(
    Section.OUTPUT,
    "--charts",
    type=FILE,
    metavar="PREFIX",
    help="Draw the pictures PREFIX-windows.png and PREFIX-utilisation.png.",
)

RUN_OPTIONS = (
    strategy_option,
    *_load_options(Section.OPEN),
    option(
        Section.OPEN,
        "--window",
        type=count(low=1, high=MAX_PORT),
        help=f"Give each window N ports, with the strategies {_takers('window')}.  [default: 500]",
    ),
    option(
        Section.OPEN,
        "--placement",
        type=Word.of(Placement),
        metavar="WHERE",
        help="Place random windows inside the range, or let them be clipped at its ends.  [default: inside]",
    ),
    option(
        Section.OPEN,
        "--retries",
        type=count(),
        help=f"Make up to N more tries when one finds no port, with {_takers('retries')}.  "
        f"[default: {'; '.join(map(_default_retries, takers('retries')))}]",
    ),
    *map(_reuse_option, Reuse),
    option(
        Section.OPEN,
        "--from",
        "first_port",
        type=count(low=1, high=MAX_PORT),
        metavar="PORT",
        help=f"Start with this port of the range, with {_takers('first_port')}.  [default: the lowest]",
    ),
    option(
        Section.OPEN,
        "--stride",
        type=count("K", low=1, high=MAX_PORT),
        help=f"Use only the ports with port % K = R, with {_takers('stride')}.",
    ),
    option(
        Section.OPEN,
        "--residue",
        type=count("R", high=MAX_PORT - 1),
        help="Use the ports with this remainder, with --stride.  [default: 0]",
    ),
    seed_option,
    option(
        Section.OPEN,
        "--rounds",
        type=count(low=1),
        default=1,
        show_default=True,
        help="Measure all strategies N times, in turn.",
    ),
    option(
        Section.PORTS,
        "--port-range",
        type=read_ports,
        metavar=PORTS,
        help="Choose local ports from this range; host takes this host's.  "
        "[default: 9024-65535; in the host's namespace the host's]",
    ),
    option(
        Section.PORTS,
        "--source",
        metavar="ADDR,...",
        help="Connect from these addresses: also a range (A-B) or a network (A/28).  "
        "[default: 127.9.9.1; with --target the kernel's choice]",
    ),
    *_load_options(Section.PORTS),
    option(
        Section.PORTS,
        "--spread",
        type=Word.of(Spread),
        default=Spread.ROUND_ROBIN.value,
        show_default=True,
        metavar="HOW",
        help="Use the source addresses in turn (round-robin), or fill one after the other (fill).",
    ),
    option(
        Section.PORTS,
        "--target",
        "targets",
        multiple=True,
        metavar="HOST:PORT",
        help="Connect to this address and port. Repeatable: several are used in turn.  "
        "[default: connbench's own listener on 127.9.9.2]",
    ),
    option(Section.PORTS, "--allow-remote", is_flag=True, help="Allow a --target on another machine."),
    option(
        Section.PORTS,
        "--allow-host-route",
        is_flag=True,
        help="Connect to --target from a namespace of its own: each round adds a veth pair to the host's namespace "
        "and, where the target has no route back, a masquerade by nftables.",
    ),
    option(
        Section.PORTS,
        "--family",
        type=Word(["4", "6"], kind=int),
        metavar="4|6",
        help="Use IPv4 or IPv6.  [default: that of --target or --source, else 4]",
    ),
    *_load_options(Section.LOAD),
    option(
        Section.PLACE,
        "--isolate",
        type=Word.of(Isolation),
        default=Isolation.AUTO.value,
        show_default=True,
        metavar="WHEN",
        help="Create a network namespace for each round: always, never, or auto, which uses the host's if it has to.",
    ),
    option(
        Section.PLACE,
        "--listener",
        type=Word([Listener.BACKLOG.value, Listener.ACCEPT.value], kind=Listener),
        metavar="KIND",
        help="Start a listener that accepts each connection (accept), or leaves all in its queue (backlog).  "
        "[default: backlog, where somaxconn allows it]",
    ),
    option(
        Section.PLACE,
        "--link",
        type=Word.of(Link),
        default=Link.LOOPBACK.value,
        show_default=True,
        metavar="LINK",
        help="Connect over the loopback interface, over a veth pair to a second namespace (veth), over one to the "
        "host's, which routes on to --target (routed, with --allow-host-route), or from client namespaces through a "
        "router that masquerades (nat).",
    ),
    option(
        Section.PLACE,
        "--delay",
        "delay_ms",
        type=DELAY,
        default=0.0,
        help="Add this time to each round trip of --link veth or nat, by netem, as in 2ms. A number alone is in ms.",
    ),
    option(
        Section.PLACE,
        "--clients",
        type=count("K", low=1, high=MOST_CLIENT_NAMESPACES),
        help="Connect from K client namespaces at the same time, each with an address and ports of its own, through "
        "one router of --link nat.  [default: 1]",
    ),
    option(
        Section.PLACE,
        "--nat-ports",
        type=read_nat_ports,
        metavar="LOW-HIGH",
        help="Give the router of --link nat these ports, as masquerade to :LOW-HIGH does.  [default: the client's "
        "port, or where that is in use any from 1024 on]",
    ),
    option(
        Section.PLACE,
        "--nat-random",
        is_flag=True,
        help="Draw each port of the router of --link nat at random, as masquerade fully-random does.",
    ),
    option(
        Section.PLACE,
        "--ehash-entries",
        type=count(low=1, high=MOST_EHASH_ENTRIES),
        help="Give each round an established-hash table of its own, of N entries rounded up to a power of two (Linux "
        "6.1).  [default: the host's table]",
    ),
    *_load_options(Section.PLACE),
    cpu_option,
    loop_option,
    option(
        Section.PLACE,
        "--start-at",
        "start_at_us",
        type=instant(),
        help="Begin the first turn at this time: 09:30 (local time), 2026-11-29T09:30:00Z, or @SECONDS since 1970. A "
        "turn is a round of a strategy.  [default: at once]",
    ),
    option(
        Section.PLACE,
        "--start-every",
        type=EVERY,
        help="Begin each further turn so long after the one before, with --start-at.  [default: once that has ended]",
    ),
    option(
        Section.PLACE,
        "--timeout",
        type=TIMEOUT,
        default="5s",
        show_default=True,
        help="Fail a connect() that takes longer. A number alone is in seconds.",
    ),
    format_option(FORMAT_NAMES),
    output_option,
    force_option,
    option(Section.OUTPUT, "--plot", is_flag=True, help="Draw a chart of each strategy in the terminal, too."),
    quiet_option,
    fail_if_option(),
    kselftest_option,
)
"""The options of `connbench run`."""

_BY_NAME = {one.name: one for one in RUN_OPTIONS}


def _changed(name: str, **changes: Any) -> Option:  # noqa: ANN401  # attributes of click.Option
    """The option of `run` of that name, with other attributes."""
    changed = copy(_BY_NAME[name])
    vars(changed).update(changes)
    return changed


SWEEP_LISTS: dict[str | None, Option] = {
    one.name: one
    for one in (
        *(load_option(field, is_list=True) for field in LOAD_FIELDS if field.sweep),
        _changed(
            "strategies",
            callback=_flatten_once,
            help=f"Measure these strategies, in this order: {', '.join(STRATEGIES)}. Repeatable.  [default: window]",
        ),
        _changed("window", type=counts(low=1, high=MAX_PORT)),
        _changed("placement", type=Words.of(Placement, "WHERE,..."), metavar="WHERE,..."),
        _changed("retries", type=counts()),
        _changed(
            "rounds",
            default=SWEEP_ROUNDS,
            help="Measure all combinations N times, in turn. Each figure is that of the median round.",
        ),
        _changed(
            "output",
            help="Save the result to FILE (.json, .json.gz, .csv or .parquet), several times during the sweep and at "
            "its end.",
        ),
    )
}
"""What `sweep` has in place of the options of `run`, by name."""

SWEEP_OPTIONS = (
    *(SWEEP_LISTS.get(one.name, one) for one in RUN_OPTIONS),
    error_budget_option,
    charts_option,
    page_option,
)

wide_option = option(
    Section.OUTPUT,
    "--wide",
    is_flag=True,
    help="Show p99 and errors, too, at each level of a profile.",
)

_PROFILE = (
    "window",
    "placement",
    "retries",
    "reuse_address",
    "reuse_port",
    "stride",
    "residue",
    "protocol",
    "seed",
    "rounds",
    "port_range",
    "family",
    "sysctls",
    "cpus",
    "loop",
    "output",
    "force",
    "quiet",
    "thresholds",
    "kselftest",
)
"""The options of `run` that `profile` has; namespace and listener are always connbench's own."""

_PROFILE_CHANGES: dict[str | None, Option] = {
    "port_range": _changed(
        "port_range",
        default="host",
        help="Choose local ports from this range; host takes this host's.  [default: host]",
    ),
    "family": _changed("family", help="Use IPv4 or IPv6.  [default: 4]"),
}

PROFILE_OPTIONS = (
    _changed(
        "strategies",
        help=f"Measure these strategies, in this order: {', '.join(STRATEGIES)}. Repeatable.  "
        "[default: all that this kernel has]",
    ),
    *(load_option(field) for field in LOAD_FIELDS if field.part == "profile"),
    *(_PROFILE_CHANGES.get(name, _BY_NAME[name]) for name in _PROFILE),
    format_option(tuple(PROFILE_FORMATS)),
    wide_option,
    page_option,
)
"""The options of `connbench profile`."""

_MODEL = {
    "strategies",
    "port_range",
    "window",
    "placement",
    "retries",
    "reuse_address",
    "reuse_port",
    "first_port",
    "stride",
    "residue",
    "source",
    "family",
    "spread",
    "targets",
    "link",
    "seed",
    *(field.name for field in LOAD_FIELDS if field.is_predicted),
}
"""The options of `run` that decide a port search; the others say where and how it is measured."""

model_range_option = _changed(
    "port_range", help="Choose local ports from this range; host takes this host's.  [default: 9024-65535]"
)

_MODEL_CHANGES: dict[str | None, Option] = {
    "strategies": _changed(
        "strategies",
        help=f"Simulate these strategies, in this order: {', '.join(STRATEGIES)}. Repeatable.  "
        f"[default: {','.join(DEFAULT_NAMES)}]",
    ),
    "seed": _changed(
        "seed",
        default=DEFAULT_SEED,
        show_default=True,
        help="Draw the windows and ports that a run with this seed draws.",
    ),
    "port_range": model_range_option,
    "sysctls": _changed(
        "sysctls",
        help="Simulate a kernel with this setting, as in net.ipv4.tcp_tw_reuse=1, of those that the model heeds. "
        "Repeatable.",
    ),
}

MODEL_OPTIONS = tuple(_MODEL_CHANGES.get(one.name, one) for one in RUN_OPTIONS if one.name in _MODEL)
"""The options of `predict` that say what run is predicted."""
