"""Run a plan in the network namespace that this process is in, and print the result as JSON: for tests.

usage: measured_plan.py PLAN, where PLAN is what `RoundPlan.to_dict` made, as JSON.
"""

import json
import sys
from contextlib import suppress

from connbench.errors import ConnbenchError
from connbench.interrupts import Interrupts
from connbench.model import RoundPlan
from connbench.report.json import json_document
from connbench.results.result import Result
from connbench.runner import run

plan = RoundPlan.from_dict(json.loads(sys.argv[1])).plan
result = Result(plan, {})
with suppress(ConnbenchError):  # the result says what ended the round
    run(plan, result, lambda _: None, lambda _: None, Interrupts())
print(json_document(result))  # noqa: T201  # stdout is how it tells
