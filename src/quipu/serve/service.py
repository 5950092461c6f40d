"""What every route shares: the models by served name, the metrics, the settings."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.requests import Request

from quipu.engine.local import LocalModel
from quipu.errors import InvalidRequest, ModelNotFound
from quipu.serve.limits import Limits
from quipu.serve.metrics import Clock, Metrics


class Service:
    """The models that one server offers. ``created`` is when it began to, in seconds since 1970."""

    def __init__(
        self, models: Mapping[str, LocalModel], keep_alive_seconds: float, limits: Limits | None = None
    ) -> None:
        if not models:
            raise InvalidRequest("there is no model to serve; name at least one", param="models")
        self.models = dict(models)
        self.metrics = Metrics(self.models)
        self.keep_alive_seconds = keep_alive_seconds
        self.limits = limits or Limits()
        self.created = int(time.time())

    def find(self, name: str | None, request: Request) -> LocalModel:
        """The model served as ``name``; None means the only one. Raises ModelNotFound, which lists the names."""
        if name is None and len(self.models) == 1:
            name = next(iter(self.models))
        if name not in self.models:
            asked = "no model was named" if name is None else f"the model {name[:200]!r} is not served here"
            raise ModelNotFound(f"{asked}; served: {', '.join(self.models)}", param="model")
        request.scope["state"]["model"] = name  # for the metrics
        return self.models[name]

    def clock(self, name: str) -> Clock:
        """Times the tokens of a request to the model served as ``name``, from now on."""
        return Clock(self.metrics, name)

    def close(self) -> None:
        """Close every model: what is still being generated ends with EngineStopped. Idempotent."""
        for model in self.models.values():
            model.close()
