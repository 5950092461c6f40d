"""Section by section, in order, with the facts in place; and what bad texts score."""

import re

import pytest
from oracle import Oracle, saying

from quipu import capabilities
from quipu.capabilities.base import Delta, Progress
from quipu.errors import ContextLengthExceeded, InvalidRequest, Unparsed

WRITE = capabilities.find("write_long")
OUTLINE = ["Planning", "Traffic today", "Repairs"]


def asked_for(messages):
    """The section that is asked for, and the whole request."""
    content = messages[0].content
    return re.search(r'for the section "([^"]*)"', content)[1], content


def writer(messages):
    title, _ = asked_for(messages)
    return f"## {title}\n\nAbout {title.lower()} one can say much. It is known."


def test_each_section_is_written_in_order_and_streamed():
    model = Oracle(writer)
    events = list(capabilities.stream(model, "write_long", outline=OUTLINE, subject="A bridge", words=90))
    assert [(event.done, event.total, event.what) for event in events if isinstance(event, Progress)] == [
        (place, 3, title) for place, title in enumerate(OUTLINE)
    ]
    text = "".join(event.text for event in events if isinstance(event, Delta)).strip()
    output = events[-1].output
    assert text == events[-1].text == output.text
    assert [section.title for section in output.sections] == OUTLINE
    assert output.sections[1].text == "About traffic today one can say much. It is known."
    assert [asked_for(messages)[0] for messages in model.asked] == OUTLINE
    assert events[-1].usage.completion_tokens == sum(len(writer(messages).split()) for messages in model.asked)


def test_a_section_is_told_the_outline_its_facts_and_the_end_of_the_one_before():
    model = Oracle(writer)
    facts = ["repairs: Ilse has the key.", "It cost 5 euros.", "It is red.", "Time: now", "It is long."]
    capabilities.run(model, "write_long", outline=OUTLINE, facts=facts, words=90, connected=True)
    first, second, third = (asked_for(messages)[1] for messages in model.asked)
    assert all("Planning; Traffic today; Repairs" in content and "30 words" in content for content in (first, second))
    assert "Fact: It cost 5 euros.\nFact: It is red." in first
    assert "one can say much" not in first
    assert "Time: now" in second  # Time is no title
    assert "5 euros" not in second
    assert "About planning one can say much" in second
    assert "Fact: Ilse has the key.\nFact: It is long." in third


def test_a_section_sees_nothing_of_the_others_unless_connected():
    model = Oracle(writer)
    capabilities.run(model, "write_long", outline=OUTLINE, words=90)
    assert all("one can say" not in asked_for(messages)[1] for messages in model.asked)


def test_a_model_that_writes_on_is_stopped_at_the_next_heading():
    whole = "\n\n".join(f"## {title}\n\nOf {title} there is much to say." for title in OUTLINE)
    model = saying(whole)
    assert capabilities.run(model, "write_long", outline=OUTLINE).text == whole


def test_what_is_written_takes_no_more_than_the_context():
    model = Oracle(lambda messages: "word " * 200, context_length=700)
    output = capabilities.run(
        model, "write_long", outline=[f"Part {name}" for name in "abcdefgh"], words=800, connected=True
    )
    assert len(output.sections) == 8
    longest = [options["max_tokens"] for options in model.options]
    assert all(model.count(asked) + most <= 700 for asked, most in zip(model.asked, longest, strict=True))
    tails = [asked_for(messages)[1].count("word") for messages in model.asked]
    assert 100 < max(tails) < 130  # the end only


def test_an_outline_beyond_the_context_is_refused():
    def refuse(messages):
        raise ContextLengthExceeded("the prompt has 900 tokens")

    with pytest.raises(ContextLengthExceeded, match="900"):
        capabilities.run(
            Oracle(refuse, context_length=100), "write_long", outline=[f"Part {i} of it" for i in range(99)]
        )


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([], "outline"),
        (["A", "1. a"], r"outline\[1\], '1. a', comes twice"),
        (["A", " "], r"outline\[1\] must be a line with a word"),
        (["A\nB"], r"outline\[0\] must be a line"),
        (["x"] * 201, "outline"),
        (
            ["A", "a title that goes on. " * 2_000_000],
            r"outline\[1\] has 44,000,000 characters; a title has at most 1,000",
        ),
    ],
)
def test_an_outline_without_distinct_titles_is_refused(outline, message):
    with pytest.raises(InvalidRequest, match=message):
        capabilities.run(saying("text"), "write_long", outline=outline)


def test_a_model_that_says_nothing_is_unparsed():
    with pytest.raises(Unparsed, match="with text below"):
        capabilities.run(saying("\n"), "write_long", outline=OUTLINE)


def test_a_whole_text_is_read_however_its_headings_look():
    given = WRITE.input.of({"outline": OUTLINE})
    output = WRITE.parse("Sure:\n1. Planning\nA.\n\n**Repairs**\nB.\n# Traffic Today:\nC.\nD.", given)
    assert [(each.title, each.text) for each in output.sections] == [
        ("Planning", "A."), ("Repairs", "B."), ("Traffic today", "C.\nD."),
    ]  # fmt: skip
    with pytest.raises(Unparsed, match="no line"):
        WRITE.parse("A text without headings.", given)
    alone = WRITE.parse("A text without headings.", WRITE.input.of({"outline": ["Planning"]}))
    assert alone.text == "## Planning\n\nA text without headings."


@pytest.fixture
def probe():
    return next(probe for probe in WRITE.probes if probe.part == "4")


def parsed(probe, text):
    return WRITE.score(WRITE.parse(text, WRITE.input.of(probe.given)), probe)


def test_sections_out_of_order_and_missing_ones_cost(probe):
    sections = probe.answer.split("\n\n## ")
    reverse = "\n\n## ".join([sections[0], sections[2], sections[1], sections[3]])
    assert parsed(probe, reverse).measured["sections"] == 0.75
    assert parsed(probe, "\n\n## ".join(sections[:3])).measured["sections"] == 0.75
    assert parsed(probe, probe.answer + "\n\n## " + sections[1]).value < 1


def test_facts_count_in_their_own_section(probe):
    titles, facts = probe.given["outline"], probe.given["facts"]
    swapped = probe.answer
    for title, fact, other in zip(titles, facts, [*facts[1:], facts[0]], strict=True):
        swapped = swapped.replace(f"## {title}\n\n{fact}", f"## {title}\n\n{other}")
    assert parsed(probe, swapped).measured["facts"] == 0


def test_loops_and_keywords_and_excess_score_low(probe):
    titles, facts = probe.given["outline"], probe.given["facts"]
    looped = "\n\n".join(f"## {title}\n\n{fact * 6}" for title, fact in zip(titles, facts, strict=True))
    assert parsed(probe, looped).value == 0
    assert parsed(probe, probe.answer + " and so forth one two three" * 100).value < 0.05
    assert parsed(probe, WRITE.trivial(probe)).value < 0.2
    empty = "\n\n".join(f"## {title}" for title in titles)
    with pytest.raises(Unparsed):
        WRITE.parse(empty, WRITE.input.of(probe.given))


def test_findings_are_by_number_of_sections(probe):
    rows = WRITE.findings([(probe, parsed(probe, probe.answer))])["by_sections"]
    assert rows == {"4": {"n": 1, "sections": 1, "facts": 1, "fresh": 1, "length": 1}}


def test_its_probes_ask_for_few_tokens():
    assert sum(WRITE.longest(WRITE.input.of(probe.given)) for probe in WRITE.probes) < 50_000
