"""What a stranger does at /capabilities, in a real browser against a real server, on a desk and on a phone."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pdf_files
import pytest
from browsing import FAINT, KEY, SIZES, SMALL, UNNAMED, Visit
from own_folder import own_folder
from perfect import LONG, Perfect
from playwright.sync_api import Browser, Locator, expect
from running_server import Running, serving, until

import quipu
from quipu import capabilities
from quipu.capabilities.base import Capability

HOSTILE = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 2</script>"


@pytest.fixture(scope="module")
def model() -> Perfect:
    return Perfect()


@pytest.fixture(scope="module")
def server(model: Perfect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    fakes = {
        "fake": model.model(seconds=0.00002),
        "slow": model.model(name="slow", context_length=4096, seconds=0.004),
    }
    with own_folder(tmp_path_factory.mktemp("own"), "adding", "several"), serving(fakes) as running:
        yield running


class Desk(Visit):
    """In the words of what a person does with a form."""

    def choose(self, capability: Capability) -> None:
        self.open("/capabilities")
        self.page.get_by_role("main").get_by_role("link", name=capability.title).filter(
            has_text=capability.description[:40]
        ).click()
        expect(self.page.get_by_role("heading", name=capability.title, level=1, exact=True)).to_be_focused()

    @property
    def form(self) -> Locator:
        return self.page.get_by_role("main").locator("form")

    @property
    def result(self) -> Locator:
        return self.page.get_by_role("region", name="Result")

    def fill(self, schema: Mapping[str, Any], values: Mapping[str, Any], place: Locator | None = None) -> None:
        for name, value in values.items():
            self._enter(place or self.form, label_of(name), value, schema["properties"][name], schema)

    def run(self) -> Mapping[str, Any]:
        """Run it; gives what was sent."""
        with self.page.expect_request("**/v1/capabilities/*") as request:
            self.button("Run").click()
        sent: dict[str, Any] = request.value.post_data_json
        return sent

    def wait(self) -> None:
        expect(self.result).to_have_attribute("aria-busy", "false")

    def see(self, capability: Capability) -> None:
        """Each field of its output, below a view of its own if there is one."""
        if capability.view is not None:
            self.result.get_by_text("All fields").click()
        for field in capability.output.model_fields:
            expect(self.result.locator("dt").get_by_text(label_of(field), exact=True).first).to_be_visible()

    def _enter(
        self, place: Locator, label: str, value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]
    ) -> None:
        if value is None:
            return
        if isinstance(value, bool):
            place.get_by_role("checkbox", name=label, exact=True).set_checked(value)
        elif isinstance(value, list):
            self._rows(place.get_by_role("group", name=label, exact=True), value, root)
        elif place.get_by_role("combobox", name=label, exact=True).count():
            place.get_by_role("combobox", name=label, exact=True).select_option(label=str(value))
        else:
            place.get_by_role("textbox", name=label, exact=True).fill(str(value))

    def _rows(self, group: Locator, values: list[Any], root: Mapping[str, Any]) -> None:
        rows = group.locator("li.row")
        while rows.count() > len(values):
            rows.last.get_by_role("button", name="Remove").click()
        while rows.count() < len(values):
            group.get_by_role("button", name="Add").click()
        definitions = root.get("$defs", {})
        for place, value in enumerate(values):
            items = [each for each in definitions.values() if set(value) <= set(each.get("properties", {}))]
            if isinstance(value, Mapping) and items:
                self.fill(items[0] | {"$defs": definitions}, value, rows.nth(place))
            elif isinstance(value, Mapping):  # of any fields: written as JSON
                rows.nth(place).get_by_role("textbox").fill(json.dumps(value))
            elif str(value).startswith("data:"):
                data = base64.b64decode(value.partition(",")[2])
                chosen = {"name": "chosen.png", "mimeType": "image/png", "buffer": data}
                rows.nth(place).locator("input[type=file]").set_input_files(chosen)
                expect(rows.nth(place).get_by_role("img", name="chosen.png")).to_be_visible()
            else:
                rows.nth(place).get_by_role("textbox").fill(str(value))


def label_of(name: str) -> str:
    words = name.replace("_", " ")
    return words[0].upper() + words[1:]


Visitor = Callable[..., Desk]


@pytest.fixture
def visit(browser: Browser, server: Running, model: Perfect) -> Iterator[Visitor]:
    model.answer = None
    visits: list[Desk] = []

    def come(size: str = "desktop", **options: Any) -> Desk:
        visits.append(Desk(browser, server.url, size, "/capabilities", **options))
        return visits[-1]

    yield come
    for each in visits:
        each.leave()


def find(name: str) -> Capability:
    return capabilities.find(name)


# ---- every capability


OWN = ("adding", "several")
RICH = ("extract", "tools", "vision", "write_long")
"""Those with what other forms have and more: rows in rows, objects as JSON, pictures, a view of the answer."""
FORMS = [
    *((name, "desktop") for name in OWN),
    *((name, "phone") for name in RICH),
    *(
        pytest.param(name, "phone", marks=pytest.mark.slow)
        for name in [*capabilities.names(), *OWN]
        if name not in RICH
    ),
]


@pytest.mark.parametrize(("name", "size"), FORMS)
def test_a_form_asks_for_exactly_its_input(visit: Visitor, model: Perfect, name: str, size: str) -> None:
    """Also of those in a folder of one's own. What is entered is what is sent, and what comes back is shown."""
    capability = find(name)
    given = model.ask_for(capability)
    person = visit(size)
    person.choose(capability)
    schema = capability.input.model_json_schema()
    for field in schema["properties"].values():
        if "description" in field:
            expect(person.form.get_by_text(field["description"].removesuffix(".")).first).to_be_visible()
    person.fill(schema, given)
    person.page.get_by_text("How tokens are chosen").click()
    person.page.get_by_role("textbox", name="Max tokens", exact=True).last.fill(str(LONG["max_tokens"]))
    sent = dict(person.run())
    assert (sent.pop("stream"), sent.pop("model"), sent.pop("sampling")) == (True, "fake", LONG)
    assert capability.input.of(sent) == capability.input.of(given)
    person.wait()
    for width, height in SIZES.values():
        person.page.set_viewport_size({"width": width, "height": height})
        assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        scroller = "document.querySelector('#content')"
        assert person.page.evaluate(f"{scroller}.scrollWidth <= {scroller}.clientWidth")
    expect(person.result.get_by_role("alert")).to_have_count(0)
    person.see(capability)
    expect(person.result).to_contain_text(re.compile(r"fake · [\d,]+ tokens read"))


