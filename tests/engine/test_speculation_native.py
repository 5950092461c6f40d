"""Guessing ahead on the real model and quipu's own kernels: the same tokens, in fewer steps where the text repeats."""

import pytest

from quipu.engine.draft_model import DraftModel
from quipu.engine.engine import Engine
from quipu.engine.load import _chat_format, _facts, _tokenizer
from quipu.engine.local import LocalModel
from quipu.engine.prompt_lookup import PromptLookup
from quipu.model.checkpoint import open_checkpoint

pytest.importorskip("quipu.native")

CONTEXT = 384
COPY = [{"role": "user", "content": "Repeat exactly:\n" + "def area(width, height):\n    return width * height\n" * 3}]
FREE = [{"role": "user", "content": "Tell me a story about a lighthouse keeper."}]


@pytest.fixture(scope="module")
def start():
    """Starts the demonstration model with a drafter that is made for its runners."""
    from quipu.engine.native_runner import NativeRunner
    from quipu.engine.packed import packed_weights
    from quipu.engine.packing import packed_kinds
    from quipu.engine.runner import PoolSize

    checkpoint = open_checkpoint("smollm2-135m-instruct")
    weights = packed_weights(checkpoint.tensors, packed_kinds(checkpoint.tensors, "auto", None), None, threads=1)
    tokenizer = _tokenizer(checkpoint)
    models = []

    def runner():
        return NativeRunner(checkpoint.config, weights, PoolSize(3 * CONTEXT // 16), threads=1)

    def build(make_drafter):
        engine = Engine(
            runner(),
            context_length=CONTEXT,
            end_ids={*checkpoint.eos_ids, *tokenizer.eos_ids},
            vocabulary=tokenizer.vocabulary,
            drafter=make_drafter(runner),
        )
        facts = _facts(checkpoint, None, "packed")
        models.append(LocalModel(engine, facts, tokenizer, _chat_format(checkpoint, tokenizer)))
        return models[-1]

    yield build
    for model in models:
        model.close()


@pytest.fixture(scope="module")
def plain(start):
    return start(lambda runner: None)


def itself(runner):
    """A draft model that is the model, so that every guess is right."""
    return DraftModel(runner(), context_length=CONTEXT, vocabulary=49152, cost=0.3)


@pytest.mark.parametrize("make_drafter", [lambda runner: PromptLookup(), itself], ids=["lookup", "model"])
def test_the_same_answers_with_and_without(start, plain, make_drafter):
    guessing = start(make_drafter)
    for messages, options in (
        (COPY, {"temperature": 0}),
        (COPY, {"temperature": 0.7, "seed": 1, "n": 2}),
        (FREE, {"temperature": 1, "top_p": 0.95, "seed": 7, "repetition_penalty": 1.1, "logprobs": 2}),
    ):
        expected, got = (model.chat(messages, max_tokens=32, **options) for model in (plain, guessing))
        assert got.choices == expected.choices
        if make_drafter is itself and options == {"temperature": 0}:
            assert guessing.engine.stats().accepted_tokens == guessing.engine.stats().drafted_tokens > 10
    before, stats = plain.engine.stats(), guessing.engine.stats()
    assert stats.accepted_tokens > 10
    assert before.steps >= stats.steps + 10
