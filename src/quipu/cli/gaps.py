"""``quipu gaps``: what has not been measured, and what it would cost."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quipu.cli import comparing, options
from quipu.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from quipu.evidence.gaps import Gap

SUMMARY = "show what is unmeasured, and what measuring it costs"
USAGE = "quipu gaps [MODEL ...] [OPTIONS]"
DESCRIPTION = """\
Show the capabilities of which more should be known, of every config that was
measured or of those named: holes before depth, and then by weight for the time
that they take. Each line has the command that fills it."""
EXAMPLES = """\
examples:
  quipu gaps
  quipu gaps smollm2-135m-instruct --workload summarize=3,code=1
  quipu gaps --json"""

UNKNOWN = "—"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{comparing.SIDE_HELP} (all that was measured)")
    comparing.add_workload(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print them. Raises QuipuError."""
    from quipu.evidence.gaps import gaps, probe_counts
    from quipu.evidence.workload import workload

    weights = workload(arguments.workload)
    with options.evidence(arguments) as store:
        snapshot = store.snapshot()
    chosen = [comparing.measured(name, snapshot).id for name in arguments.models] or None
    found = gaps(snapshot, weights, probe_counts(tuple(weights.weights)), chosen)
    if arguments.json:
        print_json([each.as_dict() for each in found])
    elif found:
        print_table([("capability", "config", "label", "state", "missing", "minutes", "command"), *map(_row, found)])
    elif snapshot.configs:
        print("nothing: every capability of this workload was measured on all its probes")
    else:
        print("nothing was measured yet; begin with: quipu measure")


def _row(each: Gap) -> tuple[str, ...]:
    return (
        each.capability.removeprefix("capability://"),
        each.config[:12],
        each.label,
        f"{each.standing.state}, n {each.standing.n:,}",
        f"{each.missing:,}",
        UNKNOWN if each.minutes is None else f"{each.minutes:.1f}",
        each.command,
    )
