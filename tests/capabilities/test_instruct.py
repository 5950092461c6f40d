"""Each check of an instruction, and what counts as an answer at all."""

import json

import pytest
from oracle import saying

from quipu import capabilities
from quipu.capabilities.base import Score
from quipu.capabilities.parts.instructions import FAMILIES, WORDING
from quipu.capabilities.parts.verifiable import CHECKS, followed, no_answer
from quipu.errors import InvalidRequest

INSTRUCT = capabilities.find("instruct")


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        ({"kind": "words_at_most", "number": 3}, "- one two, three!", "one two three four"),
        ({"kind": "words_at_least", "number": 3}, "one two - three", "one - two"),
        ({"kind": "sentences", "number": 2}, 'It is 3.5 m. "Really?"', "One. Two. Three."),
        ({"kind": "paragraphs", "number": 2}, "a\nb\n\n\nc", "a\nb"),
        ({"kind": "bullets", "number": 2}, "List:\n- a\n* b", "- a\n- b\n- c"),
        ({"kind": "numbered", "number": 2}, "1. a\n2) b", "1. a\n3. b"),
        ({"kind": "lines_start", "prefix": ">"}, "> a\n\n> b", "> a\nb"),
        ({"kind": "json_keys", "keys": ["a", "b"]}, '```json\n{"a": "x", "b": "y"}\n```', '{"a": "x", "b": ""}'),
        ({"kind": "json_keys", "keys": ["a"]}, '{"a": "x"}', 'Sure: {"a": "x"}'),
        ({"kind": "json_keys", "keys": ["a"]}, ' {"a": "x"}', "[" * 100_000),
        ({"kind": "title"}, "[Dogs]\nThey bark.", "Dogs\nThey bark."),
        ({"kind": "title"}, "\n[Dogs]\n\nThey bark.", "[Dogs]"),
        ({"kind": "quoted"}, '"All of it."', '"Half" of it'),
        ({"kind": "include", "words": ["river", "moon"]}, "Moon over the River.", "Moons and rivers"),
        ({"kind": "exclude", "words": ["very"]}, "every one", "Very good"),
        ({"kind": "no_commas"}, "one two", "one, two"),
        ({"kind": "upper"}, "ALL 3 OF IT!", "ALL Of IT"),
        ({"kind": "lower"}, "all 3 of it!", "All of it"),
        ({"kind": "title_case"}, "The (Big) 3rd Dog's Life", "The big Dog"),
        ({"kind": "language", "language": "de"}, "Das ist ein Haus und ein Garten.", "This is a house and a garden."),
        ({"kind": "starts", "phrase": "In short"}, "in short, yes", "Yes, in short"),
        ({"kind": "ends", "phrase": "The end."}, "So it was. The end.\n", "The end. Really."),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_a_check_tells_right_from_wrong(check: dict, right: str, wrong: str) -> None:
    assert followed(right, check)
    assert not followed(wrong, check)


def test_every_check_is_worded_belongs_to_a_family_and_is_asked_for() -> None:
    asked = {check["kind"] for probe in INSTRUCT.probes for check in probe.expected["checks"]}
    assert set(CHECKS) == set(WORDING) == asked == {kind for kinds in FAMILIES.values() for kind in kinds}


def test_the_number_of_instructions_is_the_difficulty() -> None:
    for probe in INSTRUCT.probes:
        assert probe.difficulty == ("easy", "medium", "hard")[len(probe.expected["checks"]) - 1]


ABOUT = ["dog"]
ASKED = "Write about dogs. Write exactly 2 sentences. Use the words river and moon."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("The cat is on the roof.", "not about"),
        (ASKED, "the instruction again"),
        (f"Sure! {ASKED} I will do it.", "the instruction again"),
        ("dogs river moon tooth garden paper", "loose words"),
        ("The dog is a dog. " * 20, "repeats itself"),
        ("dog", "loose words"),
        ("\x00\x1b", "not about"),
    ],
)
def test_what_is_no_answer_gets_nothing(text: str, why: str) -> None:
    assert why in no_answer(text, ABOUT, ASKED)


@pytest.mark.parametrize(
    "text", ["Dogs bark at the moon by the river. They like it.", "- A dog is a friend.\n- The dog barks."]
)
def test_plain_prose_is_an_answer(text: str) -> None:
    assert no_answer(text, ABOUT, ASKED) == ""


def test_all_that_a_prompt_names_in_a_heap_scores_nothing() -> None:
    for probe in INSTRUCT.probes:
        heap = " ".join([probe.expected["subject"], *probe.expected["about"], json.dumps(probe.expected["checks"])])
        echo = probe.given["instruction"]
        for text in (heap, echo, f"{echo} " * 5):
            assert INSTRUCT.score(INSTRUCT.output(text=text), probe).value == 0, text


def test_the_material_again_does_not_follow_what_it_takes_no_care_of() -> None:
    copied = [probe for probe in INSTRUCT.probes if probe.given["text"] is not None]
    passed = [INSTRUCT.score(INSTRUCT.output(text=probe.given["text"]), probe).passed for probe in copied]
    assert len(copied) >= 30
    assert sum(passed) < len(copied) / 3


def test_half_of_what_was_asked_is_half() -> None:
    two = [probe for probe in INSTRUCT.probes if probe.group == "upper" and probe.difficulty == "medium"]
    probe = two[0]
    score = INSTRUCT.score(INSTRUCT.output(text=probe.answer.lower()), probe)
    assert (score.value, score.passed) == (0.5, False)
    assert "upper" in score.why


def test_the_findings_are_strict_accuracy_by_number_of_instructions() -> None:
    scored = [(probe, Score(0.5, probe.difficulty == "easy")) for probe in INSTRUCT.probes]
    assert INSTRUCT.findings(scored) == {"all_followed_by_instructions": {"1": 1.0, "2": 0.0, "3": 0.0}}


def test_the_text_comes_first_and_the_limit_of_words_last() -> None:
    given = INSTRUCT.input.of({"instruction": "Make it short.", "text": "A long story.", "words": 9})
    [message] = INSTRUCT.messages(given)
    assert message.content == "A long story.\n\nMake it short. Use no more than 9 words in all."
    [message] = INSTRUCT.messages(INSTRUCT.input.of({"instruction": "Write."}))
    assert message.content == "Write."
    assert INSTRUCT.longest(given) < INSTRUCT.longest(INSTRUCT.input.of({"instruction": "Write."}))


def test_an_empty_instruction_and_an_impossible_length_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="instruction is empty"):
        INSTRUCT.run(saying("x"), INSTRUCT.input.of({"instruction": " "}))
    with pytest.raises(InvalidRequest, match="words should be greater than or equal to 1"):
        INSTRUCT.input.of({"instruction": "Write.", "words": 0})


def test_an_endless_answer_is_scored_quickly() -> None:
    for probe in INSTRUCT.probes[:3]:
        assert INSTRUCT.score(INSTRUCT.output(text="dog water the moon. " * 50_000), probe).value == 0


def test_control_characters_and_megabytes_pass_through() -> None:
    text = "a\x00b‮" * 1_000_000
    model = saying("fine")
    assert INSTRUCT.run(model, INSTRUCT.input.of({"instruction": "Go.", "text": text})).output.text == "fine"
    assert model.asked[0][0].content.startswith(text)
