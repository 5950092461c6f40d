"""``quipu rank``: who is best for a workload, as far as that can be told."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from quipu.cli import comparing, options
from quipu.cli.terminal import faint, print_json, print_table

if TYPE_CHECKING:
    from quipu.evidence.rank import Ranked, Ranking
    from quipu.evidence.snapshot import Snapshot

SUMMARY = "rank what was measured for a workload"
USAGE = "quipu rank [MODEL ...] [OPTIONS]"
DESCRIPTION = """\
Rank every config that was measured, or those named, from 0 to 100 for a
workload: score with its 95 % interval, coverage, and the interval of the rank.
One tier: nobody in it can be told from its best. Without evidence no score."""
EXAMPLES = """\
examples:
  quipu rank
  quipu rank --workload summarize=3,code=1
  quipu rank smollm2-135m-instruct llama-3.2-1b-instruct --json"""

HEADER = ("tier", "rank", "config", "label", "score", "bounds", "measured", "best", "n")
UNKNOWN = "—"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{comparing.SIDE_HELP} (all that was measured)")
    comparing.add_workload(parser)


def run(arguments: argparse.Namespace) -> None:
    """Print the ranking. Raises QuipuError."""
    from quipu.evidence.rank import rank
    from quipu.evidence.workload import workload

    weights = workload(arguments.workload)
    with options.evidence(arguments) as store:
        snapshot = store.snapshot()
    chosen = [comparing.measured(name, snapshot).id for name in arguments.models] or None
    ranking = rank(snapshot, weights, chosen)
    if arguments.json:
        print_json(ranking.as_dict())
    else:
        _print(ranking, snapshot)


def _print(ranking: Ranking, snapshot: Snapshot) -> None:
    if not ranking.rows:
        print("nothing was measured yet; begin with: quipu measure")
        return
    print_table([HEADER, *(_row(each, snapshot) for each in ranking.rows)])
    print(faint(f"{ranking.workload.told}; {comparing.as_of(ranking)}", sys.stdout))


def _row(each: Ranked, snapshot: Snapshot) -> tuple[str, ...]:
    scored = each.scored
    return (
        UNKNOWN if each.tier is None else str(each.tier),
        UNKNOWN if each.rank_low is None else _range(each.rank_low, each.rank_high),
        scored.config[:12],
        snapshot.configs[scored.config].label,
        "unrated" if scored.score is None else scored.told,
        f"{scored.lower_bound:.0f} to {scored.upper_bound:.0f}",
        f"{100 * scored.coverage:.0f} %",
        UNKNOWN if each.best is None else f"{100 * each.best:.0f} %",
        f"{scored.n:,}",
    )


def _range(low: int, high: int | None) -> str:
    return str(low) if high in (low, None) else f"{low}-{high}"
