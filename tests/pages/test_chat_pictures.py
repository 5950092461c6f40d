"""Pictures in the chat page: chosen, dropped and pasted in a real browser, and what the server gets of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import FAINT, SMALL, UNNAMED, Visit
from PIL import Image as Pillow
from PIL import ImageOps
from playwright.sync_api import Locator, expect
from running_server import Running, serving
from seeing import seeing_model

from quipu.engine.fake import fake_model
from quipu.model.image import best_grid


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    models = {"seeing": seeing_model(context=4096), "blind": fake_model(), "later": fake_model}
    with serving(models) as running:
        yield running


STRETCHED = """() => [...document.querySelectorAll("article img")]
    .map((each) => [each.alt, each.clientWidth / each.clientHeight, each.naturalWidth / each.naturalHeight])
    .filter(([, shown, real]) => !(Math.abs(shown / real - 1) < 0.1))"""
"""Pictures that are not loaded, or not shown in their proportions."""


def saved(color: str = "red", size: tuple[int, int] = (70, 40), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", size, color).save(file, kind, **options)
    return file.getvalue()


def photo(size: tuple[int, int], kind: str = "JPEG", **options: Any) -> bytes:
    """Noise, which stays large however it is compressed, left of blue."""
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    noise[:, size[0] // 2 :] = (20, 40, 220)
    file = io.BytesIO()
    Pillow.fromarray(noise).save(file, kind, **options)
    return file.getvalue()


def file(name: str, data: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": data}


def come(visit: Any, server: Running, size: str = "desktop") -> Visit:
    """Who asked for short answers before: what this model says means nothing."""
    last = json.dumps({"model": "seeing", "system": "", "sampling": {"max_tokens": 3, "temperature": 0}})
    kept = {"origin": server.url, "localStorage": [{"name": "quipu.last", "value": last}]}
    person: Visit = visit(size, server, storage_state={"origins": [kept]})
    return person


def choose(person: Visit, *files: dict[str, Any]) -> None:
    person.page.get_by_label("Pictures to add").set_input_files(list(files))


def tray(person: Visit) -> Locator:
    return person.page.get_by_role("list", name="Pictures").get_by_role("listitem")


def hand_over(person: Visit, how: str, *files: tuple[str, str, bytes], text: str | None = None) -> None:
    """Drop or paste files ((name, type, bytes)): the browser's own events, with what a desktop would put in them."""
    given = [(name, kind, base64.b64encode(data).decode()) for name, kind, data in files]
    person.page.evaluate(
        """([how, files, text]) => {
            const carried = new DataTransfer();
            for (const [name, type, data] of files) {
                const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
                carried.items.add(new File([bytes], name, {type}));
            }
            if (text !== null) carried.setData("text/plain", text);
            const options = {bubbles: true, cancelable: true};
            const place = document.querySelector("#question");
            if (how === "paste") {
                place.dispatchEvent(new ClipboardEvent("paste", {...options, clipboardData: carried}));
            } else {
                place.dispatchEvent(new DragEvent("dragover", {...options, dataTransfer: carried}));
                window.marked = document.body.classList.contains("dropping");
                place.dispatchEvent(new DragEvent("drop", {...options, dataTransfer: carried}));
            }
        }""",
        [how, given, text],
    )


def sent(person: Visit, text: str) -> dict[str, Any]:
    """The request that asking ``text`` makes, answered without an error."""
    with person.page.expect_request("**/v1/chat/completions") as request:
        person.begin(text)
    person.wait()
    expect(person.answers.last.get_by_role("alert")).to_have_count(0)
    body: dict[str, Any] = request.value.post_data_json
    return body


def shown(part: dict[str, Any]) -> bytes:
    """The file in a part of a message."""
    head, _, data = part["image_url"]["url"].partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return base64.b64decode(data)


