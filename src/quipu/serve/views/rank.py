"""Everyone in order, for a workload."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from quipu.evidence.rank import COVERED, Ranked, Ranking, rank
from quipu.evidence.workload import Workload, workload
from quipu.serve.evidence import SEPARATOR, Evidence, Moment, answering
from quipu.serve.views.view import Asked, View, by_config, only

STRONGEST = 5
"""The most that a slider goes to."""


def ranked(evidence: Evidence, asked: Asked) -> View:
    """Everyone in order, for a workload."""
    only(asked, "workload")
    moment = evidence.now()
    wanted = workload(asked.get("workload"))
    order = ranking(moment, wanted)
    sides = by_config(moment)
    rows: list[dict[str, Any]] = [
        {"ranked": each, "side": sides[each.scored.config], "address": moment.address(sides[each.scored.config])}
        for each in order.rows
    ]
    names = [(row["side"].title, row["address"]) for row in rows]
    query = f"?workload={wanted.text}" if wanted.source == "stated" else ""
    told = {
        "ranking": order,
        "rows": rows,
        "lead": leading(moment, order),
        "covered": COVERED,
        "sliders": _sliders(wanted.weights),
        "query": query,
        "pairs": [(f"{a[0]} vs {b[0]}", f"{a[1]}{SEPARATOR}{b[1]}") for a, b in combinations(names[:3], 2)],
        "unmeasured": [(each.title, moment.address(each)) for each in moment.sides if each.config is None],
    }
    return View("rank", "Rank", told, f"api/v1/rank{query}", moment.snapshot)


def ranking(moment: Moment, wanted: Workload) -> Ranking:
    """Everyone who was measured, in order."""
    return moment.keep(("rank", wanted.source, wanted.text), lambda: rank(moment.snapshot, wanted))


def leading(moment: Moment, order: Ranking) -> str:
    """One sentence: who is ahead, as far as that can be told."""
    first = [each for each in order.rows if each.tier == 1]
    rated = [each for each in order.rows if each.tier is not None]
    if not order.rows:
        return "Nothing has been measured yet, so nobody is ahead."
    if not rated:
        return "Nobody has been measured on enough of it for a place: there are bounds only."
    names = [by_config(moment)[each.scored.config].title for each in first]
    if len(rated) == 1:
        return f"Only {names[0]} has been measured on enough of it: there is no other to be better than."
    if len(first) == 1:
        others = [by_config(moment)[each.scored.config].title for each in rated if each.tier != 1]
        return f"{names[0]} is ahead of {others[0] if len(others) == 1 else f'all {len(others)} others'}."
    return f"{', '.join(names[:-1])} and {names[-1]} cannot be told apart at the top."


def placed(ranked: Ranked) -> dict[str, Any]:
    """A place among others, for JSON."""
    return {name: getattr(ranked, name) for name in ("tier", "rank_low", "rank_high", "best")}


def _sliders(weights: Mapping[str, float]) -> list[dict[str, Any]]:
    """Where the sliders stand for these weights: the smallest is 1, as far as whole steps go."""
    smallest = min((weight for weight in weights.values() if weight > 0), default=1.0)
    scale = min(1 / smallest, STRONGEST / max([*weights.values(), smallest]))
    return [
        {
            "id": each.id,
            "title": each.title,
            "share": weights.get(each.uri, 0.0),
            "value": _step(weights.get(each.uri, 0.0) * scale),
        }
        for each in answering()
    ]


def _step(weight: float) -> int:
    return 0 if weight == 0 else max(1, round(weight))
