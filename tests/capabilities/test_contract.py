"""What every capability keeps to, whichever it is: nothing here names one."""

import json
from collections import Counter
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import saying
from rapidfuzz import fuzz, process

from quipu import capabilities
from quipu.capabilities.base import Answering, Capability, Difficulty, Output
from quipu.errors import InvalidRequest, Unparsed

GOLDEN = Path(__file__).parents[1] / "golden" / "probe_sets"
RESERVED = {"model", "stream", "sampling"}
"""Names of the request around the input."""

EXAMPLE = Path(__file__).parents[2] / "examples" / "capabilities" / "initials.py"
ALL = [*capabilities.all_capabilities(), capabilities._load(EXAMPLE.stem, EXAMPLE)]
ANSWERING = [each for each in ALL if isinstance(each, Answering)]

every = pytest.mark.parametrize("capability", ALL, ids=lambda each: each.id)
answering = pytest.mark.parametrize("capability", ANSWERING, ids=lambda each: each.id)


@every
def test_its_card_is_complete(capability: Capability) -> None:
    assert capability.uri == f"capability://{capability.id}@{capability.version}"
    assert capability.title
    assert len(capability.description) >= 60
    assert len(set(capability.phrases)) == len(capability.phrases) >= 8
    assert not RESERVED & set(capability.input.model_fields)
    for model in (capability.input, capability.output):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__qualname__}.{name} has no description"
    if capability.text_field is not None:
        assert capability.input.model_fields[capability.text_field].annotation in (str, str | None)


def test_phrases_of_different_capabilities_do_not_collide() -> None:
    phrases = [(phrase.casefold(), each.id) for each in ALL for phrase in each.phrases]
    for phrase, owner in phrases:
        others = [other for other, its in phrases if its != owner]
        closest = process.extractOne(phrase, others, scorer=fuzz.token_sort_ratio)
        assert closest is None or closest[1] < 90, f"{owner}: {phrase!r} is close to {closest[0]!r}"


@every
def test_unknown_fields_are_named_with_the_nearest(capability: Capability) -> None:
    [first, *_] = capability.input.model_fields
    with pytest.raises(InvalidRequest, match=f"unknown field {first}z; did you mean {first}"):
        capability.input.of({**_some_input(capability), first + "z": 1})


def _some_input(capability: Capability) -> dict:
    return dict(capability.probes[0].given) if isinstance(capability, Answering) else {}


@answering
def test_probes_are_many_distinct_and_varied(capability: Answering) -> None:
    probes = capability.probes
    assert len(probes) >= 160
    assert len({probe.id for probe in probes}) == len(probes)
    [(group, most)] = Counter(probe.group for probe in probes).most_common(1)
    assert most * 5 <= len(probes), f"{most} of {len(probes)} probes are of the group {group}"
    assert {probe.difficulty for probe in probes} <= set(get_args(Difficulty))
    assert len({probe.difficulty for probe in probes}) >= 2
    assert capability.sources
    assert all(source.name and source.license for source in capability.sources)
    for probe in probes:
        capability.input.of(probe.given)
        json.dumps([probe.given, probe.expected], allow_nan=False)


@answering
def test_probes_are_those_of_its_version(capability: Answering) -> None:
    golden = (GOLDEN / f"{capability.id}@{capability.version}.txt").read_text().strip()
    assert golden == capability.probe_set, "the probes changed: raise the version, and add a file with the new hash"


@answering
def test_a_perfect_oracle_scores_one(capability: Answering) -> None:
    for probe in capability.probes:
        result = capability.run(saying(probe.answer), capability.input.of(probe.given))
        score = capability.score(result.output, probe)
        assert (score.value, score.passed) == (1.0, True), f"{probe.id}: {score.why}\n{probe}"


@answering
def test_the_trivial_answer_scores_the_stated_baseline(capability: Answering) -> None:
    values = []
    for probe in capability.probes:
        try:
            output = capability.parse(capability.trivial(probe), capability.input.of(probe.given))
        except Unparsed:
            values.append(0.0)
        else:
            values.append(capability.score(output, probe).value)
    assert capability.baseline_name
    assert round(sum(values) / len(values), 3) == capability.baseline
    if capability.binary:
        assert set(values) <= {0.0, 1.0}


@answering
def test_parse_inverts_render(capability: Answering) -> None:
    for probe in capability.probes:
        asked = capability.input.of(probe.given)
        output = capability.parse(probe.answer, asked)
        assert isinstance(output, capability.output)
        assert capability.parse(capability.render(output, asked), asked) == output


@answering
@settings(max_examples=60, deadline=None)
@given(text=st.text(), number=st.integers(0, 10**6))
def test_any_answer_is_read_or_unparsed(capability: Answering, text: str, number: int) -> None:
    probe = capability.probes[number % len(capability.probes)]
    try:
        output = capability.parse(text, capability.input.of(probe.given))
    except Unparsed as unparsed:
        kept = unparsed.text  # so that one can look at it
    else:
        kept = text
        assert isinstance(output, Output)
        assert 0 <= capability.score(output, probe).value <= 1
    assert kept == text


@answering
def test_an_empty_answer_is_unparsed(capability: Answering) -> None:
    probe = capability.probes[0]
    with pytest.raises(Unparsed, match="empty"):
        capability.parse(" \n", capability.input.of(probe.given))


@answering
def test_no_probe_is_an_example_in_a_prompt(capability: Answering) -> None:
    """What a prompt holds beside what it was given is the same for all, and holds nothing of a probe."""
    if capability.text_field is None:
        pytest.skip("its input has no main text")
    with_text = [probe for probe in capability.probes if probe.given[capability.text_field] is not None]
    texts = {str(probe.given[capability.text_field]) for probe in with_text}
    for probe in with_text[:20]:
        own = str(probe.given[capability.text_field])
        prompt = "\n".join(message.content for message in capability.messages(capability.input.of(probe.given)))
        assert own in prompt or own.strip() in prompt
        rest = prompt.replace(own.strip(), "")
        assert not any(text in rest for text in texts if len(text) > 12)