def test_ask_about_two_pictures_and_ask_again(visit, server, size):
    person = come(visit, server, size)
    expect(person.button("Send")).to_be_disabled()
    choose(person, file("red.png", saved()), file("blue.png", saved("blue", (120, 30))))
    expect(tray(person)).to_have_count(2)
    figures = person.page.locator(".picture-cost")
    expect(figures).to_contain_text(["tokens", "tokens"])
    costs = [int(text.split()[0]) for text in figures.all_inner_texts()]
    for check in (UNNAMED, SMALL, FAINT):
        assert person.page.evaluate(check) == []
    body = sent(person, "Which is red?")
    [message] = body["messages"]
    assert [shown(part) for part in message["content"][:2]] == [saved(), saved("blue", (120, 30))]
    assert message["content"][2] == {"type": "text", "text": "Which is red?"}
    # The oracle of what they cost: the same question without them.
    bare = server.http.post("/tokenize", json={"model": "seeing", "messages": [message | {"content": "Which is red?"}]})
    whole = server.http.post("/v1/chat/completions", json=body | {"stream": False, "stream_options": None})
    assert sum(costs) == whole.json()["usage"]["prompt_tokens"] - bare.json()["count"]
    expect(tray(person)).to_have_count(0)
    expect(person.page.get_by_role("article", name="You").get_by_role("img")).to_have_count(2)
    assert person.page.evaluate(STRETCHED) == []
    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    again = sent(person, "And now?")["messages"]
    assert again[0] == message
    assert again[2] == {"role": "user", "content": "And now?"}


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_dropped_and_pasted(visit, server, how):
    person = come(visit, server)
    hand_over(person, how, ("one.png", "image/png", saved()), ("two.jpg", "image/jpeg", saved("green", kind="JPEG")))
    expect(tray(person)).to_have_count(2)
    expect(person.page.locator("body")).not_to_have_class("dropping")
    assert how == "paste" or person.page.evaluate("window.marked")
    parts = sent(person, "What?")["messages"][0]["content"]
    assert [shown(part) for part in parts[:2]] == [saved(), saved("green", kind="JPEG")]


def test_text_that_comes_with_a_picture_of_it_is_pasted_as_text(visit, server):
    person = come(visit, server)
    hand_over(person, "paste", ("cell.png", "image/png", saved()), text="A1")
    hand_over(person, "paste", ("one.png", "image/png", saved()))
    expect(tray(person)).to_have_count(1)
    expect(tray(person).get_by_role("img")).to_have_attribute("alt", "one.png")


def test_taken_out_by_keyboard_and_asked_without_a_word(visit, server):
    person = come(visit, server)
    choose(person, *(file(f"{color}.png", saved(color)) for color in ("red", "green", "blue")))
    expect(tray(person)).to_have_count(3)
    person.button("Remove green.png").focus()
    person.page.keyboard.press("Enter")
    expect(person.button("Remove blue.png")).to_be_focused()
    person.page.keyboard.press("Enter")
    expect(person.button("Remove red.png")).to_be_focused()
    with person.page.expect_request("**/v1/chat/completions") as request:
        person.button("Send").click()
    person.wait()
    [part] = request.value.post_data_json["messages"][0]["content"]
    assert shown(part) == saved("red")
    expect(person.page.locator("#title")).to_have_text("red.png")
    # Another question in its place, about the same picture.
    person.question.press("ArrowUp")
    field = person.page.get_by_role("textbox", name="Edit message")
    field.fill("Why?")
    with person.page.expect_request("**/v1/chat/completions") as request:
        field.press("Enter")
    person.wait()
    assert request.value.post_data_json["messages"][0]["content"] == [part, {"type": "text", "text": "Why?"}]


def test_a_large_photo_is_made_smaller_and_shows_the_model_as_much(visit, server):
    person = come(visit, server)
    original = photo((2600, 1900), quality=95, exif=_turned())
    assert len(original) > 2 << 20
    choose(person, file("large.jpg", original, "image/jpeg"))
    expect(person.page.locator(".picture-cost")).to_contain_text("tokens")
    made = shown(sent(person, "What?")["messages"][0]["content"][0])
    picture = Pillow.open(io.BytesIO(made))
    assert (picture.format, not picture.getexif()) == ("JPEG", True)
    assert 3_900_000 < picture.width * picture.height <= 4_010_000
    assert picture.height > picture.width  # as the camera was held
    upright = ImageOps.exif_transpose(Pillow.open(io.BytesIO(original)))  # the oracle: Pillow's own turning
    small, expected = (np.asarray(each.resize((22, 30), Pillow.Resampling.BOX), float) for each in (picture, upright))
    assert abs(small - expected).max() < 12
    assert best_grid(picture.height, picture.width, 336) == best_grid(2600, 1900, 336)


def _turned() -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # a quarter to the right
    return exif


@pytest.mark.slow
def test_transparent_and_too_large_is_over_white(visit, server):
    person = come(visit, server)
    noise = np.random.default_rng(2).integers(0, 256, (640, 640, 4), np.uint8)
    noise[..., 3] = 0
    data = io.BytesIO()
    Pillow.fromarray(noise).save(data, "PNG")
    choose(person, file("clear.png", data.getvalue()))
    expect(tray(person)).to_have_count(1)
    made = Pillow.open(io.BytesIO(shown(sent(person, "What?")["messages"][0]["content"][0])))
    assert np.asarray(made).min() > 250


