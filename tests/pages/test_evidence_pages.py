"""What someone does who wants to know which model to use for summaries, in a real browser, on a desk and on a phone."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import pytest
from browsing import FAINT, KEY, SMALL, UNNAMED, Visit
from evidence_log import Model, write
from playwright.sync_api import Browser, Locator, expect
from running_server import Running, serving

from quipu.serve.evidence import answering

HOSTILE = "<img src=x onerror='window.hacked=1'>|`[x](javascript:window.hacked=2)`"
SAYS = "<script>window.hacked = 3</script> ``` I **cannot** say."
RATES = {each.id: 0.35 + 0.05 * place for place, each in enumerate(answering())}
SEED = "llama-3.2-3b-instruct-vs-llama-4-scout"
FIXED = ("compare", "models", "rank", "claims", "methodology")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Three models: one, the same made coarser, which is worse at summaries and reasoning, and one hardly measured."""
    coarser = {name: rate - 0.3 if name in ("summarize", "reason") else rate for name, rate in RATES.items()}
    models = [
        Model("smollm2-135m-instruct", RATES),
        Model("coarse", coarser, fields={"quantization": "Q2_K"}, seconds=0.3, says=SAYS),
        Model(HOSTILE, {"summarize": 0.5, "code": 0.3}, asked=15),
    ]
    with serving(evidence_url=write(models, tmp_path_factory.mktemp("log"))) as running:
        yield running


@pytest.fixture(scope="module")
def empty_server() -> Iterator[Running]:
    with serving() as running:
        yield running


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, server: Running) -> Iterator[Visitor]:
    visits: list[Visit] = []

    def come(size: str = "desktop", path: str = "/compare", at: Running = server, **options: object) -> Visit:
        visits.append(Visit(browser, at.url, size, path, **options))
        return visits[-1]

    yield come
    for each in visits:
        assert each.page.evaluate("window.hacked") is None
        each.leave()


def ids(server: Running) -> list[str]:
    """Those of measured models, in the order in which they were."""
    every = server.http.get("/api/v1/models").json()["data"]
    return [each["id"] for each in every if each["measured"]]


def addresses(server: Running) -> list[str]:
    found = ids(server)
    pages = [*FIXED, *(f"models/{name}" for name in found), "models/llama-4-scout", "capabilities/summarize"]
    pages += ["capabilities/vision", f"compare/{SEED}", "claims?status=contradicted&model=llama-3.2-3b-instruct"]
    if len(found) > 1:
        pages += [f"compare/{found[0]}-vs-{found[1]}", f"compare/{found[0]}-vs-{found[2]}"]
        pages += ["observations/40", "observations?numbers=30-60", "rank?workload=summarize=3,reason=1"]
    return pages


def main(person: Visit) -> Locator:
    return person.page.get_by_role("main")


# ---- which model for summaries?


def test_which_model_for_summaries(visit: Visitor, size: str) -> None:
    person = visit(size, "/chat")
    if size == "phone":
        person.button("Show conversations").click()
    person.page.get_by_role("link", name="Compare models").click()
    expect(person.page.get_by_role("heading", level=1)).to_have_text("Compare two models")
    person.page.get_by_role("link", name="Which model for your work?").click()
    expect(main(person)).to_contain_text("SmolLM2 135M Instruct is ahead of coarse")
    main(person).get_by_role("link", name="Summarize", exact=True).click()
    expect(person.page.get_by_role("heading", level=1)).to_have_text("Summarize: which model?")
    expect(main(person)).to_contain_text("SmolLM2 135M Instruct is ahead of coarse")
    row = main(person).get_by_role("row").filter(has_text="SmolLM2")
    expect(row).to_contain_text(re.compile(r"n \d+"))
    expect(row).to_contain_text("tier 1")
    expect(main(person).get_by_role("row").filter(has_text="Scout")).to_contain_text("never measured here")
    row.get_by_role("link").click()
    expect(person.page.get_by_role("heading", level=1)).to_have_text("SmolLM2 135M Instruct")


