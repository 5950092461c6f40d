"""Long texts by sections, answers as models give them, and what bad summaries score."""

import re

import pytest
from oracle import Oracle, saying

from quipu import capabilities
from quipu.capabilities.base import Delta, Progress, Result
from quipu.errors import ContextLengthExceeded, InvalidRequest, Unparsed

SUMMARIZE = capabilities.find("summarize")
SENTENCE = "The committee met again and talked about the road near the old mill for a while.\n\n"


def request_of(messages):
    """The text, and what is asked of it."""
    [message] = messages
    text, _, asked = message.content.rpartition("\n\n---\n")
    return text, asked


def first_words(messages):
    text, asked = request_of(messages)
    return " ".join(text.split()[: 80 if "120 words" in asked else 5])


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("The bridge opens.", "The bridge opens."),
        ("Sure! Here is a summary of the text:\n\nThe bridge opens.", "The bridge opens."),
        ("Here's the TL;DR: The bridge opens.", "The bridge opens."),
        ("TL;DR: The bridge opens.", "The bridge opens."),
        ("**Summary:** The bridge opens.", "The bridge opens."),
        ("## Summary\n\nThe bridge opens.", "The bridge opens."),
        ('"The bridge opens."', "The bridge opens."),
        ("```\nThe bridge opens.\n```", "The bridge opens."),
        ('"Open" and "closed"', '"Open" and "closed"'),
        ("Summary of events is what they asked: nothing.", "Summary of events is what they asked: nothing."),
        ("Sure signs of spring were seen.", "Sure signs of spring were seen."),
        ("Here is where the bridge was built.", "Here is where the bridge was built."),
    ],
)
def test_what_stands_around_a_summary_is_left_out(text, summary):
    assert SUMMARIZE.parse(text, SUMMARIZE.input.of({"text": "x"})).summary == summary


def test_points_are_marked_alike():
    given = SUMMARIZE.input.of({"text": "x", "style": "bullets"})
    text = "Here are the key points:\n\n* One.\n• Two.\n\n3. Three.\n- Four."
    assert SUMMARIZE.parse(text, given).summary == "- One.\n- Two.\n- Three.\n- Four."


@pytest.mark.parametrize("text", ["Summary:", "Here is a summary:\n"])
def test_an_introduction_alone_is_no_summary(text):
    with pytest.raises(Unparsed, match="has none") as caught:
        SUMMARIZE.parse(text, SUMMARIZE.input.of({"text": "x"}))
    assert caught.value.text == text


def test_a_short_text_takes_one_call_with_what_was_asked():
    model = saying("Short.")
    given = {"text": "A text.", "words": 33, "style": "tldr", "focus": "the costs"}
    assert capabilities.run(model, "summarize", **given).summary == "Short."
    [[message]] = model.asked
    assert message.content.startswith("A text.")
    assert "33 words" in message.content
    assert "TL;DR" in message.content
    assert "Focus on this: the costs." in message.content


def test_a_long_text_is_read_in_sections_and_then_over_their_summaries():
    model = Oracle(first_words, context_length=1000)
    text = "".join(f"{number} {SENTENCE}" for number in range(1000))
    events = list(capabilities.stream(model, "summarize", text=text, words=50))
    result = events[-1]
    assert isinstance(result, Result)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, len(progress) + 1))
    assert {event.what for event in progress} == {"reading sections", "joining summaries"}
    assert len(model.asked) == len(progress) + 1 <= progress[0].total
    read = "".join(request_of(asked)[0] for asked in model.asked if "committee" in request_of(asked)[0])
    assert {str(number) for number in range(1000)} <= set(re.findall(r"\d+", read))
    assert all(model.count(asked) <= 1000 for asked in model.asked)
    assert "50 words" in request_of(model.asked[-1])[1]
    first = sum(event.what == "reading sections" for event in progress)
    assert result.notes == (f"read in {first} sections, then their summaries",)
    assert (
        "".join(event.text for event in events if isinstance(event, Delta))
        == result.text
        == "0 The committee met again"
    )


