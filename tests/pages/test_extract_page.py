"""Extraction on the page: the text with the places of the values beside the values, on a desk and on a phone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from browsing import FAINT, SIZES, SMALL, UNNAMED, Visit
from playwright.sync_api import expect
from running_server import Running, serving

from quipu.engine.fake import fake_model

HOSTILE = "<img src=x onerror='window.hacked = 1'>"
RECEIPT = f"Receipt 🧾 of {HOSTILE}\n2 x Tea, 3.20 euros each\n1 x Rye bread, 4.80 euros each\nNora Blake, thank you!"
ITEMS = {
    "records": [
        {"item": "Tea", "quantity": 2, "price": 3.2},
        {"item": "Rye bread", "quantity": 1, "price": 4.8},
    ]
}
WHO = {"buyer": "Nora Blake", "shop": "Corner Shop", "email": None}
FIELDS = {"fields": [{"name": "buyer", "type": "string", "description": "who bought it"}]}


def reply(asked: str) -> str:
    if asked.startswith("List the fields"):
        return json.dumps(FIELDS)
    if "every record" in asked:
        return json.dumps(ITEMS)
    return json.dumps(WHO if "shop" in asked else {"buyer": WHO["buyer"]})


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving({"fake": fake_model(reply, context_length=16384, concurrency=4)}) as running:
        yield running


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(visit: Visitor, server: Running) -> Visitor:
    return partial(visit, server=server, path="/capabilities#extract")


def extract(person: Visit, wanted: str, *, many: bool = False) -> Any:
    page = person.page
    page.get_by_role("textbox", name="Text", exact=True).fill(RECEIPT)
    page.get_by_role("textbox", name="Wanted", exact=True).fill(wanted)
    page.get_by_role("checkbox", name="Many", exact=True).set_checked(many)
    page.get_by_text("How tokens are chosen").click()
    page.get_by_role("textbox", name="Max tokens", exact=True).fill("2000")
    person.button("Run").click()
    result = page.get_by_role("region", name="Result")
    expect(result).to_have_attribute("aria-busy", "false")
    expect(result.get_by_role("alert")).to_have_count(0)
    if folder := os.environ.get("SHOTS"):
        result.scroll_into_view_if_needed()
        page.screenshot(path=f"{folder}/{person.size}-{many}.png")
    return result


def test_records_beside_the_text_they_come_from(visit: Visitor, size: str) -> None:
    person = visit(size)
    result = extract(person, "item:str, quantity:int, price:float", many=True)
    text = result.get_by_role("region", name="Text with the places of the values")
    values = result.get_by_role("region", name="Values", exact=True)
    expect(text.locator("mark")).to_have_text(["2", "Tea", "3.20", "1", "Rye bread", "4.80"])
    expect(text).to_contain_text(HOSTILE)
    expect(values.get_by_role("columnheader")).to_have_text(["Item", "Quantity", "Price"])
    expect(values.get_by_role("row")).to_have_count(3)
    values.get_by_role("button", name="Rye bread").click()
    expect(text.locator("mark.chosen")).to_have_text("Rye bread")
    expect(text.locator("mark.chosen")).to_be_in_viewport()
    text.locator("mark", has_text="3.20").click()
    expect(values.locator("button.chosen")).to_have_text("3.2")
    assert person.page.evaluate("window.hacked") is None
    [one, other] = [each.bounding_box() for each in (text, values)]
    assert one
    assert other
    if size == "desktop":
        assert one["x"] + one["width"] <= other["x"]
    else:
        assert one["y"] + one["height"] <= other["y"]


def test_a_record_says_what_the_text_does_not_have(visit: Visitor, size: str) -> None:
    person = visit(size)
    result = extract(person, "buyer, shop, email")
    rows = result.get_by_role("region", name="Values", exact=True).get_by_role("row")
    expect(rows.nth(0)).to_have_text("BuyerNora Blake")
    expect(rows.nth(1)).to_have_text("ShopCorner Shopnot in the text")
    expect(rows.nth(2)).to_have_text("Emailnone")
    expect(result.get_by_role("list", name="Notes")).to_contain_text("shop")
    result.get_by_text("All fields").click()
    for name in ("Data", "Records", "Values", "Json schema"):
        expect(result.locator("dt").get_by_text(name, exact=True)).to_be_visible()
    for width, height in SIZES.values():
        person.page.set_viewport_size({"width": width, "height": height})
        assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        scroller = "document.querySelector('#content')"
        assert person.page.evaluate(f"{scroller}.scrollWidth <= {scroller}.clientWidth")
    assert person.page.evaluate(UNNAMED) == []
    assert person.page.evaluate(SMALL) == []
    assert person.page.evaluate(FAINT) == []


def test_what_a_sentence_wants_becomes_a_schema_to_edit(visit: Visitor) -> None:
    person = visit("desktop")
    result = extract(person, "who bought all of this?")
    expect(result.get_by_role("region", name="Values", exact=True).get_by_role("row")).to_have_text("BuyerNora Blake")
    result.get_by_role("button", name="Edit what was wanted").click()
    wanted = person.page.get_by_role("textbox", name="Wanted", exact=True)
    schema = json.loads(wanted.input_value())
    assert schema["properties"]["buyer"] == {"type": ["string", "null"], "description": "who bought it"}
    person.button("Run").click()
    expect(result.get_by_role("region", name="Values", exact=True).get_by_role("row")).to_have_text("BuyerNora Blake")


def test_what_is_no_schema_is_said_at_the_field(visit: Visitor) -> None:
    person = visit("desktop")
    page = person.page
    page.get_by_role("textbox", name="Text", exact=True).fill(RECEIPT)
    wanted = page.get_by_role("textbox", name="Wanted", exact=True)
    wanted.fill('{"type": "objekt"}')
    person.button("Run").click()
    expect(wanted).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_role("main")).to_contain_text("Wanted is no JSON Schema")
