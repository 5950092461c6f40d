"""Guessing ahead changes no answer: over random requests, pools, drafters and aborts, with and without are the same."""

import random
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quipu.engine.draft_model import DraftModel, check_vocabulary
from quipu.engine.engine import Engine
from quipu.engine.fake import FakeRunner, byte_tokenizer, fake_model
from quipu.engine.kv_cache import ROOT, KVCache, extend_digest
from quipu.engine.prompt_lookup import PromptLookup
from quipu.engine.request import Sequence
from quipu.engine.runner import BLOCK_SIZE, PoolSize
from quipu.engine.scheduler import Scheduler
from quipu.engine.speculate import LONGEST, RETRY, RETRY_AFTER, Pace, Speculation
from quipu.errors import InvalidRequest
from quipu.model.tokenizer import Tokenizer
from quipu.types import Sampling

VOCABULARY = 24
END = 23
CONTEXT = 5 * BLOCK_SIZE


def repeating(tokens):
    """What followed the last token when it stood before, mostly: answers full of copies, with surprises."""
    noise = (sum(token * (place + 3) for place, token in enumerate(tokens[-6:])) * 31 + len(tokens)) % 97
    before = next((place for place in range(len(tokens) - 2, -1, -1) if tokens[place] == tokens[-1]), None)
    return noise % VOCABULARY if before is None or noise < 10 else tokens[before + 1]


def pool_of(blocks, chunk):
    """As many of either kind."""
    return PoolSize(blocks, 0 if chunk is None else blocks)


