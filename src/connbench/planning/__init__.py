"""From what was asked for to a `Plan`: defaults filled in, and everything checked that can be checked beforehand."""

from connbench.model import first_sources
from connbench.planning.choice import only_supported
from connbench.planning.make import make_plan
from connbench.planning.request import CpuChoice, Request

__all__ = ["CpuChoice", "Request", "first_sources", "make_plan", "only_supported"]
