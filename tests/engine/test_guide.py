"""A guide driven as the engine drives it: guesses that miss, masks ahead, forced text, limits.

What it emits is held against another matcher, compiled apart, that only ever goes forward and computes its masks anew.
"""

import json
import random
import time
from functools import cache
from itertools import cycle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher
from random_schemas import random_schema

from quipu.engine import lexer_fuel
from quipu.engine.fake import byte_tokenizer
from quipu.engine.grammar import SEARCHING
from quipu.engine.grammar_compiler import GrammarCompiler
from quipu.engine.grammar_text import grammar_source, limits
from quipu.engine.sampler import Sampler
from quipu.errors import InvalidRequest
from quipu.tools.grammar import call_grammar
from quipu.tools.tool import ToolUse
from quipu.types import Constraint, Sampling

BRANCHES = Constraint("grammar", 'start: "a" STR "," | "b" STR "}"\nSTR: /"[a-z]*"/')
TOOLS = [
    {"name": "weather", "parameters": {"type": "object", "properties": {
        "city": {"type": "string"}, "unit": {"enum": ["C", "F"]}, "days": {"type": "integer"}}, "required": ["city"]}},
    {"name": "write", "parameters": {"type": "object", "properties": {
        "path": {"type": "string", "maxLength": 20}, "lines": {"type": "array", "items": {"type": "string"}},
        "with": {"type": "object", "properties": {"mode": {"type": "string"}}}}, "required": ["path", "lines"]}},
]  # fmt: skip
SAMPLINGS = [{"temperature": 0}, {"temperature": 1.5}, {"temperature": 1.2, "top_p": 0.95}, {"top_k": 40}]


@pytest.fixture(scope="module")
def compiler(smollm2):
    made = GrammarCompiler(smollm2, smollm2.eos_ids, smollm2.vocabulary)
    yield made
    made.close()


def preferring(tokenizer, *texts):
    """Logits for which the first of ``texts`` is the best token, then the next."""
    logits = np.zeros(tokenizer.vocabulary, np.float32)
    for place, text in enumerate(texts):
        [token] = tokenizer.encode(text)
        logits[token] = 90 - 30 * place
    return logits


def test_a_mask_is_that_of_what_was_drawn_not_of_a_guess_that_missed(compiler, smollm2):
    """llguidance keeps its last mask, and a matcher that was rolled back takes it for that of another way."""
    guide = compiler.compile(BRANCHES).result().guide()
    sampler = Sampler(Sampling(top_p=0.9), [], [])
    guesses = [token for text in ("a", '"', "x") for token in smollm2.encode(text)]
    assert guide.fitting(guesses) == 3
    guide.prepare(guesses)
    said = []
    for wanted in (("b",), ('"',), ("x",), ('",', '"}')):
        said.append(guide.next(sampler, preferring(smollm2, *wanted), 40))
        while guide.forced:
            said.append(guide.next(sampler, None, 40))
        guide.forget_masks()
    assert (smollm2.decode(said), guide.over) == ('b"x"}', "stop")


class Driven:
    """One answer, step by step, as ``engine.py`` and ``decoding.py`` go."""

    def __init__(self, compiler, tokenizer, grammar, constraint, seed, sampling, limit):
        self.tokenizer, self.chance = tokenizer, np.random.default_rng(seed)
        self.guide, self.sampler = grammar.guide(), Sampler(Sampling(seed=seed, **sampling), [], [])
        self.oracle = apart(compiler, json.dumps([constraint.kind, constraint.value]))
        self.likely = likely(tokenizer)
        self.room = max(limit, len(grammar.shortest))
        self.said, self.ended = [], False

    def step(self, guesses, kind, ahead):
        guide = self.guide
        draft = (list(guide.forced)[: 1 + guesses] or self.guessed(guesses, kind))[: self.room - 1]
        guide.forget_masks()
        if ahead:
            guide.prepare(draft)
        for place in range(len(draft) + 1):
            token = guide.next(self.sampler, None if guide.forced else self.logits(), self.room)
            if token is None:
                self.end()
            else:
                self.take(token)
            if self.ended or place == len(draft) or token != draft[place]:
                return

    def guessed(self, count, kind):
        """Guesses that the grammar allows; most of them will not come true."""
        fork, guesses = self.oracle(self.said), []
        for _ in range(count):
            allowed = np.flatnonzero(bits(fork)[: self.tokenizer.vocabulary])
            good = np.intersect1d(allowed, self.likely)
            token = int(self.chance.choice(good if kind == "fit" and len(good) else allowed))
            if token in self.tokenizer.eos_ids or not fork.consume_token(token):
                break
            guesses.append(token)
        return guesses[: self.guide.fitting(guesses)]

    def logits(self):
        logits = self.chance.standard_normal(self.tokenizer.vocabulary, np.float32)
        logits[self.chance.choice(self.likely, 8)] += np.float32(9)
        return logits

    def take(self, token):
        if token in self.tokenizer.eos_ids:
            assert self.oracle(self.said).is_accepting()
            self.end()
            return
        self.said.append(token)
        self.room -= 1
        assert self.room >= 0
        if self.guide.over is not None or not self.room:
            self.end()

    def end(self):
        self.ended = True
        assert not self.guide.forced
        assert self.oracle(self.said).is_accepting()
        assert not self.guide.grammar.check(self.tokenizer.decode(self.said))


