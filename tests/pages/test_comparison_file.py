"""The page that ``quipu compare --html`` writes, as someone opens it from a folder."""

from pathlib import Path

import pytest
from browsing import FAINT, SIZES, SMALL, UNNAMED
from playwright.sync_api import Browser, Page
from two_models import HOSTILE, record, snapshot

from quipu.evidence.cards import cards
from quipu.evidence.comparison import comparison
from quipu.evidence.comparison_html import html
from quipu.evidence.side import side
from quipu.evidence.workload import workload

CASES = {
    "first day": ({}, ("llama-3.2-3b-instruct", "llama-4-scout"), None),
    "measured": ({"good": {"reason": 0.9}, "worse": {"reason": 0.4, "code": 0.3}}, ("good", "worse"), "reason=1"),
    "hostile": ({HOSTILE * 3: {"reason": 0.9}, "worse": {"reason": 0.4}}, (HOSTILE * 3, "worse"), "reason=1"),
}


@pytest.fixture(scope="module", params=list(CASES))
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skills, given, weights = CASES[request.param]
    of, known = snapshot(skills), cards()
    a, b = (side(name, known, of) for name in given)
    found = comparison(a, b, known, of, workload(weights), probes={})
    path: Path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(html(found.told(record)), "utf-8")
    return path


@pytest.fixture(params=[("desktop", "dark"), ("phone", "light")], ids="-".join)
def page(request: pytest.FixtureRequest, browser: Browser, file: Path):
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    opened = context.new_page()
    asked, faults = [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: faults.append(message.text))
    opened.on("dialog", lambda dialog: faults.append(dialog.message))
    opened.goto(file.as_uri())
    yield opened
    context.close()
    assert asked == [file.as_uri()]
    assert faults == []


def test_it_can_be_read_whatever_the_width_and_the_colours(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for check in (UNNAMED, SMALL, FAINT):
        assert page.evaluate(check) == []
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("region", name="Verdict").is_visible()
