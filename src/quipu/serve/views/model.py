"""A model's passport, and the list of all models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quipu.evidence.alignment import unprobed
from quipu.evidence.change import commands_for
from quipu.evidence.claims import claims_about
from quipu.evidence.explain import explain
from quipu.evidence.gaps import gaps
from quipu.evidence.judging import judge
from quipu.evidence.seed_rows import seed_rows
from quipu.evidence.side import Side
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import standings
from quipu.evidence.workload import workload
from quipu.serve.evidence import Evidence, Moment, answering
from quipu.serve.evidence_templates import capital, words
from quipu.serve.views.claims import counted
from quipu.serve.views.compare import every_probe
from quipu.serve.views.rank import ranking
from quipu.serve.views.view import Asked, View, only


def models(evidence: Evidence, asked: Asked) -> View:
    """Everything that has a card or was measured."""
    only(asked)
    moment = evidence.now()
    order = ranking(moment, workload(None))
    scored = {each.scored.config: each.scored for each in order.rows}
    rows = [_model_row(moment, each, scored) for each in moment.sides]
    told = {
        "rows": rows,
        "measured": sum(row["side"].config is not None for row in rows),
        "empty": not moment.snapshot.configs,
        "capabilities": answering(),
    }
    return View("models", "Models", told, "api/v1/models", moment.snapshot)


def model(evidence: Evidence, asked: Asked, name: str) -> View:
    """A model's passport."""
    only(asked, "workload")
    moment = evidence.now()
    side = moment.side(name)
    config = side.config.id if side.config else ""
    wanted = workload(asked.get("workload"))
    explained = explain(moment.snapshot, config, wanted)
    said = judge(claims_about(side.card), moment.cards, moment.snapshot, side.header)
    address = moment.address(side)
    told = {
        "side": side,
        "address": address,
        "told": capital(explained.scored.told) if explained.scored.score is None else f"Score {explained.scored.told}",
        "explanation": explained,
        "rows": seed_rows(
            side.card, moment.snapshot, explained.scored.told if explained.scored.score else None, config or None
        ),
        "capabilities": _standings(moment.snapshot, side),
        "declared": sorted(side.card.capabilities.items()),
        "counts": counted(said),
        "contradicted": [each for each in said if each.status == "contradicted"],
        "gaps": gaps(moment.snapshot, wanted, every_probe(), [config]) if config else (),
        "others": [(each.title, moment.address(each)) for each in moment.sides if moment.address(each) != address],
        "commands": commands_for([side]),
    }
    return View("model", side.title, told, f"api/v1/models/{address}", moment.snapshot)


def _model_row(moment: Moment, side: Side, scored: Mapping[str, Any]) -> dict[str, Any]:
    cells = [] if side.config is None else [*moment.snapshot.of(side.config.id)]
    return {
        "side": side,
        "address": moment.address(side),
        "told": capital(scored[side.config.id].told) if side.config else "Unrated: never measured here",
        "measured": sum(bool(cell.outcomes) for cell in cells),
        "n": sum(len(cell.outcomes) for cell in cells),
    }


def _standings(snapshot: Snapshot, side: Side) -> list[dict[str, Any]]:
    measured = answering()
    found = standings(snapshot, side.config.id if side.config else "", [each.uri for each in measured])
    rows: list[dict[str, Any]] = [
        {"id": each.id, "title": each.title, "baseline": each.baseline, "standing": standing}
        for each, standing in zip(measured, found, strict=True)
    ]
    others = sorted(set(side.card.capabilities) - {each.id for each in measured})
    return rows + [
        {"id": each, "title": words(each).capitalize(), "baseline": None, "standing": None, "why": unprobed(each)}
        for each in others
    ]
