"""Calls of tools on the chat page: shown as what they are, answered by the person, kept in files."""

from __future__ import annotations

import json
from typing import Any

import pytest
from browsing import FAINT, SMALL, UNNAMED, Visit, exported, sent
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from playwright.sync_api import Locator, expect

from quipu.tools.closing import ClosingCalls
from quipu.tools.written import written
from quipu.types import ToolCall

TYPES = {"city": {"type": "string"}, "days": {"type": "integer"}}
FUNCTION = {"name": "get_weather", "parameters": {"type": "object", "properties": TYPES, "required": ["city"]}}
TOOLS = [{"type": "function", "function": FUNCTION}]
LINE = "get_weather(city: Paris, days: 3)"


def card(person: Visit) -> Locator:
    return person.answers.last.get_by_role("region", name=f"Calls {LINE}")


def test_a_call_that_nobody_asked_for_is_shown_as_one(visit, size):
    person = visit(size)
    person.ask("weather")
    expect(card(person)).to_be_visible()
    body = person.answers.last.locator(".answer-body")
    expect(body).not_to_contain_text("[get_weather")
    assert body.inner_text().split() == ["I", "look", "it", "up.", "calls", "get_weather", "city", "Paris", "days", "3"]
    expect(person.button("Send result")).to_have_count(0)
    messages = sent(person, lambda: person.begin("next"))["messages"]
    assert messages[1]["content"].endswith('[get_weather(city="Paris", days=3)]')  # the model sees what it wrote
    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [person.page.evaluate(each) for each in (UNNAMED, SMALL, FAINT)] == [[], [], []]


def test_the_person_enters_what_a_tool_returns(visit):
    person = visit("phone")
    person.set(Tools=json.dumps(TOOLS))
    body = sent(person, lambda: person.begin("weather"))
    assert body["tools"] == TOOLS
    expect(card(person)).to_be_visible()
    assert [person.page.evaluate(each) for each in (UNNAMED, SMALL, FAINT)] == [[], [], []]
    person.page.get_by_label("What get_weather returns").fill("sun and 21 degrees")
    body = sent(person, person.button("Send result").click)
    called, returned = body["messages"][1:]
    [call] = called["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris", "days": 3}
    assert (called["content"].strip(), returned) == (
        "I look it up.", {"role": "tool", "tool_call_id": call["id"], "content": "sun and 21 degrees"},
    )  # fmt: skip
    assert person.wait() == "You said: sun and 21 degrees"
    expect(person.page.get_by_role("article", name="Results")).to_contain_text(
        "get_weather returned\nsun and 21 degrees", use_inner_text=True
    )
    expect(person.button("Send result")).to_have_count(0)
    person.reload()
    expect(person.answers).to_have_count(2)
    expect(person.page.get_by_role("region", name=f"Calls {LINE}")).to_be_visible()
    body = sent(person, person.button("Regenerate answer").last.click)
    assert body["messages"][1:] == [called, returned]
    body = sent(person, lambda: person.begin("and now?"))  # with the tools of this conversation
    assert (body["tools"], len(body["messages"])) == (TOOLS, 5)


@pytest.mark.slow
def test_files_keep_calls_and_results(visit):
    person = visit()
    person.set(Tools=json.dumps(TOOLS))
    person.ask("weather")
    person.page.get_by_label("What get_weather returns").fill("sun")
    person.button("Send result").click()
    expect(person.answers).to_have_count(2)
    person.wait()
    body = sent(person, lambda: person.begin("next"))
    for kind in ("JSON", "Markdown"):
        file = exported(person, kind, "weather")
        other = visit()
        other.page.get_by_label("Files to import").set_input_files(file)
        expect(other.page.get_by_text("1 conversation imported.")).to_be_visible()
        other.show_list().locator(".conversation").click()
        expect(other.page.get_by_role("region", name=f"Calls {LINE}")).to_be_visible()
        again = sent(other, lambda other=other: other.begin("next"))
        if kind == "JSON":
            assert again["tools"] == TOOLS
            assert again["messages"][: len(body["messages"])] == body["messages"]
        else:
            assert "get_weather returned: sun" in [each["content"] for each in again["messages"]]


