"""Generation: what the contract does not see."""

import re

import pytest
from oracle import Oracle, saying

from quipu import capabilities
from quipu.capabilities.parts.language import NAMES
from quipu.errors import ContextLengthExceeded, InvalidRequest

CAPABILITY = capabilities.find("generate")
OWN = [probe for probe in CAPABILITY.probes if "language" not in probe.given]
NAMED = [probe for probe in CAPABILITY.probes if "language" in probe.given]


def worth(probe, text):
    return CAPABILITY.score(CAPABILITY.parse(text, CAPABILITY.input.of(probe.given)), probe)


def prompt(**given):
    [message] = CAPABILITY.messages(CAPABILITY.input.of(given))
    return message.content


def test_it_asks_for_what_was_named_and_nothing_else():
    assert prompt(prompt="Hello") == "Hello"
    assert prompt(prompt="Hello", language="th") == "Hello\n\nWrite in Thai."
    assert (
        prompt(prompt="Hello", language="de", length="short")
        == "Hello\n\nWrite in German. Write at most three sentences."
    )


def test_every_language_is_asked_for_in_itself_and_from_another():
    for probes, count in ((OWN, 15), (NAMED, 10)):
        assert {language: sum(probe.part == language for probe in probes) for language in NAMES} == dict.fromkeys(
            NAMES, count
        )


@pytest.mark.parametrize("probe", CAPABILITY.probes[::3], ids=lambda probe: probe.id)
def test_bad_answers_are_wrong(probe):
    words, good = probe.expected["words"], probe.answer
    another = next(
        other.answer
        for other in CAPABILITY.probes
        if other.part == probe.part and other.expected["subject"] != probe.expected["subject"]
    )
    foreign = next(other.answer for other in CAPABILITY.probes if other.part != probe.part)
    for text, why in [
        (probe.given["prompt"], "only 0"),
        (probe.given["prompt"] * 2, "only 0"),
        ("Sure. " + probe.given["prompt"].upper() * 2, "not|echoes|repeats|only"),
        (probe.given["prompt"] + "\n\nThe sentence above is about " + "things and people and days.", "not|nothing"),
        (good + "\n" + good, "repeats"),
        (good * 20, "repeats"),
        (another, "nothing of"),
        (foreign, "in .*, not"),
        (" ".join(words), "not|only"),
        (f"{words[0]} " * 100, "not|repeats"),
        ("?", "only 1 "),
        ("? " * 60, "no language"),
    ]:
        score = worth(probe, text)
        assert not score.passed, text
        assert re.search(why, score.why), (text, score.why)


def test_it_says_which_language_came_out():
    given = CAPABILITY.input.of({"prompt": "Tell me about bread", "language": "de"})
    assert CAPABILITY.run(saying("The bread was still warm in the morning."), given).output.language == "en"
    wrong = CAPABILITY.run(saying("The bread was still warm in the morning."), given)
    assert wrong.notes == ("it is in English, not in German",)
    assert CAPABILITY.run(saying("Das Brot war am Morgen noch warm."), given).notes == ()
    free = CAPABILITY.input.of({"prompt": "Tell me about bread"})
    assert CAPABILITY.run(saying("Das Brot war am Morgen noch warm."), free).notes == ()
    assert CAPABILITY.run(saying("OK"), given).output.language is None


def test_a_length_bounds_the_tokens():
    oracle = saying("Yes.")
    for length in ("short", "medium", "long"):
        CAPABILITY.run(oracle, CAPABILITY.input.of({"prompt": "x", "length": length}))
    CAPABILITY.run(oracle, CAPABILITY.input.of({"prompt": "x"}), {"max_tokens": 7, "temperature": 0})
    assert [options["max_tokens"] for options in oracle.options] == [200, 800, 2000, 7]
    assert oracle.options[-1]["temperature"] == 0


def test_bad_input_is_refused_by_name():
    with pytest.raises(InvalidRequest, match="prompt"):
        CAPABILITY.input.of({"prompt": ""})
    with pytest.raises(InvalidRequest, match=r"language .*'en'.*got 'xx'"):
        CAPABILITY.input.of({"prompt": "x", "language": "xx"})


def test_a_prompt_that_outgrows_the_context_is_the_models_error():
    class Small(Oracle):
        def stream(self, prompt, sampling=None, **options):
            raise ContextLengthExceeded("the prompt has more tokens than the context")

    with pytest.raises(ContextLengthExceeded):
        CAPABILITY.run(Small(str, context_length=10), CAPABILITY.input.of({"prompt": "word " * 1_000_000}))


def test_findings_tell_languages_and_ways_of_asking_apart():
    scored = [(probe, worth(probe, CAPABILITY.trivial(probe))) for probe in CAPABILITY.probes]
    found = CAPABILITY.findings(scored)
    assert found["by_language"] == {language: float(language == "en") for language in NAMES}
    assert found["asked_in_the_language"] == found["asked_in_another"] == 0.125
    assert CAPABILITY.findings([])["asked_in_another"] is None
