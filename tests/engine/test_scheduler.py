"""The scheduler as a state machine: over random arrivals, lengths, cancellations and pool sizes it leaks no block,
shares none by mistake, never stalls, and treats requests in order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quipu.engine import request
from quipu.engine.kv_cache import KVCache, blocks_for, chunk_blocks_for, extend_digest
from quipu.engine.request import Sequence, Status
from quipu.engine.runner import BLOCK_SIZE, PoolSize
from quipu.engine.scheduler import Scheduler
from quipu.errors import InvalidRequest, Overloaded
from quipu.types import Sampling

CONTEXT = 12 * BLOCK_SIZE


class Nobody:
    """A listener that does not listen."""

    def prompt_scored(self, index, scores): ...

    def token(self, index, token, score):
        return False

    def finished(self, index, reason, generated, cached): ...

    def failed(self, index, error): ...


def sequence(tokens, leader=None, **options) -> Sequence:
    return Sequence(list(tokens), len(tokens), Sampling(**options), Nobody(), leader=leader)


def scheduler(blocks=64, **options) -> Scheduler:
    return Scheduler(KVCache(PoolSize(blocks)), **{"concurrency": 4, "queue": 8, **options})


def run_step(schedule: Scheduler, next_token=1) -> list[tuple[Sequence, int]]:
    step = schedule.schedule()
    for each, count in step:
        schedule.advance(each, count)
        if each.remaining == 0:
            each.tokens.append(next_token)
    return step


class SchedulerMachine(RuleBasedStateMachine):
    """Drives a scheduler as the engine does and checks every step against a model of the cache's content.

    The model holds, for each slot of each block, the token written there last: what a real cache would read back.
    """

    size, chunk = PoolSize(16), None

    def __init__(self):
        super().__init__()
        cache = KVCache(self.size, self.chunk, 64)
        self.schedule = Scheduler(cache, concurrency=3, queue=5, prompt_tokens=64, mixed_prompt_tokens=32)
        self.alive: list[Sequence] = []
        self.content: dict[int, int] = {}
        self.chunk_content: dict[int, tuple[int, ...]] = {}
        self.wanted: dict[Sequence, int] = {}

    # A small alphabet and common beginnings make shared prefixes likely.
    @rule(
        prefix=st.integers(0, 3),
        length=st.integers(1, CONTEXT - 40),
        last=st.integers(0, 2),
        wanted=st.integers(1, 40),
        copies=st.integers(1, 2),
        scored=st.booleans(),
    )
    def submit(self, prefix, length, last, wanted, copies, scored):
        tokens = [*[prefix] * (length - 1), last]
        leader = sequence(tokens, n=copies, prompt_logprobs=0 if scored else None)
        group = [leader, *(sequence(tokens, leader, n=copies) for _ in range(1, copies))]
        try:
            self.schedule.check_room(len(group))
        except Overloaded:
            assert len(self.schedule.waiting) + len(group) > 5
            return
        self.schedule.add(group)
        self.alive += group
        self.wanted.update(dict.fromkeys(group, wanted))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data):
        victim = data.draw(st.sampled_from(self.alive))
        self.schedule.finish(victim)
        self.alive.remove(victim)

    # ``guesses``: how many follow each decoding sequence's next token, and how many of them come true.
    @rule(token=st.integers(0, 2), guesses=st.tuples(st.integers(0, 40), st.integers(0, 40)))
    def step(self, token, guesses=(0, 0)):
        step = self.schedule.schedule()
        assert bool(step) == bool(self.alive), "with work to do, a step does something"
        decoding = [each for each in self.schedule.running if each.decoding]
        assert {id(each) for each in decoding} <= {id(each) for each, _ in step}, "every decoding sequence advances"
        room = {}
        for each in decoding:
            held, free = len(each.blocks), self.schedule.cache.full.free
            room[each] = self.schedule.extend(each, guesses[0])
            assert 0 <= room[each] <= guesses[0]
            assert len(each.blocks) * BLOCK_SIZE >= len(each.tokens) + room[each]
            cache = self.schedule.cache
            nothing_free = cache.full.free == 0 or (self.chunk is not None and cache.chunked.free == 0)
            assert room[each] == guesses[0] or nothing_free, "what is free is given"
            assert len(each.blocks) - held == free - cache.full.free
        for each, count in step:
            self.compute(each, count, [token + 1] * room.get(each, 0))
        for each, count in step:
            self.schedule.advance(each, count)
            if each in room:
                true = min(room[each], guesses[1], self.wanted[each] - each.generated - 1)
                each.tokens += [token + 1] * true
                self.schedule.advance(each, true)
                self.schedule.trim(each)
                assert len(each.blocks) == blocks_for(len(each.tokens))
            if each.scores_prompt and each.computed >= each.prompt_length:
                each.prompt_scores = [None] * each.prompt_length
            if each.remaining == 0:
                each.tokens.append(token)
                if each.generated == self.wanted[each]:
                    self.schedule.finish(each)
                    self.alive.remove(each)

    def compute(self, each: Sequence, count: int, guesses: list[int]):
        assert 1 <= count <= each.remaining
        assert len(each.blocks) * BLOCK_SIZE >= each.computed + count
        for place in range(each.computed, each.computed + count):
            self.content[self.slot(each.blocks, place)] = each.tokens[place]
        read_back = [self.content[self.slot(each.blocks, place)] for place in range(each.computed + count)]
        assert read_back == each.tokens[: each.computed + count], "the cache holds this sequence's own tokens"
        for place, guess in enumerate(guesses, each.computed + count):
            self.content[self.slot(each.blocks, place)] = guess
        if self.chunk is not None:
            self.compute_chunk(each, count, guesses)

    def compute_chunk(self, each: Sequence, count: int, guesses: list[int]):
        """Of layers with chunked attention: what is written depends on all tokens before it; a chunk is read back."""
        end = each.computed + count
        for place in range(each.computed, end + len(guesses)):
            before = (*each.tokens[:end], *guesses)[: place + 1]
            self.chunk_content[self.slot(each.chunk_blocks, place)] = before
        for place in range(each.computed // self.chunk * self.chunk, end):
            read = self.chunk_content[self.slot(each.chunk_blocks, place)]
            assert read == tuple(each.tokens[: place + 1]), "a chunk holds this sequence's own tokens"

    @staticmethod
    def slot(blocks: list[int], place: int) -> int:
        return blocks[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE

    @invariant()
    def blocks_add_up(self):
        pool = self.schedule.cache.full
        held = [block for each in self.schedule.running for block in each.blocks]
        assert pool.size - pool.free == len(set(held)), "a block is held by a running sequence or free"
        assert all(pool._references[block] == held.count(block) for block in range(pool.size))
        assert not any(each.blocks or each.chunk_blocks or each.computed for each in self.schedule.waiting)
        chunked = self.schedule.cache.chunked
        kept = [block for each in self.schedule.running for block in each.chunk_blocks[each.passed :]]
        assert chunked.size - chunked.free == len(set(kept))
        assert all(chunked._references[block] == kept.count(block) for block in range(chunked.size))
        for each in self.schedule.running if self.chunk is not None else ():
            assert each.passed == each.computed // self.chunk * self.chunk // BLOCK_SIZE, "no more than can be read"
        assert len(self.schedule.running) <= self.schedule.concurrency

    def teardown(self):
        for _ in range(2000):
            if not self.alive:
                break
            self.step(token=0)
        assert not self.alive, "everything admitted finishes"
        assert self.schedule.cache.full.free == self.schedule.cache.full.size
        assert self.schedule.cache.chunked.free == self.schedule.cache.chunked.size


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestScheduler = SchedulerMachine.TestCase


def chunked_machine(positions: int, blocks: int | None = None):
    """The same with layers in chunks, whose pool is as small as it may be."""
    least = chunk_blocks_for(CONTEXT, positions, 64)

    class Chunked(SchedulerMachine):
        size, chunk = PoolSize(16, blocks or least), positions

    Chunked.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
    return Chunked.TestCase


TestChunksOfFour = chunked_machine(4)
TestChunksAcrossBlocks = chunked_machine(40)
TestChunksOfBlocks = chunked_machine(64, 14)


def computed_again(schedule: Scheduler, tokens: list[int]) -> int:
    """How many of ``tokens`` are computed when they come again."""
    again = sequence(tokens, max_tokens=1)
    schedule.add([again])
    schedule.schedule()
    computed = len(tokens) - again.computed
    schedule.finish(again)
    return computed


def test_a_prefix_is_used_again_where_its_chunk_is_still_there():
    """48 positions of full layers and the last chunk of the others: without that, to the chunk's beginning."""
    schedule = Scheduler(KVCache(PoolSize(64, 64), 64), concurrency=4, queue=8)
    first = sequence([1] * 150, max_tokens=1)
    schedule.add([first])
    while first.remaining:
        for each, count in schedule.schedule():
            schedule.advance(each, count)
    schedule.finish(first)
    assert computed_again(schedule, [1] * 150) == 150 - 144
    assert computed_again(schedule, [1] * 100) == 100 - 96  # its chunk was passed, its blocks not yet taken
    # Other texts take the blocks that chunked layers passed, the longest free first.
    cache = schedule.cache
    taken = cache.chunked.allocate(cache.chunked.free - 2)
    cache.chunked.release(taken)
    assert computed_again(schedule, [1] * 150) in (150 - 144, 150 - 128)
    cache.chunked.release(cache.chunked.allocate(cache.chunked.free))
    assert computed_again(schedule, [1] * 150) == 150 - 128, "a chunk's beginning needs nothing before it"
    assert computed_again(schedule, [1] * 60) == 60


