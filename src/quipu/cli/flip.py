"""``quipu flip``: the smallest change that would turn a verdict, and the command that buys it."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from quipu.cli import comparing, options
from quipu.cli.terminal import faint, one_line, print_json, print_table, printable

if TYPE_CHECKING:
    from quipu.evidence.flip import Flip

SUMMARY = "show what would turn the verdict on two models"
USAGE = "quipu flip A B [OPTIONS]"
DESCRIPTION = """\
Show the smallest change that would turn the verdict on two models: of the
workload, of how probes came out, or of what is measured, with its cost and the
command that buys it."""
EXAMPLES = """\
examples:
  quipu flip smollm2-135m-instruct llama-3.2-1b-instruct
  quipu flip 1f3a9c 77b0e2 --workload summarize=3,code=1 --margin 5
  quipu flip 1f3a9c 77b0e2 --json"""

UNKNOWN = "—"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("a", metavar="A", help=comparing.SIDE_HELP)
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("--margin", type=comparing.margin, metavar="POINTS", help="equal means within it (10)")
    comparing.add_workload(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print what would turn it. Raises QuipuError."""
    from quipu.evidence.compare import MARGIN, compare
    from quipu.evidence.flip import flip
    from quipu.evidence.gaps import probe_counts
    from quipu.evidence.workload import workload

    weights = workload(arguments.workload)
    with options.evidence(arguments) as store:
        snapshot = store.snapshot()
    a, b = (comparing.measured(name, snapshot).id for name in (arguments.a, arguments.b))
    margin = MARGIN if arguments.margin is None else arguments.margin
    found = flip(snapshot, compare(snapshot, a, b, weights, margin=margin), probe_counts(tuple(weights.weights)))
    if arguments.json:
        print_json(found.as_dict())
    else:
        _print(found)


def _print(found: Flip) -> None:
    for line in found.told:
        print(one_line(line))
    if found.shift is not None:
        print(printable(f"\nanother workload: {found.shift.told}\n  --workload {found.shift.text}"))
    if found.reversals:
        print("\nprobes that would have to come out otherwise")
        print_table([(each.capability.removeprefix("capability://"), each.told) for each in found.reversals])
    if found.purchases:
        print("\nevidence that would bring a verdict")
        print_table([("capability", "probes", "left", "minutes", "command"), *_purchases(found)])
    said = f"{found.judgement.workload.told}; {comparing.as_of(found.judgement)}"
    print(faint(f"\n{said}", sys.stdout))


def _purchases(found: Flip) -> list[tuple[str, ...]]:
    return [
        (
            each.capability.removeprefix("capability://"),
            f"{each.probes:,}",
            f"{each.available:,}",
            UNKNOWN if each.minutes is None else f"{each.minutes:.1f}",
            " && ".join(each.commands),
        )
        for each in found.purchases
    ]
