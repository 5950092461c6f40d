"""The loop: takes requests from any thread, runs one step after another in its own, tells the listeners.

Knows token ids only: text is ``local.py``'s and ``text_stream.py``'s business, HTTP is the server's.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from collections.abc import Sequence as Tokens
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quipu.engine.decoding import Decoding
from quipu.engine.kv_cache import KVCache, blocks_for, chunk_blocks_for
from quipu.engine.pictures import Pictures
from quipu.engine.request import Listener, Sequence, Status
from quipu.engine.runner import BLOCK_SIZE, PoolSize, Runner, Span
from quipu.engine.scheduler import PROMPT_TOKENS, Scheduler
from quipu.engine.speculate import Drafter, Speculation
from quipu.errors import CannotSee, ContextLengthExceeded, EngineStopped, InvalidRequest, QuipuError
from quipu.model.image_tokens import PlacedImage
from quipu.types import FinishReason, Sampling

if TYPE_CHECKING:
    from quipu.engine.grammar import Guide

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A look at the engine: what runs and waits now, blocks in use, and totals since the start."""

    running: int
    waiting: int
    blocks_used: int
    blocks: int
    steps: int
    step_seconds: float
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    finished: int
    aborted: int
    failed: int
    preempted: int
    drafted_tokens: int
    accepted_tokens: int
    verifications: int
    encoded_images: int


FORCED_TOKENS = 128
"""Most tokens that grammars force in one step, of all its answers: the others wait for them."""
HELP_SECONDS = 0.0005
"""Masks that take less, all of a step, are computed between steps: a thread that wakes costs as much (docs/log.md)."""
_TOTALS = ("steps", "prompt_tokens", "cached_tokens", "generated_tokens", "finished", "aborted", "failed")


class Handle:
    """A submitted request; ``abort`` may be called from any thread, any number of times."""

    def __init__(self, engine: Engine, sequences: list[Sequence]) -> None:
        self._engine = engine
        self.sequences = sequences

    def abort(self) -> None:
        """Stop generating: blocks are free before the next step. Listeners hear ``finished`` with reason abort."""
        self._engine.abort(self.sequences)