def test_chunked_layers_hold_no_more_than_a_chunk_and_a_step():
    schedule = Scheduler(KVCache(PoolSize(200, 20), 128, 64), concurrency=2, queue=2, prompt_tokens=64)
    long = sequence(list(range(1000)), max_tokens=300)
    schedule.add([long])
    most = 0
    while len(long.tokens) < 1300:
        for each, count in schedule.schedule():
            most = max(most, len(each.chunk_blocks) - each.passed)
            schedule.advance(each, count)
            if each.remaining == 0:
                each.tokens.append(5)
    assert most <= chunk_blocks_for(1300, 128, 64)
    assert len(long.blocks) == blocks_for(1300)


def test_who_would_want_for_blocks_of_a_chunk_waits():
    """Room for one long text in chunked layers, for many in the others: started together, they would take turns at
    giving back what they have computed."""
    schedule = Scheduler(KVCache(PoolSize(400, 17), 128, 64), concurrency=4, queue=8, prompt_tokens=64)
    texts = [sequence(range(start, start + 500)) for start in (0, 1000, 2000)]
    schedule.add(texts)
    computed = 0
    while schedule.busy:
        for each, count in run_step(schedule):
            computed += count
            if each.generated == 40:
                schedule.finish(each)
    assert schedule.preempted == 0
    assert computed == 3 * (500 + 39)


