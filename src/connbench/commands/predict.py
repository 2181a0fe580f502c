"""`connbench predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.core import ParameterSource

from connbench.commands.calibration_files import calibrate_from, fit_to, read_costs, warn_of_other_machine
from connbench.commands.messages import exit_code, width
from connbench.commands.options import (
    MODEL_OPTIONS,
    VALUES_EPILOG,
    algorithm_option,
    calibrate_option,
    format_option,
    reserved_ports_option,
    tw_reuse_option,
)
from connbench.commands.result_writer import Stdout, each, reserve
from connbench.commands.sections import Command, Section, option
from connbench.errors import UsageError
from connbench.model import Load, Protocol
from connbench.model.addresses import RESERVED_PORTS
from connbench.model.time_wait import ON_LOOPBACK, TW_REUSE, TimeWait
from connbench.planner.request import RunRequest
from connbench.portmodel.algorithm import ALGORITHMS, Algorithm, algorithm_of

if TYPE_CHECKING:
    from connbench.portmodel.prediction import Pair
    from connbench.report.charts.predicted import Overlay
    from connbench.results.output_file import Output


class _Sysctls(NamedTuple):
    """The kernel's settings that options name; None for those that they do not name."""

    reserved: frozenset[int] | None
    tw_reuse: int | None


@click.command("predict", cls=Command, epilog=VALUES_EPILOG, params=[*MODEL_OPTIONS])
@click.argument("file", required=False, type=click.Path(path_type=Path, readable=False), metavar="[RESULT]")
@algorithm_option("that of RESULT's kernel, else 6.8")
@reserved_ports_option("RESULT's, else none")
@tw_reuse_option("RESULT's, else 2")
@calibrate_option
@format_option(("text", "json"))
@option(
    Section.OUTPUT,
    "--chart",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Draw a chart to FILE (.png or .svg), too.",
)
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a chart that exists.")
@click.pass_context
def command(  # noqa: PLR0913  # one for each option
    context: click.Context,
    /,
    file: Path | None,
    algorithm: str | None,
    calibrating: tuple[Path, ...],
    output_format: str,
    chart: Path | None,
    *,
    reserved: frozenset[int] | None,
    tw_reuse: int | None,
    force: bool,
    **asked: Any,  # noqa: ANN401  # what the plan is made of
) -> int:
    """Predict what a run would measure, with a model of the kernel's port search.

    \b
      connbench predict --strategy plain,window
      connbench calibrate -o machine.json
      connbench predict --strategy plain --calibrate machine.json
      connbench predict RESULT --chart overlay.png

    It opens no socket and needs no root. For each strategy it prints errors, ports probed and the knee; with
    --calibrate also times. RESULT is a file of `connbench run -o`: predict then repeats its plan in the model, and
    prints the prediction beside the measured figures. Times are those of --calibrate, which takes a file of `connbench
    calibrate`, or results to fit them to; without it predict fits them to RESULT.
    """  # noqa: D301  # click wants the character \b itself
    chosen = ALGORITHMS[algorithm] if algorithm else None
    if force and not chart:
        raise UsageError("--force replaces a picture, and there is no --chart", "name the picture with --chart")
    chart_file = _check_chart(chart, force=force) if chart else None
    if algorithm and asked["protocol"] == Protocol.UDP:
        raise _no_search_of_udp()
    sysctls = _Sysctls(reserved, tw_reuse)
    _check_sysctls(asked["sysctls"], sysctls)
    if file is None:
        by = chosen or Algorithm.FROM_6_8
        printed, overlays = _of_plan(RunRequest(**asked), by, sysctls, calibrating, output_format)
    else:
        given = [one for one in MODEL_OPTIONS if _is_given(context, one.name)]
        if given:
            raise UsageError(
                f"{given[0].opts[-1]} and RESULT {file} both set what to predict",
                "leave one out; --calibrate names a file to fit the costs to, once for each",
            )
        printed, overlays = _of_file(file, chosen, sysctls, calibrating, output_format)
    stdout = Stdout()
    stdout.print(printed.rstrip("\n"))
    drawing = each(lambda: _draw(chart_file, overlays)) if chart_file else []
    return exit_code([*stdout.failures, *drawing], is_invalid=False)


