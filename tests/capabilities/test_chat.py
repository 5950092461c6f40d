"""A conversation that outgrows the context, and what counts as remembering."""

import time

import pytest
from oracle import Oracle, saying

from quipu import capabilities
from quipu.capabilities.base import Progress, Result
from quipu.errors import ContextLengthExceeded, InvalidRequest, Unparsed
from quipu.types import Message

CHAT = capabilities.find("chat")


def conversation(turns: int, words: int = 20) -> list[dict]:
    """A system message and ``turns`` exchanges; each message of ``words`` + 1 words ends with its number."""
    said = [{"role": "system", "content": "You are a gardener."}]
    for place in range(turns):
        said += [{"role": role, "content": "word " * words + str(place)} for role in ("user", "assistant")]
    return said


def answer(model, **given) -> Result:
    return CHAT.run(model, CHAT.input.of(given))


def test_a_message_alone_is_a_conversation() -> None:
    model = saying("Hello!")
    assert answer(model, message="hi").output.message == "Hello!"
    assert model.asked == [[Message("user", "hi")]]


def test_the_message_comes_after_the_conversation_and_nothing_is_added() -> None:
    model = saying("Yes.")
    said = conversation(2)
    result = answer(model, messages=said, message="And now?")
    assert [message.content for message in model.asked[0]] == [*(turn["content"] for turn in said), "And now?"]
    assert (result.output.dropped_turns, result.output.dropped_tokens, result.output.summary) == (0, 0, None)
    assert result.notes == ()


def test_sampling_is_the_models_own_unless_the_caller_says() -> None:
    model = saying("Yes.")
    answer(model, message="hi")
    assert set(model.options[0]) == {"max_tokens"}
    CHAT.run(model, CHAT.input.of({"message": "hi"}), {"temperature": 0})
    assert model.options[1]["temperature"] == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "there is nothing to answer"),
        ({"messages": []}, "there is nothing to answer"),
        ({"message": " \n"}, "message is empty"),
        ({"messages": [{"role": "assistant", "content": "Hello"}]}, "the last of messages is the assistant's"),
    ],
)
def test_a_conversation_without_a_question_is_refused(given: dict, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        answer(saying("x"), **given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"messages": [{"role": "robot", "content": "hi"}]}, r"messages\[0\]\.role"),
        ({"messages": [{"role": "user"}]}, r"messages\[0\]\.content is missing"),
        ({"messages": "hi"}, "messages should be a valid list"),
        ({"message": "hi", "history": "forget"}, "history should be"),
    ],
)
def test_a_malformed_conversation_is_refused_by_field(given: dict, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        CHAT.input.of(given)


def test_without_a_policy_a_conversation_too_long_is_an_error_that_names_the_policies() -> None:
    with pytest.raises(
        ContextLengthExceeded, match=r"the conversation has at least \d+ tokens.*context.* is 200 .*keep_system"
    ):
        answer(Oracle(lambda messages: "x", 200), messages=conversation(10), message="And?")


@pytest.mark.parametrize("policy", ["drop_oldest", "keep_system"])
def test_the_oldest_turns_go_in_whole_exchanges_and_it_is_said(policy: str) -> None:
    model = Oracle(lambda messages: "Fine.", 200)
    said = conversation(10)
    result = answer(model, messages=said, message="And?", history=policy)
    [asked] = model.asked
    rest = [message for message in asked if message.role != "system"]
    assert rest[0].role == "user"
    assert rest[-1].content == "And?"
    assert [message.content for message in rest[:-1]] == [turn["content"] for turn in said[-len(rest) + 1 :]]
    assert (asked[0].role == "system") == (policy == "keep_system")
    before = model.count([*said, {"role": "user", "content": "And?"}])
    assert result.output.dropped_turns == len(said) + 1 - len(asked)
    assert result.output.dropped_tokens == before - model.count(asked)
    assert result.notes == (
        f"dropped the {result.output.dropped_turns} oldest turns ({result.output.dropped_tokens} tokens) "
        "to fit the context of 200 tokens",
    )
    assert model.count(asked) + 50 <= 200  # a quarter is left for the answer
    assert (
        model.count([*asked, *map(Message.of, said[-len(rest) - 1 : -len(rest) + 1])]) + 50 > 200
    )  # no more than needed


@pytest.mark.parametrize("policy", ["drop_oldest", "keep_system", "summarize"])
def test_a_conversation_that_fits_is_left_alone_by_every_policy(policy: str) -> None:
    model = saying("Fine.")
    result = answer(model, messages=conversation(10), message="And?", history=policy)
    assert (len(model.asked), result.output.dropped_turns, result.notes) == (1, 0, ())


def test_room_is_made_for_the_tokens_that_the_caller_asks_for() -> None:
    model = Oracle(lambda messages: "Fine.", 200)
    given = CHAT.input.of({"messages": conversation(10), "message": "And?", "history": "drop_oldest"})
    CHAT.run(model, given, {"max_tokens": 150})
    assert model.count(model.asked[0]) <= 50


def summarizing(context: int) -> Oracle:
    def said(messages: list[Message]) -> str:
        return "They spoke of words." if "Summarize the conversation" in messages[-1].content else "Fine."

    return Oracle(said, context)


def test_a_summary_stands_for_what_went() -> None:
    model = summarizing(400)
    said = conversation(12)
    events = list(CHAT.events(model, CHAT.input.of({"messages": said, "message": "And?", "history": "summarize"}), {}))
    result = events[-1]
    assert isinstance(result, Result)
    assert result.output.summary == "They spoke of words."
    assert result.output.dropped_turns > 0
    assert result.notes[0].endswith("a summary of them stands in their place")
    final = model.asked[-1]
    assert final[0] == Message(
        "system", "You are a gardener.\n\nSummary of the conversation so far: They spoke of words."
    )
    assert [message.role for message in final].count("system") == 1
    assert model.count(final) < 400
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0].done == 0
    assert progress[-1].done == progress[-1].total
    assert result.usage.completion_tokens == 4 * (len(model.asked) - 1) + 1  # the summaries count


