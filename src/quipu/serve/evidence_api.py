"""GET /api/v1/...: what the pages of evidence tell, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from quipu.evidence.claims import claims_about
from quipu.evidence.explain import explain
from quipu.evidence.judging import judge
from quipu.evidence.seed_rows import seed_rows
from quipu.evidence.side import Side
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.standing import standings
from quipu.evidence.workload import workload as weights_of
from quipu.serve.evidence import Evidence, Moment, answering
from quipu.serve.openai.sse import encode
from quipu.serve.views.capability import capability as capability_page
from quipu.serve.views.claims import claims as claims_page
from quipu.serve.views.compare import comparing
from quipu.serve.views.rank import placed
from quipu.serve.views.rank import ranking as everyone
from quipu.serve.views.view import asked, only

PREFIX = "/api/v1"

Weights = Annotated[str | None, Query(description="summarize=3,extract=1; equal weights unless given")]
Name = Annotated[str, Path(description="A card's name, the name something was measured under, or the start of its id")]


def routes(evidence: Evidence) -> APIRouter:
    """The API over ``evidence``. Every answer says which entry of the log it is as of."""
    router = APIRouter(prefix=PREFIX, tags=["Evidence"], default_response_class=Response)

    @router.get("/models", summary="Every model that has a card or was measured")
    def models(request: Request) -> Response:
        only(asked(request))
        moment = evidence.now()
        return _answer(moment.snapshot, {"data": [_model(moment, each) for each in moment.sides]})

    @router.get("/models/{name:path}", summary="One model: card, config, scores, claims")
    def model(request: Request, name: Name, workload: Weights = None) -> Response:
        only(asked(request), "workload")
        moment = evidence.now()
        return _answer(moment.snapshot, _passport(moment, moment.side(name), workload))

    @router.get("/capabilities", summary="What is measured")
    def capabilities(request: Request) -> Response:
        only(asked(request))
        return _answer(evidence.now().snapshot, {"data": [_capability(each.id) for each in answering()]})

    @router.get("/capabilities/{name}", summary="One capability, and how good each model is at it")
    def capability(request: Request, name: str) -> Response:
        view = capability_page(evidence, asked(request), name)
        rows = [
            {
                "id": row["address"],
                "title": row["side"].title,
                "standing": row["standing"].as_dict(),
                "place": row["ranked"] and placed(row["ranked"]),
            }
            for row in view.told["rows"]
        ]
        declared = [{"id": address, "title": title} for title, address, _ in view.told["declared"]]
        assert view.snapshot is not None
        return _answer(
            view.snapshot, {**_capability(name), "told": view.told["lead"], "models": rows, "declared": declared}
        )

    @router.get("/compare", summary="Two models, capability by capability")
    def compare(
        request: Request,
        a: Annotated[str, Query(description="as in /api/v1/models")],
        b: Annotated[str, Query(description="as in /api/v1/models")],
        workload: Weights = None,
        margin: Annotated[str | None, Query(description="points within which scores are equal; 10")] = None,
    ) -> Response:
        given = asked(request)
        only(given, "a", "b", "workload", "margin")
        moment = evidence.now()
        options = {name: value for name, value in given.items() if name not in ("a", "b")}
        found = comparing(evidence, moment, moment.side(a), moment.side(b), options)
        return _answer(moment.snapshot, found.as_dict())

    @router.get("/rank", summary="All measured models in order, for a workload")
    def ranking(request: Request, workload: Weights = None) -> Response:
        only(asked(request), "workload")
        moment = evidence.now()
        return _answer(moment.snapshot, everyone(moment, weights_of(workload)).as_dict())

    @router.get("/claims", summary="What is said of models, and whether it is so")
    def claims(
        request: Request,
        model: Annotated[str | None, Query(description="only what is said of it")] = None,
        status: Annotated[str | None, Query(description="verified, contradicted or unmeasured")] = None,
    ) -> Response:
        view = claims_page(evidence, asked(request))
        assert view.snapshot is not None
        data = [each.as_dict() for each in view.told["judged"]]
        return _answer(view.snapshot, {"counts": view.told["counts"], "data": data})

    @router.get("/observations/{number}", summary="One probe asked once, whole")
    def observation(request: Request, number: int) -> Response:
        only(asked(request))
        return _answer(evidence.now().snapshot, evidence.store.observation(number))

    return router


def _answer(snapshot: Snapshot, content: dict[str, Any]) -> Response:
    as_of = {"entry": snapshot.number, "hash": snapshot.hash, "at": snapshot.at}
    return Response(
        encode({**content, "as_of": as_of}), headers={"cache-control": "no-cache"}, media_type="application/json"
    )


def _model(moment: Moment, side: Side) -> dict[str, Any]:
    config = side.config
    cells: Sequence[Any] = () if config is None else [*moment.snapshot.of(config.id)]
    return {
        **side.as_dict(),
        "id": moment.address(side),
        "measured": {cell.capability: len(cell.outcomes) for cell in cells},
    }


def _passport(moment: Moment, side: Side, weights: str | None) -> dict[str, Any]:
    identifier = side.config.id if side.config else ""
    explained = explain(moment.snapshot, identifier, weights_of(weights))
    said = judge(claims_about(side.card), moment.cards, moment.snapshot, side.header)
    told = explained.scored.told if explained.scored.score is not None else None
    found = standings(moment.snapshot, identifier, [each.uri for each in answering()])
    return {
        **_model(moment, side),
        "card_file": side.card.as_dict(),
        "rows": [row.as_dict() for row in seed_rows(side.card, moment.snapshot, told, identifier or None)],
        "standings": [each.as_dict() for each in found],
        "score": explained.as_dict(),
        "claims": [each.as_dict() for each in said],
    }


def _capability(name: str) -> dict[str, Any]:
    found = next((each for each in answering() if each.id == name), None)
    if found is None:
        return {"id": name, "uri": None, "probes": False}
    return {
        "id": found.id,
        "uri": found.uri,
        "title": found.title,
        "description": found.description,
        "metric": found.metric,
        "binary": found.binary,
        "baseline": found.baseline,
        "baseline_name": found.baseline_name,
        "probes": True,
    }
