"""A visit to a page in Debian's Chromium, in the words of what a person does there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Locator, expect

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
KEY = "a-key-for-the-tests"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}

# What is wrong with a page for who hears it, touches it, or sees badly: the elements at fault.
UNNAMED = """() => [...document.querySelectorAll("button, a[href], input, textarea, select, [role=region], progress")]
    .filter((each) => each.checkVisibility({visibilityProperty: true}))
    .filter((each) => !(each.getAttribute("aria-label") || each.innerText?.trim() || each.labels?.length))
    .map((each) => each.outerHTML)"""
SMALL = """() => [...document.querySelectorAll("button, select, textarea")]
    .filter((each) => each.checkVisibility({visibilityProperty: true, opacityProperty: true}))
    .filter((each) => Math.min(each.offsetWidth, each.offsetHeight) < 24).map((each) => each.outerHTML)"""
FAINT = """() => {
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const light = (colour) => {
        canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = (each) => {
        const colour = getComputedStyle(each).backgroundColor;
        return colour === "rgba(0, 0, 0, 0)" ? behind(each.parentElement) : colour;
    };
    return [...document.querySelectorAll("body *")].filter((each) => each.checkVisibility({visibilityProperty: true}))
        .filter((each) => !each.closest(":disabled, .hidden"))
        .filter((each) => [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .map((each) => [light(getComputedStyle(each).color), light(behind(each)), each.outerHTML])
        .map(([one, other, html]) => [(Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05), html])
        .filter(([contrast]) => contrast < 4.5);
}"""

expect.set_options(timeout=10_000)


class Visit:
    """A browser without memory of earlier visits, at the page of ``path``, once it is ready."""

    def __init__(
        self, browser: Browser, url: str, size: str, path: str = "/chat", login: str = "", **options: Any
    ) -> None:
        width, height = SIZES[size]
        self.url, self.size = url, size
        self._address = url.replace("://", f"://{login}")
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
        self.page = self.context.new_page()
        self.requested: list[str] = []
        self.faults: list[str] = []
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._heard)
        self.open(path)

    def _heard(self, message: ConsoleMessage) -> None:
        # The browser itself reports each answer of 400 and above; the page cannot help it.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.faults.append(message.text)

    def open(self, path: str) -> None:
        self.page.goto(self._address + path)
        expect(self.page.locator("html")).to_have_attribute("data-ready", "true")

    def reload(self) -> None:
        self.page.reload()
        expect(self.page.locator("html")).to_have_attribute("data-ready", "true")

    def leave(self) -> None:
        self.context.close()
        assert self.faults == []
        assert [each for each in self.requested if not each.startswith((self.url, self._address, "blob:"))] == []

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def question(self) -> Locator:
        return self.page.get_by_label("Your message")

    @property
    def answers(self) -> Locator:
        return self.page.get_by_role("article", name="Answer")

    def begin(self, text: str) -> None:
        self.question.fill(text)
        self.question.press("Enter")

    def ask(self, text: str) -> str:
        """Say ``text`` and wait for the whole answer."""
        before = self.answers.count()
        self.begin(text)
        expect(self.answers).to_have_count(before + 1)
        return self.wait()

    def wait(self) -> str:
        """The last answer, once it is complete."""
        expect(self.answers.last).to_have_attribute("aria-busy", "false")
        return str(self.answers.last.locator(".answer-body").inner_text()).strip()

    def show_list(self) -> Locator:
        """The list of conversations, which a phone has in a drawer."""
        if self.page.locator("body").get_attribute("data-sidebar") == "closed":
            self.button("Show conversations").click()
        return self.page.get_by_role("navigation", name="Conversation list")

    def set(self, **values: str) -> None:
        """Enter ``values`` in the fields of the settings with these labels."""
        self.page.get_by_role("button", name=re.compile("^Settings")).click()
        for label, value in values.items():
            self.page.get_by_label(label, exact=True).fill(value)
        self.button("Close settings").click()


def sent(visit: Visit, action: Any) -> dict[str, Any]:
    """The chat request that ``action`` makes."""
    with visit.page.expect_request("**/v1/chat/completions") as request:
        action()
    body: dict[str, Any] = request.value.post_data_json
    visit.wait()
    return body


def exported(person: Visit, kind: str, title: str) -> Path:
    """The file that the conversation of this title is exported to."""
    person.show_list().get_by_role("button", name=f"More about {title}").click()
    with person.page.expect_download() as download:
        person.page.get_by_role("menuitem", name=f"Export as {kind}").click()
    target = Path(str(download.value.path()))
    return target.rename(target.with_name(download.value.suggested_filename))
