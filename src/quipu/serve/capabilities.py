"""GET /v1/capabilities: what can be asked of the models; POST /v1/capabilities/{id}: ask it, one typed route each."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from quipu import capabilities
from quipu.capabilities.base import Capability, Delta, Event, Progress, Result
from quipu.errors import CapabilityNotFound, QuipuError
from quipu.serve.capability_call import CapabilityCall
from quipu.serve.capability_schema import CapabilityFields, card, input_of, request_of, result_of
from quipu.serve.json_route import JSONRoute
from quipu.serve.metrics import LEFT
from quipu.serve.openai.answer import usage_object
from quipu.serve.openai.errors import encoded, error_object
from quipu.serve.openai.generation import unless_disconnected
from quipu.serve.openai.sse import LiveStream, encode
from quipu.serve.service import Service

FIRST_SECONDS = 0.5
"""What fails so soon fails with its own status, also where a stream was asked for."""


def routes(service: Service) -> APIRouter:
    """The routes, for the models of ``service``. Raises InvalidConfiguration for a capability that cannot be used."""
    router = APIRouter(tags=["Capabilities"], route_class=JSONRoute)
    cards = {each.id: card(each) for each in capabilities.all_capabilities()}
    listed = encode({"object": "list", "data": list(cards.values())})
    running: set[CapabilityCall] = set()

    @router.get("/v1/capabilities", summary="What can be asked of the models", response_class=Response)
    async def list_capabilities() -> Response:
        return Response(listed, media_type="application/json")

    @router.get("/v1/capabilities/{id}", summary="One capability")
    async def capability(id: str) -> dict[str, Any]:  # noqa: A002 - the name in the address
        return cards[capabilities.find(id).id]

    for each in capabilities.all_capabilities():
        _add(router, service, each, running)

    @router.post("/v1/capabilities/{id}", include_in_schema=False)
    async def no_such_capability(id: str) -> None:  # noqa: A002
        capabilities.find(id)
        raise CapabilityNotFound(f"the capability {id} is newer than this server; start it again")

    return router


def _add(router: APIRouter, service: Service, capability: Capability, running: set[CapabilityCall]) -> None:
    """The route of one capability."""

    async def call(body: CapabilityFields, request: Request) -> Response:
        begun = await _begin(service, capability, body, request, running)
        answer = CapabilityAnswer(capability, request.scope["state"]["model"])
        try:
            if body.stream:
                await unless_disconnected(request.receive, begun.begun(FIRST_SECONDS))
                return CapabilityStream(begun, answer, service.keep_alive_seconds)
            result = await unless_disconnected(request.receive, begun.result())
        except BaseException:
            begun.abort()
            raise
        begun.abort()
        if result is None:
            return Response(status_code=LEFT)  # nobody reads it; the metrics count it
        return Response(encode(answer.whole(result)), media_type="application/json")

    call.__name__ = capability.id
    call.__annotations__["body"] = request_of(capability)
    router.add_api_route(
        f"/v1/capabilities/{capability.id}",
        call,
        methods=["POST"],
        summary=capability.title,
        description=capability.description,
        response_class=Response,
        responses={200: {"model": result_of(capability), "content": {"text/event-stream": {}}}},
    )


async def _begin(
    service: Service, capability: Capability, body: CapabilityFields, request: Request, running: set[CapabilityCall]
) -> CapabilityCall:
    """Find the model and start. Raises what is wrong with the request, by field name."""
    given, sampling = input_of(capability, body), body.options()
    loan = await service.borrow(body.model, request)
    try:
        service.limits.check(loan.model.sampling(sampling), [])
        clock = service.clock(request.scope["state"]["model"])
        begun = CapabilityCall(loan, capability, given, sampling, clock, service.limits, running)
    except BaseException:
        loan.give_back()
        raise
    request.scope["state"]["generation"] = begun  # for the log
    return begun


class CapabilityAnswer:
    """The objects of one call."""

    def __init__(self, capability: Capability, model: str) -> None:
        self._fields = {
            "id": f"cap-{uuid.uuid4().hex}",
            "object": "capability.result",
            "created": int(time.time()),
            "capability": capability.uri,
            "model": model,
        }

    def whole(self, result: Result) -> dict[str, Any]:
        """The result."""
        return {
            **self._fields,
            "output": result.output.model_dump(mode="json"),
            "text": result.text,
            "finish_reason": result.finish_reason,
            "notes": result.notes,
            "usage": usage_object(result.usage),
        }

    def event(self, event: Event) -> dict[str, Any]:
        """One event of a stream."""
        match event:
            case Progress():
                return {"type": "progress", "done": event.done, "total": event.total, "what": event.what}
            case Delta():
                return {"type": "delta", "text": event.text}
        return {"type": "result", **self.whole(event)}


class CapabilityStream(LiveStream):
    """Events with their types."""

    def __init__(self, call: CapabilityCall, answer: CapabilityAnswer, keep_alive_seconds: float) -> None:
        super().__init__(call, keep_alive_seconds)
        self._answer = answer

    async def frames(self, item: Event) -> Sequence[bytes]:
        """The event."""
        event = self._answer.event(item)
        return [self.frame(event, encode(event))]

    def error_frame(self, error: QuipuError) -> bytes:
        """The error, as an event with its type."""
        event: Mapping[str, Any] = {"type": "error", "error": error_object(error)}
        return b"data: " + encoded(event) + b"\n\n"
