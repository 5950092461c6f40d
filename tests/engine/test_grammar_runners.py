"""Constrained answers of random weights, on each way of computing: what the runner predicts does not matter."""

import json
import re
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from native.models import tiny_weights
from tiny import tiny_config, tiny_tensors

from quipu.engine.engine import Engine
from quipu.engine.fake import CHAT_TEMPLATE, byte_tokenizer, fake_model
from quipu.engine.local import LocalModel
from quipu.engine.prompt_lookup import PromptLookup
from quipu.engine.runner import PoolSize
from quipu.model.chat_format import ChatFormat
from quipu.model.weights import Tensor
from quipu.types import Constraint

CONFIG = tiny_config(vocabulary=258, intermediate_size=192)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "colour": {"enum": ["red", "green"]},
        "sizes": {"type": "array", "items": {"type": "integer", "minimum": 3, "maximum": 40}, "maxItems": 3},
    },
    "required": ["name", "colour", "sizes"],
    "additionalProperties": False,
}


def native_runner():
    pytest.importorskip("quipu.native._kernels")
    from quipu.engine.native_runner import NativeRunner

    return NativeRunner(CONFIG, tiny_weights("F32", CONFIG), PoolSize(128), kv_dtype="f32")


def torch_runner():
    torch = pytest.importorskip("torch")
    from quipu.engine.torch_runner import TorchRunner
    from quipu.model.llama import Llama

    tensors = {
        name: Tensor(name, value.shape, "F32", np.ascontiguousarray(value).view(np.uint8).reshape(-1))
        for name, value in tiny_tensors(CONFIG).items()
    }
    return TorchRunner(Llama(CONFIG, tensors, torch.float32, torch.device("cpu")), PoolSize(128))


@pytest.fixture(scope="module", params=[native_runner, torch_runner], ids=["native", "torch"])
def model(request):
    tokenizer = byte_tokenizer()
    engine = Engine(request.param(), context_length=512, end_ids=tokenizer.eos_ids, drafter=PromptLookup())
    with fake_model() as fake:
        facts = replace(fake.facts, context_length=512)
    with LocalModel(engine, facts, tokenizer, ChatFormat(tokenizer, CHAT_TEMPLATE)) as made:
        yield made


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1.5, "n": 3}, {"top_p": 0.8, "n": 3}])
def test_answers_keep_to_their_constraints(model, options):
    ask = [{"role": "user", "content": "an order: name, colour, sizes"}]

    def answers(kind, value):
        return [each.text for each in model.chat(ask, constraint=Constraint(kind, value), seed=5, **options).choices]

    options |= {"max_tokens": 120}
    for text in answers("json_schema", SCHEMA):
        jsonschema.validate(json.loads(text), SCHEMA)
    for text in answers("regex", r"[A-Z][a-z]{2,9} [0-9]{1,4}"):
        assert re.fullmatch(r"[A-Z][a-z]{2,9} [0-9]{1,4}", text)
    assert set(answers("choice", ["yes", "no", "perhaps"])) <= {"yes", "no", "perhaps"}
    for text in answers("grammar", 'start: "(" word ("," word)* ")"\nword: /[a-f]{2}/'):
        assert re.fullmatch(r"\([a-f]{2}(,[a-f]{2})*\)", text)