def a_constraint(chance):
    """A JSON Schema, two ways of which one is taken, or calls of tools."""
    kind = chance.random()
    if kind < 0.7:
        return Constraint("json_schema", random_schema(chance))
    if kind < 0.8:
        return BRANCHES
    use = ToolUse.of(TOOLS, chance.choice(["auto", "required"]))
    return Constraint("grammar", call_grammar(use, chance.choice(["json", "pythonic"])))


@cache
def likely(tokenizer):
    """Tokens that open, close and go on in what is written here."""
    text = '{"city": "a", "name": [1, 2.5], "b": {}}, null], "x"}; true red [weather(city="ab"), C 2024-05-06 foo "",'
    pieces = [text, '",', '"}', '"]', '{"', '":', '"', "}", "]", ",", '["', "a", "b"]
    return np.array(sorted({token for piece in pieces for token in tokenizer.encode(piece)}))


def bits(matcher):
    return np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")


@cache
def compiled_apart(compiler, told):
    kind, value = json.loads(told)
    source = grammar_source(Constraint(kind, value))
    return LLMatcher(compiler._known().tokens, source, log_level=0, limits=limits())


def apart(compiler, told):
    """A matcher of its own that has read so many tokens, and never kept a mask."""

    def after(tokens):
        matcher = compiled_apart(compiler, told).deep_copy()
        for place, token in enumerate(tokens):
            assert matcher.consume_token(token), (place, tokens, matcher.get_error())
        return matcher

    return after


STEPS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["fit", "any"]), st.booleans()), min_size=1, max_size=8)


def drive(compiler, tokenizer, examples):
    """Any number of answers. What is refused is refused before one begins."""

    @settings(max_examples=examples, deadline=None)
    @given(st.integers(0, 100_000), st.sampled_from(SAMPLINGS), st.integers(1, 60), STEPS)
    def answer(seed, sampling, limit, steps):
        constraint = a_constraint(random.Random(seed))
        try:
            grammar = compiler.compile(constraint).result()
        except InvalidRequest:
            return
        driven = Driven(compiler, tokenizer, grammar, constraint, seed, sampling, limit)
        for step in cycle(steps):
            driven.step(*step)
            if driven.ended:
                break

    answer()


def test_a_guide_never_fails_and_what_it_emits_fits(compiler, smollm2):
    drive(compiler, smollm2, 15)


@pytest.mark.slow
def test_a_guide_never_fails_at_length(compiler, smollm2):
    drive(compiler, smollm2, 1500)


GROWING = Constraint("grammar", "start: ANY | SOME\nANY: /(?s:.*)/\nSOME: /(?s:.*(a|bc).{300})/")
"""The lexer has another state for each way in which the last 300 characters may have been one of the two."""
HIDDEN = Constraint("regex", "(?s:.*a.{12}b)")
"""The way out depends on the last dozen characters, and what is found at once leads in circles."""


@pytest.fixture
def bytewise():
    tokenizer = byte_tokenizer()
    made = GrammarCompiler(tokenizer, tokenizer.eos_ids, tokenizer.vocabulary)
    yield made
    made.close()


def draw(guide, count):
    """So many tokens, each drawn without a mask; the longest that one took of this thread's computing."""
    chance = np.random.default_rng(1)
    sampler = Sampler(Sampling(seed=1), [], [])
    longest = 0.0
    for place in range(count):
        logits = np.full(258, -50, np.float32)
        logits[chance.choice([*b"abcdefg"])] = 50
        start = time.thread_time()
        assert guide.next(sampler, logits, 9_999 - place) is not None
        longest = max(longest, time.thread_time() - start)
        if guide.over is not None:
            break
    return longest


def test_answers_without_masks_do_not_run_out_of_fuel(bytewise):
    guide = bytewise.compile(GROWING).result().guide()
    draw(guide, 3_000)
    assert guide.over is None


def test_an_answer_that_runs_out_of_fuel_takes_no_later_one_with_it(bytewise, monkeypatch):
    monkeypatch.setattr(lexer_fuel, "REFILL_SECONDS", float("inf"))
    first = bytewise.compile(GROWING).result()
    with pytest.raises(InvalidRequest, match=r"beyond the limits of a step .* make it simpler"):
        draw(first.guide(), 3_000)
    second = bytewise.compile(GROWING).result()
    assert second is not first
    draw(second.guide(), 100)
    assert bytewise.compile(GROWING).result() is second


def test_a_search_for_the_way_out_that_takes_long_is_given_up(bytewise):
    grammar = bytewise.compile(HIDDEN).result()
    guide = grammar.guide()
    start = time.thread_time()
    longest = draw(guide, 3_000)
    assert guide.over == "length", "nothing was found in time, so what was known is taken"
    assert longest < 2 * SEARCHING
    assert time.thread_time() - start < 2