def _check_sysctls(texts: tuple[str, ...], others: _Sysctls) -> None:
    """Check that the model heeds the sysctls of --sysctl, and that no other option names them.

    Raises:
        UsageError: It does not, or one does.
    """
    from connbench.portmodel.simulation import SETTINGS

    named = Load(sysctls=texts).settings
    for name in named:
        if name not in SETTINGS:
            raise UsageError(f"--sysctl {name}: the model does not heed it", f"it heeds {', '.join(SETTINGS)}")
    for option_name, name, value in (
        ("--reserved-ports", RESERVED_PORTS, others.reserved),
        ("--tcp-tw-reuse", TW_REUSE, others.tw_reuse),
    ):
        if value is not None and name in named:
            raise UsageError(f"{option_name} and --sysctl {name} both say the same", "leave one of them out")


def _no_search_of_udp() -> UsageError:
    return UsageError("--algorithm names a search of connect(), which UDP does not use", "leave out --algorithm")


def _is_given(context: click.Context, name: str | None) -> bool:
    return name is not None and context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _of_plan(
    request: RunRequest,
    algorithm: Algorithm,
    sysctls: _Sysctls,
    calibrating: tuple[Path, ...],
    output_format: str,
) -> tuple[str, list[Overlay]]:
    from connbench.planner.planner import plan_offline

    plan = plan_offline(request, sysctls.reserved or frozenset())

    from connbench.portmodel.calibration import usual_of
    from connbench.portmodel.prediction import predict
    from connbench.portmodel.simulation import KernelParameters
    from connbench.report.charts.predicted import Overlay
    from connbench.report.prediction_report import prediction_json, prediction_text

    calibration = calibrate_from(calibrating, request.protocol) if calibrating else None
    reuse = ON_LOOPBACK if sysctls.tw_reuse is None else sysctls.tw_reuse
    machine = KernelParameters(reserved=sysctls.reserved or frozenset(), time_wait=TimeWait(reuse))
    predictions = predict(plan, algorithm, machine)
    costs, words = (
        (calibration, "predicted")
        if calibration
        else (usual_of(request.protocol, algorithm), "predicted, by the usual costs")
    )
    overlays = [Overlay(f"{one.plan.strategy.label}: {words}", costs.samples(one), None) for one in predictions]
    if output_format == "json":
        return prediction_json(predictions, algorithm, calibration), overlays
    return prediction_text(predictions, algorithm, calibration, width()), overlays


def _of_file(
    file: Path,
    algorithm: Algorithm | None,
    sysctls: _Sysctls,
    calibrating: tuple[Path, ...],
    output_format: str,
) -> tuple[str, list[Overlay]]:
    from connbench.portmodel.agreement import agreement
    from connbench.portmodel.prediction import predict_result
    from connbench.report.charts.predicted import Overlay
    from connbench.report.prediction_report import agreement_json, agreement_text
    from connbench.results.input_file import read

    result = read(file, "s")  # any unit will do: a CSV has no plan, and is refused below
    release = result.kernel
    chosen = algorithm or algorithm_of(release)
    pairs = predict_result(result, chosen, sysctls.reserved, sysctls.tw_reuse)
    if algorithm and all(_protocol(pair) is Protocol.UDP for pair in pairs):
        raise _no_search_of_udp()
    costs_of = read_costs(calibrating) if calibrating else fit_to(pairs, result.environment, result.name)
    calibrations = {one: found for one in Protocol if (found := costs_of(one)) is not None}
    for one in calibrations.values():
        warn_of_other_machine(one, result.environment, result.name)
    compared = [(pair, agreement(pair, calibrations.get(_protocol(pair)))) for pair in pairs]
    overlays = [
        Overlay(
            one.label,
            pair.rounds[0][1],
            calibrations[_protocol(pair)].searched_ns(pair.rounds[0][0]) if _protocol(pair) in calibrations else None,
        )
        for pair, one in compared
    ]
    if output_format == "json":
        return agreement_json(result, compared, chosen, calibrations), overlays
    return agreement_text(result, compared, chosen, calibrations, width()), overlays


def _protocol(pair: Pair) -> Protocol:
    return pair.strategy.strategy.load.protocol


def _check_chart(chart: Path, *, force: bool) -> Output:
    from connbench.report.charts import canvas
    from connbench.results.output_file import PICTURE_SUFFIXES, format_of

    canvas.require()
    format_of(chart, PICTURE_SUFFIXES, "--chart")
    return reserve(chart, force=force, option="--chart")


def _draw(chart: Output, overlays: list[Overlay]) -> None:
    from connbench.report.charts.predicted import picture
    from connbench.results.output_file import PICTURE_SUFFIXES, format_of

    chart.save(picture(overlays, format_of(chart.path, PICTURE_SUFFIXES)))