@pytest.fixture(scope="module")
def real_server() -> Iterator[Running]:
    with quipu.load("smollm2-135m-instruct", context=4096, concurrency=2) as model, serving({"real": model}) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("name", capabilities.names())
def test_the_demonstration_model_answers_a_form(browser: Browser, real_server: Running, name: str) -> None:
    """An output, or the sentence that says why there is none."""
    capability = find(name)
    given = Perfect().ask_for(capability)
    person = Desk(browser, real_server.url, "desktop", "/capabilities")
    try:
        person.choose(capability)
        person.fill(capability.input.model_json_schema(), given)
        person.run()
        expect(person.result).to_have_attribute("aria-busy", "false", timeout=120_000)
        if person.result.get_by_role("alert").count():
            expect(person.result.get_by_role("alert")).to_contain_text(
                re.compile("What the model wrote is below|reads text only")
            )
        else:
            person.see(capability)
    finally:
        person.leave()


# ---- running


def test_everything_that_comes_back_is_shown(visit: Visitor, size: str) -> None:
    person = visit(size)
    person.choose(find("several"))
    given = {
        "text": "hello " + HOSTILE,
        "times": 12,
        "names": ["Ada"],
        "pairs": [{"left": HOSTILE, "right": "two"}],
        "loud": True,
    }
    person.fill(find("several").input.model_json_schema(), given)
    assert person.run()["pairs"] == given["pairs"]
    person.wait()
    result = person.result
    expect(result.locator(".said").first).to_contain_text(given["text"].upper())
    expect(result.get_by_role("columnheader")).to_have_text(["Left", "Right"])
    expect(result.get_by_role("cell").first).to_have_text(HOSTILE)
    expect(result.get_by_role("list", name="Notes")).to_have_text("12 answers were put together.")
    expect(result.locator("dt", has_text="Loud").locator("..").locator(".value")).to_have_text("yes")
    result.get_by_role("button", name="Copy the result").click()
    expect(result.get_by_role("button", name="Copied").first).to_be_visible()
    copied = person.page.evaluate("navigator.clipboard.readText()")
    assert copied == "\n".join([given["text"].upper()] * 12)
    with person.page.expect_download() as download:
        result.get_by_role("button", name="JSON").click()
    saved = json.loads(Path(download.value.path()).read_text())
    assert download.value.suggested_filename == "several.json"
    assert (saved["object"], saved["output"]["summary"]) == ("capability.result", copied)
    assert person.page.evaluate("window.hacked") is None
    expect(person.page.locator("#announcer")).to_contain_text("Result: HELLO")


