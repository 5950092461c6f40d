"""Answers as models really give them, what a bad one scores, and the effective length."""

import pytest
from oracle import Oracle

from quipu import capabilities
from quipu.capabilities.base import Probe, Score
from quipu.errors import ContextLengthExceeded, InvalidRequest

LONG = capabilities.find("long_context")
DOCUMENT = "It was cold. The parcel for Noor\nFarrant was sent to Hollowmere. The cook  slept; nobody came."
GIVEN = LONG.input.of({"document": DOCUMENT, "question": "Where was the parcel for Noor Farrant sent?"})
PARCEL = "The parcel for Noor Farrant was sent to Hollowmere."


@pytest.mark.parametrize(
    ("text", "answer", "quotation", "quoted"),
    [
        (f"Quotation: {PARCEL}\nAnswer: Hollowmere", "Hollowmere", PARCEL, True),
        (f"Sure!\n**Quotation:** “{PARCEL}”\n**Answer:** Hollowmere.", "Hollowmere.", PARCEL, True),
        (f"Answer: to Hollowmere\nQuote: > {PARCEL}", "to Hollowmere", PARCEL, True),
        (PARCEL, PARCEL, PARCEL, True),
        (f"{PARCEL}\nThe parcel was sent.\nThe parcel was sent.", PARCEL, PARCEL, True),
        (f'It was sent to Hollowmere: "{PARCEL}"', f'It was sent to Hollowmere: "{PARCEL}', PARCEL, True),
        ("Quotation: Nobody said that.\nAnswer: Paris", "Paris", "Nobody said that.", False),
        ("Quotation: The cook slept.\nAnswer: yes", "yes", "The cook slept", True),  # the stop is the model's
        ("Quotation:\nAnswer: yes", "yes", "yes", False),
        (f"{PARCEL}\n\nThe answer is Hollowmere.", "Hollowmere.", PARCEL, True),
    ],
)
def test_answers_are_read_however_they_are_marked(text, answer, quotation, quoted):
    output = LONG.parse(text, GIVEN)
    assert (output.answer, output.quotation, output.quoted) == (answer, quotation, quoted)


@pytest.fixture
def probe():
    return LONG.probes[0]


@pytest.mark.parametrize("which", ["document", "all values", "another value", "empty quotation", "part of a number"])
def test_an_answer_that_tells_nothing_scores_nothing(probe, which):
    value, others = probe.expected["value"], probe.expected["others"]
    document = probe.given["document"]
    answer, quotation = {
        "document": (document, document),
        "all values": (f"{value}, {', '.join(others)}", value),
        "another value": (others[0], value),
        "empty quotation": (value, "It says so."),
        "part of a number": (f"{value}7", value),
    }[which]
    output = LONG.output(answer=answer, quotation=quotation, quoted=" ".join(quotation.split()) in document)
    assert LONG.score(output, probe).value == 0


def test_its_prompt_begins_with_the_document(probe):
    [message] = LONG.messages(LONG.input.of(probe.given))
    assert message.content.startswith(probe.given["document"])
    assert probe.given["question"] in message.content[len(probe.given["document"]) :]


def test_questions_of_one_document_are_not_asked_together_but_soon():
    small = [probe for probe in LONG.probes if int(probe.part) <= 8192]
    assert LONG.probes[: len(small)] == tuple(small)
    assert len(small) >= 160
    places = {}
    for place, probe in enumerate(small):
        if probe.group in places:
            assert place - places[probe.group] == 16
        places[probe.group] = place
    distinct = {probe.group: len(probe.given["document"].split()) for probe in small}
    assert sum(distinct.values()) * 1.3 < 120_000


def test_no_value_of_a_needle_stands_twice_in_its_document():
    for probe in LONG.probes[:40]:
        assert probe.given["document"].count(probe.expected["value"]) == 1


def scored(shares):
    """So many of ten right by length."""
    for length, right in shares.items():
        for number in range(10):
            probe = Probe({"x": [length, number]}, {"depth": number / 10}, "", str(length), "easy", str(length))
            yield probe, Score.right(number < right)


@pytest.mark.parametrize(
    ("shares", "effective"),
    [
        ({512: 10, 1024: 9, 2048: 9, 4096: 8, 8192: 9}, 2048),  # 0.85 of 1.0, and no length is skipped
        ({512: 6, 1024: 5, 2048: 6}, 512),
        ({512: 6, 1024: 6, 2048: 6}, 2048),
        ({512: 4, 1024: 4}, None),  # even the base score is bad
        ({8192: 10}, None),  # without a base score nothing can be said
        ({}, None),
    ],
)
def test_the_effective_length_keeps_most_of_the_base_score(shares, effective):
    findings = LONG.findings(list(scored(shares)))
    assert findings["effective_length"] == effective
    assert {int(length): row["passed"] for length, row in findings["by_length"].items()} == shares


def test_findings_count_by_depth():
    by_depth = LONG.findings(list(scored({512: 5})))["by_depth"]
    assert {depth: (row["n"], row["passed"]) for depth, row in by_depth.items()} == {
        "0.0-0.2": (2, 2),
        "0.2-0.4": (2, 2),
        "0.4-0.6": (2, 1),
        "0.6-0.8": (2, 0),
        "0.8-1.0": (2, 0),
    }


def test_a_document_beyond_the_context_is_refused_uncounted():
    """50 MB would take a minute to count: the model refuses by length alone."""

    def refuse(messages):
        raise ContextLengthExceeded("the prompt has at least 400000 tokens")

    model = Oracle(refuse, context_length=8192)
    model.count = None
    with pytest.raises(ContextLengthExceeded, match="at least"):
        capabilities.run(model, "long_context", document="x" * 50_000_000, question="Why?")


def test_an_empty_document_is_refused():
    with pytest.raises(InvalidRequest, match="document"):
        capabilities.run(Oracle(lambda messages: "x"), "long_context", document="", question="Why?")
