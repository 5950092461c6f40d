"""Which of the served models are in memory: loaded when first asked for, unloaded when idle or when memory is short."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from quipu.engine.local import LocalModel
from quipu.engine.memory import return_freed_memory
from quipu.errors import EngineStopped, LoadFailed, NotEnoughMemory, QuipuError

log = logging.getLogger(__name__)

Source = LocalModel | Callable[[], LocalModel]
"""A model that is loaded already and stays, or what loads it."""
RETRY_SECONDS = 10
"""What a client is told to wait when a model does not fit beside those that are answering."""


class Loan:
    """A model that stays in memory until it is given back, which may be done twice."""

    def __init__(self, model: LocalModel, returned: Callable[[], None]) -> None:
        self.model = model
        self._returned: Callable[[], None] | None = returned

    def give_back(self) -> None:
        """The model is not needed any more."""
        returned, self._returned = self._returned, None
        if returned is not None:
            returned()

    def __enter__(self) -> LocalModel:
        return self.model

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.give_back()


@dataclass(eq=False, slots=True)
class Resident:
    """One served model. ``users`` are the requests that have it or wait for it; ``used`` is when the last one left."""

    name: str
    load: Callable[[], LocalModel] | None
    model: LocalModel | None = None
    users: int = 0
    used: float = 0.0
    loading: asyncio.Task[LocalModel] | None = None
    timer: asyncio.TimerHandle | None = None


class Residents:
    """The models of one server. Everything but ``close`` happens on the event loop; loading and closing in threads.

    ``models`` is kept as name -> model of those in memory. ``idle_seconds``: how long a model that can be loaded again
    stays without a request; None is for ever. One model is loaded or unloaded at a time, so that each plans its memory
    with what is really free.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        models: dict[str, LocalModel],
        idle_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._residents = {name: _resident(name, source) for name, source in sources.items()}
        self._models = models
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = asyncio.Lock()
        self._unloading: set[asyncio.Task[None]] = set()
        self._closed = False
        models.update({name: each.model for name, each in self._residents.items() if each.model is not None})

    async def borrow(self, name: str) -> Loan:
        """The model called ``name``, loaded if it is not; it is not unloaded before the loan is given back.

        Raises what loading raises (again when it is asked for again), NotEnoughMemory, LoadFailed, EngineStopped.
        """
        resident = self._residents[name]
        resident.users += 1
        self._stop_timer(resident)
        try:
            model = resident.model or await self._loaded(resident)
        except BaseException:
            self._return(resident)
            raise
        return Loan(model, partial(self._return, resident))

    def close(self) -> None:
        """Close every model; from any thread."""
        self._closed = True
        for model in list(self._models.values()):
            model.close()

    async def _loaded(self, resident: Resident) -> LocalModel:
        if resident.loading is None:
            resident.loading = asyncio.create_task(self._load(resident))
            resident.loading.add_done_callback(partial(_loading_ended, resident))
        # A client that leaves stops waiting; the others still get the model.
        return await asyncio.shield(resident.loading)

    async def _load(self, resident: Resident) -> LocalModel:
        async with self._lock:
            model = await self._load_making_room(resident)
            if self._closed:  # meanwhile, from another thread
                model.close()
                raise EngineStopped("the server is stopping")
            resident.model = self._models[resident.name] = model
            return model

    async def _load_making_room(self, resident: Resident) -> LocalModel:
        assert resident.load is not None
        while True:
            try:
                return await asyncio.to_thread(resident.load)
            except NotEnoughMemory as error:
                idle = [each for each in self._residents.values() if each.load and each.model and not each.users]
                if not idle:
                    raise self._refusal(resident, error) from None
                await self._unload(min(idle, key=lambda each: each.used))
            except QuipuError:
                raise
            except Exception as error:  # whatever a damaged file or a full machine raises, the waiting must hear of it
                log.error("%s could not be loaded", resident.name, exc_info=error)
                cause = str(error) or type(error).__name__
                raise LoadFailed(f"{resident.name} could not be loaded: {cause}; see the server's log") from error

    def _refusal(self, resident: Resident, error: NotEnoughMemory) -> NotEnoughMemory:
        others = ", ".join(self._models)
        if not others:
            return error
        return NotEnoughMemory(
            f"{resident.name} does not fit beside the models that are in use ({others}): {error}",
            retry_after=RETRY_SECONDS,
        )

    async def _unload(self, resident: Resident) -> None:
        """Only with the lock."""
        model, resident.model = resident.model, None
        assert model is not None
        del self._models[resident.name]
        self._stop_timer(resident)
        await asyncio.to_thread(model.close)
        del model
        return_freed_memory()

    def _return(self, resident: Resident) -> None:
        resident.users -= 1
        resident.used = self._clock()
        if resident.users or resident.model is None or resident.load is None or self._idle_seconds is None:
            return
        loop = asyncio.get_running_loop()
        resident.timer = loop.call_later(self._idle_seconds, self._idle, resident)

    def _idle(self, resident: Resident) -> None:
        resident.timer = None
        task = asyncio.create_task(self._unload_if_idle(resident))
        self._unloading.add(task)  # the event loop holds tasks weakly
        task.add_done_callback(self._unloading.discard)

    async def _unload_if_idle(self, resident: Resident) -> None:
        async with self._lock:
            # Used again while the lock was held, it has users or a new timer.
            if resident.model is not None and not resident.users and resident.timer is None:
                await self._unload(resident)

    @staticmethod
    def _stop_timer(resident: Resident) -> None:
        if resident.timer is not None:
            resident.timer.cancel()
            resident.timer = None


def _resident(name: str, source: Source) -> Resident:
    return Resident(name, None, source) if isinstance(source, LocalModel) else Resident(name, source)


def _loading_ended(resident: Resident, task: asyncio.Task[LocalModel]) -> None:
    resident.loading = None
    if not task.cancelled():
        task.exception()  # looked at, so that a failure nobody waited for is not reported a second time
