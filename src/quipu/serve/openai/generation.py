"""One HTTP request at the engine: its prompts are submitted together, heard on the event loop, and end together."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.types import Receive

from quipu.engine.answers import Event
from quipu.engine.engine import Handle
from quipu.errors import QuipuError, TookTooLong
from quipu.serve.limits import Limits
from quipu.serve.metrics import Clock
from quipu.serve.remote_images import RemoteImages
from quipu.serve.residents import Loan
from quipu.tools.tool import ToolUse
from quipu.types import Chunk, Completion, Prompt, Sampling, Usage, is_conversation

if TYPE_CHECKING:
    from quipu.engine.grammar import Grammar

Result = TypeVar("Result")


class Generation:
    """Chunks of all answers to all prompts, in the order in which the engine makes them.

    Iterating yields (prompt, chunk): the place of the prompt, and the chunk of one of its ``sampling.n`` answers.
    ``grammar`` constrains all answers. ``remote_images`` fetches pictures that are only named by their address.

    Raises the QuipuError that ends any of them, TookTooLong after the time that ``limits`` give. Whoever holds one
    calls ``abort`` at the end, whatever happened.
    """

    def __init__(
        self,
        loan: Loan,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        clock: Clock,
        limits: Limits,
        grammar: Grammar | None = None,
        use: ToolUse | None = None,
        remote_images: RemoteImages | None = None,
    ) -> None:
        self._remote_images = remote_images
        self.model = loan.model
        self.sampling = sampling
        self.prompts: list[list[int]] = []
        """Token ids of each prompt."""
        self._loan = loan
        self._use = use
        self._grammar = grammar
        self.given = prompts
        self.usage = Usage()
        """Tokens of what is complete so far."""
        self.first_token_seconds: float | None = None
        self._start = time.perf_counter()
        self._clock = clock
        self._limits = limits
        self._grammar = grammar
        self._handles: list[Handle] = []
        self._unfinished = len(prompts) * sampling.n
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + limits.request_seconds
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    async def start(self) -> Generation:
        """Tokenize and submit, in a thread because a long prompt takes a while. Raises what is wrong with it."""
        try:
            await asyncio.to_thread(self._submit)
        except BaseException:
            self.abort()
            raise
        return self

    def abort(self) -> None:
        """Stop what is not finished; its blocks are free before the engine's next step. The model is given back."""
        self._loan.give_back()
        if self._unfinished:
            self._unfinished = 0
            for handle in self._handles:
                handle.abort()

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> tuple[int, Chunk]:
        if not self._unfinished:
            raise StopAsyncIteration
        try:
            async with asyncio.timeout_at(self._deadline):
                place, event = await self._events.get()
        except TimeoutError:
            raise TookTooLong.of(self._limits.request_seconds, "ask for fewer tokens") from None
        if isinstance(event, QuipuError):
            raise event
        if event.finish_reason is not None:
            self._unfinished -= 1
        if self.first_token_seconds is None and event.token_ids:
            self.first_token_seconds = time.perf_counter() - self._start
        if event.usage is not None:
            self.usage += event.usage
        self._clock.heard((place, event.index), len(event.token_ids))
        return place, event

    async def completions(self) -> list[Completion]:
        """All answers, whole, by prompt."""
        chunks: list[list[Chunk]] = [[] for _ in self.given]
        async for place, chunk in self:
            chunks[place].append(chunk)
        return [Completion.of(iter(of_prompt)) for of_prompt in chunks]

    def _submit(self) -> None:
        self._limits.check(self.sampling, self.given)
        self.model.check_room(len(self.given) * self.sampling.n)
        for prompt in self.given:
            self.model.check_length(prompt)
        if self._remote_images is not None and self.model.sees:
            self.given = [self._remote_images.fetched(prompt) for prompt in self.given]
        # All are tokenized before any is submitted: a fault in the last prompt costs the engine nothing.
        self.prompts = [self.model.prompt_ids(prompt, self._use) for prompt in self.given]
        for place, (given, ids) in enumerate(zip(self.given, self.prompts, strict=True)):
            deliver = partial(self._deliver, place)
            continues = not is_conversation(given)
            handle = self.model.submit(
                ids, self.sampling, deliver, use=self._use, continues=continues, grammar=self._grammar
            )
            self._handles.append(handle)
            if not self._unfinished:  # aborted while this thread was busy
                handle.abort()

    def _deliver(self, place: int, event: Event) -> None:
        """Called from the engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the server is gone, and nobody listens
            self._loop.call_soon_threadsafe(self._events.put_nowait, (place, event))


async def unless_disconnected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result | None:
    """The result of ``work``, which is cancelled, with None as the result, as soon as the client is gone."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.wait((working, watching))


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
