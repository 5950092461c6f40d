"""What a prompt of examples is, how an answer is read, and that probes stay out of prompts."""

from collections import defaultdict

import pytest
from oracle import Oracle, saying

from quipu import capabilities
from quipu.capabilities.base import Score
from quipu.errors import ContextLengthExceeded, InvalidRequest, Unparsed

FEW_SHOT = capabilities.find("few_shot")
PAIRS = [{"input": "hot", "output": "cold"}, {"input": "big", "output": "small"}]


def read(text: str, examples: list[dict] = PAIRS) -> str:
    return FEW_SHOT.parse(text, FEW_SHOT.input.of({"input": "up", "examples": examples, "task": "t"})).output


def test_examples_are_turns_that_were_answered_and_the_input_is_last() -> None:
    asked = FEW_SHOT.messages(FEW_SHOT.input.of({"input": "up", "examples": PAIRS, "task": "Opposite?"}))
    assert [(each.role, each.content) for each in asked] == [
        ("user", "Opposite?\nhot"),
        ("assistant", "cold"),
        ("user", "Opposite?\nbig"),
        ("assistant", "small"),
        ("user", "Opposite?\nup"),
    ]
    assert FEW_SHOT.messages(FEW_SHOT.input.of({"input": "up", "examples": PAIRS}))[0].content == "hot"
    [alone] = FEW_SHOT.messages(FEW_SHOT.input.of({"input": "up", "task": "Opposite?"}))
    assert alone.content == "Opposite? Reply with the answer only.\nup"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input": " ", "examples": PAIRS}, "input is empty"),
        ({"input": "up"}, "nothing to learn the task from; give examples, or a task"),
        ({"input": "up", "task": " "}, "nothing to learn the task from"),
    ],
)
def test_what_shows_no_task_is_refused(given: dict, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        FEW_SHOT.run(saying("x"), FEW_SHOT.input.of(given))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"input": "up", "examples": [{"input": "hot"}]}, r"examples\[0\]\.output is missing"),
        (
            {"input": "up", "examples": [{"input": "a", "output": "b", "label": 1}]},
            r"unknown field examples\[0\]\.label",
        ),
        ({"input": "up", "examples": ["hot cold"]}, r"examples\[0\] should be"),
    ],
)
def test_malformed_examples_are_named(given: dict, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        FEW_SHOT.input.of(given)


@pytest.mark.parametrize(
    "text",
    [
        "down",
        "  down\n",
        "Output: down",
        "The answer is: down",
        "**down**",
        '"down"',
        "“down”",
        "```\ndown\n```",
        "```text\ndown\n```",
        "Sure, here is the output:\n\ndown",
        "Here's the opposite:\ndown",
        "down\nInput: old\nOutput: young",
    ],
)
def test_what_models_put_around_an_output_is_taken_off(text: str) -> None:
    assert read(text) == "down"


def test_quotes_and_lines_stay_when_the_examples_have_them() -> None:
    assert read('"down"', [{"input": "hot", "output": '"cold"'}]) == '"down"'
    assert read("a\nb", [{"input": "hot", "output": "c\nd"}]) == "a\nb"
    assert read("a\nb", []) == "a\nb"


@pytest.mark.parametrize("text", ["", "Output:", "```\n\n```", '""'])
def test_an_answer_with_nothing_in_it_is_unparsed(text: str) -> None:
    with pytest.raises(Unparsed, match="empty") as unparsed:
        read(text)
    assert unparsed.value.text == text


def test_no_item_is_an_example() -> None:
    items, examples = defaultdict(set), defaultdict(set)
    for probe in FEW_SHOT.probes:
        items[probe.group].add(probe.given["input"].casefold())
        examples[probe.group] |= {each["input"].casefold() for each in probe.given["examples"]}
    for group in items:
        assert items[group].isdisjoint(examples[group]), group


def test_the_same_items_are_asked_with_each_number_of_examples() -> None:
    asked = defaultdict(set)
    for probe in FEW_SHOT.probes:
        asked[probe.part].add((probe.group, probe.given["input"]))
        count = int(probe.part.split()[0])
        assert len(probe.given["examples"]) == count
    assert set(asked) == {"0 examples", "1 example", "2 examples", "3 examples", "5 examples"}
    assert len({frozenset(each) for each in asked.values()}) == 1


def test_two_examples_of_a_classification_show_two_labels() -> None:
    for probe in FEW_SHOT.probes:
        labels = [each["output"] for each in probe.given["examples"]]
        if probe.part == "2 examples":
            assert len(set(labels)) == 2


def probe_of(group: str):
    return next(probe for probe in FEW_SHOT.probes if probe.group == group and probe.given["examples"])


def test_case_counts_where_it_is_the_task_only() -> None:
    label, case = probe_of("sentiment"), probe_of("upper_case")
    said = FEW_SHOT.output(output=label.answer.upper() + ".")
    assert FEW_SHOT.score(said, label).passed
    assert not FEW_SHOT.score(FEW_SHOT.output(output=case.answer.lower()), case).passed


@pytest.mark.parametrize("text", ["positive negative", "positive or negative", "not positive", "The opinion", "n"])
def test_all_labels_at_once_are_wrong(text: str) -> None:
    assert not FEW_SHOT.score(FEW_SHOT.output(output=text), probe_of("sentiment")).passed


def test_the_learning_curve_is_accuracy_by_number_of_examples() -> None:
    scored = [(probe, Score.right(len(probe.given["examples"]) > 1)) for probe in FEW_SHOT.probes]
    curve = FEW_SHOT.findings(scored)["accuracy_by_examples"]
    assert curve == {"0": 0.0, "1": 0.0, "2": 1.0, "3": 1.0, "5": 1.0}


def test_examples_beyond_the_context_are_refused_and_not_dropped() -> None:
    def refuse(messages) -> str:
        raise ContextLengthExceeded("too long", param="messages")

    given = FEW_SHOT.input.of({"input": "up", "examples": PAIRS * 100})
    model = Oracle(refuse, 64)
    with pytest.raises(ContextLengthExceeded):
        FEW_SHOT.run(model, given)
    assert len(model.asked[0]) == 401


def test_control_characters_and_megabytes_pass_through() -> None:
    text = "a\x00b‮" * 1_000_000
    model = saying("down")
    assert FEW_SHOT.run(model, FEW_SHOT.input.of({"input": text, "examples": PAIRS})).output.output == "down"
    assert model.asked[0][-1].content == text
    assert len(read("x" * 1_000_000)) == 1_000_000
