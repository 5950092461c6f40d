"""The demonstration model on the probes of extract, held to the schema and free to write what it likes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import quipu
from quipu import capabilities
from quipu.capabilities.base import Probe
from quipu.capabilities.parts.record_schema import RecordSchema
from quipu.engine.local import LocalModel
from quipu.errors import Unparsed

EXTRACT: Any = capabilities.find("extract")
TOGETHER = 16
SENTENCES = (
    "the buyer, the total in euros and every item with its quantity",
    "name and date of birth of each patient",
    "whether the customer is angry",
    "wer die Rechnung geschrieben hat und wie hoch sie ist",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def model() -> Iterator[LocalModel]:
    with quipu.load("smollm2-135m-instruct", context=4096, concurrency=TOGETHER) as loaded:
        yield loaded


class Free:
    """A model that is asked without any constraint."""

    def __init__(self, model: LocalModel) -> None:
        self.facts, self.context_length, self.count = model.facts, model.context_length, model.count
        self._model = model

    def stream(self, prompt: Any, sampling: Any = None, *, constraint: Any = None, **options: Any) -> Any:
        return self._model.stream(prompt, sampling, **options)


def asked(model: Any) -> tuple[list[float | None], float]:
    """The score of each probe, None where there is no data in the answer; and the seconds it took."""

    def one(probe: Probe) -> float | None:
        try:
            result = EXTRACT.run(model, EXTRACT.input.of(probe.given), {"seed": 1})
        except Unparsed:
            return None
        return float(EXTRACT.score(result.output, probe).value)

    start = time.monotonic()
    with ThreadPoolExecutor(TOGETHER) as pool:
        scores = list(pool.map(one, EXTRACT.probes))
    return scores, time.monotonic() - start


def test_held_to_the_schema_every_answer_is_data_and_none_the_worse(model: LocalModel) -> None:
    held, held_seconds = asked(model)
    free, free_seconds = asked(Free(model))
    means = [sum(score or 0.0 for score in scores) / len(scores) for scores in (held, free)]
    parsed = [sum(score is not None for score in scores) for scores in (held, free)]
    both = [(one, other) for one, other in zip(held, free, strict=True) if other is not None]
    print(f"\nheld: {parsed[0]} of {len(held)} are data, F1 {means[0]:.3f}, {held_seconds:.0f} s")
    print(f"free: {parsed[1]} of {len(free)} are data, F1 {means[1]:.3f}, {free_seconds:.0f} s")
    print(f"where free answers are data: held {sum(one or 0 for one, _ in both) / len(both):.3f}", end=" ")
    print(f"free {sum(other for _, other in both) / len(both):.3f}")
    assert parsed[0] == len(held)
    assert means[0] >= means[1]


@pytest.mark.parametrize("sentence", SENTENCES)
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_any_sentence_becomes_a_schema(model: LocalModel, sentence: str, temperature: float) -> None:
    output: Any = model.run(
        "extract", text="Nora Blake buys 2 teas for 7 euros.", wanted=sentence,
        sampling={"temperature": temperature, "seed": 3},
    )  # fmt: skip
    print(f"\n{sentence}: {output.json_schema}\n{output.data}")
    Draft202012Validator.check_schema(output.json_schema)
    assert RecordSchema.of(output.json_schema, many=False).schema == output.json_schema
