"""``quipu compare``: which of two models is better, capability by capability, or that it cannot be told."""

from __future__ import annotations

import argparse
from pathlib import Path

from quipu.cli import comparing, options
from quipu.cli.measure import write
from quipu.cli.terminal import print_json

SUMMARY = "say which of two models is better, from what was measured"
USAGE = "quipu compare A B [OPTIONS]"
DESCRIPTION = """\
Compare two models on the probes that both were asked: which is better, equal
within a margin, or that it cannot be told and what would tell. What is claimed
of them is judged, speed, memory and price stand beside. Exits with 0 if there
is a verdict for the workload, and with 3 if it cannot be told."""
EXAMPLES = """\
examples:
  quipu compare llama-3.2-3b-instruct llama-4-scout
  quipu compare smollm2-135m-instruct ./coarser.gguf --workload summarize=3,code=1
  quipu compare 1f3a9c 77b0e2 --margin 5 --html comparison.html
  quipu compare smollm2-135m-instruct llama-3.2-1b-instruct --markdown > comparison.md
  quipu compare smollm2-135m-instruct llama-3.2-1b-instruct --json"""

CANNOT_TELL = 3
"""The exit code without a verdict, so that a pipeline can gate on it."""
PRINTED = Path("-")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("a", metavar="A", help=comparing.SIDE_HELP)
    parser.add_argument("b", metavar="B", help="the other one")
    parser.add_argument("--margin", type=comparing.margin, metavar="POINTS", help="equal means within it (10)")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page, too: one file, nothing beside it")
    parser.add_argument(
        "--markdown", type=Path, nargs="?", const=PRINTED, metavar="FILE", help="write Markdown, too; no FILE: print it"
    )
    comparing.add_workload(parser)
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> int:
    """Print the comparison and return the exit code. Raises QuipuError."""
    from quipu.evidence.cards import cards
    from quipu.evidence.compare import MARGIN
    from quipu.evidence.comparison import comparison
    from quipu.evidence.comparison_html import html
    from quipu.evidence.comparison_markdown import markdown
    from quipu.evidence.gaps import probe_counts
    from quipu.evidence.workload import workload

    if arguments.json and arguments.markdown == PRINTED:
        arguments.usage_error("--json and --markdown without a FILE both print; choose one")
    weights, known = workload(arguments.workload), cards()
    with options.evidence(arguments) as store:
        snapshot = store.snapshot()
        a, b = (comparing.side(name, known, snapshot) for name in (arguments.a, arguments.b))
        found = comparison(
            a,
            b,
            known,
            snapshot,
            weights,
            margin=MARGIN if arguments.margin is None else arguments.margin,
            probes=probe_counts(tuple(weights.weights)),
        ).told(store.observation)
    if arguments.html:
        write(arguments.html, html(found))
    if arguments.markdown not in (None, PRINTED):
        write(arguments.markdown, markdown(found))
    if arguments.json:
        print_json(found.as_dict())
    elif arguments.markdown == PRINTED:
        print(markdown(found), end="")
    else:
        from quipu.cli.comparison_table import console, show

        show(found, console())
    return 0 if found.decided else CANNOT_TELL