def test_sliders_rank_anew(visit: Visitor, size: str) -> None:
    person = visit(size, "/rank")
    place = main(person).locator("#ranking")
    expect(place).to_contain_text("equal weights over")
    slider = person.page.get_by_label("Summarize", exact=True)
    slider.focus()
    for _ in range(2):
        person.page.keyboard.press("ArrowRight")
    expect(person.page.locator("output[for=weight-summarize]")).to_have_text(
        f"{100 * 3 / (len(answering()) + 2):.0f} %"
    )
    expect(person.page).to_have_url(re.compile(r"/rank\?workload=.*summarize%3D3"))
    expect(place).to_contain_text("quipu rank --workload")
    expect(person.page.locator("#announcer")).to_contain_text("SmolLM2 135M Instruct")
    person.reload()
    expect(slider).to_have_value("3")
    for each in answering():
        if each.id != "chat":
            person.page.get_by_label(each.title, exact=True).fill("0")
    expect(person.page.locator("output[for=weight-chat]")).to_have_text("100 %")
    person.page.get_by_label("Chat", exact=True).fill("0")
    expect(person.page.get_by_role("alert")).to_have_text("Give at least one capability some weight.")
    person.button("Equal weights").click()
    expect(place).to_contain_text("equal weights over")
    expect(person.page.get_by_role("alert")).to_have_text("")
    expect(person.page).to_have_url(re.compile(r"/rank$"))


def test_a_server_that_is_gone_leaves_the_ranking(visit: Visitor) -> None:
    person = visit(path="/rank")
    person.page.route("**/rank?*", lambda route: route.abort())
    person.page.get_by_label("Summarize", exact=True).fill("4")
    expect(person.page.get_by_role("alert")).to_contain_text("The server did not answer")
    expect(main(person).locator("#ranking")).to_contain_text("SmolLM2")


def test_two_are_chosen_and_compared(visit: Visitor, size: str) -> None:
    person = visit(size)
    first, second = person.page.get_by_label("One", exact=True), person.page.get_by_label("The other")
    first.select_option("SmolLM2 135M Instruct")
    second.select_option("SmolLM2 135M Instruct")
    expect(person.button("Compare")).to_be_disabled()
    second.select_option("coarse")
    person.button("Compare").click()
    expect(person.page.get_by_role("heading", level=1)).to_have_text("SmolLM2 135M Instruct vs coarse")
    expect(main(person).locator(".lead").first).to_contain_text("SmolLM2 135M Instruct is better than coarse")
    summarize = main(person).locator("table.scores").get_by_role("row").filter(has_text="Summarize")
    expect(summarize).to_contain_text("SmolLM2 135M Instruct better")
    expect(summarize.get_by_role("img")).to_have_accessible_name(re.compile("SmolLM2.*interval.*n .*coarse.*interval"))
    generate = main(person).locator("table.scores").get_by_role("row").filter(has_text="Generate")
    expect(generate).not_to_contain_text("better")


def test_probe_by_probe_is_one_click_away(visit: Visitor, server: Running, size: str) -> None:
    one, other, _ = ids(server)
    person = visit(size, f"/compare/{one}-vs-{other}")
    section = main(person).locator("#capability-summarize")
    section.get_by_text("Probe by probe").click()
    section.get_by_role("table").get_by_role("link").first.click()
    expect(person.page.get_by_role("heading", name="What was asked")).to_be_visible()
    expect(person.page.get_by_role("heading", level=1)).to_contain_text("Passed: Summarize")
    expect(main(person)).to_contain_text("quipu replay")


def test_a_sentence_leads_to_what_it_rests_on(visit: Visitor, server: Running) -> None:
    one, other, _ = ids(server)
    person = visit(path=f"/compare/{one}-vs-{other}")
    said = main(person).locator(".lead .rests")
    number = int(re.sub(r"\D", "", said.inner_text()))
    said.click()
    expect(person.page.get_by_role("heading", level=1)).to_have_text(f"{number:,} observations")