@pytest.mark.slow
def test_tools_that_are_no_list_are_refused_where_they_are_entered(visit):
    person = visit()
    person.set(Tools="{")
    person.page.get_by_role("button", name="Settings").first.click()
    expect(person.page.get_by_text("Enter a list in JSON")).to_be_visible()
    assert "tools" not in sent(person, lambda: person.begin("hello"))


def export_of(nodes: dict[str, Any]) -> str:
    conversation = {"title": "t", "root": "a", "nodes": nodes}
    return json.dumps({"format": "quipu conversations", "version": 1, "conversations": [conversation]})


def call_of(**changes: Any) -> dict[str, Any]:
    call = {"id": "x", "name": "f", "arguments": "{}", **changes}
    return {"a": {"role": "assistant", "content": "", "parent": None, "calls": [call]}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "complaint"),
    [
        (call_of(arguments="{"), "a call has arguments that are no JSON object"),
        (call_of(name=3), "a call or its result has no id, name or content"),
        ({"a": {"role": "tool", "content": "", "parent": None, "results": [3]}}, "a call or its result has no id"),
    ],
)
def test_files_with_broken_calls_are_refused(visit, nodes, complaint):
    person = visit()
    person.page.get_by_label("Files to import").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": export_of(nodes).encode()}
    )
    expect(person.page.get_by_text(complaint)).to_be_visible()


# ---- the page reads what closing.py reads

READ = """async (texts) => {
    const { closing } = await import("./static/chat/calls.js");
    const bare = (value) => value instanceof Map ? object([...value])
        : Array.isArray(value) ? value.map(bare) : value?.text !== undefined ? JSON.parse(value.text) : value;
    const object = (given) => Object.fromEntries(given.map(([key, each]) => [key, bare(each)]));
    return texts.map(closing).map(({ said, calls }) => [said, calls.map(({ name, given }) => [name, object(given)])]);
}"""
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | words,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
calls = st.builds(ToolCall, st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.dictionaries(words, values, max_size=3))
before = st.sampled_from(
    ["", "I look.\n", "```\n[f(x=1)]\n```\n", "[f(x=1)]\nis one.\n", "```\n", "Use ", "<|python_tag|>"]
)
after = st.sampled_from(["", "\n", "\n```", " is one", ";", "\n[g(y=2)]", "\n{}", "]"])
texts = st.builds(
    lambda said, made, form, rest: said + written(made, form) + rest,
    before, st.lists(calls, min_size=1, max_size=2), st.sampled_from(["json", "pythonic"]), after,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(texts=st.lists(texts | st.text(st.sampled_from("[]{}()\"'f=:,1 \n"), max_size=30), min_size=60, max_size=100))
def test_the_page_and_the_terminal_find_the_same_calls(reader, texts):
    for text, (said, found) in zip(texts, reader.page.evaluate(READ, texts), strict=True):
        python = ClosingCalls()
        start = python.push(text)
        rest, expected = python.finish()
        assert (said, found) == (start + rest, [[call.name, call.arguments] for call in expected]), text


@pytest.fixture(scope="module")
def reader(browser, chat_server):
    person = Visit(browser, chat_server.url, "desktop")
    yield person
    person.leave()


TIME = """async (texts) => {
    const { closing } = await import("./static/chat/calls.js");
    return texts.map((text) => {
        const start = performance.now();
        closing(text);
        return performance.now() - start;
    });
}"""


@pytest.mark.slow
def test_hostile_text_does_not_keep_the_page_waiting(reader):
    hostile = [
        "]" * 200_000,
        " " * 200_000 + "]",
        "[f(" * 60_000 + "]",
        "[f(x=1)]\n" * 20_000 + "end]",
        "[\n" * 90_000 + "]",
        '{"name": "' * 20_000 + "}",
        "[f(x='\n" * 20_000 + "]",
        "<|python_tag|>\n" * 10_000 + "]",
    ]
    took = reader.page.evaluate(TIME, hostile)
    assert max(took) < 2000, took
