"""Who runs next: continuous batching with chunked prefill over a block pool. A plain state machine, no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from quipu.engine.kv_cache import KVCache
from quipu.engine.request import Sequence, Status
from quipu.engine.runner import BLOCK_SIZE
from quipu.errors import InvalidRequest, Overloaded

PROMPT_TOKENS = 512
"""Most tokens of prompts in a step that computes nothing else."""


class Scheduler:
    """Decides what each step computes.

    Every sequence that is decoding gets its token in every step. What is left of the step's token budget goes to
    prompts, in equal parts, so that neither a running answer nor a short prompt waits for a long one. Admission is
    first come, first served. When blocks run out, the sequence admitted last gives its blocks back and is computed
    again later: the oldest always proceeds, so with a pool of at least one full context nothing can deadlock.

    ``concurrency``: most sequences running at once. ``queue``: most that may wait. ``prompt_tokens``: budget of a
    step that only computes prompts; ``mixed_prompt_tokens``: budget for prompts in a step that also decodes, which
    bounds how long a running answer pauses.
    """

    def __init__(
        self,
        cache: KVCache,
        *,
        concurrency: int,
        queue: int,
        prompt_tokens: int = PROMPT_TOKENS,
        mixed_prompt_tokens: int = 128,
    ) -> None:
        self.cache = cache
        self.concurrency = concurrency
        self.queue = queue
        self.prompt_tokens = prompt_tokens
        self.mixed_prompt_tokens = mixed_prompt_tokens
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.preempted = 0

    def check_room(self, count: int, submitted: int = 0) -> None:
        """Raise Overloaded if ``count`` more sequences would make the queue longer than allowed, or InvalidRequest
        if they would even if nothing else ran.

        What can start at once does not count against the queue; ``submitted`` ones will be in it before these.
        """
        if count > self.queue + self.concurrency:
            raise InvalidRequest(
                f"the request is for {count} answers at once; at most {self.concurrency} are generated and "
                f"{self.queue} wait, so it could never start: ask for fewer, or start with a larger --queue",
                param="n",
            )
        running, waiting = len(self.running), len(self.waiting)
        if waiting + submitted + count > self.queue + max(0, self.concurrency - running):
            raise Overloaded(
                f"{running} answers are being generated and {waiting} wait; the queue holds {self.queue}. "
                "Try again shortly, or start the server with a larger --queue.",
                retry_after=1 + waiting // max(1, self.concurrency),
            )

    def add(self, sequences: Iterable[Sequence]) -> None:
        """Queue ``sequences`` behind those that wait."""
        self.waiting.extend(sequences)

    @property
    def busy(self) -> bool:
        """Something runs or waits."""
        return bool(self.running or self.waiting)

    def schedule(self) -> list[tuple[Sequence, int]]:
        """The next step: sequences and how many of their tokens to compute. Blocks for them are allocated.

        Empty only if there is nothing to do.
        """
        step = [(sequence, 1) for sequence in self._grow_decoding()]
        budget = self.mixed_prompt_tokens if step else self.prompt_tokens
        prefilling = [sequence for sequence in self.running if not sequence.decoding]
        prefilling += self._admit(budget // BLOCK_SIZE - len(prefilling))
        # The shortest first, so that what they leave of their part goes to the others.
        for place, sequence in enumerate(sorted(prefilling, key=lambda each: each.remaining)):
            count = min(sequence.remaining, max(1, budget // (len(prefilling) - place)))
            budget -= count
            if self._grow(sequence, sequence.computed + count):
                step.append((sequence, count))
        return [(sequence, count) for sequence, count in step if sequence.status is Status.RUNNING]

    def advance(self, sequence: Sequence, count: int) -> None:
        """Note that ``count`` more tokens are in the cache."""
        self.cache.advance(sequence, count)

    def extend(self, sequence: Sequence, tokens: int) -> int:
        """Give ``sequence`` free blocks for up to ``tokens`` more than it has; returns for how many there is room now.

        Nobody is preempted for them: they are guesses.
        """
        return self.cache.extend(sequence, len(sequence.tokens) + tokens) - len(sequence.tokens)

    def trim(self, sequence: Sequence) -> None:
        """Free the blocks of guesses that did not come true: the next step may need them for a token."""
        self.cache.trim(sequence)

    def finish(self, sequence: Sequence) -> None:
        """End ``sequence`` wherever it is in its life; its blocks become free, their content stays for reuse."""
        if sequence.status is Status.RUNNING:
            self.running.remove(sequence)
            self.cache.give_back(sequence)
        elif sequence.status is Status.WAITING:
            self.waiting.remove(sequence)
        sequence.status = Status.FINISHED

    def _grow_decoding(self) -> list[Sequence]:
        """The decoding sequences that have, or now got, a block for their next token; oldest first."""
        return [each for each in list(self.running) if each.decoding and self._grow(each, len(each.tokens))]

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """See that a running ``sequence`` has blocks for so many tokens, whoever must give back theirs for it.

        False if it is itself the one, or was before.
        """
        while sequence.status is Status.RUNNING and not self.cache.grow(sequence, tokens):
            self._preempt(self.running[-1])
        return sequence.status is Status.RUNNING

    def _admit(self, places: int) -> list[Sequence]:
        """Start waiting sequences, in order, while there are places, room to run, and blocks for the whole prompt."""
        admitted: list[Sequence] = []
        for sequence in list(self.waiting):
            if len(admitted) >= places or len(self.running) >= self.concurrency:
                break
            if not sequence.ready or self._waits_for_leader(sequence):
                continue
            if not self._start(sequence):
                break
            admitted.append(sequence)
        return admitted

    def _start(self, sequence: Sequence) -> bool:
        # At least one token is computed even if all are in the cache: its logits are what the next one is drawn from.
        reusable = 0 if sequence.computes_prompt else (len(sequence.tokens) - 1) // BLOCK_SIZE
        if not self.cache.start(sequence, reusable):
            return False
        if sequence.cached is None:
            sequence.cached = sequence.computed
        sequence.status = Status.RUNNING
        self.waiting.remove(sequence)
        self.running.append(sequence)
        return True

    def _preempt(self, sequence: Sequence) -> None:
        self.preempted += 1
        self.running.remove(sequence)
        self.cache.give_back(sequence)
        sequence.status = Status.WAITING
        sequence.computed = 0
        self.waiting.appendleft(sequence)

    @staticmethod
    def _waits_for_leader(sequence: Sequence) -> bool:
        leader = sequence.leader
        return leader is not None and leader.status is not Status.FINISHED and leader.computed < leader.prompt_length
