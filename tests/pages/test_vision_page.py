"""Pictures on the page of a capability: what is chosen is asked about, and a box that is found is drawn on."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from browsing import SIZES, Visit
from PIL import Image, ImageDraw
from playwright.sync_api import expect
from running_server import Running, serving

from quipu.engine.fake import fake_model

BOX = {"left": 0.25, "top": 0.5, "right": 0.5, "bottom": 0.75}
HOSTILE = "<img src=x onerror='window.hacked = 1'>"


def reply(asked: str) -> str:
    if "Find" in asked:
        return json.dumps({"box": None if "unicorn" in asked else BOX})
    if "differs" in asked:
        return json.dumps({"differences": ["The square is gone.", HOSTILE]})
    return json.dumps({"count": 1}) if "Count" in asked else "A blue square."


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    seeing = fake_model(reply, context_length=16384, concurrency=4, sees=True)
    with serving({"seeing": seeing, "blind": fake_model(reply, context_length=16384)}) as running:
        yield running


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(visit: Visitor, server: Running) -> Visitor:
    return partial(visit, server=server, path="/capabilities#vision")


def picture(name: str, square: bool = True) -> Any:
    image = Image.new("RGB", (800, 400), "beige")
    if square:
        ImageDraw.Draw(image).rectangle((200, 200, 399, 299), "blue")
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": file.getvalue()}


def ask(person: Visit, task: str, question: str = "", pictures: int = 1) -> Any:
    page = person.page
    for place in range(1, pictures):
        page.get_by_role("button", name="Add image").click()
        page.locator("input[type=file]").nth(place).set_input_files(picture("after.png", square=False))
    page.locator("input[type=file]").first.set_input_files(picture("before.png"))
    expect(page.get_by_role("img", name="before.png")).to_be_visible()
    page.get_by_role("combobox", name="Task").select_option(label=task)
    page.get_by_role("textbox", name="Question").fill(question)
    page.get_by_role("button", name="Run", exact=True).click()
    result = page.get_by_role("region", name="Result")
    expect(result).to_have_attribute("aria-busy", "false")
    return result


@pytest.mark.parametrize("size", SIZES)
def test_what_is_found_is_drawn_on_the_picture(visit: Visitor, size: str) -> None:
    person = visit(size)
    result = ask(person, "locate", "the blue square")
    shown = result.get_by_role("img", name="Picture 1 of 1").bounding_box()
    drawn = result.get_by_role("img", name="Where it is").bounding_box()
    assert shown["width"] > 200
    assert shown["width"] / shown["height"] == pytest.approx(2, rel=0.02)
    edges = [
        (drawn["x"] - shown["x"]) / shown["width"],
        (drawn["y"] - shown["y"]) / shown["height"],
        (drawn["x"] + drawn["width"] - shown["x"]) / shown["width"],
        (drawn["y"] + drawn["height"] - shown["y"]) / shown["height"],
    ]
    assert edges == pytest.approx([0.25, 0.5, 0.5, 0.75], abs=0.01)
    expect(result.get_by_text("middle: left 0.25, top 0.5, right 0.5, bottom 0.75").first).to_be_visible()
    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("SHOTS"):
        result.scroll_into_view_if_needed()
        person.page.screenshot(path=f"{folder}/vision-{size}.png")


def test_what_is_not_there_has_no_box(visit: Visitor) -> None:
    result = ask(visit("phone"), "locate", "a unicorn")
    expect(result.get_by_text("It is not there.").first).to_be_visible()
    expect(result.get_by_role("img", name="Where it is")).to_have_count(0)


def test_two_pictures_and_what_differs(visit: Visitor) -> None:
    person = visit("desktop")
    result = ask(person, "compare", pictures=2)
    expect(result.get_by_role("img", name="Picture 2 of 2")).to_be_visible()
    expect(result.get_by_role("listitem").filter(has_text="The square is gone.").first).to_be_visible()
    assert person.page.evaluate("window.hacked") is None


def test_a_count_and_words(visit: Visitor) -> None:
    person = visit("desktop")
    expect(ask(person, "count", "squares").get_by_text("1", exact=True).first).to_be_visible()
    expect(ask(person, "describe").get_by_text("A blue square.", exact=True).first).to_be_visible()


def test_a_model_that_reads_text_only_says_so(visit: Visitor) -> None:
    person = visit("desktop")
    person.page.get_by_label("Model").select_option("blind")
    expect(ask(person, "describe").get_by_role("alert")).to_contain_text("reads text only")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("empty.png", b"", "empty.png is empty."),
        ("notes.txt", b"no picture", "notes.txt is no picture that this browser"),
    ],
)
def test_what_is_no_picture_is_said_at_the_field(visit: Visitor, name: str, data: bytes, said: str) -> None:
    page = visit("phone").page
    kind = "text/plain" if name.endswith("txt") else "image/png"
    page.locator("input[type=file]").set_input_files({"name": name, "mimeType": kind, "buffer": data})
    expect(page.get_by_role("alert").filter(has_text=said)).to_be_visible()
    expect(page.locator("input[type=file]")).to_have_attribute("aria-invalid", "true")
