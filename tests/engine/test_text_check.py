"""Checks of patterns and choices that share nothing with what guides answers, and agree with it."""

import dataclasses
import queue
import time

import numpy as np
import pytest

from quipu.engine.fake import fake_model
from quipu.engine.sampler import Sampler
from quipu.engine.text_check import choice_check, pattern_check
from quipu.types import Chunk, Constraint, Sampling

PATTERNS = [
    r"\d{1,3}(\.\d+)?", r"\w+\s\S", r"[^a-y]{3}", r"(?i)straße|HALLO", r"(?x) a  b+ # c", r"(?s:.{1,4})z", r".{0,6}",
    r"\p{Greek}{2}|\p{Lu}\p{Nd}", r"[[:alpha:]]{2}[[:^digit:]]", r"[a-z&&[^aeiou]]{3}", r"(?:^|a)b$", r"(a|ab)(c|bd)d*",
    r"[\w--\d]{2,4}", r"a{2,}?b*?", r"é|[à-ü]{1,3}", r"\x41\u00e9|\n\t", r"[-+]?(0|[1-9][0-9]*)e[0-9]", r"[]a]{2}|[b]",
]  # fmt: skip


@pytest.fixture(scope="module")
def fake():
    with fake_model() as model:
        yield model


def random_answers(model, constraint, count):
    """Texts that the grammar allows, drawn from logits that say nothing."""
    grammar = model.compile(constraint).result()
    chance = np.random.default_rng(4)
    for seed in range(count):
        guide, sampler, said = grammar.guide(), Sampler(Sampling(seed=seed, temperature=1.5), [], []), []
        while guide.over is None:
            token = guide.next(sampler, chance.standard_normal(258, np.float32), 40 - len(said))
            if token is None or token == 257:
                break
            said.append(token)
        yield grammar, model.tokenizer.decode(said)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_pattern_guides_passes_its_check(fake, pattern):
    check = pattern_check(pattern)
    for grammar, text in random_answers(fake, Constraint("regex", pattern), 20):
        assert check(text) == grammar.check(text) == "", repr(text)


def test_what_does_not_match_is_said():
    assert pattern_check(r"[0-9]{4}")("123a") == "it does not match the pattern"
    assert pattern_check(r"[0-9]{4}")("12345") == "it does not match the pattern"
    assert choice_check(("yes", "no"))("ye") == "it is none of the choices"
    assert choice_check(("yes", "no"))("no") == ""


def test_what_it_cannot_tell_it_leaves_to_the_grammar(fake):
    assert pattern_check(r"\x{41}")("A") is None, "Python does not read this"
    start = time.monotonic()
    assert pattern_check("(a|aa)+[bc]")("a" * 60) is None, "and would take for ever here"
    assert time.monotonic() - start < 2
    grammar = fake.compile(Constraint("regex", r"\x{41}b")).result()
    assert grammar.check("Ab") == ""
    assert grammar.check("b") == "it does not match the pattern or grammar"


@pytest.mark.parametrize(
    ("kind", "guided", "checked", "said"),
    [
        ("choice", ["a", "b"], ["c", "d"], "it is none of the choices"),
        ("regex", "[ab]", "[cd]", "it does not match the pattern"),
    ],
)
def test_a_fault_of_what_guides_is_noticed_before_the_answer_leaves(fake, kind, guided, checked, said):
    right = fake.compile(Constraint(kind, checked)).result()
    wrong = dataclasses.replace(fake.compile(Constraint(kind, guided)).result(), check=right.check)
    events = queue.SimpleQueue()
    fake.submit(fake.prompt_ids("hello"), fake.sampling({}), events.put, grammar=wrong)
    while isinstance(event := events.get(timeout=5), Chunk):
        assert event.finish_reason is None
    assert f"does not keep to its constraint: {said}" in str(event)