class Engine:
    """Runs sequences on ``runner`` with continuous batching.

    ``context_length`` bounds prompt plus answer, in tokens; the runner's cache must hold at least one such context.
    ``end_ids`` end an answer. ``vocabulary``: ids from it on are padding of the output layer and never drawn
    (default: the runner's width). ``drafter`` guesses tokens ahead, which are verified as ``speculate.py`` says;
    no more than ``speculative_tokens`` tokens of answers are in a step then, guesses included. The engine closes it.
    ``chunk``: positions of a chunk, where the runner has layers whose attention is chunked.
    Raises InvalidRequest if the cache is too small.
    """

    def __init__(
        self,
        runner: Runner,
        *,
        context_length: int,
        end_ids: Collection[int] = (),
        vocabulary: int | None = None,
        concurrency: int = 16,
        queue: int = 256,
        prompt_tokens: int = PROMPT_TOKENS,
        mixed_prompt_tokens: int = 128,
        drafter: Drafter | None = None,
        speculative_tokens: int = 32,
        chunk: int | None = None,
    ) -> None:
        step = max(prompt_tokens, speculative_tokens)
        _check_cache(runner.pool, context_length, chunk, step)
        self.context_length = context_length
        self.end_ids = frozenset(end_ids)
        self.vocabulary = min(vocabulary or runner.vocabulary, runner.vocabulary)
        self._runner = runner
        self._cache = KVCache(runner.pool, chunk, step)
        self._scheduler = Scheduler(
            self._cache,
            concurrency=concurrency,
            queue=queue,
            prompt_tokens=prompt_tokens,
            mixed_prompt_tokens=mixed_prompt_tokens,
        )
        self._pictures = Pictures(runner.encoder)
        self._decoding = Decoding(context_length, self.end_ids, self.vocabulary)
        self._speculation = Speculation(drafter, speculative_tokens)
        self._helper = ThreadPoolExecutor(1, "quipu-masks")
        # Scheduler, cache, samplers, drafter and totals belong to the engine's thread. Others leave what they want in
        # here, so that submitting never waits for a step or for the sampling after it.
        self._inbox = threading.Condition()
        self._submitted: deque[Sequence] = deque()
        self._aborted: deque[Sequence] = deque()
        self._closing = False
        self._totals = dict.fromkeys(_TOTALS, 0)
        self._step_seconds = 0.0
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._loop, name="quipu-engine", daemon=True)
        self._thread.start()
        # A daemon thread that is inside the arithmetic when the interpreter goes away takes the process down with it.
        atexit.register(self.close)

    @property
    def runner(self) -> Runner:
        """What computes the steps, for who measures it. Not to be called while a request runs."""
        return self._runner

    def submit(
        self,
        prompt: Tokens[int],
        sampling: Sampling,
        listener: Listener,
        embed: Callable[[NDArray[np.float32]], None] | None = None,
        guides: Tokens[Guide] = (),
        images: tuple[PlacedImage, ...] = (),
    ) -> Handle:
        """Queue a request; ``listener`` hears of it from the engine's thread.

        ``embed`` is called there with the mean of the prompt's final hidden states, before anything is generated.
        ``guides``, one for each answer, constrain them. ``images`` are the prompt's pictures. Raises InvalidRequest
        (empty prompt, id out of range, fewer tokens than a constrained answer takes, pictures for a model that reads
        text), ContextLengthExceeded, Overloaded, EngineStopped.
        """
        prompt = list(prompt)
        self._check(prompt, sampling, len(guides[0].grammar.shortest) if guides else 1)
        if images and self._runner.encoder is None:
            raise CannotSee
        guided: dict[int, Guide] = dict(enumerate(guides))

        def answer(index: int, leader: Sequence | None = None) -> Sequence:
            return Sequence(
                list(prompt), len(prompt), sampling, listener, index, leader, guide=guided.get(index), images=images
            )

        leader = answer(0)
        leader.embed = embed
        sequences = [leader, *(answer(index, leader) for index in range(1, sampling.n))]
        self._check_process()
        with self._inbox:
            if self._closing:
                raise EngineStopped("the engine is closed")
            self._scheduler.check_room(len(sequences), len(self._submitted))
            self._submitted.extend(sequences)
            self._inbox.notify()
        return Handle(self, sequences)

    def check_room(self, count: int) -> None:
        """Raise Overloaded if ``count`` more answers had to wait in a queue that is full, as ``submit`` would."""
        with self._inbox:
            self._scheduler.check_room(count, len(self._submitted))

    def abort(self, sequences: Collection[Sequence]) -> None:
        """Stop ``sequences`` before the next step; those already finished are left alone."""
        with self._inbox:
            self._aborted.extend(sequences)
            self._inbox.notify()

    def stats(self) -> EngineStats:
        """Counts at this moment; cheap enough to ask on every scrape."""
        return EngineStats(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._submitted),
            blocks_used=self._cache.full.size - self._cache.full.free,
            blocks=self._cache.full.size,
            preempted=self._scheduler.preempted,
            step_seconds=self._step_seconds,
            drafted_tokens=self._speculation.drafted,
            accepted_tokens=self._speculation.accepted,
            verifications=self._speculation.verified,
            encoded_images=self._pictures.encoded,
            **self._totals,
        )

    def close(self) -> None:
        """Stop the thread, fail what is still running or waiting with EngineStopped, free the runner. Idempotent.

        In a fork of the process that loaded the model there is nothing to stop: the thread is not there.
        """
        if os.getpid() != self._process:
            return
        with self._inbox:
            self._closing = True
            self._inbox.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()
        atexit.unregister(self.close)

    def _check_process(self) -> None:
        """A fork has the model's memory, but neither its threads nor, perhaps, its locks: it would wait for ever."""
        if os.getpid() != self._process:
            raise EngineStopped(
                "this process was forked from the one that loaded the model, and has none of its threads; load the "
                'model here, or start processes with multiprocessing.get_context("spawn")'
            )

    def _check(self, prompt: list[int], sampling: Sampling, least: int) -> None:
        if not prompt:
            raise InvalidRequest("the prompt is empty: there is no token to continue from", param="prompt")
        vocabulary = self.vocabulary
        for token in (*prompt, *sampling.logit_bias):
            if not 0 <= token < vocabulary:
                raise InvalidRequest(f"token id {token} is not in the vocabulary of {vocabulary} tokens")
        limit, length = self.context_length, len(prompt)
        wanted = sampling.max_tokens
        if length + (max(1, least) if wanted is None else wanted) > limit:
            raise ContextLengthExceeded.of(length, limit, asked=least if wanted is None and least > 1 else wanted)

    def _loop(self) -> None:
        reason = "the engine was closed while this request was waiting or running"
        try:
            while self._collect():
                self._look()
                step = self._scheduler.schedule()
                if step:
                    self._run(step)
        except Exception as error:  # a mistake of ours: clients must hear of it instead of waiting for ever
            log.critical("the engine stops", exc_info=error)
            reason = f"the engine failed and stopped: {_cause(error)}"
        self._stop(EngineStopped(reason))

    def _look(self) -> None:
        """One piece of work for the first that waits for its pictures: the answers that run go on between pieces."""
        waiting = next((each for each in self._scheduler.waiting if not each.ready), None)
        if waiting is None:
            return
        try:
            self._pictures.look_for(waiting)
        except Exception as error:  # whatever the arithmetic raises, the server must outlive it and say so
            self._lose(waiting, error)

    def _stop(self, error: EngineStopped) -> None:
        with self._inbox:
            self._closing = True
            self._scheduler.add(self._submitted)
            self._submitted.clear()
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            self._fail(sequence, error)
        self._speculation.close()
        self._helper.shutdown()
        self._runner.close()

    def _collect(self) -> bool:
        """Wait for work, take what was left in the inbox, drop what was aborted; False when closing."""
        with self._inbox:
            while not (self._closing or self._submitted or self._aborted or self._scheduler.busy):
                self._inbox.wait()
            self._scheduler.add(self._submitted)
            self._submitted.clear()
            # Exchanged, not copied and cleared: garbage collection in between may abort a lost stream in this thread.
            aborted, self._aborted = self._aborted, deque()
        for sequence in aborted:
            if sequence.status is not Status.FINISHED:
                self._abort(sequence)
        return not self._closing

    def _abort(self, sequence: Sequence) -> None:
        try:
            self._finish(sequence, "abort")
        except Exception as error:  # its listener's mistake must not end the loop that everyone shares
            self._lose(sequence, error)

    def _run(self, step: list[tuple[Sequence, int]]) -> None:
        start = time.perf_counter()
        drafts = self._draft([sequence for sequence, _ in step if sequence.decoding])
        preparing = self._prepare(step, drafts)
        try:
            results = self._runner.step([self._span(*each, drafts.get(each[0], [])) for each in step])
            if preparing is not None:
                preparing.result()
        except Exception as error:  # whatever the arithmetic raises, the server must outlive it and say so
            for sequence, _ in step:
                self._lose(sequence, error)
            return
        self._totals["steps"] += 1
        self._step_seconds += time.perf_counter() - start
        for (sequence, count), rows in zip(step, results, strict=True):
            try:
                self._absorb(sequence, count, rows, drafts.get(sequence, []))
            except InvalidRequest as error:  # its grammar is too complex for a step, which shows only now
                self._fail(sequence, error)
            except Exception as error:  # a listener's mistake must not end the loop that everyone shares
                self._lose(sequence, error)

    def _draft(self, decoding: list[Sequence]) -> dict[Sequence, list[int]]:
        """What follows: tokens that a grammar forces, else guesses where they are worth it and the grammar allows them.

        As many as there are free blocks for.
        """
        forced = {each: each.guide.forced for each in decoding if each.guide is not None and each.guide.forced}
        drafts = self._speculation.propose({each: self._room(each) for each in decoding if each not in forced})
        for sequence, draft in drafts.items():
            if sequence.guide is not None:
                drafts[sequence] = draft[: sequence.guide.fitting(draft)]
        most = max(1, FORCED_TOKENS // len(decoding)) if forced else 0
        drafts |= {sequence: list(tokens)[: min(most, self._room(sequence))] for sequence, tokens in forced.items()}
        fitting = {each: draft[: self._scheduler.extend(each, len(draft))] for each, draft in drafts.items()}
        return {sequence: draft for sequence, draft in fitting.items() if draft}

    def _prepare(self, step: list[tuple[Sequence, int]], drafts: dict[Sequence, list[int]]) -> Future[None] | None:
        """Let the helper compute, during the step, which tokens may come after it, where that takes long."""
        drawing = [
            (sequence.guide, drafts.get(sequence, []))
            for sequence, count in step
            if sequence.guide is not None and sequence.remaining == count
        ]
        for guide, _ in drawing:
            guide.forget_masks()
        seconds = sum(guide.mask_seconds * (len(draft) + 1) for guide, draft in drawing)
        return self._helper.submit(_prepare_all, drawing) if seconds > HELP_SECONDS else None

    def _room(self, sequence: Sequence) -> int:
        """Tokens that may follow the next one."""
        room = self.context_length - len(sequence.tokens)
        wanted = sequence.sampling.max_tokens
        return (room if wanted is None else min(room, wanted - sequence.generated)) - 1

    def _span(self, sequence: Sequence, count: int, draft: list[int]) -> Span:
        start = sequence.computed
        ends = start + count == len(sequence.tokens)
        want = "all" if draft or sequence.scores_prompt else "last" if ends else "none"
        if draft and sequence.guide is not None and sequence.guide.forced and sequence.sampling.logprobs is None:
            want = "last"  # nobody asks what the model thinks of what is forced
        if sequence.embed is not None:
            want = "hidden"
        tokens = sequence.tokens[start : start + count] + draft
        seen = sequence.seen(start, start + count) if sequence.images else None
        return Span(tokens, start, sequence.blocks, want, sequence.chunk_blocks, seen)

    def _absorb(self, sequence: Sequence, count: int, rows: NDArray[np.float32], draft: list[int]) -> None:
        """Use what the step computed of ``count`` tokens and ``draft``."""
        first, before = sequence.computed, sequence.generated
        self._scheduler.advance(sequence, count)
        if not sequence.remaining and before == sequence.index == 0:
            self._totals["prompt_tokens"] += sequence.prompt_length
            self._totals["cached_tokens"] += sequence.cached or 0
        try:
            forced = sequence.guide is not None and bool(sequence.guide.forced)
            reason = self._decoding.absorb(sequence, first, rows, draft)
        finally:
            drawn = sequence.generated - before
            self._totals["generated_tokens"] += drawn
        if draft:
            # All but the last of what was drawn was guessed, so the step has computed it.
            if not forced:
                self._speculation.learn(sequence, len(draft), drawn - 1)
            self._scheduler.advance(sequence, max(0, drawn - 1))
            self._scheduler.trim(sequence)
        if reason is not None:
            self._finish(sequence, reason)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._leave(sequence)
        self._totals["aborted" if reason == "abort" else "finished"] += 1
        sequence.listener.finished(sequence.index, reason, sequence.generated, sequence.cached or 0)

    def _fail(self, sequence: Sequence, error: QuipuError) -> None:
        self._leave(sequence)
        self._totals["failed"] += 1
        try:
            sequence.listener.failed(sequence.index, error)
        except Exception as mistake:  # nobody is left to tell
            log.error("a listener could not be told of an error", exc_info=mistake)

    def _lose(self, sequence: Sequence, error: Exception) -> None:
        log.error("a request failed and is answered with an error", exc_info=error)
        self._fail(sequence, EngineStopped(f"the step that computed this request failed: {_cause(error)}"))

    def _leave(self, sequence: Sequence) -> None:
        self._scheduler.finish(sequence)
        self._decoding.forget(sequence)
        self._speculation.forget(sequence)


def _check_cache(pool: PoolSize, context_length: int, chunk: int | None, step: int) -> None:
    """Raise InvalidRequest where one sequence, all alone, could want for blocks."""
    remedy = "give it more memory or a smaller --context"
    if pool.blocks < blocks_for(context_length):
        raise InvalidRequest(
            f"the KV cache holds {pool.blocks * BLOCK_SIZE} tokens, less than one context of {context_length}; "
            f"{remedy}",
            param="context",
        )
    needed = 0 if chunk is None else chunk_blocks_for(context_length, chunk, step)
    if pool.chunk_blocks < needed:
        raise InvalidRequest(
            f"layers with chunked attention have room for {pool.chunk_blocks * BLOCK_SIZE} tokens in the KV cache, and "
            f"one context of {context_length} may take {needed * BLOCK_SIZE} there; {remedy}",
            param="context",
        )


def _prepare_all(drawing: list[tuple[Guide, list[int]]]) -> None:
    for guide, draft in drawing:
        with contextlib.suppress(InvalidRequest):  # told when the token is drawn
            guide.prepare(draft)


def _cause(error: Exception) -> str:
    """What an error says; its name if it says nothing, as MemoryError does."""
    return str(error) or type(error).__name__