NO_PICTURES = [
    (file("notes.txt", b"no picture", "text/plain"), "notes.txt is no picture that this browser can read."),
    (file("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), "drawing.svg is no picture"),
    (file("cut.png", saved()[:80]), "cut.png: An image is damaged"),
    (file("thin.png", saved(size=(900, 1))), "thin.png: An image of 900 x 1 pixels"),
    (file("empty.png", b""), "empty.png: An image is in none of the formats"),
]


def test_what_is_no_picture_is_said_before_it_is_sent(visit, server):
    person = come(visit, server)
    choose(person, *(given for given, _ in NO_PICTURES), file("good.png", saved()))
    for _, said in NO_PICTURES:
        expect(person.page.get_by_text(said)).to_be_visible()
    expect(tray(person)).to_have_count(1)
    expect(tray(person).get_by_role("img")).to_have_attribute("alt", "good.png")


def test_models_that_read_text_only_get_none(visit, server):
    person = come(visit, server)
    choose(person, file("red.png", saved()))
    expect(person.button("Add pictures")).to_be_visible()
    person.page.get_by_label("Model").select_option("blind")
    expect(person.button("Add pictures")).to_be_hidden()
    expect(tray(person)).to_have_count(0)
    expect(person.page.get_by_text("the pictures wait for one that sees")).to_be_visible()
    expect(person.button("Send")).to_be_disabled()
    hand_over(person, "drop", ("one.png", "image/png", saved()))
    expect(person.page.get_by_text("blind reads text only, and sees no pictures.")).to_be_visible()
    assert not person.page.evaluate("window.marked")
    assert sent(person, "Hello")["messages"] == [{"role": "user", "content": "Hello"}]
    person.page.get_by_label("Model").select_option("seeing")
    expect(tray(person)).to_have_count(1)
    person.page.get_by_label("Model").select_option("later")
    hand_over(person, "drop", ("one.png", "image/png", saved()))
    expect(person.page.get_by_text("This model is not loaded yet")).to_be_visible()
    sent(person, "Hello")
    expect(person.page.locator("#context")).to_contain_text(" of ")  # what it is was asked, once it had answered
    hand_over(person, "drop", ("one.png", "image/png", saved()))
    expect(person.page.get_by_text("later reads text only, and sees no pictures.")).to_be_visible()


@pytest.mark.slow
def test_kept_exported_and_imported(visit, server):
    person = come(visit, server)
    choose(person, file("red.png", saved()))
    expect(tray(person)).to_have_count(1)
    sent(person, "What?")
    person.reload()
    expect(person.page.get_by_role("img", name="red.png")).to_be_visible()
    exports = {kind: _exported(person, kind) for kind in ("JSON", "Markdown")}
    expect(person.page.get_by_text("Markdown has no pictures: export as JSON to keep them.")).to_be_visible()
    assert "data:" not in exports["Markdown"].read_text()
    other = come(visit, server)
    other.page.get_by_label("Files to import").set_input_files(exports["JSON"])
    other.show_list().locator(".conversation").click()
    assert shown(sent(other, "And?")["messages"][0]["content"][0]) == saved()


def _exported(person: Visit, kind: str) -> Path:
    person.show_list().get_by_role("button", name="More about What?").click()
    with person.page.expect_download() as download:
        person.page.get_by_role("menuitem", name=f"Export as {kind}").click()
    target = Path(str(download.value.path()))
    return target.rename(target.with_name(download.value.suggested_filename))


def test_an_import_cannot_have_the_page_load_an_address(visit, server):
    person = come(visit, server)
    for url in ("https://tracker.invalid/pixel.png", "data:image/svg+xml;base64,PHN2Zy8+", 3):
        node = {"role": "user", "content": "hi", "parent": None, "images": [{"name": "x", "url": url}]}
        given = {"format": "quipu conversations", "version": 1, "conversations": [{"root": "a", "nodes": {"a": node}}]}
        person.page.get_by_label("Files to import").set_input_files(
            file("export.json", json.dumps(given).encode(), "application/json")
        )
        expect(person.page.get_by_text("a picture is no data URL of a kind that is shown").last).to_be_visible()
        person.page.evaluate("document.querySelector('#toasts').replaceChildren()")


def test_answers_to_pictures_are_not_scored_as_if_there_were_none(visit, server):
    person = come(visit, server)
    choose(person, file("red.png", saved()))
    expect(tray(person)).to_have_count(1)
    sent(person, "What?")
    person.button("Show token probabilities").click()
    expect(person.answers.last.get_by_role("alert")).to_contain_text("only texts can be")
