"""Failures as Ollama says them: {"error": "what is wrong"}."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from quipu.errors import QuipuError
from quipu.serve.json_route import JSONRoute
from quipu.serve.openai.errors import answer_to


def message_body(message: str) -> bytes:
    """The error as JSON. Half a surrogate pair, which an error may quote, is escaped instead of raising."""
    return json.dumps({"error": message}, ensure_ascii=False).encode("utf-8", "backslashreplace")


class OllamaRoute(JSONRoute):
    """A route whose failures have the status and the sentence of ours, in Ollama's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with its errors reshaped."""
        handle = super().get_route_handler()

        async def reshaped(request: Request) -> Response:
            headers = request.scope["headers"]
            if not any(
                name == b"content-type" for name, _ in headers
            ):  # Ollama does not ask for it; litellm sends none
                request.scope["headers"] = [*headers, (b"content-type", b"application/json")]
            try:
                return await handle(request)
            except (QuipuError, RequestValidationError, HTTPException) as error:
                answer = await answer_to(request, error)
            answer.body = message_body(json.loads(bytes(answer.body))["error"]["message"])
            answer.headers["content-length"] = str(len(answer.body))
            return answer

        return reshaped