def test_text_appears_as_it_is_written_and_can_be_stopped(visit: Visitor, server: Running, size: str) -> None:
    person = visit(size)
    person.choose(find("adding"))
    person.page.get_by_label("Model").select_option("slow")
    person.page.get_by_role("textbox", name="Question").fill("a long one")
    person.page.get_by_text("How tokens are chosen").click()
    person.page.get_by_role("textbox", name="Max tokens").fill("3000")
    person.page.get_by_role("textbox", name="Question").press("Control+Enter")
    expect(person.result).to_contain_text("on and on")
    expect(person.result).to_contain_text("The model writes")
    expect(person.button("Run")).to_be_hidden()
    person.button("Stop").click() if size == "phone" else person.page.keyboard.press("Escape")
    person.wait()
    expect(person.result).to_contain_text("Stopped.")
    expect(person.button("Run")).to_be_visible()
    until(lambda: server.models["slow"].running() == 0)


def test_progress_is_shown_and_goes_on_while_one_looks_elsewhere(visit: Visitor, server: Running) -> None:
    person = visit()
    person.choose(find("several"))
    person.page.get_by_label("Model").select_option("slow")
    person.fill(find("several").input.model_json_schema(), {"text": "hello there", "times": 30})
    person.run()
    expect(person.result.get_by_role("progressbar")).to_have_attribute("max", "30")
    expect(person.result).to_contain_text(re.compile(r"\d+ of 30, asking"))
    links = person.page.get_by_role("navigation", name="Capability list")
    links.get_by_role("link", name="Add").click()
    expect(links.get_by_role("img", name="running")).to_be_visible()
    links.get_by_role("link", name="Several").click()
    person.wait()
    expect(person.result).to_contain_text("30 answers were put together")
    expect(person.page.get_by_role("textbox", name="Text")).to_have_value("hello there")


@pytest.mark.parametrize("size", ["desktop", pytest.param("phone", marks=pytest.mark.slow)])
def test_the_result_is_in_view_and_whoever_looks_elsewhere_is_left_alone(visit: Visitor, size: str) -> None:
    """Below a form that fills the page: its end, or, if it is longer than the page, its beginning."""
    person = visit(size)
    person.choose(find("adding"))
    person.fill(find("adding").input.model_json_schema(), {"question": "1+2"})
    person.run()
    person.wait()
    expect(person.result.get_by_role("button", name="Copy the result")).to_be_in_viewport(ratio=1)
    expect(person.result.locator(".counts")).to_be_in_viewport(ratio=1)
    person.choose(find("several"))
    schema = find("several").input.model_json_schema()
    person.fill(schema, {"text": "hello there", "times": 20})
    person.run()
    person.wait()
    expect(person.result.get_by_role("button", name="Copy the result")).to_be_in_viewport(ratio=1)
    expect(person.result.locator(".counts")).not_to_be_in_viewport()
    person.page.get_by_label("Model").select_option("slow")
    person.run()
    expect(person.result).to_contain_text(re.compile(r"\d+ of 20, asking"))
    person.page.evaluate("document.querySelector('#content').scrollTop = 0")
    person.wait()
    assert person.page.evaluate("document.querySelector('#content').scrollTop") == 0


