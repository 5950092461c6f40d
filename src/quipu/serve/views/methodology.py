"""The formulas, computed on what there is, and what there is for programs that read."""

from __future__ import annotations

from quipu.evidence.compare import ALPHA, MARGIN
from quipu.evidence.explain import FORMULA, explain
from quipu.evidence.needed import planned
from quipu.evidence.rank import COVERED
from quipu.evidence.standing import SOLID, THIN
from quipu.evidence.workload import workload
from quipu.serve.evidence import SEPARATOR, Evidence, answering
from quipu.serve.views.compare import comparing, suggested
from quipu.serve.views.view import Asked, View, named, only

PLANNED_FOR = (1, 4, 12)
"""Numbers of capabilities compared at once, for which the table of sample sizes is."""


def methodology(evidence: Evidence, asked: Asked) -> View:
    """The formulas, computed on what there is."""
    only(asked)
    moment = evidence.now()
    wanted = workload(None)
    sides = [each for each in moment.sides if each.config is not None]
    told = {
        "thin": THIN, "solid": SOLID, "covered": COVERED, "margin": MARGIN, "alpha": ALPHA, "formula": FORMULA,
        "capabilities": answering(),
        "workload": wanted,
        "example": explain(moment.snapshot, sides[0].config.id, wanted) if sides and sides[0].config else None,
        "example_side": sides[0] if sides else None,
        "pair": None,
        "planned_for": PLANNED_FOR,
        "planned": [
            (points, [planned(points / 100, ALPHA / count) for count in PLANNED_FOR]) for points in (5, 10, 20, 30)
        ],
    }  # fmt: skip
    if len(sides) > 1:
        found = comparing(evidence, moment, sides[0], sides[1], {})
        told["pair"] = found
        told["pair_address"] = SEPARATOR.join(moment.address(each) for each in sides[:2])
    return View("methodology", "Methodology", told, snapshot=moment.snapshot)


def llms(evidence: Evidence, asked: Asked) -> View:
    """What there is, for programs that read."""
    moment = evidence.now()
    told = {"rows": named(moment), "suggested": suggested(moment), "capabilities": answering()}
    return View("llms", "quipu", told, snapshot=moment.snapshot)