class CheckedRunner(FakeRunner):
    """Knows for every slot of its cache the tokens that were written there and before it, and checks the engine's
    books against that: each sequence reads its own tokens, each name in the prefix cache is that of the block's.

    Nothing is computed before ``start``, so that a crowd comes together. ``chunk``: as if it had layers with attention
    in chunks, too.
    """

    def __init__(self, predict, blocks, chunk=None):
        super().__init__(predict, VOCABULARY, pool_of(blocks, chunk), chunk=chunk)
        self.engine = None
        self.start = threading.Event()
        self.written = {}
        self.steps = []

    def step(self, spans):
        assert self.start.wait(10)
        self.check_names()
        self.steps.append([(len(span.tokens), span.want) for span in spans])
        for span in spans:
            [sequence] = [each for each in self.engine._scheduler.running if each.blocks is span.blocks]
            slots = [span.blocks[at // BLOCK_SIZE] * BLOCK_SIZE + at % BLOCK_SIZE for at in range(sequence.computed)]
            assert span.start == sequence.computed
            assert not slots or self.written[slots[-1]] == sequence.tokens[: span.start]
            for place in range(span.start, span.start + len(span.tokens)):
                slot = span.blocks[place // BLOCK_SIZE] * BLOCK_SIZE + place % BLOCK_SIZE
                self.written[slot] = [*sequence.tokens[: span.start], *span.tokens[: place + 1 - span.start]]
        return super().step(spans)

    def check_names(self):
        for digest, block in self.engine._cache.full._block_of.items():
            tokens, name = self.written[block * BLOCK_SIZE + BLOCK_SIZE - 1], ROOT
            for start in range(0, len(tokens), BLOCK_SIZE):
                name = extend_digest(name, tokens[start : start + BLOCK_SIZE])
            assert name == digest


class Half:
    """A drafter that knows the answer and lies now and then."""

    cost = 0.0

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.closed = False

    def propose(self, wanted):
        drafts = {}
        for sequence, most in wanted.items():
            draft = []
            for _ in range(self.random.randint(0, most)):
                true = repeating([*sequence.tokens, *draft])
                draft.append(true if self.random.random() < 0.9 else self.random.randrange(VOCABULARY))
            if draft:
                drafts[sequence] = draft
        return drafts

    def forget(self, sequence): ...

    def close(self):
        self.closed = True


class Heard:
    """A listener that writes down all, ends at ``stop_at`` and leaves at its ``leave_after``-th token."""

    def __init__(self, answers, stop_at=None, leave_after=None):
        self.stop_at, self.leave_after, self.handle = stop_at, leave_after, None
        self.tokens = {index: [] for index in range(answers)}
        self.ends = {}
        self.prompt = None
        self.done = threading.Event()

    def prompt_scored(self, index, scores):
        self.prompt = scores

    def token(self, index, token, score):
        self.tokens[index].append((token, score))
        if sum(map(len, self.tokens.values())) == self.leave_after:
            self.handle.abort()
        return token == self.stop_at

    def finished(self, index, reason, generated, cached):
        self.ends[index] = (reason, generated)
        if len(self.ends) == len(self.tokens):
            self.done.set()

    def failed(self, index, error):
        self.finished(index, error, 0, 0)


def run(requests, drafter, blocks=64, chunk=None, **options):
    """Submit all requests, then start; the listeners, the statistics and the runner, everything freed and checked."""
    runner = CheckedRunner(repeating, blocks, chunk)
    engine = runner.engine = Engine(
        runner, context_length=CONTEXT, end_ids={END}, drafter=drafter, mixed_prompt_tokens=32, chunk=chunk, **options
    )
    heard = []
    for prompt, sampling, stop_at, leave_after in requests:
        heard.append(Heard(sampling.n, stop_at, leave_after))
        heard[-1].handle = engine.submit(prompt, sampling, heard[-1])
    runner.start.set()
    for each in heard:
        assert each.done.wait(20)
    engine.close()
    runner.check_names()
    for pool in (engine._cache.full, engine._cache.chunked):
        assert pool.free == pool.size
    assert not engine._decoding.samplers
    assert not engine._speculation._paces
    return heard, engine.stats(), runner


def ask(prompt, stop_at=None, leave_after=None, **options):
    return prompt, Sampling(**{"temperature": 0, **options}), stop_at, leave_after


@st.composite
def requests(draw):
    phrase = draw(st.lists(st.integers(0, VOCABULARY - 2), min_size=1, max_size=6))
    prompt = (phrase * 8)[: draw(st.integers(1, 40))] + draw(st.lists(st.integers(0, VOCABULARY - 2), max_size=4))
    maximum = draw(st.none() | st.integers(0, CONTEXT - len(prompt)))
    sampling = Sampling(
        max_tokens=maximum,
        min_tokens=draw(st.integers(0, 10 if maximum is None else min(10, maximum))),
        temperature=draw(st.sampled_from([0, 0, 0.5, 10, 30])),
        top_p=draw(st.sampled_from([1, 0.9])),
        top_k=draw(st.sampled_from([0, 5])),
        min_p=draw(st.sampled_from([0, 0.05])),
        seed=draw(st.integers(0, 1000)),
        presence_penalty=draw(st.sampled_from([0, 1.5])),
        frequency_penalty=draw(st.sampled_from([0, 0.5])),
        repetition_penalty=draw(st.sampled_from([1, 1.3])),
        logit_bias=draw(st.sampled_from([{}, {3: 5.0, END: 28.0}])),
        ignore_eos=draw(st.booleans()),
        logprobs=draw(st.sampled_from([None, 0, 3])),
        prompt_logprobs=draw(st.sampled_from([None, 1])),
        n=draw(st.integers(1, 3)),
    )
    return prompt, sampling, draw(st.none() | st.integers(0, VOCABULARY - 1)), draw(st.none() | st.integers(1, 30))


def model_that_drafts(chunk=None, blocks=8):
    """One that errs at times, in a cache that does not hold all, and reads prompts in small pieces."""
    pool = pool_of(blocks, chunk)
    runner = FakeRunner(lambda tokens: repeating(tokens) if len(tokens) % 7 else 5, VOCABULARY, pool, chunk=chunk)
    return DraftModel(runner, context_length=CONTEXT - 9, vocabulary=VOCABULARY, cost=0.1, catch_up=24)


@settings(max_examples=120, deadline=None)
@given(
    crowd=st.lists(requests(), min_size=1, max_size=5),
    drafter=st.sampled_from(["lookup", "half", "model"]),
    blocks=st.sampled_from([5, 6, 9, 40]),
    budget=st.sampled_from([4, 32]),
    chunk=st.sampled_from([None, 4, 24, 32]),
)
def test_answers_are_the_same_with_and_without(crowd, drafter, blocks, budget, chunk):
    make = {"lookup": PromptLookup, "half": lambda: Half(len(crowd)), "model": lambda: model_that_drafts(chunk)}
    plain, before, _ = run(crowd, None, blocks)
    guessed, after, runner = run(crowd, make[drafter](), blocks, chunk, speculative_tokens=budget)
    for (_, _, _, leaves), one, other in zip(crowd, plain, guessed, strict=True):
        assert one.prompt == other.prompt
        for index, tokens in one.tokens.items():
            if leaves is None:
                assert other.tokens[index] == tokens
                assert other.ends[index] == one.ends[index]
            else:  # told to leave at the same token, either may get as far as its step does
                shared = min(len(tokens), len(other.tokens[index]))
                assert other.tokens[index][:shared] == tokens[:shared]
    if all(leaves is None for *_, leaves in crowd):
        assert after.generated_tokens == before.generated_tokens
    assert (before.drafted_tokens, before.accepted_tokens, before.verifications) == (0, 0, 0)
    assert after.accepted_tokens <= after.drafted_tokens
    for step in runner.steps:
        drafting = [count for count, want in step if want == "all" and count <= LONGEST + 1]
        assert sum(drafting) <= budget or not after.drafted_tokens or any(each[1].prompt_logprobs for each in crowd)


PHRASE = [1, 2, 3, 4, 5, 6, 7, 8]


def cycling(tokens):
    return PHRASE[tokens[-1] % 8]


def test_copies_take_fewer_steps(monkeypatch):
    monkeypatch.setitem(globals(), "repeating", cycling)
    crowd = [ask(PHRASE * 2, max_tokens=50, ignore_eos=True)]
    plain, before, _ = run(crowd, None)
    guessed, after, _ = run(crowd, PromptLookup())
    assert plain[0].tokens == guessed[0].tokens
    assert before.steps == 50
    assert after.steps <= 10
    assert after.steps + after.accepted_tokens == 50, "each accepted token is a step saved"
    assert after.verifications == after.steps - 1, "all but the prompt's"


@pytest.mark.parametrize("chunk", [None, 24])
def test_preemption_happens_beside_guesses(monkeypatch, chunk):
    monkeypatch.setitem(globals(), "repeating", cycling)
    crowd = [ask(PHRASE[place:] + PHRASE, max_tokens=50, logprobs=2) for place in range(5)]
    plain, before, _ = run(crowd, None, 8, chunk)
    guessed, after, _ = run(crowd, PromptLookup(), 8, chunk)
    assert [each.tokens for each in plain] == [each.tokens for each in guessed]
    assert before.preempted > 0
    assert after.preempted > 0
    assert after.accepted_tokens > 0


def test_nothing_is_heard_after_a_stop(monkeypatch):
    monkeypatch.setitem(globals(), "repeating", cycling)
    for options in ({"stop_at": 5}, {"logit_bias": {END: 60.0}, "min_tokens": 21}, {"max_tokens": 21}):
        plain, _, _ = run([ask(PHRASE * 3, **options)], None)
        guessed, stats, _ = run([ask(PHRASE * 3, **options)], PromptLookup())
        assert (plain[0].tokens, plain[0].ends) == (guessed[0].tokens, guessed[0].ends)
        assert stats.drafted_tokens > 0


def test_a_context_is_filled_to_its_last_token(monkeypatch):
    monkeypatch.setitem(globals(), "repeating", cycling)
    guessed, stats, _ = run([ask(PHRASE)], PromptLookup(), CONTEXT // BLOCK_SIZE)
    assert guessed[0].ends == {0: ("length", CONTEXT - len(PHRASE))}
    assert stats.accepted_tokens > 0


def test_many_answers_at_once_are_not_slowed_by_guesses(monkeypatch):
    monkeypatch.setitem(globals(), "repeating", cycling)
    crowd = [ask(PHRASE * 2, max_tokens=30) for _ in range(12)]
    _, stats, runner = run(crowd, Half(0), speculative_tokens=14)
    assert stats.drafted_tokens > 0
    assert max(sum(count for count, _ in step) for step in runner.steps if all(count < 16 for count, _ in step)) <= 14


def test_a_drafter_that_fails_costs_no_answer(caplog):
    class Broken(Half):
        def propose(self, wanted):
            raise ArithmeticError("no idea")

    broken = Broken(0)
    plain, _, _ = run([ask(PHRASE, max_tokens=20)], None)
    guessed, stats, _ = run([ask(PHRASE, max_tokens=20)], broken)
    assert plain[0].tokens == guessed[0].tokens
    assert stats.failed == 0
    assert broken.closed
    assert "the drafter failed" in caplog.text


# ---- blocks for guesses


def decoding_sequence(schedule, tokens):
    sequence = Sequence(list(range(tokens)), tokens, Sampling(), Heard(1))
    schedule.add([sequence])
    for each, count in schedule.schedule():
        schedule.advance(each, count)
    sequence.tokens.append(7)
    return sequence


def test_guesses_get_free_blocks_only_and_give_them_back():
    schedule = Scheduler(KVCache(PoolSize(4)), concurrency=4, queue=4)
    first, second = decoding_sequence(schedule, BLOCK_SIZE - 1), decoding_sequence(schedule, BLOCK_SIZE - 3)
    assert (schedule.extend(first, 40), schedule.cache.full.free) == (32, 0)
    assert (schedule.extend(second, 12), schedule.preempted) == (2, 0), "what its own block has room for"
    schedule.trim(first)
    assert (len(first.blocks), schedule.cache.full.free) == (1, 2)
    assert schedule.extend(first, 0) == 0


# ---- how far ahead


def test_the_pace_grows_with_success_and_ends_with_failure():
    pace = Pace()
    for _ in range(12):
        pace.learn(max(1, pace.length(0.06)), pace.length(0.06))
    assert pace.length(0.06) == LONGEST
    lengths = []
    for _ in range(200):
        lengths.append(pace.length(0.06))
        if lengths[-1]:
            pace.learn(lengths[-1], 0)
    assert set(lengths[50:]) == {0, RETRY}
    assert lengths[50:].count(RETRY) <= 150 // RETRY_AFTER
    for _ in range(RETRY_AFTER + 1):
        retry = pace.length(0.06)
    assert retry == RETRY
    for _ in range(4):
        pace.learn(4, 4)
    assert pace.length(0.06) > RETRY


def test_the_pace_falls_as_guesses_get_dear():
    pace = Pace()
    pace.learn(5, 4)
    lengths = [pace.length(cost) for cost in (0.0, 0.05, 0.2, 0.5, 1.0)]
    assert lengths == sorted(lengths, reverse=True)
    assert (lengths[0], lengths[-1]) == (LONGEST, 0)


def test_more_answers_beside_it_shorten_the_guesses():
    asked = []

    class Asked(Half):
        def propose(self, wanted):
            asked.append(list(wanted.values()))
            return {}

    for crowd in (1, 4, 8, 31, 32):
        Speculation(Asked(0)).propose({Sequence([1], 1, Sampling(), Heard(1)): 100 for _ in range(crowd)})
    assert [sum(lengths) / len(lengths) for lengths in asked] == sorted(
        (sum(lengths) / len(lengths) for lengths in asked), reverse=True
    )
    assert len(asked) < 5, "32 answers fill a step by themselves"


# ---- looking up


def drafted(tokens, most=8):
    sequence = Sequence(list(tokens), len(tokens), Sampling(), Heard(1))
    return PromptLookup().propose({sequence: most}).get(sequence)


def test_the_longest_match_wins_over_a_later_one():
    assert drafted([1, 2, 3, 4, 9, 9, 3, 4, 8, 8, 1, 2, 3, 4], 2) == [9, 9]
    assert drafted([1, 2, 7, 1, 2, 8, 1, 2], 1) == [8], "of equals, the latest"
    assert drafted([1, 2, 3, 4, 5, 4]) is None
    assert drafted([1]) is None


def test_a_cycle_is_drafted_past_the_end():
    assert drafted([5, 1, 2, 3, 1, 2], 7) == [3, 1, 2, 3, 1, 2, 3]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.lists(st.integers(1, 5), max_size=20))
def test_a_draft_is_what_followed_the_same_tokens(tokens, pieces):
    """Whatever the pieces in which a sequence grows; found by looking at every place."""
    lookup = PromptLookup()
    sequence = Sequence([], 0, Sampling(), Heard(1))
    ends = [sum(pieces[:count]) for count in range(1, len(pieces) + 1)]
    for end in [*(each for each in ends if each < len(tokens)), len(tokens)]:
        sequence.tokens = tokens[:end]
        draft = lookup.propose({sequence: 3}).get(sequence)
        last = sequence.tokens[-2:]
        followers = [at for at in range(2, end) if len(last) == 2 and sequence.tokens[at - 2 : at] == last]
        assert (draft is None) == (not followers)
        if draft is not None:
            assert len(draft) == 3
            assert any((sequence.tokens + draft)[at : at + 3] == draft for at in followers)


def test_a_long_copy_of_common_pairs_is_followed():
    source = [token for number in range(3, 23) for token in (1, 2, number)]
    tokens = [0, *source, 0]
    lookup, sequence = PromptLookup(), Sequence([], 0, Sampling(), Heard(1))
    right = 0
    for place in range(4, len(source) - 1):
        sequence.tokens = [*tokens, *source[:place]]
        right += lookup.propose({sequence: 1}).get(sequence) == [source[place]]
    assert right >= len(source) - 8


def test_hostile_repetition_takes_no_longer(monkeypatch):
    from quipu.engine import prompt_lookup

    compared = []
    real = prompt_lookup._agreement
    monkeypatch.setattr(prompt_lookup, "_agreement", lambda *what: compared.append(1) or real(*what))
    text = [*([1, 2, 3] * 20_000), 4, 2, 3]  # every place with the pair agrees in two tokens, and in no more
    assert drafted(text, 4) == [4, 2, 3, 4]
    assert len(compared) <= prompt_lookup.LOOKS + 1


# ---- a smaller model


def test_a_draft_model_that_is_always_right_is_always_believed(monkeypatch):
    monkeypatch.setitem(globals(), "repeating", cycling)
    small = FakeRunner(cycling, VOCABULARY, PoolSize(40))
    drafter = DraftModel(small, context_length=CONTEXT, vocabulary=VOCABULARY, cost=0.1, catch_up=16)
    crowd = [ask([*range(20), place], max_tokens=40, ignore_eos=True) for place in range(3)]
    plain, _, _ = run(crowd, None)
    guessed, stats, _ = run(crowd, drafter)
    assert [each.tokens for each in plain] == [each.tokens for each in guessed]
    assert stats.accepted_tokens == stats.drafted_tokens > 30
    assert drafter._pool.free == 40
    assert small.closed


def test_a_draft_model_reads_a_prefix_once():
    computed = []

    class Counting(FakeRunner):
        def step(self, spans):
            computed.append(sum(len(span.tokens) for span in spans))
            return super().step(spans)

    drafter = DraftModel(
        Counting(cycling, VOCABULARY, PoolSize(20)), context_length=CONTEXT, vocabulary=VOCABULARY, cost=0.1
    )
    for last in (3, 4):
        sequence = Sequence([*PHRASE * 6, last], 49, Sampling(), Heard(1))
        assert drafter.propose({sequence: 2}) == {sequence: [PHRASE[last % 8], PHRASE[PHRASE[last % 8] % 8]]}
        drafter.forget(sequence)
    assert computed == [49, 1, 1, 1]


def test_a_draft_model_without_room_says_nothing():
    drafter = model_that_drafts(blocks=2)
    small, large, long = (Sequence([1] * count, count, Sampling(), Heard(1)) for count in (10, 40, CONTEXT - 9))
    assert list(drafter.propose({large: 2, small: 2, long: 2})) == [small]
    drafter.forget(large)
    drafter.forget(small)
    drafter.forget(long)
    assert drafter._pool.free == 2


def test_vocabularies_that_differ_are_refused_by_name(smollm2, llama3):
    check_vocabulary(smollm2, smollm2, "large", "small")
    with pytest.raises(InvalidRequest, match="small cannot draft for large: it has 49152 tokens, the other 128256"):
        check_vocabulary(llama3, smollm2, "large", "small")
    with pytest.raises(InvalidRequest, match=r"its token 65 is b'B', the other's b'A'"):
        check_vocabulary(byte_tokenizer(), swapped(), "large", "small")


def swapped() -> Tokenizer:
    tokenizer = byte_tokenizer()
    tokenizer._pieces = {**tokenizer._pieces, 65: b"B", 66: b"A"}
    return tokenizer


def test_text_comes_out_whole():
    with fake_model(lambda asked: "again and again and again ä€😀 and again") as model:
        assert model.chat("say") == "again and again and again ä€😀 and again"
        assert model.engine.stats().accepted_tokens > 5


def test_a_draft_model_forgets_guesses_that_did_not_come_true():
    def total(tokens):
        return sum(tokens) % VOCABULARY

    drafter = DraftModel(
        FakeRunner(total, VOCABULARY, PoolSize(8)), context_length=CONTEXT, vocabulary=VOCABULARY, cost=0.1
    )
    sequence = Sequence([1, 2, 3], 3, Sampling(), Heard(1))
    for come in ([6, 11], [12], [5, 3, 2], [1]):
        tokens = [*sequence.tokens]
        for _ in range(4):
            tokens.append(total(tokens))
        assert drafter.propose({sequence: 4}) == {sequence: tokens[-4:]}
        sequence.tokens += come


def test_guesses_that_fail_drive_nobody_out(monkeypatch):
    """Three answers that just fit; the first would take the last block for a guess and keep it."""
    monkeypatch.setattr(Pace, "length", lambda pace, cost: LONGEST)
    monkeypatch.setitem(globals(), "repeating", cycling)

    class Wrong(Half):
        def propose(self, wanted):
            return {each: [(cycling(each.tokens) + 1) % VOCABULARY] * most for each, most in wanted.items()}

    crowd = [ask([*range(12), *PHRASE], stop_at=8), ask([2] * 12, max_tokens=8), ask([3] * 4, max_tokens=8)]
    for drafter in (None, Wrong(0)):
        _, stats, _ = run(crowd, drafter, 5)
        assert stats.preempted == 0
        assert (stats.drafted_tokens > 0, stats.accepted_tokens) == (drafter is not None, 0)