def test_a_model_that_does_not_shorten_is_refused_no_round_and_ends():
    """However long its summaries are, sections of summaries get fewer, as a summary has a limit of tokens."""
    options = []

    def babble(messages):
        return "word " * options[-1]["max_tokens"]

    model = Oracle(babble, context_length=1000)
    options = model.options
    result = SUMMARIZE.run(model, SUMMARIZE.input.of({"text": SENTENCE * 300}))
    assert result.output.summary.startswith("word")
    assert len(model.asked) < 30


def test_what_takes_too_many_calls_is_refused_before_the_first():
    model = Oracle(first_words, context_length=1000)
    model.counted = 0
    count = model.count

    def counting(messages):
        model.counted += sum(len(message.content) for message in messages)
        return count(messages)

    model.count = counting
    text = SENTENCE * (50_000_000 // len(SENTENCE))
    with pytest.raises(InvalidRequest, match=r"takes about 1\d,\d{3} calls .* max_calls is 100") as caught:
        capabilities.run(model, "summarize", text=text)
    assert caught.value.param == "max_calls"
    assert model.asked == []
    assert model.counted < 2_000_000
    with pytest.raises(InvalidRequest, match=r"takes 1\d calls"):
        capabilities.run(model, "summarize", text=SENTENCE * 300, max_calls=10)


def test_a_context_without_room_is_refused():
    with pytest.raises(ContextLengthExceeded, match=r"leaves \d+ for a text .* --context"):
        capabilities.run(Oracle(first_words, context_length=300), "summarize", text=SENTENCE * 300)


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_an_empty_text_is_refused(text):
    with pytest.raises(InvalidRequest, match="text"):
        capabilities.run(saying("x"), "summarize", text=text)


def test_control_characters_go_to_the_model_as_they_are():
    model = saying("ok")
    capabilities.run(model, "summarize", text="a\x00b\x1b[31mc\u202e<|im_end|>")
    assert "a\x00b\x1b[31mc\u202e<|im_end|>" in model.asked[0][0].content


def test_sections_without_a_summary_are_unparsed():
    with pytest.raises(Unparsed, match="empty"):
        capabilities.run(Oracle(lambda messages: " ", context_length=1000), "summarize", text=SENTENCE * 300)


def mean(answer):
    scores = [SUMMARIZE.score(SUMMARIZE.output(summary=answer(probe)), probe).value for probe in SUMMARIZE.probes]
    return sum(scores) / len(scores)


def names_and_numbers(probe):
    words = [word for word in probe.given["text"].split() if word[0].isupper() or word[0].isdigit()]
    return " ".join(words[: probe.given["words"]])


def test_degenerate_summaries_score_below_the_lead():
    assert mean(lambda probe: probe.given["text"]) < 0.1
    assert mean(names_and_numbers) < 0.1
    assert mean(lambda probe: "the text says that " * 8) == 0
    assert mean(lambda probe: SUMMARIZE.parse(probe.answer, SUMMARIZE.input.of(probe.given)).summary) == 1


def test_what_is_made_up_costs_half():
    probe = next(probe for probe in SUMMARIZE.probes if probe.part == "abstract")
    score = SUMMARIZE.score(SUMMARIZE.output(summary=f"{probe.answer} It pleased Mr Zzyzx."), probe)
    assert 0.2 < score.value <= 0.25  # two names
    assert score.why.endswith("made up: Mr, Zzyzx")
    perfect = SUMMARIZE.score(SUMMARIZE.output(summary=probe.answer), probe)
    findings = SUMMARIZE.findings([(probe, score), (probe, perfect)])
    assert findings["kept"] == 1
    assert findings["invented"] == 1
    assert findings["nothing_invented"] == 0.5
    assert SUMMARIZE.findings([]) == {}


def test_prose_for_points_has_not_the_form():
    probe = next(probe for probe in SUMMARIZE.probes if probe.part == "bullets")
    plain = probe.answer.replace("- ", "")
    assert SUMMARIZE.score(SUMMARIZE.output(summary=plain), probe).value == 0.5
