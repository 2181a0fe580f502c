"""From what was asked for to a `Plan`: defaults filled in, and everything checked that can be checked beforehand."""

from connbench.model import first_sources
from connbench.planner.planner import make_plan
from connbench.planner.request import CpuChoice, RunRequest
from connbench.planner.strategy_choice import only_supported

__all__ = ["CpuChoice", "RunRequest", "first_sources", "make_plan", "only_supported"]