# ---- what goes wrong


def test_an_answer_that_cannot_be_read_is_shown(visit: Visitor, size: str) -> None:
    person = visit(size)
    person.choose(find("adding"))
    person.page.get_by_role("textbox", name="Question").fill("x " + HOSTILE)
    person.run()
    person.wait()
    alert = person.result.get_by_role("alert")
    expect(alert).to_contain_text("There is no number in the answer.")
    expect(alert).to_contain_text("Run it again with another seed")
    expect(alert.locator("pre")).to_have_text("<img ")
    person.button("Run again").click()
    expect(person.result.get_by_role("alert")).to_be_visible()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("Text", " ", "Enter something here."),
        ("Times", "many", "Enter a whole number: at least 1, at most 1000."),
        ("Times", "1.5", "Enter a whole number: at least 1, at most 1000."),
        ("Times", "0", "Enter a whole number: at least 1, at most 1000."),
        ("Ratio", "1", "Enter a number: above 0, below 1."),
    ],
)
def test_what_cannot_be_is_said_at_the_field(visit: Visitor, field: str, value: str, said: str) -> None:
    person = visit()
    person.choose(find("several"))
    control = person.page.get_by_role("textbox", name=field, exact=True)
    person.page.get_by_role("textbox", name="Text").fill("hello")
    control.fill(value)
    person.button("Run").click()
    expect(control).to_be_focused()
    expect(control).to_have_attribute("aria-invalid", "true")
    expect(person.form).to_contain_text(said)
    expect(person.result).to_have_count(0)
    control.fill("2" if field == "Times" else "0.5")
    expect(person.form).not_to_contain_text(said)


@pytest.mark.parametrize(
    ("param", "label"), [("pairs[0].left", "Left"), ("names", "Add name"), ("sampling.temperature", "Temperature")]
)
def test_what_the_server_refuses_is_said_at_the_field(visit: Visitor, param: str, label: str) -> None:
    person = visit()
    person.choose(find("several"))
    refusal = json.dumps({"error": {"message": "that is too much", "type": "invalid_request_error", "param": param}})
    person.page.route("**/v1/capabilities/several", lambda route: route.fulfill(status=400, body=refusal))
    person.fill(find("several").input.model_json_schema(), {"text": "hello", "pairs": [{"left": "x"}]})
    person.run()
    person.wait()
    expect(person.result.get_by_role("alert")).to_contain_text("Change it, then run it again.")
    expect(person.form).to_contain_text("That is too much.")
    expect(person.form.get_by_label(label, exact=True).or_(person.button(label)).first).to_be_focused()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"status": 429, "body": '{"error": {"message": "8 wait"}}', "headers": {"retry-after": "3"}},
            "Try again in 3 s",
        ),
        ({"status": 502, "body": "<html>Bad gateway</html>"}, "The server answered with status 502."),
        (
            {"status": 200, "body": 'data: {"type":"delta","text":"on"}\n\n'},
            "The connection ended before the answer did.",
        ),
        ({"status": 200, "body": 'data: {"type":"error","error":{"message":"it took long"}}\n\n'}, "It took long."),
    ],
)
def test_failures_are_sentences(visit: Visitor, answer: dict[str, Any], said: str) -> None:
    person = visit()
    person.choose(find("adding"))
    person.page.route("**/v1/capabilities/adding", lambda route: route.fulfill(**answer))
    person.page.get_by_role("textbox", name="Question").fill("1+2")
    person.run()
    person.wait()
    expect(person.result.get_by_role("alert")).to_contain_text(said)


def test_the_key_that_the_browser_has_is_enough(browser: Browser, model: Perfect) -> None:
    with serving({"fake": model.model()}, key=KEY) as locked:
        person = Desk(browser, locked.url, "desktop", "/capabilities", f"someone:{KEY}@")
        expect(person.page.get_by_role("main").get_by_role("link")).to_have_count(len(capabilities.names()))
        person.leave()


# ---- files