# ---- the page that this one answers


def test_the_seed_page_made_true(visit: Visitor, empty_server: Running, size: str) -> None:
    person = visit(size, f"/compare/{SEED}", empty_server)
    rows = main(person).locator("table.seed tbody tr")
    expect(rows.get_by_role("rowheader")).to_have_text([
        "Type", "UnfragileRank", "Adoption", "Quality", "Ecosystem",
        "Match Graph", "Pricing", "Starting Price", "Capabilities", "Times Matched",
    ])  # fmt: skip
    expect(rows.nth(1)).to_contain_text("unrated")
    expect(main(person)).not_to_contain_text(re.compile(r"(24|64)/100.*ranks higher"))
    untrue = main(person).locator("section, div").filter(has_text="32 heads").first
    expect(untrue).to_contain_text("24")
    expect(main(person).locator("#verdict + .panel")).to_contain_text("cannot tell")
    expect(main(person).locator("#verdict + .panel .command").first).to_contain_text("quipu measure")


@pytest.mark.slow
def test_no_log_yet_is_explained(visit: Visitor, empty_server: Running, size: str) -> None:
    for path in ("/compare", "/models", "/rank", "/methodology"):
        person = visit(size, path, empty_server)
        expect(person.page.get_by_role("heading", name="Nothing has been measured yet")).to_be_visible()
        expect(main(person).locator(".notice .command")).to_contain_text("quipu measure smollm2-135m-instruct")
    expect(person.page.get_by_role("contentinfo")).to_contain_text("The log of evidence is empty")


def test_a_log_that_begins_while_the_server_runs_is_seen(visit: Visitor, tmp_path) -> None:
    with serving(evidence_url=f"sqlite:///{tmp_path / 'evidence.sqlite'}") as running:
        person = visit(path="/models", at=running)
        expect(main(person)).to_contain_text("0 measured here")
        write([Model("coarse", {"code": 0.5})], tmp_path)
        person.reload()
        expect(main(person)).to_contain_text("1 measured here")


def test_claims_by_status(visit: Visitor, size: str) -> None:
    person = visit(size, "/claims?model=llama-3.2-3b-instruct")
    person.page.get_by_role("link", name="contradicted", exact=True).click()
    claims = main(person).locator("tr[id^=claim-]")
    expect(claims.first).to_be_visible()
    expect(claims.filter(has_text="verified")).to_have_count(0)
    expect(claims.filter(has_text="26 layers")).to_contain_text("28")
    expect(person.page.get_by_role("link", name="contradicted", exact=True)).to_have_attribute("aria-current", "true")


def test_what_is_unknown_is_said_with_what_is_near(visit: Visitor) -> None:
    person = visit(path="/models/llama-4-scoot")
    expect(main(person)).to_contain_text("did you mean llama-4-scout?")
    person.open("/rank?workload=sumarize=1")
    expect(main(person)).to_contain_text("summarize")
    person.open("/rank?work=1")
    expect(main(person)).to_contain_text("did you mean workload?")


# ---- every page


@pytest.mark.parametrize(
    ("size", "theme"), [pytest.param("desktop", "light", marks=pytest.mark.slow), ("phone", "dark")]
)
def test_everything_has_a_name_and_can_be_seen(visit: Visitor, server: Running, theme: str, size: str) -> None:
    person = visit(size, color_scheme=theme)
    for address in addresses(server):
        person.open(f"/{address}")
        person.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        for check in (UNNAMED, SMALL, FAINT):
            assert person.page.evaluate(check) == [], address
        assert person.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), address
        identities = person.page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
        assert len(identities) == len(set(identities)), address
        levels = person.page.evaluate(
            "[...document.querySelectorAll('h1, h2, h3, h4')].map((each) => +each.tagName[1])"
        )
        assert levels.count(1) == 1, address
        assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), address
        hidden = person.page.evaluate(
            "[...document.querySelectorAll('table')].filter((each) => !each.rows.length).length"
        )
        assert hidden == 0
        assert person.page.get_by_role("main").inner_text().find("undefined") < 0
        assert not re.search(r"\bNone\b|\bnan\b|Decimal|dict_", person.page.get_by_role("main").inner_text()), address