def test_what_is_summarized_is_read_in_sections_that_fit_and_all_of_it() -> None:
    model = summarizing(400)
    said = conversation(100)
    answer(model, messages=said, message="And?", history="summarize")
    requests = [asked for asked in model.asked if "Summarize the conversation" in asked[-1].content]
    assert len(requests) > 2
    assert all(model.count(request) <= 400 for request in requests)
    read = " ".join(request[0].content for request in requests)
    assert all(f" {place}" in read for place in range(80))


def test_a_context_too_small_for_summaries_is_said() -> None:
    with pytest.raises(ContextLengthExceeded, match="too small to summarize in; use history=keep_system"):
        answer(Oracle(lambda messages: "x", 26), messages=conversation(4, 5), message="And?", history="summarize")


@pytest.mark.parametrize("policy", ["drop_oldest", "keep_system", "summarize"])
@pytest.mark.parametrize("before", [0, 3])
def test_a_last_message_too_long_is_refused_under_every_policy(policy: str, before: int) -> None:
    with pytest.raises(ContextLengthExceeded, match=r"the last message.* has at least \d+ tokens; the context"):
        answer(
            Oracle(lambda messages: "x", 200),
            messages=conversation(before) if before else [],
            message="long " * 500,
            history=policy,
        )


def test_a_message_of_50_megabytes_is_an_error_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(ContextLengthExceeded):
        answer(Oracle(lambda messages: "x", 8192), message="abcd " * 10_000_000, history="drop_oldest")
    assert time.monotonic() - start < 30


def test_control_characters_reach_the_model_as_they_are() -> None:
    model = saying("ok")
    answer(model, message="a\x00b\x1b[31m‮c")
    assert model.asked[0][-1].content == "a\x00b\x1b[31m‮c"


PROBE = next(probe for probe in CHAT.probes if probe.part == "correction")


def passed(text: str) -> bool:
    return CHAT.score(CHAT.output(message=text), PROBE).passed


def test_only_the_newest_value_and_it_alone_counts() -> None:
    value, rivals = PROBE.expected["value"], PROBE.expected["rivals"]
    assert passed(f"You told me that it is **{value.upper()}**!")
    assert not passed(rivals[0])
    assert not passed(f"{value} or {rivals[0]}")
    assert not passed(", ".join([*rivals, value]))
    assert not passed(f"{value}ish")
    assert not passed("I do not know.")


def test_echoes_score_nothing() -> None:
    for probe in CHAT.probes:
        told = "\n".join(turn["content"] for turn in probe.given["messages"])
        for text in (probe.given["message"], told):
            assert not CHAT.score(CHAT.output(message=text), probe).passed


def test_the_conversation_holds_what_is_asked_for_and_grows_to_twelve_turns() -> None:
    lengths = set()
    for probe in CHAT.probes:
        told = " ".join(turn["content"] for turn in probe.given["messages"])
        assert all(value in told for value in probe.expected["said"])
        assert probe.expected["value"] in probe.expected["said"]
        if probe.part == "correction":
            assert "ctually" in told
        lengths.add(len(probe.given["messages"]) // 2 + 1)
    assert (min(lengths), max(lengths)) == (2, 12)


def test_an_empty_answer_is_unparsed_after_all_its_pieces() -> None:
    with pytest.raises(Unparsed, match="there is no message in it"):
        answer(saying("  "), message="hi")