def test_a_file_fills_the_text(visit: Visitor, tmp_path: Path, size: str) -> None:
    person = visit(size)
    person.choose(find("several"))
    report = tmp_path / "report.pdf"
    report.write_bytes(pdf_files.printed("The first page.", "The second."))
    person.form.get_by_label("File to read").set_input_files(report)
    text = person.page.get_by_role("textbox", name="Text")
    expect(text).to_have_value(re.compile("The first page.*The second", re.DOTALL))
    expect(person.form).to_contain_text(re.compile(r"report\.pdf: 2 pages, \d+ characters\."))
    person.form.get_by_label("File to read").set_input_files(
        {"name": "picture.png", "mimeType": "image/png", "buffer": b"\x89PNG\r\n\x1a\n...."}
    )
    expect(person.form).to_contain_text("Picture.png is a PNG image")
    expect(text).to_have_attribute("aria-invalid", "true")
    expect(text).to_have_value(re.compile("The first page"))  # nothing is lost


# ---- the page


def test_from_one_page_to_the_other(visit: Visitor) -> None:
    person = visit()
    person.page.get_by_role("link", name="Chat page").click()
    expect(person.page.locator("html")).to_have_attribute("data-ready", "true")
    person.page.get_by_role("link", name="Capabilities", exact=True).click()
    expect(person.page.get_by_role("heading", name="What can a model do for you?")).to_be_visible()


def test_all_are_on_the_front_page_and_in_the_list(visit: Visitor, size: str) -> None:
    person = visit(size)
    names = capabilities.names()
    cards = person.page.get_by_role("main").get_by_role("link")
    expect(cards).to_have_count(len(names))
    if size == "phone":
        person.button("Show capabilities").click()
    links = person.page.get_by_role("navigation", name="Capability list").get_by_role("link")
    expect(links).to_have_text([find(name).title for name in names])
    links.first.click()
    expect(person.page.get_by_role("heading", name=find(names[0]).title, level=1)).to_be_focused()
    if size == "phone":
        expect(person.page.locator("#sidebar")).to_have_js_property("inert", True)
    person.page.go_back()
    expect(cards).to_have_count(len(names))


def test_a_link_to_one_opens_it_and_the_keyboard_is_enough(visit: Visitor) -> None:
    person = visit()
    person.open("/capabilities#several")
    person.reload()
    expect(person.page.get_by_role("heading", name="Several", level=1)).to_be_visible()
    person.page.get_by_role("textbox", name="Text").focus()
    for _ in range(30):
        person.page.keyboard.press("Tab")
        if person.page.evaluate("document.activeElement.textContent") == "Add pair":
            break
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_role("textbox", name="Left")).to_be_focused()
    person.page.keyboard.type("one")
    person.page.keyboard.press("Tab")
    person.page.keyboard.type("two")
    person.page.keyboard.press("Tab")
    person.page.keyboard.press("Enter")  # removes it
    expect(person.page.get_by_role("textbox", name="Left")).to_have_count(0)
    expect(person.button("Add pair")).to_be_focused()


@pytest.mark.parametrize("theme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_everything_has_a_name_and_can_be_seen_and_hit(visit: Visitor, theme: str, size: str) -> None:
    person = visit(size, color_scheme=theme)
    person.choose(find("several"))
    person.fill(find("several").input.model_json_schema(), {"text": "hello", "pairs": [{"left": "a"}]})
    person.run()
    person.wait()
    for check in (UNNAMED, SMALL, FAINT):
        assert person.page.evaluate(check) == []
    identities = person.page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(identities) == len(set(identities))
    if size == "phone":
        low = person.page.evaluate(
            """() => [...document.querySelectorAll("button, select, textarea, summary")]
                .filter((each) => each.checkVisibility() && !each.closest("[inert]") && each.offsetHeight < 42)
                .map((each) => each.outerHTML)"""
        )
        assert low == []


def test_nothing_comes_from_elsewhere(server: Running) -> None:
    page = server.http.get("/capabilities")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert page.headers["cache-control"] == "no-cache"
    references = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert len(references) > 8
    for reference in references:
        assert not reference.startswith(("http", "/"))
        assert server.http.get(f"/{reference}").status_code == 200
