"""Whatever an answer's grammar lets through is text, or calls that validate; the judge of that is jsonschema."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

from quipu.engine.grammar_text import LIMITS
from quipu.errors import InvalidRequest
from quipu.tools.grammar import MOST_CALLS, call_grammar
from quipu.tools.reader import read
from quipu.tools.tool import ToolUse

BYTES = LLTokenizer("byte")
FORMS = ("json", "pythonic")
LEAVES = [
    {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "null"},
    {"enum": ["a", 'q"\'', None, 3, True]}, {"const": "é"}, {"type": "string", "maxLength": 3},
    {"type": "integer", "minimum": 1, "maximum": 30}, {"type": ["string", "null"]}, {"$ref": "#/$defs/unit"},
]  # fmt: skip
NAMES = st.sampled_from(["city", "unit", "zip-code", "class", "x", "größe", "a b", "from_"])


def objects(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.builds(
        lambda properties, optional: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name not in optional],
        },
        st.dictionaries(NAMES, inner, max_size=3),
        st.sets(NAMES, max_size=2),
    )


schemas = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: (
        objects(inner)
        | st.builds(lambda items: {"type": "array", "items": items, "description": "several"}, inner)
        | st.builds(lambda branches: {"anyOf": branches}, st.lists(inner, min_size=1, max_size=2))
    ),
    max_leaves=5,
)
parameters = objects(schemas).map(lambda made: {**made, "$defs": {"unit": {"type": "string", "enum": ["c", "f"]}}})
tools = st.lists(parameters, min_size=1, max_size=3).map(
    lambda made: [{"name": name, "parameters": each} for name, each in zip(("f", "get.it", "f-2"), made, strict=False)]
)


def matcher(grammar: str) -> LLMatcher:
    made = LLMatcher(BYTES, LLMatcher.grammar_from_lark(grammar), log_level=0, limits=LLParserLimits(**LIMITS))
    assert not made.is_error(), made.get_error()
    return made


def takes(grammar: str, text: str) -> bool:
    """Whether ``text`` is a whole answer."""
    made = matcher(grammar)
    return made.try_consume_tokens(list(text.encode())) == len(text.encode()) and made.is_accepting()


def written_at_random(grammar: str, chance: random.Random, most: int = 400) -> str | None:
    """An answer drawn byte by byte, as any model might; None if it did not end."""
    made, mask = matcher(grammar), allocate_token_bitmask(1, BYTES.vocab_size)
    out = bytearray()
    while len(out) < most:
        if made.is_stopped() or (made.is_accepting() and chance.random() < 0.3):
            return out.decode()
        fill_next_token_bitmask(made, mask)
        allowed = np.flatnonzero(np.unpackbits(mask[0].view(np.uint8), bitorder="little"))
        allowed = [int(each) for each in allowed if each < 128] or [int(each) for each in allowed]
        closing = [each for each in allowed if chr(each) in '"]})'] if chance.random() < 0.5 else []
        token = chance.choice(closing or allowed)
        assert made.consume_token(token), made.get_error()
        out.append(token)
    return None


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tools=tools, seed=st.integers(0, 2**32), named=st.booleans(), parallel=st.booleans())
def test_a_required_call_always_parses_and_validates(form, tools, seed, named, parallel) -> None:
    use = ToolUse.of(tools, tools[0]["name"] if named else "required", parallel)
    text = written_at_random(call_grammar(use, form), random.Random(seed))
    if text is None:
        return
    said, calls = read(text, {tool["name"] for tool in tools})
    assert said == "", text
    assert 1 <= len(calls) <= (MOST_CALLS if parallel else 1)
    schemas = {tool["name"]: tool["parameters"] for tool in tools}
    for call in calls:
        assert call.name == tools[0]["name"] or not named
        Draft202012Validator(schemas[call.name]).validate(call.arguments)
        assert call.arguments.keys() <= schemas[call.name]["properties"].keys(), "an argument that nobody has defined"


@pytest.mark.parametrize("form", FORMS)
def test_most_random_answers_end(form: str) -> None:
    """Or the test above would prove little."""
    weather = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
    grammar = call_grammar(ToolUse.of([{"name": "f", "parameters": weather}], "required"), form)
    ended = [written_at_random(grammar, random.Random(seed)) for seed in range(20)]
    assert sum(text is not None for text in ended) >= 15


WEATHER = {
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "metric": {"type": "boolean"}},
        "required": ["city"],
    },
}
GIVEN = [WEATHER, {"name": "get.time"}, {"name": "get"}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "text",
    [
        "", "Hello.", 'She said {"name": "Anna"} and [1, 2] and [get_weather] {"name": "get_weathers"', "[get",
        "{" * 50,
        '{"type": "function", "name": "x"}', "Look: [get_weather", "[x(y=1)]",
        '{"name": "Anna", "parameters": {"x": 1}}',
    ],
)  # fmt: skip
def test_text_is_free(form: str, text: str) -> None:
    assert takes(call_grammar(ToolUse.of(GIVEN), form), text)
    assert read(text, {"get_weather", "get.time", "get"}) == (text, ())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('[get_weather(city="Paris")]', ["get_weather"]),
        ('Let me see [1]: [get_weather(city="Paris", days=2, metric=True), get.time()]', ["get_weather", "get.time"]),
        ('{"name": "get_weather", "parameters": {"city": "Paris"}}', ["get_weather"]),
        ('As {"name": "x"} says:\n\n{"name": "get", "parameters": {}}; {"name": "get.time", "parameters": {}}',
         ["get", "get.time"]),
        ('{\n  "type": "function",\n  "name" : "get", "parameters": {}}', ["get"]),
    ],
)  # fmt: skip
def test_calls_in_either_form_may_follow_text(form: str, text: str, names: list[str]) -> None:
    assert takes(call_grammar(ToolUse.of(GIVEN), form), text)
    assert [call.name for call in read(text, {"get_weather", "get.time", "get"})[1]] == names
    single = call_grammar(ToolUse.of(GIVEN, "auto", False), form)
    assert takes(single, text) == (len(names) == 1)


@pytest.mark.parametrize(
    "text",
    [
        "[get_weather()]", "[get_weather(city=1)]", '[get_weather(town="x")]', '[get_weather(city="x")] and more',
        '{"name": "get_weather", "parameters": {}}', '{"name": "get_weather"}', '{"name": "get_weather", "x": 1}',
        '[get_weather(city="x", metric=true)]', "[get.time(x=1)]", '[get_weather(city="x"',
    ],
)  # fmt: skip
def test_a_call_that_has_begun_is_kept_to_its_schema(text: str) -> None:
    for form in FORMS:
        assert not takes(call_grammar(ToolUse.of(GIVEN), form), text)


def test_a_required_call_comes_first() -> None:
    for form, text in (("json", '{"name": "get", "parameters": {}}'), ("pythonic", "[get()]")):
        assert takes(call_grammar(ToolUse.of(GIVEN, "required"), form), text)
        for other in ("", "Hi", f"Sure. {text}"):
            assert not takes(call_grammar(ToolUse.of(GIVEN, "required"), form), other)
        assert not takes(call_grammar(ToolUse.of(GIVEN, "get.time"), form), text)


def test_the_number_of_tools_costs_no_more_than_their_text() -> None:
    many = [{**WEATHER, "name": f"tool_{number}"} for number in range(128)]
    grammar = call_grammar(ToolUse.of(many), "json")
    assert takes(grammar, 'See [tool_1] {"name": "tool_": [tool_127(city="x")]')
    assert takes(grammar, 'See {"name": "tool_77", "parameters": {"city": "x"}}')


def test_long_text_stays_cheap() -> None:
    made = matcher(call_grammar(ToolUse.of(GIVEN), "json"))
    text = 'a [b] {"name": "c"} ' * 300
    assert made.try_consume_tokens(list(text.encode())) == len(text.encode())
    made.compute_bitmask()
    assert not made.is_error(), made.get_error()
    assert made.is_accepting()


def test_definitions_that_many_arguments_refer_to_do_not_fill_memory():
    """Each argument that refers brings all definitions along: 47 kB of a schema were 17 MB of a grammar."""
    definitions = {f"d{i}": {"type": "string", "maxLength": i + 1} for i in range(600)}

    def grammar(used: int) -> str:
        properties = {f"p{i}": {"$ref": f"#/$defs/d{i % used}"} for i in range(600)}
        parameters = {"type": "object", "properties": properties, "$defs": definitions}
        return call_grammar(ToolUse.of([{"name": "f", "parameters": parameters}]), "pythonic")

    assert grammar(1).count('"maxLength": 600') == 2, "arguments that are alike share a rule, and JSON has its own"
    with pytest.raises(InvalidRequest, match="tools make a grammar of more than 524288 characters"):
        grammar(600)
