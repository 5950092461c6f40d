"""Constrained answers: held to their constraint whatever the model wants, with every property that free ones have."""

import dataclasses
import json
import queue
import random
import re
import time
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import numpy as np
import pytest

import quipu
from quipu.engine.answers import Answers
from quipu.engine.checked import Checked
from quipu.engine.fake import fake_model
from quipu.engine.grammar_compiler import MAX_TEXT, MOST_WAITING, GrammarCompiler
from quipu.engine.sampler import Sampler
from quipu.errors import ContextLengthExceeded, EngineStopped, InvalidRequest, Overloaded
from quipu.types import Chunk, Constraint, Sampling

HELLO = [{"role": "user", "content": "hello"}]
ASKED = [{"role": "user", "content": "Ms Anna Schmidt ordered 3 chairs and 2 tables for 450.50 euros. Answer in JSON."}]
ORDER = {
    "type": "object",
    "properties": {
        "customer_name": {"type": "string"},
        "total_amount_in_euros": {"type": "number"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"description": {"type": "string"}, "quantity": {"type": "integer"}},
                "required": ["description", "quantity"],
                "additionalProperties": False,
            },
            "maxItems": 2,
        },
    },
    "required": ["customer_name", "total_amount_in_euros", "items"],
    "additionalProperties": False,
}
SCHEMA = Constraint("json_schema", ORDER)
EMPTY = '{"customer_name": "", "total_amount_in_euros": 0, "items": []}'
BOMB = {"allOf": [{"type": "string", "pattern": f"a{{{count}}}.*b"} for count in range(30)]}


@pytest.fixture(scope="module")
def fake():
    with fake_model() as model:
        yield model


@pytest.fixture(scope="module")
def real(smollm2_file):
    with quipu.load(smollm2_file, context=1024, kv_memory=1, concurrency=16, threads=1) as model:
        yield model


def answering(text):
    return fake_model(lambda asked: text)


@pytest.mark.parametrize(
    ("constraint", "text"),
    [
        (SCHEMA, '{"customer_name": "Łukasz \\"Ł\\"", "total_amount_in_euros": -1.5e3, "items": []}'),
        (Constraint("json_object"), '{"a": [1, {"b": null}], "": "é\\n"}'),
        (Constraint("regex", r"[0-9]{3}-[a-z]+!"), "123-abc!"),
        (Constraint("choice", ["yes", "no", "yes and no"]), "yes and no"),
        (Constraint("choice", ["a\n\"b'", "<|end|>"]), "<|end|>"),
        (Constraint("grammar", 'start: "x" word+\nword: /[a-c]/'), "xabc"),
    ],
)
def test_what_keeps_to_a_constraint_comes_as_it_is(constraint, text):
    with answering(text) as model:
        answer = model.chat(HELLO, constraint=constraint)
        assert (answer, answer.finish_reason, answer.choices[0].incomplete) == (text, "stop", ())


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (Constraint("regex", r"[0-9]{4}"), r"[0-9]{4}"),
        (Constraint("choice", ["yes", "no"]), r"yes|no"),
        (Constraint("json_schema", {"enum": ["red", 3]}), r'"red"|3'),
        (Constraint("grammar", 'start: "a" | "b"'), r"a|b"),
    ],
)
def test_what_does_not_is_never_said(fake, constraint, expected):
    assert re.fullmatch(expected, fake.chat(HELLO, constraint=constraint))


def test_forced_tokens_take_one_step_and_free_ones_one_each():
    text = '{"the name of the customer": "Jo"}'
    schema = {
        "type": "object", "properties": {"the name of the customer": {"type": "string"}},
        "required": ["the name of the customer"], "additionalProperties": False,
    }  # fmt: skip
    with answering(text) as model:
        answer = model.chat(HELLO, constraint=Constraint("json_schema", schema))
        assert answer == text
        assert answer.usage.completion_tokens == len(text)
        assert model.engine.stats().steps <= 10, "all of a key is computed in one step"


