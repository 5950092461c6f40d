"""``quipu explain``: where a score comes from, term by term."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from quipu.cli import comparing, options
from quipu.cli.terminal import faint, one_line, print_json, print_table, printable

if TYPE_CHECKING:
    from quipu.evidence.explain import Explanation
    from quipu.evidence.rank import Term

SUMMARY = "show every term of a score"
USAGE = "quipu explain MODEL [OPTIONS]"
DESCRIPTION = """\
Show where the score of a model comes from: for each capability weight, value,
95 % interval and n, how they add up, and the snapshot to compute it again from."""
EXAMPLES = """\
examples:
  quipu explain smollm2-135m-instruct
  quipu explain 1f3a9c --workload summarize=3,code=1
  quipu explain smollm2-135m-instruct --json"""

UNKNOWN = "—"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("model", metavar="MODEL", help=comparing.SIDE_HELP)
    comparing.add_workload(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the terms. Raises QuipuError."""
    from quipu.evidence.explain import explain
    from quipu.evidence.workload import workload

    weights = workload(arguments.workload)
    with options.evidence(arguments) as store:
        snapshot = store.snapshot()
    explanation = explain(snapshot, comparing.measured(arguments.model, snapshot).id, weights)
    if arguments.json:
        print_json(explanation.as_dict())
    else:
        _print(explanation)


def _print(explanation: Explanation) -> None:
    print(one_line(f"{explanation.label} ({explanation.scored.config[:12]}): {explanation.scored.told}"))
    print_table(
        [
            ("capability", "weight", "score", "95 % interval", "n", "state", "points"),
            *(_row(each) for each in explanation.scored.terms),
        ]
    )
    for line in explanation.sums:
        print(printable(line))
    said = f"{explanation.workload.told}; {comparing.as_of(explanation)}"
    print(faint(said, sys.stdout))


def _row(each: Term) -> tuple[str, ...]:
    found = each.standing
    return (
        each.capability.removeprefix("capability://"),
        f"{each.weight:.3f}",
        UNKNOWN if found.mean is None else f"{100 * found.mean:.1f} %",
        f"{100 * found.low:.1f} to {100 * found.high:.1f} %" if found.n else UNKNOWN,
        f"{found.n:,}",
        found.state,
        UNKNOWN if each.points is None else f"{each.points:.2f}",
    )