def test_a_long_prompt_is_computed_in_pieces_while_an_answer_goes_on():
    schedule = scheduler(prompt_tokens=64, mixed_prompt_tokens=32)
    answering, reading = sequence(range(10)), sequence(range(200, 400))
    schedule.add([answering])
    run_step(schedule)
    schedule.add([reading])
    for _ in range(200 // 32):
        assert run_step(schedule) == [(answering, 1), (reading, 32)]
    assert answering.generated == 7


def test_prompts_share_the_budget_of_a_step():
    schedule = scheduler(prompt_tokens=64)
    crowd = [sequence(range(start, start + 100)) for start in (0, 200)]
    schedule.add(crowd)
    assert run_step(schedule) == [(each, 32) for each in crowd]


def test_a_short_prompt_does_not_wait_for_a_long_one():
    schedule = scheduler(prompt_tokens=64)
    reading, short = sequence(range(300)), sequence(range(900, 910))
    schedule.add([reading])
    run_step(schedule)
    schedule.add([short])
    assert (short, 10) in run_step(schedule)


def test_first_come_first_served_even_if_a_later_one_would_fit():
    schedule = scheduler(blocks=12)
    first, large, small = sequence(range(150)), sequence(range(500, 600)), sequence([1])
    schedule.add([first, large, small])
    run_step(schedule)
    assert [each.status for each in (first, large, small)] == [Status.RUNNING, Status.WAITING, Status.WAITING]


def test_the_second_turn_computes_only_what_is_new():
    schedule = scheduler()
    first = sequence(range(40))
    schedule.add([first])
    for _ in range(10):
        run_step(schedule, next_token=7)
    schedule.finish(first)
    second = sequence([*first.tokens, 100, 101])
    schedule.add([second])
    assert run_step(schedule) == [(second, len(second.tokens) - 1 - 48)]
    assert second.cached == 48


def test_a_prompt_found_whole_in_the_cache_still_computes_its_last_token():
    schedule = scheduler()
    for _ in range(2):
        each = sequence(range(2 * BLOCK_SIZE))
        schedule.add([each])
        run_step(schedule)
        schedule.finish(each)
    assert each.cached == BLOCK_SIZE


def test_answers_of_one_request_share_the_prompt_blocks():
    schedule = scheduler()
    leader = sequence(range(50), n=3)
    group = [leader, *(sequence(range(50), leader, n=3) for _ in range(2))]
    schedule.add(group)
    assert run_step(schedule) == [(leader, 50)]
    step = run_step(schedule)
    assert step == [(leader, 1), (group[1], 2), (group[2], 2)]
    assert schedule.cache.full.size - schedule.cache.full.free == 3 + 3 * 1


def test_followers_go_on_when_their_leader_is_cancelled():
    schedule = scheduler()
    leader = sequence(range(50), n=2)
    follower = sequence(range(50), leader, n=2)
    schedule.add([leader, follower])
    schedule.finish(leader)
    assert run_step(schedule) == [(follower, 50)]


def test_the_sequence_admitted_last_gives_way_and_is_finished_later():
    schedule = scheduler(blocks=5)
    old, young, later = sequence(range(30)), sequence(range(100, 130)), sequence(range(50))
    schedule.add([old, young, later])
    for _ in range(20):
        run_step(schedule)
    assert old.generated >= 18
    assert schedule.preempted >= 1
    assert list(schedule.waiting) == [young, later], "it keeps its place before those that came after it"
    schedule.finish(old)
    run_step(schedule)
    assert young.status is Status.RUNNING
    assert young.cached == 0, "finding its own blocks again is no prompt found in the cache"


def test_a_prompt_that_waits_for_blocks_is_hashed_once(monkeypatch):
    hashed = []
    monkeypatch.setattr(request, "extend_digest", lambda *what: hashed.append(what) or extend_digest(*what))
    schedule = scheduler(blocks=12)
    running = sequence(range(100))
    schedule.add([running, sequence(range(500, 650))])
    for _ in range(20):
        run_step(schedule)
    assert len(schedule.waiting) == 1, "this test is about waiting"
    assert len(hashed) == (100 + 20 - 1) // BLOCK_SIZE + 149 // BLOCK_SIZE


def test_a_full_queue_refuses_and_says_when_to_come_back():
    schedule = scheduler(concurrency=1, queue=2)
    schedule.add([sequence([1]) for _ in range(3)])
    with pytest.raises(Overloaded, match="the queue holds 2") as refusal:
        schedule.check_room(1)
    assert refusal.value.retry_after == 4
    assert refusal.value.status == 429


def test_blocks_cover_exactly():
    assert [blocks_for(count) for count in (0, 1, BLOCK_SIZE, BLOCK_SIZE + 1)] == [0, 1, 1, 2]


def test_more_answers_than_could_ever_wait_are_not_told_to_try_again():
    with pytest.raises(InvalidRequest, match="for 13 answers at once; at most 4 are generated and 8 wait"):
        scheduler().check_room(13)


def test_what_is_on_its_way_counts_as_waiting():
    """A burst of others must not make one request look like one that could never start."""
    schedule = scheduler()
    schedule.check_room(1, schedule.queue + schedule.concurrency - 1)
    with pytest.raises(Overloaded):
        schedule.check_room(1, schedule.queue + schedule.concurrency)


def test_what_a_short_prompt_leaves_of_its_part_goes_to_a_long_one():
    schedule = scheduler(prompt_tokens=64)
    reading, short = sequence(range(300)), sequence(range(900, 910))
    schedule.add([reading, short])
    assert run_step(schedule) == [(short, 10), (reading, 54)]