@pytest.mark.slow
def test_every_link_leads_somewhere(visit: Visitor, server: Running) -> None:
    person = visit()
    seen: set[str] = set()
    for address in addresses(server):
        person.open(f"/{address}")
        found = person.page.evaluate("[...document.querySelectorAll('a[href]')].map((each) => each.href.split('#')[0])")
        seen.update(each for each in found if each.startswith(server.url))
    observations = {each for each in seen if re.search(r"/observations/\d+$", each)}
    assert len(seen) > 60
    for each in sorted(seen - observations) + sorted(observations)[:10]:
        assert server.http.get(each).status_code in (200, 307), each


def test_the_keyboard_is_enough(visit: Visitor) -> None:
    person = visit(path="/rank")
    person.page.keyboard.press("Tab")
    expect(person.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    person.page.keyboard.press("Enter")
    person.page.keyboard.press("Tab")
    focused = person.page.evaluate("document.activeElement.id")
    assert focused == f"weight-{answering()[0].id}"


def test_a_command_is_copied(visit: Visitor, size: str) -> None:
    person = visit(size, "/models/llama-4-scout")
    place = main(person).locator(".command").first
    place.get_by_role("button", name="Copy the command").click()
    expect(person.page.locator("#announcer")).to_have_text("Copied")
    assert person.page.evaluate("navigator.clipboard.readText()") == place.locator("code").inner_text()


def test_the_theme_is_remembered(visit: Visitor) -> None:
    person = visit(color_scheme="light")
    person.button("Theme: as the system").click()
    person.button("Theme: light").click()
    person.open("/claims")
    expect(person.page.locator("html")).to_have_attribute("data-theme", "dark")
    assert person.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(25, 25, 23)"


def test_without_scripts_there_is_all_but_the_sliders(browser: Browser, server: Running) -> None:
    one, other, _ = ids(server)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/compare/{one}-vs-{other}")
    expect(page.get_by_role("main")).to_contain_text("SmolLM2 135M Instruct is better than coarse")
    expect(page.locator("svg.figure").first).to_be_visible()
    page.goto(f"{server.url}/compare")
    page.get_by_role("link", name="SmolLM2 135M Instruct vs coarse").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("vs")
    context.close()


def test_below_a_proxys_path_and_with_a_key_links_hold(browser: Browser) -> None:
    with serving(key=KEY) as locked:
        person = Visit(browser, locked.url, "desktop", "/models/llama-4-scout", f"someone:{KEY}@")
        expect(person.page.get_by_role("heading", level=1)).to_contain_text("Scout")
        person.leave()
        page = locked.http.get("/models/llama-4-scout", headers={"authorization": f"Bearer {KEY}"})
        references = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
        assert [each for each in references if each.startswith("/")] == []


def test_hostile_names_stay_text(visit: Visitor, server: Running) -> None:
    thin = ids(server)[2]
    person = visit(path=f"/models/{thin}")
    expect(person.page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    person.open(f"/compare/{ids(server)[0]}-vs-{thin}")
    expect(person.page.get_by_role("heading", level=1)).to_contain_text(HOSTILE)
    person.open("/rank")
    expect(main(person)).to_contain_text(HOSTILE)


def test_the_log_is_not_changed_by_looking(server: Running) -> None:
    before = server.http.get("/api/v1/rank").json()["as_of"]
    for address in addresses(server):
        assert server.http.get(f"/{address}").status_code == 200
    assert server.http.get("/api/v1/rank").json()["as_of"] == before