def test_logprobs_of_forced_tokens_are_those_of_a_free_answer(fake):
    text = '{"customer_name": "Jo", "total_amount_in_euros": 5, "items": []}'
    with answering(text) as model:
        free = model.chat(HELLO, logprobs=2, temperature=0)
        held = model.chat(HELLO, logprobs=2, temperature=0, constraint=SCHEMA)
        assert held.choices[0].logprobs == free.choices[0].logprobs[: len(text)]
        assert free == held == text


def test_a_stop_string_ends_within_what_is_forced():
    with answering(EMPTY) as model:
        answer = model.chat(HELLO, constraint=SCHEMA, stop=["amount_in"])
        assert (answer, answer.finish_reason) == ('{"customer_name": "", "total_', "stop")


def test_several_answers_and_penalties(real):
    options = {"temperature": 1.2, "seed": 4, "max_tokens": 60, "n": 3, "frequency_penalty": 0.5, "top_p": 0.9}
    answer = real.chat(ASKED, constraint=SCHEMA, **options)
    assert len({choice.text for choice in answer.choices}) == 3
    for choice in answer.choices:
        jsonschema.validate(json.loads(choice.text), ORDER)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.8, "top_p": 0.9},
        pytest.param({"temperature": 0}, marks=pytest.mark.slow),
        pytest.param({"temperature": 1}, marks=pytest.mark.slow),
    ],
)
def test_the_same_tokens_alone_in_a_crowd_and_without_guesses(real, smollm2_file, options):
    options |= {"seed": 4, "max_tokens": 60}
    alone = real.chat(ASKED, constraint=SCHEMA, **options).choices[0]
    with ThreadPoolExecutor(6) as pool:
        crowd = [
            pool.submit(real.chat, ASKED, constraint=SCHEMA if place % 3 else None, **{**options, "seed": place})
            for place in range(6)
        ]
        assert crowd[4].result().choices[0] == alone
    with quipu.load(smollm2_file, context=1024, kv_memory=0.2, concurrency=2, speculate="off", threads=1) as plain:
        assert plain.chat(ASKED, constraint=SCHEMA, **options).choices[0] == alone


def test_tokens_are_those_that_the_tokenizer_would_make_and_as_likely(real):
    answer = real.chat(ASKED, constraint=SCHEMA, temperature=0, max_tokens=200)
    assert answer.finish_reason == "stop"
    prompt = real.prompt_ids(ASKED)

    def likelihood(ids):
        scores = real.generate([*prompt, *ids], max_tokens=0, prompt_logprobs=0).prompt_logprobs
        return sum(score.logprob for score in scores[len(prompt) :])

    ours = [token for token in answer.choices[0].token_ids if not real.tokenizer.is_special(token)]
    canonical = real.tokenizer.encode(str(answer))
    bytewise = [token for byte in str(answer) for token in real.tokenizer.encode(byte)]
    assert likelihood(ours) >= likelihood(canonical) - 2 > likelihood(bytewise) + 20


@pytest.mark.parametrize("apart", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_the_way_out_is_reserved_at_every_limit(real, apart):
    least = len(real.compile(SCHEMA).result().shortest)
    with ThreadPoolExecutor(16) as pool:
        asked = {
            limit: pool.submit(real.chat, ASKED, constraint=SCHEMA, temperature=1.5, seed=limit, max_tokens=limit)
            for limit in range(least, least + 40, apart)
        }
        for limit, future in asked.items():
            answer = future.result()
            value = json.loads(answer)
            jsonschema.validate(value, ORDER)
            assert answer.usage.completion_tokens <= limit
            assert answer.finish_reason == ("length" if answer.choices[0].incomplete else "stop")
    assert asked[least].result() == EMPTY
    assert asked[least].result().choices[0].incomplete == ("customer_name", "total_amount_in_euros", "items")


def test_too_few_tokens_for_any_answer_are_refused_with_the_number(fake):
    with pytest.raises(InvalidRequest, match=f"max_tokens is 10, and the shortest .* has {len(EMPTY)} tokens") as error:
        fake.chat(HELLO, constraint=SCHEMA, max_tokens=10)
    assert error.value.param == "max_tokens"
    with pytest.raises(ContextLengthExceeded, match=f"max_tokens asks for {len(EMPTY)} more"):
        fake.chat([{"role": "user", "content": "x" * 960}], constraint=SCHEMA)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "object"}, "{}"),
        ({"type": "array", "minItems": 3, "items": {"type": "string"}}, '["", "", ""]'),
        ({"type": "array", "items": {"type": "array"}}, "[]"),
        ({"type": "string", "pattern": "foo|bar"}, '"foo"'),
        ({"type": "string", "format": "email"}, '"0@[0.0.0.0]"'),
        ({"type": "string", "minLength": 3}, '"}}}"'),
        ({"type": "integer", "minimum": 1000}, "1000"),
        ({"anyOf": [{"type": "object", "required": ["a"], "properties": {"a": {}}}, {"type": "null"}]}, "null"),
        ({"$ref": "#/$defs/t", "$defs": {"t": {"properties": {"kids": {"items": {"$ref": "#/$defs/t"}}},
                                               "required": ["kids"], "type": "object"}}}, '{"kids": []}'),
    ],
)  # fmt: skip
def test_the_shortest_answer_is_short(fake, schema, text):
    grammar = fake.compile(Constraint("json_schema", schema)).result()
    assert len(grammar.shortest) <= len(text)
    assert not grammar.check(fake.tokenizer.decode(grammar.shortest))


