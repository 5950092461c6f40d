"""One call of a capability: its work in a thread, what happens on the event loop, and one end for both."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from quipu.capabilities.base import Capability, Event, Input, Result
from quipu.errors import CapabilityFailed, QuipuError, ServerBusy, TookTooLong
from quipu.serve.borrowed import Borrowed
from quipu.serve.limits import Limits
from quipu.serve.metrics import Clock
from quipu.serve.residents import Loan
from quipu.types import Usage

log = logging.getLogger(__name__)


class CapabilityCall:
    """Iterating yields the events of one call; the last is its Result. See ``sse.Source``.

    Raises the QuipuError that ends it, CapabilityFailed for any other, and TookTooLong after the time that ``limits``
    give. Whoever holds one calls ``abort`` at the end, whatever happened. ``running`` are the calls in progress: this
    one is among them, and has the model, until its thread is done. Raises ServerBusy if there are too many.
    """

    def __init__(
        self,
        loan: Loan,
        capability: Capability,
        given: Input,
        sampling: Mapping[str, Any],
        clock: Clock,
        limits: Limits,
        running: set[CapabilityCall],
    ) -> None:
        if len(running) >= limits.calls:
            raise ServerBusy(
                f"{len(running)} calls of capabilities are in progress; this server takes {limits.told('calls')}. "
                "Try again shortly.",
                retry_after=5,
            )
        self._loan = loan
        self._capability = capability
        self._given = given
        self._sampling = sampling
        self._limits = limits
        self._running = running
        self._model = Borrowed(loan.model, limits, clock)
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + limits.request_seconds
        self._events: asyncio.Queue[Event | QuipuError] = asyncio.Queue()
        self._first: Event | None = None
        self._complete = False
        self._ended = False
        running.add(self)
        # One of its own: those that the event loop keeps are few, and this one may take half an hour.
        threading.Thread(target=self._work, name=f"quipu-{capability.id}", daemon=True).start()

    @property
    def given(self) -> list[Any]:
        """The input, for the log."""
        return [self._given.model_dump(mode="json")]

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return self._model.usage

    @property
    def first_token_seconds(self) -> float | None:
        """From the beginning to the first token."""
        return self._model.first_token_seconds

    def abort(self) -> None:
        """End the work: its blocks are free before the engine's next step."""
        self._ended = True
        self._model.hang_up()

    async def begun(self, seconds: float) -> None:
        """Wait until there is something to tell, at most so long. Raises the error that came instead."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._first = await self._next()

    async def result(self) -> Result:
        """Wait for the end."""
        async for event in self:
            if isinstance(event, Result):
                return event
        raise AssertionError("a call ends with its result or with an error")

    def __aiter__(self) -> CapabilityCall:
        return self

    async def __anext__(self) -> Event:
        if self._complete:
            raise StopAsyncIteration
        event, self._first = self._first or await self._next(), None
        self._complete = isinstance(event, Result)
        return event

    async def _next(self) -> Event:
        try:
            async with asyncio.timeout_at(self._deadline):
                event = await self._events.get()
        except TimeoutError:
            if self._loop.time() < self._deadline:
                raise
            raise TookTooLong.of(self._limits.request_seconds, "give it less", self._capability.id) from None
        if isinstance(event, QuipuError):
            raise event
        return event

    def _work(self) -> None:
        """In the thread."""
        try:
            self._tell(self._last())
        except QuipuError as error:
            self._tell(error)
        except Exception as error:  # whatever is wrong with a file that anyone may have written, the caller must hear
            if not self._ended:
                log.error("the capability %s failed", self._capability.id, exc_info=error)
            self._tell(_failed(self._capability, type(error).__name__))
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone
                self._loop.call_soon_threadsafe(self._done)

    def _last(self) -> Result | QuipuError:
        """Tell every event but the result, which is returned."""
        iterator: Any = self._capability.events(self._model, self._given, self._sampling)
        with closing(iterator) as events:
            for event in events:
                if isinstance(event, Result):
                    return event
                if self._ended:
                    break
                self._tell(event)
        return _failed(self._capability, "it ended without a result")

    def _tell(self, event: Event | QuipuError) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def _done(self) -> None:
        self._running.discard(self)
        self._loan.give_back()


def _failed(capability: Capability, why: str) -> CapabilityFailed:
    return CapabilityFailed(f"the capability {capability.id} failed: {why}; the server's log says more")
