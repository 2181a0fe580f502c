"""The command `kernel-lab`: parse, call, print, exit code."""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import click

from connbench.errors import INTERRUPTIONS, ConnbenchError, ExitCode, OutputError, UsageError
from connbench.interrupts import Interrupts
from connbench.results.output_file import Output

from . import chart, commands, table
from .guests import CannotBoot, Job, Outcome, run_guest
from .image import write_image
from .kernel import UML, Kernel
from .kernels import SERIES, TRACER, check_series, fetch, install_tools, installed

kernel_option = click.option(
    "--kernel",
    "series",
    multiple=True,
    metavar="SERIES|NAME=FILE",
    help=f"Use this kernel; repeatable.  [default: {', '.join(SERIES)}]",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Boot real kernels, run connbench in each, and compare the results.

    A series is uml (Debian's user-mode-linux, a kernel that runs as a process) or the beginning of a version: 6.12, 7.
    A kernel of your own is a bzImage with a name for it: patched=arch/x86/boot/bzImage.

    \b
    Try:
      scripts/kernel-lab setup
      scripts/kernel-lab run -o lab
      scripts/kernel-lab run -o lab -- reproduce --quick
      scripts/kernel-lab run --kernel 6.1 --kernel 6.18 -o lab -- run --strategy range --port-range 20000-21999
      scripts/kernel-lab run --deterministic --kernel 6.18 --kernel patched=arch/x86/boot/bzImage -o lab

    \b
    Exit codes: 0 done; 2 wrong usage; 4 this machine cannot; 6 a kernel did
    not boot, or connbench failed in it; 7 the output; 8 no results.
    """  # noqa: D301  # click wants the character \b itself


@cli.command()
@kernel_option
def setup(series: tuple[str, ...]) -> int:
    """Install the tools, and fetch missing kernels. This machine goes on booting its own kernel."""
    chosen = _chosen(series)
    install_tools(chosen, _say)
    lacking = fetch(chosen, _say)
    for name in lacking:
        _say(f"{name}: Debian's mirror has no such kernel")
    return int(ExitCode.FAULT if lacking else ExitCode.OK)


@cli.command("list")
@kernel_option
def list_kernels(series: tuple[str, ...]) -> int:
    """List the kernels, and which of them are installed here."""
    rows = []
    for name in _chosen(series):
        kernel = installed(name)
        rows.append((kernel.series, kernel.version, str(kernel.image)) if kernel else (name, "to be fetched", "-"))
    for cells in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(cells, (6, 20, 0), strict=True)).rstrip())
    return int(ExitCode.OK)


@cli.command(context_settings={"ignore_unknown_options": True})
@kernel_option
@click.option("--deterministic", is_flag=True, help="Count instructions instead of time; uml cannot.")
@click.option("-o", "folder", type=click.Path(path_type=Path), default=Path("kernel-lab"), show_default=True)
@click.option(
    "--timeout", type=click.FloatRange(1), default=300.0, show_default=True, help="End a guest after this many seconds."
)
@click.option(
    "--sysctl", "settings", multiple=True, metavar="NAME=VALUE", help="Set this in the guest before the command."
)
@click.option("--force", is_flag=True, help="Write into a folder that already has results.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(  # noqa: PLR0913  # click hands over each option by its name
    series: tuple[str, ...],
    folder: Path,
    timeout: float,
    settings: tuple[str, ...],
    arguments: tuple[str, ...],
    *,
    deterministic: bool,
    force: bool,
) -> int:
    """Run connbench in each kernel, one after the other.

    Without arguments it runs plain, bind, window and range over 4,096 ports, half a minute per kernel; with arguments
    after a `--`, that command.
    """
    chosen = _chosen(series)
    if deterministic:
        if series and UML in series:
            raise UsageError("--deterministic cannot count uml's instructions", "leave --kernel uml out")
        chosen = tuple(name for name in chosen if name != UML)
    _make_folder(folder, force=force)
    install_tools(chosen, _say)
    lacking = fetch(chosen, _say)
    failures = [f"{name}: Debian's mirror has no such kernel" for name in lacking]
    with tempfile.TemporaryDirectory(prefix="connbench-lab-") as temporary:
        image = Path(temporary) / "image"
        write_image(image)
        for kernel in filter(None, map(installed, chosen)):
            command = commands.to_measure(kernel, arguments, deterministic=deterministic)
            job = Job(command, deterministic, timeout, settings)
            failures += _run_in(kernel, image, job, folder, is_named=kernel.series in series)
    with suppress(ConnbenchError):  # a command need not leave results
        rows, faults = table.read_rows(folder)
        print(f"\n{table.text(rows)}")
        failures += faults
        for remark in table.remarks(rows):
            _say(remark)
    for failure in failures:
        _say(failure)
    return int(ExitCode.FAULT if failures else ExitCode.OK)


@cli.command(context_settings={"ignore_unknown_options": True})
@kernel_option
@click.option(
    "--timeout", type=click.FloatRange(1), default=300.0, show_default=True, help="End a guest after this many seconds."
)
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set this variable for the tests.")
@click.option("--trace", "is_tracing", is_flag=True, help="Test connbench trace, with bpftrace; not in uml.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(
    series: tuple[str, ...],
    timeout: float,
    variables: tuple[str, ...],
    arguments: tuple[str, ...],
    *,
    is_tracing: bool,
) -> int:
    """Run the tests of the kernel's rules in each kernel, or pytest with the arguments after a `--`."""
    if is_tracing and UML in series:
        raise UsageError("uml has no kprobes to --trace with", "leave --kernel uml out")
    chosen = tuple(name for name in _chosen(series) if not (is_tracing and name == UML))
    install_tools(chosen, _say, TRACER if is_tracing else None)
    failures = [f"{name}: Debian's mirror has no such kernel" for name in fetch(chosen, _say)]
    with tempfile.TemporaryDirectory(prefix="connbench-lab-") as temporary:
        image = Path(temporary) / "image"
        write_image(image, TRACER if is_tracing else ())
        for kernel in filter(None, map(installed, chosen)):
            command, expected = commands.to_test(kernel, arguments, is_tracing=is_tracing)
            job = Job(command, timeout=timeout, environment=(*expected, *variables))
            is_named = kernel.series in series
            failures += _run_in(kernel, image, job, Path(temporary), is_named=is_named, is_test=True)
            print((Path(temporary) / kernel.series / "console.txt").read_text(encoding="utf-8", errors="replace"))
    for failure in failures:
        _say(failure)
    return int(ExitCode.FAULT if failures else ExitCode.OK)


@cli.command("table")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--markdown", is_flag=True, help="Print markdown.")
@click.option("--chart", "picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw a PNG as well.")
@click.option("--title", default="The parity cliff, kernel by kernel", show_default=True)
def show(folder: Path, picture: Path | None, title: str, *, markdown: bool) -> int:
    """Print one table, and draw one chart, of the results in FOLDER."""
    rows, faults = table.read_rows(folder)
    if picture:
        with Output(picture, force=True, option="--chart") as output:
            output.save(chart.draw(rows, title))
    print(table.markdown(rows) if markdown else table.text(rows), flush=True)
    for words in (*table.remarks(rows), *faults):
        _say(words)
    return int(ExitCode.INPUT if faults else ExitCode.OK)


def main() -> int:
    """Run the command; print a fault in one or two lines, and exit with its code."""
    Interrupts(immediate=True).install()
    try:
        return int(cli(prog_name="kernel-lab", standalone_mode=False) or 0)
    except ConnbenchError as error:
        _say(error.message + (f"\n  -> {error.hint}" if error.hint else ""))
        return int(error.exit_code)
    except click.ClickException as error:
        error.show()
        return int(ExitCode.USAGE)


def _run_in(kernel: Kernel, image: Path, job: Job, folder: Path, *, is_named: bool, is_test: bool = False) -> list[str]:
    """Run one guest, say how it went, and return what failed.

    A kernel that cannot boot on this processor is a failure only where the user named it.
    """
    place = folder / kernel.series
    _say(f"{kernel.series}: booting {kernel.version}")
    try:
        outcome = run_guest(kernel, image, job, place)
    except CannotBoot as error:
        if is_named:
            return [f"{error.message}\n  -> {error.hint}"]
        _say(f"{error.message}; left out")
        return []
    except ConnbenchError as error:
        if error.exit_code in INTERRUPTIONS:
            raise
        return [f"{error.message}\n  -> {error.hint}"]
    _say(_told(kernel, outcome))
    if outcome.status == ExitCode.OK or (outcome.status == ExitCode.UNSOUND and not is_test):
        return []
    who, where = ("pytest", "its console is above") if is_test else ("connbench", f"see {place / 'output.txt'}")
    return [f"{kernel.series}: {who} ended with {outcome.status}, {where}"]


def _told(kernel: Kernel, outcome: Outcome) -> str:
    return f"{kernel.series}: Linux {outcome.release}, up in {outcome.boot_s:.1f} s, done in {outcome.total_s:.1f} s"


def _chosen(series: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(map(check_series, series))) or SERIES
    names = [one.partition("=")[0] for one in chosen]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--kernel {name} is given to two kernels", "a name each: their results go into folders")
    return chosen


def _make_folder(folder: Path, *, force: bool) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"-o {folder} cannot be made: {error.strerror}", "name another folder") from error
    if any(folder.iterdir()) and not force:
        raise OutputError(f"-o {folder} is not empty", "name another folder, or add --force")


def _say(text: str) -> None:
    print(f"kernel-lab: {text}", file=sys.stderr)
