"""What a stranger does at /chat, in a real browser against a real server, on a desk and on a phone."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from browsing import FAINT, KEY, SMALL, UNNAMED, exported, sent
from playwright.sync_api import expect
from running_server import Running

from quipu.serve.app import STATIC

# ---- talking


def test_two_turns(visit, size):
    person = visit(size)
    assert person.ask("My name is Ada") == "You said: My name is Ada"
    body = sent(person, lambda: person.begin("What is it?"))
    assert [(each["role"], each["content"]) for each in body["messages"]] == [
        ("user", "My name is Ada"), ("assistant", "You said: My name is Ada"), ("user", "What is it?"),
    ]  # fmt: skip
    expect(person.answers).to_have_count(2)
    # A browser that has other things to do hears of all tokens at once, and then of no speed.
    told = r"\d+ tokens.*s to the first.*in the prompt, \d+ cached"
    assert re.search(told, person.answers.last.inner_text(), re.S)
    expect(person.page.locator("#context")).to_contain_text(re.compile(r"^\d+ of 4,096 tokens$"))
    expect(person.page.locator("#announcer")).to_contain_text("You said: What is it?")


def test_the_way_back_to_the_end_can_be_seen_over_a_text(visit, size):
    person = visit(size)
    person.ask("markdown")
    person.ask("markdown")
    person.page.locator("#scroller").evaluate("(place) => place.scrollTop = 0")
    back = person.button("Go to the latest message")
    expect(back).to_be_visible()
    assert back.evaluate("(button) => getComputedStyle(button).backgroundColor") != "rgba(0, 0, 0, 0)"
    back.click()
    expect(back).to_be_hidden()


def test_nothing_is_wider_than_the_page(visit, size):
    person = visit(size)
    person.ask("markdown")
    person.ask("x" * 300)
    assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    scroller = "document.querySelector('#scroller')"
    assert person.page.evaluate(f"{scroller}.scrollWidth <= {scroller}.clientWidth")


@pytest.mark.parametrize(("size", "how"), [("phone", "button"), ("desktop", "Escape")])
def test_stop_an_answer(visit, slow_server, size, how):
    person = visit(size, slow_server)
    person.begin("a long story")
    expect(person.answers.last).to_contain_text("goes on")
    expect(person.answers.last).to_contain_text("tokens/s")  # while it grows
    person.button("Stop").click() if how == "button" else person.page.keyboard.press("Escape")
    text = person.wait()
    assert 0 < len(text) < 4000
    expect(person.answers.last).to_contain_text("stopped")
    expect(person.button("Send")).to_be_visible()
    person.page.wait_for_timeout(100)
    assert person.wait() == text
    body = sent(person, lambda: person.begin("go on"))
    assert body["messages"][1]["content"].strip() == text


def test_regenerate_and_choose_between_answers(visit):
    person = visit()
    person.ask("one")
    person.set(Temperature="0")
    body = sent(person, person.button("Regenerate answer").click)
    assert body["messages"] == [{"role": "user", "content": "one"}]
    assert body["temperature"] == 0
    expect(person.answers).to_have_count(1)
    expect(person.answers.last).to_contain_text("2 / 2")
    person.button("Previous version").click()
    expect(person.answers.last).to_contain_text("1 / 2")
    expect(person.button("Previous version")).to_be_disabled()
    expect(person.button("Next version")).to_be_focused()


def test_edit_a_message_and_turn_back(visit, size):
    person = visit(size)
    person.ask("red")
    person.ask("second")
    first = person.page.get_by_role("article", name="You").first
    first.hover()
    first.get_by_role("button", name="Edit message").click()
    field = person.page.get_by_role("textbox", name="Edit message")
    expect(field).to_be_focused()
    field.fill("blue")
    field.press("Enter")
    expect(person.answers).to_have_count(1)
    assert person.wait() == "You said: blue"
    person.button("Previous version").click()
    expect(person.answers).to_have_count(2)
    expect(person.answers.first).to_contain_text("You said: red")
    expect(person.answers.last).to_contain_text("You said: second")


def test_editing_can_be_given_up(visit):
    person = visit()
    person.ask("red")
    person.question.press("ArrowUp")
    person.page.keyboard.press("Escape")
    expect(person.page.get_by_role("article", name="You")).to_contain_text("red")
    expect(person.button("Edit message")).to_be_focused()


def test_shift_enter_is_a_new_line(visit):
    person = visit()
    person.question.type("one")
    person.question.press("Shift+Enter")
    person.question.type("two")
    body = sent(person, lambda: person.question.press("Enter"))
    assert body["messages"][0]["content"] == "one\ntwo"


def test_choose_a_model(visit):
    person = visit()
    person.page.get_by_label("Model").select_option("other")
    body = sent(person, lambda: person.begin("markdown"))
    assert body["model"] == "other"
    expect(person.answers.last).to_contain_text("You said: markdown")
    expect(person.page.locator("#context")).to_contain_text("of 512 tokens")


def test_where_two_models_answered_each_answer_says_which(visit):
    person = visit()
    person.ask("one")
    figures = person.answers.locator(".figures")
    expect(figures.first).not_to_contain_text("fake")
    person.page.get_by_label("Model").select_option("other")
    person.ask("two")
    expect(figures.first.locator("span").first).to_have_text("fake")
    expect(figures.last.locator("span").first).to_have_text("other")


# ---- settings


def test_settings_are_sent_and_kept(visit):
    person = visit()
    values = {
        "Temperature": ("temperature", 0.25), "Top P": ("top_p", 0.9), "Top K": ("top_k", 40), "Min P": ("min_p", 0.05),
        "Maximum length": ("max_tokens", 50), "Seed": ("seed", 0), "Presence penalty": ("presence_penalty", -0.5),
        "Frequency penalty": ("frequency_penalty", 0.5), "Repetition penalty": ("repetition_penalty", 1.1),
    }  # fmt: skip
    assert not {name for name, _ in values.values()} & sent(person, lambda: person.begin("hello")).keys()
    texts = {"Stop texts": "END\n\\n\\n", "System prompt": "Be brief."}
    person.set(**{label: str(value) for label, (_, value) in values.items()}, **texts)
    body = sent(person, lambda: person.begin("hello"))
    assert {name: body[name] for name, _ in values.values()} == dict(values.values())
    assert body["stop"] == ["END", "\n\n"]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    person.reload()
    expect(person.answers).to_have_count(2)
    expect(person.button("Settings (changed)")).to_be_visible()
    person.button("Settings (changed)").click()
    expect(person.page.get_by_label("Temperature", exact=True)).to_have_value("0.25")
    person.button("Reset").click()
    person.button("Close settings").click()
    assert "temperature" not in sent(person, lambda: person.begin("again"))


def test_settings_that_make_no_sense_are_named_and_not_sent(visit):
    person = visit()
    person.button("Settings").click()
    wrong = {"Temperature": "warm", "Top P": "1.5", "Top K": "2.5", "Seed": "-1"}
    for label, value in wrong.items():
        field = person.page.get_by_label(label, exact=True)
        field.fill(value)
        expect(field).to_have_attribute("aria-invalid", "true")
    expect(person.page.locator(".fault", has_text="Enter a")).to_have_count(len(wrong))
    assert len(sent(person, lambda: person.begin("hello"))) == 4  # model, messages, stream, stream_options


def test_every_control_says_what_it_does(visit):
    person = visit()
    person.button("Settings").click()
    fields = person.page.locator("#controls input:not([type=range]), #controls textarea")
    assert fields.count() == 12
    for field in fields.all():
        described = str(field.get_attribute("aria-describedby")).split()[0]
        assert re.search(r"\w.*\.$", person.page.locator(f"#{described}").inner_text())


# ---- the list


def test_find_an_old_conversation(visit, size):
    person = visit(size)
    for topic in ("the history of knots", "recipes with potatoes", "wool and its colours"):
        person.ask(topic)
        person.page.keyboard.press("Control+Shift+O")
        expect(person.answers).to_have_count(0)
    person.reload()
    person.page.keyboard.press("Control+K")
    search = person.page.get_by_label("Search conversations")
    expect(search).to_be_focused()
    search.fill("said POTATOES")  # found in the answer, not only in the title
    rows = person.show_list().locator(".conversation")
    expect(rows).to_have_count(1)
    rows.click()
    expect(person.answers).to_have_text(re.compile("You said: recipes with potatoes"))
    person.show_list()
    search.fill("nothing of the kind")
    expect(person.show_list()).to_contain_text("Nothing found")


def test_rename_and_delete(visit):
    person = visit()
    person.ask("first thing")
    row = person.show_list().locator("li")
    row.get_by_role("button", name="More about first thing").click()
    person.page.get_by_role("menuitem", name="Rename").click()
    person.page.get_by_label("Title").fill("A better name")
    person.button("Rename").click()
    expect(row).to_contain_text("A better name")
    row.get_by_role("button", name="More about A better name").click()
    person.page.get_by_role("menuitem", name="Delete").click()
    person.button("Cancel").click()
    expect(row).to_have_count(1)
    row.get_by_role("button", name="More about A better name").click()
    person.page.get_by_role("menuitem", name="Delete").click()
    person.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    person.reload()
    expect(person.show_list()).to_contain_text("will be listed here")


@pytest.mark.parametrize("kind", ["JSON", pytest.param("Markdown", marks=pytest.mark.slow)])
def test_export_here_and_import_there(visit, kind):
    person = visit()
    person.set(**{"System prompt": "Be\n\nbrief."})
    tricky = "one\n<!-- quipu:user -->\n## You\n\n\\<!-- quipu:assistant -->"
    person.question.fill(tricky)
    person.question.press("Enter")
    person.wait()
    person.ask("markdown")
    title = str(person.page.locator("#title").inner_text())
    file = exported(person, kind, title)
    assert file.suffix == {"JSON": ".json", "Markdown": ".md"}[kind]
    other = visit()
    other.page.get_by_label("Files to import").set_input_files(file)
    expect(other.page.get_by_text("1 conversation imported.")).to_be_visible()
    other.show_list().locator(".conversation").click()
    expect(other.answers).to_have_count(2)
    body, again = (sent(each, lambda each=each: each.begin("next"))["messages"] for each in (person, other))
    assert body == again
    assert body[1]["content"] == tricky


def test_importing_twice_does_not_double(visit):
    person = visit()
    person.ask("hello")
    file = exported(person, "JSON", "hello")
    person.page.get_by_label("Files to import").set_input_files(file)
    expect(person.page.get_by_text("1 was here already")).to_be_visible()
    expect(person.show_list().locator("li")).to_have_count(1)


def export_of(**changes: Any) -> str:
    conversation = {"root": "a", "nodes": {"a": {"role": "user", "content": "hi", "parent": None}}} | changes
    return json.dumps({"format": "quipu conversations", "version": 1, "conversations": [conversation]})


STRANGE = [
    ("{", "it is not JSON"),
    ('{"messages": []}', "it is not an export of this page"),
    ('{"format": "quipu conversations", "version": 2, "conversations": []}', "a newer version of this page wrote it"),
    (export_of(nodes=3), "it has no messages"),
    (export_of(root=None), "it has no first message"),
    (export_of(nodes={"a": {"role": "tool", "content": ""}}), "a message has no role"),
    (
        export_of(nodes={name: {"role": "user", "content": "", "parent": up} for name, up in ("ab", "ba")}),
        "its messages go in a circle",
    ),
    (
        export_of(nodes={"a": {"role": "user", "content": "", "parent": None, "chosen": "a"}}),
        "a message continues with a stranger",
    ),
    ("# Notes", "it has no messages that this page has marked"),
    ("<!-- quipu:system -->\n## System prompt\n\nx", "it has a system prompt and no messages"),
]


def test_files_that_are_no_export_are_refused_by_name(visit):
    person = visit()
    for number, (content, complaint) in enumerate(STRANGE):
        file = {"name": f"strange-{number}", "mimeType": "text/plain", "buffer": content.encode()}
        person.page.get_by_label("Files to import").set_input_files(file)
        expect(person.page.get_by_text(f"strange-{number} was not imported: {complaint}")).to_be_visible()
    expect(person.show_list().locator("li")).to_have_count(0)


# ---- what a model writes


def test_markdown_code_and_copying(visit):
    person = visit()
    person.ask("markdown")
    answer = person.answers.last
    expect(answer.locator("strong")).to_have_text("one way")
    expect(answer.locator("pre .hljs-keyword").first).to_have_text("def")
    link = answer.get_by_role("link", name="an article")
    assert (link.get_attribute("rel"), link.get_attribute("target")) == ("noopener noreferrer", "_blank")
    answer.get_by_role("button", name="Copy code").click()
    expect(answer.get_by_role("button", name="Copied")).to_be_visible()
    assert person.page.evaluate("navigator.clipboard.readText()") == "def add(one, two):\n    return one + two"
    answer.get_by_role("button", name="Copy answer").click()
    expect(answer.get_by_role("button", name="Copied")).to_have_count(2)
    assert "```python" in person.page.evaluate("navigator.clipboard.readText()")
    expect(answer.locator("ol").last).to_have_attribute("start", "3")  # where code stood between its items
    expect(answer.locator("td").last).to_have_css("text-align", "right")


def test_a_hostile_answer_is_text(visit):
    person = visit()
    person.ask("hostile")
    answer = person.answers.last
    body = answer.locator(".answer-body")
    person.page.wait_for_timeout(200)
    assert person.page.evaluate("window.hacked") is None
    assert body.locator("img, script, iframe, style, svg:not(.icon), [style], [onclick], [onerror]").count() == 0
    addresses = body.locator("a").evaluate_all("links => links.map(link => [link.getAttribute('href'), link.rel])")
    assert addresses == [
        ["http://tracker.invalid/pixel.png", "noopener noreferrer"],
        ["https://example.org/", "noopener noreferrer"],
    ]
    text = body.inner_text()
    assert "<script>window.hacked = 2</script>" in text  # shown as it was written
    assert "<style>" in text
    assert all(word in text for word in ("run", "data", "file", "Image: pixel", "raw"))
    person.reload()
    expect(body).to_contain_text("raw")
    assert person.page.evaluate("window.hacked") is None


def test_the_policy_would_stop_what_the_sanitiser_missed(visit):
    person = visit()
    person.page.evaluate(
        """() => {
            const image = '<img src="http://tracker.invalid/x.png" onerror="window.hacked=1">';
            document.body.insertAdjacentHTML("beforeend", image);
            const script = document.createElement("script");
            script.textContent = "window.hacked = 2";
            document.body.append(script);
        }"""
    )
    person.page.wait_for_timeout(100)
    assert person.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in fault for fault in person.faults)
    person.faults.clear()
    person.requested = [each for each in person.requested if "tracker.invalid" not in each]


def test_token_probabilities(visit, size):
    person = visit(size)
    person.ask("Grüße")
    person.answers.last.get_by_role("button", name="Show token probabilities").click()
    tokens = person.answers.last.locator(".tokens .token")
    expect(tokens).to_have_count(len("You said: Grüße"))  # a token a byte, and bytes of one letter are shown as one
    assert "".join(tokens.all_inner_texts()) == "You said: Grüße"
    tokens.nth(4).hover()
    tip = person.page.get_by_role("tooltip")
    expect(tip).to_contain_text("100 %")
    expect(tip.locator(".alternatives li")).to_have_count(5)
    tokens.first.focus()
    person.page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(tip).to_contain_text("o")
    person.answers.last.get_by_role("button", name="Show token probabilities").click()
    expect(person.answers.last.locator(".prose")).to_have_text("You said: Grüße")


# ---- what goes wrong


def test_a_lower_limit_of_alternatives_is_a_sentence(visit, modest_server):
    person = visit(server=modest_server)
    person.ask("hello")
    person.answers.last.get_by_role("button", name="Show token probabilities").click()
    alert = person.answers.last.get_by_role("alert").and_(person.page.locator(".note"))
    expect(alert).to_have_text(
        "5 alternatives were asked for at each token; this server takes at most 3 (--max-logprobs sets it). "
        "Whoever runs the server can raise this limit."
    )


def test_the_context_of_a_model_that_is_loaded_on_demand(visit, modest_server):
    person = visit(server=modest_server)
    person.page.get_by_label("Model").select_option("later")
    assert person.ask("hello") == "You said: hello"
    expect(person.page.locator("#context")).to_contain_text("of 512 tokens")


def test_why_a_prompt_was_refused(visit, size):
    person = visit(size)
    person.ask("fine")
    person.begin("x" * 5000)
    alert = person.answers.last.get_by_role("alert")
    expect(alert).to_contain_text(
        re.compile(r"The prompt has 5\d+ tokens; the context of this model, as loaded, is 4096")
    )
    expect(alert).to_contain_text("Edit the message, or start a new chat.")
    person.button("Edit message").last.click()
    field = person.page.get_by_role("textbox", name="Edit message")
    field.fill("shorter")
    field.press("Enter")
    expect(person.answers.last).to_contain_text("You said: shorter")
    body = sent(person, lambda: person.begin("next"))
    assert [each["content"] for each in body["messages"]][::2] == ["fine", "shorter", "next"]


def test_a_refused_question_is_not_sent_again_with_the_next(visit):
    person = visit()
    person.ask("fine")
    person.begin("x" * 5000)
    expect(person.answers.last.get_by_role("alert")).to_be_visible()
    body = sent(person, lambda: person.begin("next"))
    assert [each["content"] for each in body["messages"]][::2] == ["fine", "next"]


def test_a_server_that_is_gone(visit):
    person = visit()
    person.page.route("**/v1/chat/completions", lambda route: route.abort("connectionrefused"))
    person.begin("hello")
    alert = person.answers.last.get_by_role("alert")
    expect(alert).to_contain_text("The server cannot be reached.")
    expect(alert).to_contain_text("Check that quipu serve is running")
    person.page.unroute("**/v1/chat/completions")
    person.button("Try again").click()
    expect(person.answers.last).to_contain_text("You said: hello")
    expect(person.answers).to_have_count(1)


def answering(answer: dict[str, Any]) -> Any:
    return lambda route: route.fulfill(**answer)


def test_answers_that_break_say_so(visit):
    person = visit()
    half = 'data: {"choices": [{"index": 0, "delta": {"content": "half an"}}]}\n\n'
    failed = 'data: {"error": {"message": "the step failed", "code": "engine_stopped"}}\n\n'
    full = json.dumps({"error": {"message": "8 answers wait already", "code": "queue_full"}})
    answers = [
        ({"body": half}, "The connection ended before the answer did."),
        ({"body": failed}, "The step failed."),
        ({"status": 429, "headers": {"retry-after": "7"}, "body": full}, "Try again in 7 seconds."),
        ({"status": 502, "body": "<html>Bad gateway</html>"}, "The server answered with status 502."),
    ]
    for answer, said in answers:
        person.page.route("**/v1/chat/completions", answering(answer))
        person.begin("hello")
        expect(person.answers.last.get_by_role("alert")).to_contain_text(said)
    expect(person.answers.first).to_contain_text("half an")


# ---- a server with a key


@pytest.mark.slow
def test_who_gave_the_browser_the_key_can_chat(visit, locked_server, size):
    """The browser asks for it once, at the first page, and sends it along with what the page fetches."""
    person = visit(size, locked_server, http_credentials={"username": "", "password": KEY})
    person.begin("a long story")
    expect(person.answers.last).to_contain_text("goes on")  # it is streamed
    person.button("Stop").click()
    person.wait()
    assert person.ask("hello") == "You said: hello"
    person.answers.last.get_by_role("button", name="Show token probabilities").click()
    expect(person.answers.last.locator(".tokens .token")).to_have_count(len("You said: hello"))
    person.reload()
    expect(person.answers).to_have_count(2)
    assert KEY not in person.page.evaluate(
        "JSON.stringify([Object.values(sessionStorage), Object.values(localStorage)])"
    )
    person.page.goto(f"{locked_server.url}/docs")
    expect(person.page.locator("#swagger-ui")).to_contain_text("/v1/chat/completions")


def test_an_address_with_the_key_in_it_works_too(visit, locked_server):
    person = visit(server=locked_server, login=f"anyone:{KEY}@")
    assert person.ask("hello") == "You said: hello"


def test_a_server_that_has_another_key_now(visit):
    person = visit()
    refusal = {"status": 401, "body": json.dumps({"error": {"message": "the key is not this server's"}})}
    person.page.route("**/v1/**", answering(refusal))
    person.begin("hello")
    alert = person.answers.last.get_by_role("alert")
    expect(alert).to_contain_text("The key is not this server's.")
    expect(alert).to_contain_text("Try again, and enter the key as the password when the browser asks")
    person.page.unroute("**/v1/**")
    person.button("Try again").click()
    expect(person.answers.last).to_contain_text("You said: hello")


# ---- looks, keyboard, screen readers


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(visit, scheme):
    person = visit(color_scheme=scheme)

    def is_dark() -> bool:
        [red, *_] = re.findall(r"\d+", person.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        return int(red) < 128

    assert is_dark() == (scheme == "dark")
    person.button("Theme: as the system").click()
    assert not is_dark()
    person.button("Theme: light").click()
    assert is_dark()
    person.reload()
    assert is_dark()
    expect(person.button("Theme: dark")).to_be_visible()


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        pytest.param("desktop", "light", marks=pytest.mark.slow),
        ("phone", "dark"),
        pytest.param("phone", "light", marks=pytest.mark.slow),
    ],
)
def test_everything_has_a_name_and_can_be_seen_and_hit(visit, size, scheme):
    person = visit(size, color_scheme=scheme)
    person.ask("markdown")
    person.begin("x" * 5000)
    expect(person.answers.last.get_by_role("alert")).to_be_visible()
    person.page.wait_for_timeout(200)
    states = [lambda: None, person.show_list]
    if size == "phone":
        states.append(person.button("Hide conversations").click)
    for change in [*states, person.button("Settings").click]:
        change()
        person.page.wait_for_timeout(250)  # drawers slide
        for check in (UNNAMED, SMALL, FAINT):
            assert person.page.evaluate(check) == []
    identities = person.page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(identities) == len(set(identities))


def test_by_keyboard_alone(visit):
    person = visit()
    expect(person.question).to_be_focused()
    person.page.keyboard.type("hello")
    person.page.keyboard.press("Enter")
    person.wait()
    expect(person.question).to_be_focused()
    person.page.keyboard.press("Control+K")
    person.page.keyboard.press("ArrowDown")
    person.page.keyboard.press("Tab")
    person.page.keyboard.press("Enter")
    expect(person.page.get_by_role("menuitem", name="Rename")).to_be_focused()
    person.page.keyboard.press("ArrowUp")
    expect(person.page.get_by_role("menuitem", name="Delete")).to_be_focused()
    person.page.keyboard.press("Escape")
    expect(person.button("More about hello")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert person.page.evaluate(outline) != "none"


def test_the_drawer_of_a_phone_closes(visit):
    person = visit("phone")
    expect(person.page.locator("#sidebar")).to_have_js_property("inert", True)
    person.button("Show conversations").click()
    expect(person.button("Hide conversations")).to_be_focused()
    person.page.keyboard.press("Escape")
    expect(person.button("Show conversations")).to_be_focused()


# ---- the files


def test_page_and_policy(chat_server: Running):
    front = chat_server.http.get("/")
    assert (front.status_code, front.headers["location"]) == (307, "chat")
    page = chat_server.http.get("/chat")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "unsafe" not in policy
    assert "://" not in page.text
    assert re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=", page.text) is None
    for reference in re.findall(r'(?:src|href)="(static/[^"]+)"', page.text):
        answer = chat_server.http.get(f"/{reference}")
        assert answer.status_code == 200
        kinds = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
        assert answer.headers["content-type"].startswith(kinds[reference.rpartition(".")[2]])


@pytest.mark.parametrize("name", ["marked", "dompurify", "highlight"])
def test_vendored_scripts_are_unchanged(name):
    folder = STATIC / name
    listed = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert listed.keys() == {path.name for path in folder.iterdir()} - {"README.md", "SHA256SUMS"}
    assert "LICENSE" in listed
    for file, digest in listed.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest, file
