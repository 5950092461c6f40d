"""Translation: what the contract does not see. Oracles translate by rule."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest
from oracle import Oracle, saying
from sacrebleu import sentence_chrf

from quipu import capabilities
from quipu.capabilities import translate
from quipu.capabilities.base import Delta, Progress, Result
from quipu.capabilities.parts.address import is_addressed
from quipu.capabilities.parts.calls import TOGETHER
from quipu.capabilities.parts.language import language_of
from quipu.capabilities.translate import chrf
from quipu.errors import ContextLengthExceeded, InvalidRequest, Unparsed
from quipu.types import Chunk

CAPABILITY = capabilities.find("translate")
ENGLISH = "The keeper of the lighthouse wrote a letter to his sister."
GERMAN = "Der Wärter des Leuchtturms schrieb seiner Schwester einen Brief."


def given(text=ENGLISH, to="de", **more):
    return CAPABILITY.input.of({"text": text, "to": to, **more})


def prompt(**more):
    [message] = CAPABILITY.messages(given(**more))
    return message.content


def task_and_text(messages):
    task, _, text = messages[-1].content.partition("\n\n")
    return task, text


def shouting():
    """Upper case passes for the other language."""
    return Oracle(lambda messages: task_and_text(messages)[1].upper())


# ---- what is asked


def test_it_asks_for_the_language_and_what_is_to_be_minded():
    asked = prompt(
        text="Send %s to the court, {name}.",
        formality="formal",
        domain="law",
        glossary=[{"term": "Court", "translation": "Gericht"}, {"term": "cat", "translation": "Katze"}],
    )
    assert "from English to German" in asked
    assert "Sie" in asked
    assert "about law" in asked
    assert '"Court" as "Gericht"' in asked
    assert "Katze" not in asked
    assert "exactly as they are: %s {name}\n\n" in asked
    assert asked.endswith("Send %s to the court, {name}.")


@pytest.mark.parametrize(("text", "source"), [(GERMAN, "de"), ("OK", None), ("ราคาเท่าไร", "th")])
def test_the_source_is_found_out_or_said_to_be_unknown(text, source):
    output = CAPABILITY.run(saying("The keeper wrote a letter."), given(text, "en")).output
    assert output.source == source


def test_the_same_language_twice_is_refused():
    with pytest.raises(InvalidRequest, match=r"in German already.*name that as source instead of de"):
        CAPABILITY.run(saying("x"), given(GERMAN, "de"))
    with pytest.raises(InvalidRequest, match=r"in German already, the language to translate to$"):
        CAPABILITY.run(saying("x"), given("OK", "de", source="de"))
    assert CAPABILITY.run(saying("x"), given(GERMAN, "de", source="en")).output.source == "en"


@pytest.mark.parametrize("text", ["", " \n", "12.50 %", "{name} %s", "\x00\x01\x02"])
def test_text_without_a_word_is_refused(text):
    with pytest.raises(InvalidRequest, match="no word to translate"):
        CAPABILITY.run(saying("x"), given(text))


def test_wrong_fields_are_named():
    with pytest.raises(InvalidRequest, match=r"glossary\[0\]\.translation is missing"):
        given(glossary=[{"term": "x"}])
    with pytest.raises(InvalidRequest, match=r"^to "):
        given(to="xx")


# ---- what is read


@pytest.mark.parametrize(
    "answer",
    [
        GERMAN,
        f'"{GERMAN}"',
        f"Sure! Here is the translation to German:\n\n{GERMAN}",
        f"Here's the German text: „{GERMAN}“",
        f"Translation: {GERMAN}",
        f"German: {GERMAN}",
        f"**German translation:** {GERMAN}",
        f"```\n{GERMAN}\n```",
        f"{GERMAN}\n\nNote: Wärter may also be Wächter.",
        f"{GERMAN}\n\n(Note: this is formal.)",
        f"Certainly. Here is the translated text:\n```text\n{GERMAN}\n```\n\nLet me know if I can help.",
        f"{GERMAN}\n\nIn German, the verb comes second.",
    ],
)
def test_what_models_say_around_a_translation_goes(answer):
    assert CAPABILITY.parse(answer, given()).text == GERMAN


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Natürlich!", "Sure!"),
        ("Klar, ich komme.", "Sure, I am coming."),
        ("Hier ist das Buch: lies es.", "Here is the English book: read it."),
        ("„Komm!“", '"Come!"'),
        ("Er sagte „ja“ und „nein“", '"Yes" and "no" is what he said, "maybe"'),
        ("Anmerkung: nichts.\n\nHinweis: alles.", "Remark: nothing.\n\nNote: everything."),
    ],
)
def test_what_belongs_to_it_stays(text, answer):
    if "\n\n" in text:
        answer = answer.replace("Note", "Hint")
    assert CAPABILITY.parse(answer, given(text, "en")).text == answer


def test_what_is_lost_is_said():
    asked = given(
        "Hi {name}, <b>read</b> the court order at https://x.org/a.",
        glossary=[{"term": "court order", "translation": "Gerichtsbeschluss"}, {"term": "our", "translation": "unser"}],
    )
    output = CAPABILITY.parse("Hallo {Name}, <b>lies den Beschluss.", asked)
    assert output.lost == ["{name}", "</b>", "https://x.org/a", "Gerichtsbeschluss"]
    assert CAPABILITY.parse("Hallo {name}, <b>lies</b> den gerichtsbeschluss: https://x.org/a.", asked).lost == []


# ---- long documents

DOCUMENT = """# The house

