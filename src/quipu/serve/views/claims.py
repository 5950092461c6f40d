"""All that is said of models, with what is so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from quipu.errors import InvalidRequest
from quipu.evidence.claims import Judgement, card_claims, claims_about, counts, seed_claims
from quipu.evidence.judging import judge
from quipu.evidence.side import Side
from quipu.serve.evidence import Evidence, Moment
from quipu.serve.views.view import Asked, View, only

STATUSES = ("verified", "contradicted", "unmeasured")


def claims(evidence: Evidence, asked: Asked) -> View:
    """All that is said, with what is so."""
    only(asked, "model", "status")
    moment = evidence.now()
    status = asked.get("status", "")
    if status not in ("", *STATUSES):
        raise InvalidRequest(f"status is {status[:40]!r}; it must be one of {', '.join(STATUSES)}", param="status")
    side = moment.side(asked["model"]) if "model" in asked else None
    judged = judged_claims(moment, side)
    shown = [each for each in judged if status in ("", each.status)]
    told = {
        "model": side and side.card,
        "status": status,
        "counts": counted(judged),
        "judged": shown,
        "sources": [*_sources(shown, moment)],
    }
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    title = f"Claims about {side.title}" if side else "Claims"
    return View("claims", title, told, f"api/v1/claims{'?' + query if query else ''}", moment.snapshot)


def judged_claims(moment: Moment, side: Side | None) -> tuple[Judgement, ...]:
    """Every claim of the seed page and of all cards; of ``side`` only, if given."""
    if side is not None:
        said = claims_about(side.card)
    else:
        said = (*seed_claims(), *(each for card in moment.cards.values() for each in card_claims(card)))
    return judge(said, moment.cards, moment.snapshot, side.header if side else None)


def counted(judged: Sequence[Judgement]) -> dict[str, int]:
    """How many of each status, and in all."""
    return {str(status): number for status, number in counts(tuple(judged)).items()} | {"total": len(judged)}


def _sources(judged: Sequence[Judgement], moment: Moment) -> Iterable[dict[str, Any]]:
    """Claims by their source and place, in their order."""
    for source, found in groupby(judged, lambda each: each.claim.source):
        rows = tuple(found)
        name = source.removeprefix("card ")
        card = moment.cards.get(name)
        yield {
            "title": "The seed page: “Llama 3.2 3B Instruct vs Llama 4”"
            if card is None
            else f"The card of {card.title}",
            "about": "The comparison that these pages answer, sentence by sentence; no sentence of it is left out."
            if card is None
            else "Written in quipu’s own words from what is published.",
            "judged": rows,
            "places": [
                (place[:1].upper() + place[1:], [*each]) for place, each in groupby(rows, lambda each: each.claim.place)
            ],
        }
