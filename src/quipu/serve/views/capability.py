"""Who is good at one capability."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from quipu.errors import CapabilityNotFound, did_you_mean
from quipu.evidence.alignment import unprobed
from quipu.evidence.rank import Ranking
from quipu.evidence.side import Side
from quipu.evidence.standing import standings
from quipu.evidence.workload import workload
from quipu.serve.evidence import Evidence, Moment, answering
from quipu.serve.views.rank import leading, ranking
from quipu.serve.views.view import Asked, View, by_config, only


def capability(evidence: Evidence, asked: Asked, name: str) -> View:
    """Who is good at one capability."""
    only(asked)
    moment = evidence.now()
    declared = [
        (each.title, moment.address(each), each.card.capabilities[name])
        for each in _one_per_card(moment.sides)
        if name in each.card.capabilities
    ]
    found = next((each for each in answering() if each.id == name), None)
    if found is None and not declared:
        declaring = {one for each in moment.cards.values() for one in each.capabilities}
        known = sorted({*(each.id for each in answering()), *declaring})
        hint = did_you_mean(name, known, f"there are {', '.join(known)}")
        raise CapabilityNotFound(f"there is no capability {name[:80]!r}; {hint}", param="capability")
    told: dict[str, Any] = {"heading": name.replace("_", " ").capitalize(), "uri": name, "capability": found}
    told |= {"declared": declared, "rows": [], "measured": 0, "baseline": None}
    told["lead"] = f"No model is ranked: {unprobed(name)}."
    if found is not None:
        order = ranking(moment, workload(f"{found.id}=1"))
        rows = list(_capability_rows(moment, order, found.uri))
        told |= {"heading": found.title, "uri": found.uri, "baseline": found.baseline, "rows": rows}
        told |= {"measured": sum(row["standing"].n > 0 for row in rows), "lead": leading(moment, order)}
    return View("capability", told["heading"], told, f"api/v1/capabilities/{name}", moment.snapshot)


def _capability_rows(moment: Moment, order: Ranking, uri: str) -> Iterable[dict[str, Any]]:
    sides = by_config(moment)
    for each in order.rows:
        side = sides[each.scored.config]
        [standing] = standings(moment.snapshot, each.scored.config, [uri])
        yield {"side": side, "address": moment.address(side), "standing": standing, "ranked": each}
    for side in moment.sides:
        if side.config is None:
            [standing] = standings(moment.snapshot, "", [uri])
            yield {"side": side, "address": moment.address(side), "standing": standing, "ranked": None}


def _one_per_card(sides: Iterable[Side]) -> list[Side]:
    return list({each.card.name: each for each in sides}.values())
