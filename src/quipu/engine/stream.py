"""An answer that is waited for, chunk by chunk, in the thread of who asked."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from quipu.engine.answers import Event
from quipu.engine.engine import Handle
from quipu.errors import QuipuError
from quipu.types import Chunk

if TYPE_CHECKING:
    from quipu.engine.local import LocalModel


class Stream(Iterator[Chunk]):
    """Chunks of one request as they come. Closing it, leaving its ``with`` block, or losing it aborts the request."""

    def __init__(self, model: LocalModel, handle: Handle, events: queue.SimpleQueue[Event], answers: int) -> None:
        self._model = model  # held, so that it is not closed while its answer is still coming
        self._handle = handle
        self._events = events
        self._unfinished = answers

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Chunk:
        if not self._unfinished:
            raise StopIteration
        event = self._events.get()
        if not self._unfinished:  # another thread closed it meanwhile
            raise StopIteration
        if isinstance(event, QuipuError):
            self.close()
            raise event
        if event.finish_reason is not None:
            self._unfinished = max(0, self._unfinished - 1)
        return event

    def close(self) -> None:
        """Abort what is not finished; iterating ends."""
        if self._unfinished:
            self._unfinished = 0
            self._handle.abort()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
