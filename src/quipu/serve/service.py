"""What every route shares: the models by served name, the metrics, the settings."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.requests import Request

from quipu.engine.local import LocalModel
from quipu.errors import InvalidRequest, ModelNotFound
from quipu.serve.limits import Limits
from quipu.serve.metrics import Clock, Metrics
from quipu.serve.remote_images import RemoteImages
from quipu.serve.residents import Loan, Residents, Source


class Service:
    """The models that one server offers. ``created`` is when it began to, in seconds since 1970."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        keep_alive_seconds: float,
        unload_after_seconds: float | None = None,
        limits: Limits | None = None,
        remote_images: RemoteImages | None = None,
    ) -> None:
        if not sources:
            raise InvalidRequest("there is no model to serve; name at least one", param="models")
        self.names = list(sources)
        self.models: dict[str, LocalModel] = {}
        """Those that are loaded now."""
        self._residents = Residents(sources, self.models, unload_after_seconds)
        self.metrics = Metrics(self.models)
        self.keep_alive_seconds = keep_alive_seconds
        self.limits = limits or Limits()
        self.remote_images = remote_images
        """What fetches pictures at addresses; None: nothing is fetched."""
        self.created = int(time.time())

    def find(self, name: str | None, request: Request) -> str:
        """The name under which ``name`` is served; None means the only one. Raises ModelNotFound with all names."""
        if name is None and len(self.names) == 1:
            name = self.names[0]
        if name not in self.names:
            asked = "no model was named" if name is None else f"the model {name[:200]!r} is not served here"
            raise ModelNotFound(f"{asked}; served: {', '.join(self.names)}", param="model")
        request.scope["state"]["model"] = name  # for the metrics
        return name

    async def borrow(self, name: str | None, request: Request) -> Loan:
        """The model served as ``name``, loaded if it is not; it stays until the loan is given back."""
        return await self._residents.borrow(self.find(name, request))

    def clock(self, name: str) -> Clock:
        """Times the tokens of a request to the model served as ``name``, from now on."""
        return Clock(self.metrics, name)

    def close(self) -> None:
        """Close every model: what is still being generated ends with EngineStopped. Idempotent."""
        self._residents.close()