def test_the_context_is_a_limit_too():
    with fake_model(lambda asked: '{"a": "' + "x" * 2000, context_length=256) as model:
        answer = model.chat(HELLO, constraint=Constraint("json_object"))
        assert json.loads(answer)["a"].startswith("xxxx")
        assert (answer.finish_reason, answer.choices[0].incomplete) == ("length", ("a",))


@pytest.mark.parametrize("name", ["ignore_eos", "min_tokens"])
def test_what_contradicts_a_constraint_is_refused_by_name(fake, name):
    with pytest.raises(InvalidRequest, match=f"{name} cannot be kept together") as error:
        fake.chat(HELLO, constraint=SCHEMA, **{name: 1 if name == "min_tokens" else True})
    assert error.value.param == name


def test_the_prefix_is_reused_and_leaving_frees_everything(fake):
    question = [{"role": "user", "content": "cached " * 10}]
    fake.chat(question, constraint=SCHEMA)
    assert fake.chat(question, constraint=SCHEMA).usage.cached_tokens > 60
    with fake_model(lambda asked: '{"a": "' + "x" * 900, seconds=0.002) as model:
        with model.stream(HELLO, constraint=Constraint("json_object")) as chunks:
            next(chunks)
        deadline = time.monotonic() + 5
        while model.engine.stats().running or model.engine.stats().blocks_used:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert model.engine.stats().aborted == 1


def test_preempted_answers_go_on_where_they_were():
    text = '{"a": "' + "x" * 100 + '"}'
    with fake_model(lambda asked: text, context_length=256, blocks=20, concurrency=4, seconds=0.0003) as model:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: model.chat(HELLO, constraint=Constraint("json_object")), range(4)))
        assert answers == [text] * 4
        assert model.engine.stats().preempted


@pytest.mark.parametrize(
    "family", ["smollm2", *(pytest.param(each, marks=pytest.mark.slow) for each in ("llama3", "llama4"))]
)
def test_random_logits_become_valid_json_with_every_tokenizer(family, request):
    tokenizer = request.getfixturevalue(family)
    compiler = GrammarCompiler(tokenizer, tokenizer.eos_ids, tokenizer.vocabulary + 64)  # an output layer is padded
    grammar = compiler.compile(SCHEMA).result()
    chance = np.random.default_rng(5)
    for answer in range(6):
        guide, sampler, ids = (
            grammar.guide(),
            Sampler(Sampling(temperature=1.5, top_p=0.9 + answer % 2 / 10), [], []),
            [],
        )
        while len(ids) < 80:
            token = guide.next(sampler, chance.standard_normal(tokenizer.vocabulary + 64, np.float32), 80 - len(ids))
            if token is None or token in tokenizer.eos_ids:
                break
            ids.append(token)
            if guide.over is not None:
                break
        assert not any(map(tokenizer.is_special, ids))
        jsonschema.validate(json.loads(tokenizer.decode(ids)), ORDER)
    compiler.close()