It stands on a hill. Nobody lives in it.

* one old chair
* two `windows`, %s

| Room | Size |
|------|------|
| hall | {size} |

```
code stays
```
"""


def test_markdown_keeps_its_form():
    result = CAPABILITY.run(shouting(), given(DOCUMENT))
    assert result.output.text == DOCUMENT.replace("code stays", "@").upper().replace("@", "code stays").replace(
        "{SIZE}", "{size}"
    ).replace("%S", "%S")
    assert result.output.lost == ["%s"]
    assert result.output.source == "en"


def test_segments_come_in_order_with_progress():
    document = "\n\n".join(f"Paragraph number {number} of a long document in English." for number in range(50))
    events = list(CAPABILITY.events(shouting(), given(document), {}))
    *others, last = events
    assert isinstance(last, Result)
    assert last.output.text == document.upper()
    assert "".join(event.text for event in others if isinstance(event, Delta)) == document.upper()
    progress = [(event.done, event.total) for event in others if isinstance(event, Progress)]
    assert progress == [(done, 50) for done in range(1, 51)]
    assert last.usage.completion_tokens == len(document.split())


def test_every_segment_is_told_the_language_of_the_document():
    oracle = shouting()
    CAPABILITY.run(oracle, given(f"{ENGLISH}\n\nOK\n"))
    assert all("from English to German" in task_and_text(messages)[0] for messages in oracle.asked)


def test_a_paragraph_that_outgrows_the_context_is_divided_by_sentence():
    text = " ".join(f"This is sentence number {number} of the text." for number in range(200))
    oracle = Oracle(lambda messages: task_and_text(messages)[1].upper(), context_length=160)
    result = CAPABILITY.run(oracle, given(text))
    assert result.output.text == text.upper()
    assert all(task_and_text(messages)[1].endswith(".") for messages in oracle.asked)
    assert all(
        oracle.count(messages) + options["max_tokens"] <= 160
        for messages, options in zip(oracle.asked, oracle.options, strict=True)
    )


def test_without_room_the_model_says_so():
    class Small(Oracle):
        def stream(self, prompt, sampling=None, **options):
            assert options["max_tokens"] is None
            raise ContextLengthExceeded("the prompt has 40 tokens, the context 10")

    with pytest.raises(ContextLengthExceeded, match="the context 10"):
        CAPABILITY.run(Small(str, context_length=10), given(ENGLISH * 40))


@pytest.mark.parametrize("text", [ENGLISH, f"{ENGLISH}\n\n{ENGLISH}\n"])
def test_an_answer_in_another_language_is_noted(text):
    assert CAPABILITY.run(saying(ENGLISH), given(text)).notes == ("it is in English, not in German",)
    assert CAPABILITY.run(saying(GERMAN), given(text)).notes == ()


def test_an_empty_segment_stands_as_it_was_and_is_noted():
    oracle = Oracle(lambda messages: "" if "two" in messages[-1].content else "EINS %s")
    result = CAPABILITY.run(oracle, given("Number one is here.\n\nNumber two %s is here.\n"))
    assert result.output.text == "EINS %s\n\nNumber two %s is here.\n"
    assert result.notes == (
        "1 of 2 segments came back empty and stand as they were",
        "it is in English, not in German",
    )
    with pytest.raises(Unparsed, match="none of the answers to 2 segments"):
        CAPABILITY.run(saying(" "), given("Number one is here.\n\nNumber two is here.\n"))
    with pytest.raises(Unparsed, match="empty"):
        CAPABILITY.run(saying(" "), given("# Number one is here"))


def test_lines_stay_lines():
    result = CAPABILITY.run(saying("Ein\nTitel"), given("# A title in two lines\n"))
    assert result.output.text == "# Ein Titel\n"


class Endless(Oracle):
    """Translates the first paragraph; what it says of the others has no end, but that of who listens."""

    def stream(self, prompt, sampling=None, **options):
        yield from super().stream(prompt, sampling, **options)
        while "Paragraph 0 " not in prompt[-1].content:
            yield Chunk(" more", token_ids=(0,))


def test_closing_it_ends_the_work():
    document = "\n\n".join(f"Paragraph {number} of a long document in English." for number in range(500))
    model = Endless(lambda messages: "Ein Absatz.")
    events = CAPABILITY.events(model, given(document), {})
    next(events)
    events.close()
    assert len(model.asked) <= TOGETHER + 1


def test_megabytes_are_translated():
    document = ("A sentence of nine words stands here for you. " * 25 + "\n\n") * 800
    assert CAPABILITY.run(shouting(), given(document)).output.text == document.upper()


@pytest.mark.parametrize("line", ["A sentence of nine words stands here for you. ", "word ", "| a | b |\n", "x"])
def test_what_takes_too_many_calls_is_refused_before_the_first(line):
    model = shouting()
    start = time.monotonic()
    with pytest.raises(InvalidRequest, match=r"takes about [\d,]+ calls of the model.* max_calls is 1,000") as caught:
        CAPABILITY.run(model, given(line * (50_000_000 // len(line))))
    assert time.monotonic() - start < 30
    assert caught.value.param == "max_calls"
    assert model.asked == []


def test_segments_that_had_to_be_divided_count_as_calls():
    document = "Number one is here.\n\nNumber two is here.\n"
    with pytest.raises(InvalidRequest, match="takes about 2 calls of the model, one for each segment; max_calls is 1"):
        CAPABILITY.run(shouting(), given(document, max_calls=1))
    small = Oracle(lambda messages: task_and_text(messages)[1], context_length=160)
    long = " ".join(f"This is sentence number {number} of the text." for number in range(20))
    with pytest.raises(InvalidRequest, match=r"takes about \d+ calls"):
        CAPABILITY.run(small, given(long, max_calls=2))
    assert small.asked == []
    assert CAPABILITY.run(small, given(long)).output.text == long


# ---- what it is worth

SENTENCES = [probe for probe in CAPABILITY.probes if "-" in probe.part]
ADDRESSED = [probe for probe in CAPABILITY.probes if probe.part == "formality"]


@pytest.mark.parametrize("probe", SENTENCES[::12], ids=lambda probe: probe.id)
def test_chrf_is_sacrebleus(probe):
    for text in (probe.given["text"], probe.answer, probe.answer[:30], "etwas ganz anderes"):
        ours = chrf(text, probe.answer)
        assert ours * 100 == pytest.approx(sentence_chrf(text, [probe.answer]).score, abs=1e-9)


def worth(probe, text):
    return CAPABILITY.score(CAPABILITY.parse(text, CAPABILITY.input.of(probe.given)), probe)


def test_bad_answers_score_low():
    others = SENTENCES[1:] + SENTENCES[:1]
    for probe, other in zip(SENTENCES, others, strict=True):
        if other.given["to"] != probe.given["to"]:
            assert worth(probe, other.answer).value < 0.4  # a sentence of another text
        assert not worth(probe, probe.given["text"]).passed
        assert worth(probe, probe.answer[:12] + " " + "…" * 40).value < 0.4
        soup = " ".join(sorted(each.answer for each in SENTENCES if each.given["to"] == probe.given["to"]))
        assert not worth(probe, soup).passed


def test_a_lost_placeholder_costs_its_share():
    probe = next(each for each in CAPABILITY.probes if each.part == "placeholders" and "%(count)d" in each.answer)
    score = worth(probe, probe.answer.replace("%(count)d", "%d"))
    assert 0.3 < score.value < 0.5
    assert not score.passed
    assert "%(count)d is lost" in score.why


def test_the_wrong_address_costs_half():
    pairs = {}
    for probe in ADDRESSED:
        pairs.setdefault((probe.given["text"], probe.given["to"]), []).append(probe)
    assert len(pairs) == 20
    for formal, informal in pairs.values():
        for probe, other in ((formal, informal), (informal, formal)):
            score = worth(probe, other.answer)
            assert score.value < 0.5
            assert f"not {probe.given['formality']}" in score.why


def test_address_is_only_judged_where_it_is_known():
    assert is_addressed("Bring your coat.", "en", "formal")
    assert not is_addressed("Hola a todos.", "es", "formal")


def test_findings_are_by_direction():
    scored = [(probe, worth(probe, probe.answer)) for probe in CAPABILITY.probes]
    by_part = CAPABILITY.findings(scored)["by_part"]
    assert len(by_part) == 13
    assert {"en-th", "hi-en", "placeholders", "glossary", "formality"} < set(by_part)
    assert set(by_part.values()) == {1.0}


def test_the_sentences_are_those_whose_source_is_noted():
    file = translate.PROBES / "translate.jsonl"
    notice = (Path(translate.PROBES) / "README.md").read_text("utf-8")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in re.findall(r"[0-9a-f]{64}", notice)
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        assert language_of(row["text"]) == row["source"]
        assert language_of(row["reference"]) == row["target"]
