"""The loop: takes requests from any thread, runs one step after another in its own, tells the listeners.

Knows token ids only: text is ``local.py``'s and ``text_stream.py``'s business, HTTP is the server's.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quipu.engine.kv_cache import BlockPool, blocks_for
from quipu.engine.request import Listener, Score, Sequence, Status
from quipu.engine.runner import BLOCK_SIZE, Runner, Span
from quipu.engine.sampler import Sampler, score
from quipu.engine.scheduler import Scheduler
from quipu.errors import ContextLengthExceeded, EngineStopped, InvalidRequest, QuipuError
from quipu.types import FinishReason, Sampling

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
    (default: the runner's width). Raises InvalidRequest if the cache is too small.
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
        prompt_tokens: int = 512,
        mixed_prompt_tokens: int = 128,
    ) -> None:
        if runner.blocks < blocks_for(context_length):
            raise InvalidRequest(
                f"the KV cache holds {runner.blocks * BLOCK_SIZE} tokens, less than one context of {context_length}; "
                "give it more memory or a smaller --context",
                param="context",
            )
        self.context_length = context_length
        self.end_ids = frozenset(end_ids)
        self.vocabulary = min(vocabulary or runner.vocabulary, runner.vocabulary)
        self._runner = runner
        self._pool = BlockPool(runner.blocks)
        self._scheduler = Scheduler(
            self._pool,
            concurrency=concurrency,
            queue=queue,
            prompt_tokens=prompt_tokens,
            mixed_prompt_tokens=mixed_prompt_tokens,
        )
        self._samplers: dict[Sequence, Sampler] = {}
        # Scheduler, pool, samplers and totals belong to the engine's thread. Others leave what they want in here,
        # so that submitting never waits for a step or for the sampling after it.
        self._inbox = threading.Condition()
        self._submitted: deque[Sequence] = deque()
        self._aborted: deque[Sequence] = deque()
        self._closing = False
        self._totals = dict.fromkeys(_TOTALS, 0)
        self._step_seconds = 0.0
        self._thread = threading.Thread(target=self._loop, name="quipu-engine", daemon=True)
        self._thread.start()
        # A daemon thread that is inside the arithmetic when the interpreter goes away takes the process down with it.
        atexit.register(self.close)

    def submit(
        self,
        prompt: Tokens[int],
        sampling: Sampling,
        listener: Listener,
        embed: Callable[[NDArray[np.float32]], None] | None = None,
    ) -> Handle:
        """Queue a request; ``listener`` hears of it from the engine's thread.

        ``embed`` is called there with the mean of the prompt's final hidden states, before anything is generated.
        Raises InvalidRequest (empty prompt, id out of range), ContextLengthExceeded, Overloaded, EngineStopped.
        """
        prompt = list(prompt)
        self._check(prompt, sampling)
        leader = Sequence(prompt, len(prompt), sampling, listener, embed=embed)
        followers = [
            Sequence(list(prompt), len(prompt), sampling, listener, index=index, leader=leader)
            for index in range(1, sampling.n)
        ]
        sequences = [leader, *followers]
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
            blocks_used=self._pool.size - self._pool.free,
            blocks=self._pool.size,
            preempted=self._scheduler.preempted,
            step_seconds=self._step_seconds,
            **self._totals,
        )

    def close(self) -> None:
        """Stop the thread, fail what is still running or waiting with EngineStopped, free the runner. Idempotent."""
        with self._inbox:
            self._closing = True
            self._inbox.notify()
        if self._thread is not threading.current_thread():
            self._thread.join()
        atexit.unregister(self.close)

    def _check(self, prompt: list[int], sampling: Sampling) -> None:
        if not prompt:
            raise InvalidRequest("the prompt is empty: there is no token to continue from", param="prompt")
        vocabulary = self.vocabulary
        for token in (*prompt, *sampling.logit_bias):
            if not 0 <= token < vocabulary:
                raise InvalidRequest(f"token id {token} is not in the vocabulary of {vocabulary} tokens")
        limit, length = self.context_length, len(prompt)
        wanted = sampling.max_tokens
        if length + (1 if wanted is None else wanted) > limit:
            raise ContextLengthExceeded.of(length, limit, asked=wanted)

    def _loop(self) -> None:
        reason = "the engine was closed while this request was waiting or running"
        try:
            while self._collect():
                step = self._scheduler.schedule()
                if step:
                    self._run(step)
        except Exception as error:  # a mistake of ours: clients must hear of it instead of waiting for ever
            log.critical("the engine stops", exc_info=error)
            reason = f"the engine failed and stopped: {_cause(error)}"
        self._stop(EngineStopped(reason))

    def _stop(self, error: EngineStopped) -> None:
        with self._inbox:
            self._closing = True
            self._scheduler.add(self._submitted)
            self._submitted.clear()
        for sequence in [*self._scheduler.running, *self._scheduler.waiting]:
            self._fail(sequence, error)
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
        try:
            results = self._runner.step([self._span(sequence, count) for sequence, count in step])
        except Exception as error:  # whatever the arithmetic raises, the server must outlive it and say so
            for sequence, _ in step:
                self._lose(sequence, error)
            return
        self._totals["steps"] += 1
        self._step_seconds += time.perf_counter() - start
        for (sequence, count), logits in zip(step, results, strict=True):
            first = sequence.computed
            self._scheduler.advance(sequence, count)
            try:
                self._absorb(sequence, first, logits)
            except Exception as error:  # a listener's mistake must not end the loop that everyone shares
                self._lose(sequence, error)

    def _span(self, sequence: Sequence, count: int) -> Span:
        start = sequence.computed
        ends = start + count == len(sequence.tokens)
        want = "all" if sequence.scores_prompt else "last" if ends else "none"
        if sequence.embed is not None:
            want = "hidden"
        return Span(sequence.tokens[start : start + count], start, sequence.blocks, want)

    def _absorb(self, sequence: Sequence, first: int, logits: NDArray[np.float32]) -> None:
        """Use the logits of positions ``first`` on: score the prompt, then draw the next token if it is known now."""
        if sequence.embed is not None:
            self._pool_hidden(sequence, first, logits)
            return
        logits = logits[:, : self.vocabulary]
        if sequence.scores_prompt:
            self._score_prompt(sequence, first, logits)
        if sequence.remaining:
            return
        if sequence.generated == 0:
            if sequence.index == 0:
                self._totals["prompt_tokens"] += sequence.prompt_length
                self._totals["cached_tokens"] += sequence.cached or 0
            if sequence.sampling.max_tokens == 0:
                self._finish(sequence, "length")
                return
        self._draw(sequence, logits[-1])

    def _pool_hidden(self, sequence: Sequence, first: int, hidden: NDArray[np.float32]) -> None:
        """Add up the hidden states of positions ``first`` on; at the end of the prompt, tell their mean."""
        earlier = sequence.hidden_sum if first else None  # preempted, it is computed from the start again
        part: NDArray[np.float64] = hidden.sum(axis=0, dtype=np.float64)
        sequence.hidden_sum = part if earlier is None else earlier + part
        if sequence.remaining or sequence.embed is None:
            return
        self._totals["prompt_tokens"] += sequence.prompt_length
        sequence.embed((sequence.hidden_sum / sequence.prompt_length).astype(np.float32))
        self._finish(sequence, "length")

    def _score_prompt(self, sequence: Sequence, first: int, logits: NDArray[np.float32]) -> None:
        alternatives = sequence.sampling.prompt_logprobs or 0
        scores = sequence.prompt_scores
        if not scores:
            scores.append(Score(sequence.tokens[0], None))
        for row, values in enumerate(logits):
            place = first + row + 1  # the logits at a position predict the token after it
            if place < sequence.prompt_length and place == len(scores):
                scores.append(score(values, sequence.tokens[place], alternatives))
        if len(scores) == sequence.prompt_length:
            sequence.listener.prompt_scored(sequence.index, scores)

    def _draw(self, sequence: Sequence, logits: NDArray[np.float32]) -> None:
        sampling = sequence.sampling
        sampler = self._samplers.get(sequence)
        if sampler is None:
            prompt = sequence.tokens[: sequence.prompt_length]
            sampler = self._samplers[sequence] = Sampler(sampling, prompt, self.end_ids, sequence.index)
        token = sampler.sample(logits)
        sequence.tokens.append(token)
        self._totals["generated_tokens"] += 1
        if token in self.end_ids and not sampling.ignore_eos:
            self._finish(sequence, "stop")
            return
        scored = None if sampling.logprobs is None else score(logits, token, sampling.logprobs)
        stop = sequence.listener.token(sequence.index, token, scored)
        full = len(sequence.tokens) >= self.context_length
        if stop:
            self._finish(sequence, "stop")
        elif full or sequence.generated == sampling.max_tokens:
            self._finish(sequence, "length")

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
        self._samplers.pop(sequence, None)


def _cause(error: Exception) -> str:
    """What an error says; its name if it says nothing, as MemoryError does."""
    return str(error) or type(error).__name__