@pytest.mark.parametrize(
    ("keywords", "where", "fragment"),
    [
        ({"uniqueItems": True}, "uniqueItems", "answers cannot be held to uniqueItems"),
        ({"properties": {"a": {"not": {}}}}, "properties.a.not", "say what is allowed instead"),
        ({"if": {}, "then": {}}, "if", "use anyOf"),
        ({"items": {"contains": {}}}, "items.contains", "prefixItems"),
        ({"anyOf": [{}, {"propertyNames": {}}]}, "anyOf[1].propertyNames", "patternProperties"),
        ({"dependentRequired": {}}, "dependentRequired", "anyOf"),
        ({"$defs": {"x": {"unevaluatedProperties": False}}}, "$defs.x.unevaluatedProperties", "additionalProperties"),
        ({"type": "string", "nullable": True}, "nullable", "null"),
        ({"type": "string", "format": "iri"}, "format", "known: date-time"),
        ({"$ref": "https://example.com/schema.json"}, "$ref", "other documents are not read"),
        ({"$ref": "other.json"}, "$ref", "other documents are not read"),
        ({"multipleOf": 99991}, "multipleOf", "beyond the limit"),
        ({"allOf": [{"multipleOf": 0.97}, {"multipleOf": 997}]}, "allOf[1].multipleOf", "beyond the limit"),
        ({"minProperties": 1}, "minProperties", "name them in required"),
        ({"x-guidance": {"whitespace_flexible": True}}, "x-guidance", "not for the request to choose"),
        ({"type": "string", "minLenght": 3}, "minLenght", "did you mean minLength?"),
        ({"type": "strin"}, "type", "not valid in a JSON Schema"),
        ({"minLength": -1}, "minLength", "not valid in a JSON Schema"),
        ({"pattern": "(?=a)b"}, "pattern", "not valid in a JSON Schema"),
        ({"$ref": "#/$defs/none"}, "", "none"),
        ({"$ref": "#"}, "", "cannot be used"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "", "Unsatisfiable"),
        ({"enum": []}, "", "Unsatisfiable"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "", "no answer that ends"),
        ({"oneOf": [{"minimum": 5}, {"type": "integer"}]}, "", "oneOf"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_keyword_and_path(fake, keywords, where, fragment):
    with pytest.raises(InvalidRequest, match=re.escape(fragment)) as error:
        fake.chat(HELLO, constraint=Constraint("json_schema", keywords))
    assert error.value.param == ".".join(filter(None, ("constraint", where)))


@pytest.mark.parametrize(
    ("constraint", "fragment"),
    [
        (Constraint("json_schema", BOMB), "more than the limit of 3 seconds to compile"),
        (Constraint("json_schema", {"enum": ["x" * 300_000]}), "the limit of 262144 for bytes"),
        (Constraint("json_schema", {"anyOf": [{} for _ in range(10_001)]}), "the limit of 10000 for schemas in it"),
        (Constraint("json_schema", {"properties": {f"p{n}": {} for n in range(510)}}), "Name fields in required"),
        (Constraint("json_schema", {"properties": {f"p{n}": {"pattern": "a"} for n in range(510)}}), "Name fields"),
        (Constraint("regex", "a" * (MAX_TEXT + 1)), f"the limit of {MAX_TEXT}"),
        (Constraint("regex", "("), "regex parse error"),
        (Constraint("grammar", "start: nothing"), "unknown name"),
        (Constraint("json_schema", {"const": float("nan")}), "not JSON"),
    ],
)
def test_a_bomb_is_refused_and_the_limit_named(fake, constraint, fragment):
    with pytest.raises(InvalidRequest, match=fragment):
        fake.chat(HELLO, constraint=constraint)


def test_a_schema_nested_too_deep_is_refused(fake):
    schema = {}
    for _ in range(5_000):
        schema = {"items": schema}
    with pytest.raises(InvalidRequest, match="nest"):
        fake.chat(HELLO, constraint=Constraint("json_schema", schema))


def test_bombs_keep_no_plain_schema_waiting_and_too_many_are_turned_away():
    with fake_model() as model:
        model.compile(SCHEMA).result()
        bombs = [model.compile(Constraint("regex", f"(a|b){{{n}}}c")) for n in range(MOST_WAITING + 5)]
        start = time.monotonic()
        model.compile(Constraint("json_schema", {**ORDER, "title": "new"})).result()
        assert time.monotonic() - start < 1
        with pytest.raises(Overloaded, match=f"{MOST_WAITING} constraints whose cost is not known wait"):
            bombs[-1].result()


def test_compiled_once_for_those_that_are_alike(fake):
    first = fake.compile(SCHEMA).result()
    assert fake.compile(Constraint("json_schema", dict(ORDER))).result() is first
    other = {**ORDER, "properties": dict(reversed(ORDER["properties"].items()))}
    assert fake.compile(Constraint("json_schema", other)).result() is not first, "the order of properties counts"


def test_an_answer_that_does_not_validate_does_not_leave(fake):
    grammar = dataclasses.replace(fake.compile(Constraint("choice", ["a", "b"])).result(), check=lambda text: "wrong")
    events = queue.SimpleQueue()
    fake.submit(fake.prompt_ids(HELLO), fake.sampling({}), events.put, grammar=grammar)
    while isinstance(event := events.get(timeout=5), Chunk):
        assert event.finish_reason is None
    assert "does not keep to its constraint: wrong" in str(event)


def test_numbers_too_large_for_a_float_are_numbers():
    for number in ("1e999", "-" + "9" * 400, "9" * 700):
        text = json.dumps({"customer_name": "", "total_amount_in_euros": 0, "items": []}).replace(" 0", " " + number)
        with answering(text) as model:
            assert model.chat(HELLO, constraint=SCHEMA) == text


def test_white_space_is_bounded():
    with answering("{" + " " * 500) as model:
        answer = model.chat(HELLO, constraint=SCHEMA, max_tokens=200)
        assert answer.startswith('{"customer_name": "'), "between tokens there is none that is not forced"
        assert not re.search(r"\s\s", json.dumps(json.loads(answer) | {"customer_name": ""}))


def test_many_random_requests_at_once_never_hang(fake):
    chance = random.Random(3)
    constraints = [SCHEMA, None, Constraint("choice", ["one", "two"]), Constraint("regex", "[a-z]{0,40}")]

    def ask(number):
        with fake.stream(
            HELLO, constraint=constraints[number % 4], seed=number, temperature=1.5, max_tokens=100
        ) as got:
            for place, _ in enumerate(got):
                if number % 5 == 0 and place > 3:
                    return

    with ThreadPoolExecutor(16) as pool:
        for future in [pool.submit(ask, chance.randint(0, 1000)) for _ in range(100)]:
            future.result(30)


def test_closing_tells_all_whose_constraints_wait():
    with fake_model() as model:
        compiling = [model.compile(Constraint("regex", f"a{{{count}}}b")) for count in range(1, 20)]
    told = {type(each.exception(timeout=30)) for each in compiling}
    assert EngineStopped in told
    assert told <= {EngineStopped, type(None)}


def test_a_refusal_that_is_kept_holds_nothing_of_those_who_hear_of_it(fake):
    def refused():
        with pytest.raises(InvalidRequest) as caught:
            fake.chat(HELLO, constraint=Constraint("json_schema", {"not": {}}))
        return caught.value, len(caught.traceback)

    first, *others = [refused() for _ in range(5)]
    assert len({id(error) for error, _ in others}) == len(others)
    assert len({depth for _, depth in others}) == 1
    assert {(str(error), error.param) for error, _ in others} == {(str(first[0]), first[0].param)}


def test_the_last_chunk_has_the_usage_also_while_another_answer_is_checked(fake):
    events, later = [], []
    guides = [fake.compile(Constraint("json_schema", True)).result().guide() for _ in range(2)]
    answers = Answers(fake.tokenizer, 1, Sampling(n=2), events.append, continues=True, use=None)
    checked = Checked(answers, guides, events.append, later.append)
    for index in range(2):
        checked.token(index, *fake.tokenizer.encode("1"), None)
    checked.finished(0, "stop", 1, 0)
    checked.finished(1, "abort", 1, 0)
    for work in later:
        work()
    finished = [event for event in events if event.finish_reason is not None]
    assert [(event.index, event.usage is not None) for event in finished] == [(0, False), (1, True)]
