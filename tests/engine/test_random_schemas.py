"""Random schemas and the real model: every answer validates or is refused at the door, at any limit and temperature."""

import collections
import json
import random
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
from random_schemas import random_schema

import quipu
from quipu.errors import InvalidRequest
from quipu.types import Constraint

ASKED = [{"role": "user", "content": "Ms Anna Schmidt ordered 3 chairs and 2 tables for 450.50 euros. Answer in JSON."}]
SECONDS = 60


@pytest.fixture(scope="module")
def model(smollm2_file):
    with quipu.load(smollm2_file, context=2048, kv_memory=1, concurrency=16, threads=1) as loaded:
        yield loaded


def outcome(model, seed):
    chance = random.Random(seed)
    schema = random_schema(chance)
    limit, temperature = chance.randint(5, 500), chance.choice([0, 1.5])
    try:
        answer = model.chat(
            ASKED, constraint=Constraint("json_schema", schema), max_tokens=limit, temperature=temperature, seed=seed
        )
    except InvalidRequest as error:
        return "too short" if error.param == "max_tokens" else "refused", str(error)
    jsonschema.validate(json.loads(answer), schema, cls=jsonschema.Draft202012Validator)
    assert answer.usage.completion_tokens <= limit
    assert answer.finish_reason == "length" or not answer.choices[0].incomplete
    return answer.finish_reason, ""


def ask_all(model, seeds):
    with ThreadPoolExecutor(16) as pool:
        asked = [(seed, pool.submit(outcome, model, seed)) for seed in seeds]
        outcomes = collections.Counter()
        wrong = []
        for seed, future in asked:
            try:
                kind, said = future.result(SECONDS)
            except Exception as error:
                wrong.append(f"{seed}: {type(error).__name__}: {str(error)[:300]}")
                continue
            outcomes[kind] += 1
            if kind == "refused":
                print(seed, said[:160])
    assert not wrong, "\n".join(wrong)
    return outcomes


def test_a_few_random_schemas(model):
    outcomes = ask_all(model, range(8))
    assert outcomes["stop"]
    assert outcomes["length"]
    assert outcomes["stop"] + outcomes["length"] >= 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_random_schemas(model):
    outcomes = ask_all(model, range(1000, 2000))
    print(outcomes)
    assert outcomes["refused"] < 200
    assert outcomes["stop"] > 200
    assert outcomes["length"] > 200
