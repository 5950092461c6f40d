import hashlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.errors import DamagedLog, InvalidRequest
from quipu.evidence.log import Entry, canonical, checked

AT = "2026-01-02T03:04:05.678+00:00"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def chain(length: int) -> list[Entry]:
    entries: list[Entry] = []
    for number in range(length):
        last = entries[-1] if entries else None
        entries.append(Entry.following(last, AT, "round", canonical({"number": number})))
    return entries


def test_the_hash_is_what_the_document_says() -> None:
    """Computed here from docs/evidence.md alone."""
    previous = ""
    for number, entry in enumerate(chain(3), 1):
        content = {"number": number, "at": AT, "kind": "round", "body": {"number": number - 1}}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        previous = hashlib.sha256((previous + text).encode()).hexdigest()
        assert entry.hash == previous


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_line_is_its_entry_again(body: dict) -> None:
    entry = Entry.following(None, AT, "round", canonical(body))
    assert "\n" not in entry.line
    again = Entry.of_line(entry.line)
    assert again == entry
    assert list(checked([again])) == [entry]
    assert json.loads(entry.line)["body"] == entry.body


@given(st.permutations(["b", "a", "ä", "Z"]))
def test_the_order_of_names_changes_nothing(names: list[str]) -> None:
    assert canonical(dict.fromkeys(names, 1)) == '{"Z":1,"a":1,"b":1,"ä":1}'


def test_half_a_character_is_a_question_mark() -> None:
    assert canonical({"text": "a\ud800b"}) == '{"text":"a?b"}'


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, b"bytes"])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="this cannot be kept in the log"):
        canonical({"value": value})


def deep() -> dict:
    value: dict = {}
    for _ in range(100_000):
        value = {"a": value}
    return value


def test_what_is_too_deep_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="this cannot be kept in the log"):
        canonical(deep())


def test_a_whole_chain_is_let_through() -> None:
    entries = chain(5)
    assert list(checked(entries)) == entries
    assert list(checked(entries[3:], entries[2])) == entries[3:]


def altered(entries: list[Entry], place: int, **changes: object) -> list[Entry]:
    import dataclasses

    return [dataclasses.replace(each, **changes) if n == place else each for n, each in enumerate(entries)]


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (altered(chain(4), 1, text='{"number":7}'), "entry 2 (round of 2026-01-02T03:04:05.678+00:00) was altered"),
        (altered(chain(4), 1, at="2026"), "entry 2 (round of 2026) was altered"),
        (altered(chain(4), 1, kind="run"), "entry 2 (run of "),
        (altered(chain(4), 1, hash="0" * 64), "entry 2 (round"),
        (altered(chain(4), 0, previous="0" * 64), "entry 1 (round"),
        (chain(4)[1:], "entry 1 is missing: entry 2 is in its place"),
        ([*chain(4)[:2], *chain(4)[3:]], "entry 3 is missing: entry 4 is in its place"),
        ([chain(1)[0], chain(1)[0]], "entry 2 is missing: entry 1 is in its place"),
    ],
)  # fmt: skip
def test_what_was_done_to_a_chain_is_named(entries: list[Entry], said: str) -> None:
    with pytest.raises(DamagedLog) as raised:
        list(checked(entries))
    assert said in str(raised.value)


def test_an_entry_made_anew_with_its_own_hash_is_found_by_the_next() -> None:
    entries = chain(4)
    entries[1] = Entry.following(entries[0], AT, "round", '{"number":7}')
    with pytest.raises(DamagedLog, match="entry 3 does not follow entry 2: one of them was replaced"):
        list(checked(entries))


WHOLE = json.loads(chain(1)[0].line)


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", "1", "null", "{}", '"text"', "[" * 100_000, "9" * 5000, '{"body":' * 50_000,
        json.dumps(WHOLE | {"number": "1"}), json.dumps(WHOLE | {"number": True}), json.dumps(WHOLE | {"more": 1}),
        json.dumps(WHOLE | {"hash": 1}), json.dumps(WHOLE | {"hash": "g" * 64}), json.dumps(WHOLE | {"at": "\ud800"}),
        json.dumps(WHOLE | {"kind": "A b"}), json.dumps(WHOLE | {"body": math.nan}),
        json.dumps(WHOLE | {"body": {"a": 1e308}}).replace("1e+308", "1e999"),
    ],
)  # fmt: skip
def test_lines_that_are_no_entry(line: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Entry.of_line(line)
