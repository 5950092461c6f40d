"""The API of evidence and its pages as Markdown: the same numbers as everywhere, and refusals by name."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from evidence_log import Model, write
from markdown_it import MarkdownIt
from running_server import Running, serving

from quipu.evidence.compare import compare
from quipu.evidence.rank import rank
from quipu.evidence.store import Store
from quipu.evidence.workload import workload
from quipu.serve.evidence import Evidence, answering
from quipu.serve.evidence_templates import (
    as_markdown,
    block,
    chance,
    code,
    minutes,
    percent,
    plain,
    probability,
    signed,
)

pytestmark = pytest.mark.alone

HOSTILE = "<b>|`x`\n# [y](javascript:z)</b>"
RATES = {each.id: 0.6 for each in answering()}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    worse = dict.fromkeys(RATES, 0.3)
    models = [Model("one", RATES), Model("two", worse), Model(HOSTILE, {"code": 0.5}, asked=10)]
    return write(models, tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def server(url: str) -> Iterator[Running]:
    with serving(evidence_url=url) as running:
        yield running


def test_the_numbers_are_those_of_the_log(server: Running, url: str) -> None:
    with Store(url) as store:
        snapshot = store.snapshot()
    weights = workload("summarize=3,reason=1")
    found = server.http.get("/api/v1/rank", params={"workload": "summarize=3,reason=1"}).json()
    as_of = found.pop("as_of")
    assert found == json.loads(json.dumps(rank(snapshot, weights).as_dict()))
    assert as_of == {"entry": snapshot.number, "hash": snapshot.hash, "at": snapshot.at}
    one, two = (config.id for config in [*snapshot.configs.values()][:2])
    judged = compare(snapshot, one, two, weights, margin=0.2)
    compared = server.http.get("/api/v1/compare?a=one&b=two&margin=20&workload=summarize=3,reason=1").json()
    assert compared["verdict"]["verdict"] == judged.overall.verdict == "a better"
    assert compared["margin"] == 0.2
    assert compared["verdict"]["difference"] == pytest.approx(judged.overall.difference)


def test_models_capabilities_claims_observations(server: Running) -> None:
    models = server.http.get("/api/v1/models").json()["data"]
    assert {"llama-4-scout", "smollm2-135m-instruct"} < {each["id"] for each in models}
    for each in models:
        whole = server.http.get(f"/api/v1/models/{each['id']}").json()
        assert len(whole["rows"]) == 10
        assert len(whole["standings"]) == len(answering())
        assert (whole["score"]["scored"]["score"] is None) == (each["title"] not in ("one", "two"))
    listed = server.http.get("/api/v1/capabilities").json()["data"]
    assert [each["id"] for each in listed] == [each.id for each in answering()]
    code = server.http.get("/api/v1/capabilities/code").json()
    assert [each["standing"]["state"] for each in code["models"]][:3].count("thin") == 1
    assert server.http.get("/api/v1/capabilities/fine_tuning").json()["probes"] is False
    claims = server.http.get("/api/v1/claims?status=contradicted&model=llama-3.2-3b-instruct").json()
    assert {each["status"] for each in claims["data"]} == {"contradicted"}
    seen = server.http.get("/api/v1/observations/40").json()
    assert (seen["number"], seen["token_hash"] is None) == (40, False)


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("models/llama-4-scoot", 404, "did you mean llama-4-scout?"),
        ("capabilities/sumarize", 404, "did you mean summarize?"),
        ("compare?a=one", 400, "b is missing"),
        ("compare?a=one&b=tow", 404, "did you mean two?"),
        ("compare?a=one&b=two&margin=0", 400, "above 0, below 100"),
        ("compare?a=one&b=two&margin=nan", 400, "above 0, below 100"),
        ("compare?a=one&b=two&a=two", 400, "a is given more than once"),
        ("rank?workload=sumarize=1", 400, "summarize"),
        ("rank?workload=summarize=0", 400, "workload"),
        ("rank?worklod=summarize=1", 400, "did you mean workload?"),
        ("models?x=1", 400, "it takes none"),
        ("claims?status=maybe", 400, "verified, contradicted, unmeasured"),
        ("observations/1", 400, "no observation"),
        ("observations/99999999", 400, "no entry"),
    ],
)
def test_refusals_name_the_cause(server: Running, path: str, status: int, said: str) -> None:
    answer = server.http.get(f"/api/v1/{path}")
    assert (answer.status_code, said in answer.json()["error"]["message"]) == (status, True), answer.text


@pytest.mark.parametrize(
    "path", ["observations", "observations?numbers=1-", "observations?numbers=" + "1," * 2000 + "1"]
)
def test_a_page_refuses_numbers_that_are_none(server: Running, path: str) -> None:
    page = server.http.get(f"/{path}")
    assert page.status_code == 400
    assert "as in 12-331,400" in page.text


def rendered(text: str) -> str:
    return MarkdownIt("commonmark").enable("table").render(text)


def test_every_page_is_markdown_too_and_listed(server: Running) -> None:
    listed = server.http.get("/llms.txt")
    assert listed.headers["content-type"] == "text/markdown; charset=utf-8"
    links = {
        str(token.attrs["href"])
        for inline in MarkdownIt().parse(listed.text)
        for token in inline.children or []
        if token.type == "link_open"
    }
    raw = set(re.findall(r"\]\((agent[^)]*)\)", listed.text))
    assert raw == {link for link in links if link.startswith("agent")}  # the same to who reads it as text
    assert {"agent/rank", "agent/claims", "agent/methodology", "agent/compare", "agent/models"} < links
    assert len([link for link in links if link.startswith("agent/capabilities/")]) == len(answering())
    for link in links:
        answer = server.http.get(f"/{link}")
        assert answer.status_code == 200, link
        if link.startswith("agent/"):
            assert answer.text.startswith("# ")
            assert "log" in answer.text
            assert "<b>" not in rendered(answer.text)


def test_hostile_names_are_text_in_markdown(server: Running) -> None:
    for path in ("models", "rank", "compare", "capabilities/code"):
        page = rendered(server.http.get(f"/agent/{path}").text)
        assert "&lt;b&gt;" in page
        assert "<b>" not in page
        assert [each for each in re.findall('href="([^"]*)"', page) if "javascript" in each] == []


def test_a_pair_is_read_in_the_way_that_means_something(tmp_path) -> None:
    url = write([Model("a-vs-b", {"code": 0.5}, asked=20), Model("c", {"code": 0.5}, asked=20)], tmp_path)
    evidence = Evidence(url)
    moment = evidence.now()
    assert [each.title for each in moment.pair("a-vs-b-vs-c")] == ["a-vs-b", "c"]
    assert [each.title for each in moment.pair("c-vs-a-vs-b")] == ["c", "a-vs-b"]
    evidence.close()
    assert evidence.now().snapshot.number == moment.snapshot.number
    evidence.close()
    evidence.close()


@pytest.mark.parametrize("more", [10_000, pytest.param(120_000, marks=pytest.mark.slow)])
def test_a_compare_page_is_quick_over_a_large_log(tmp_path, more: int) -> None:
    """Among 100,000 observations, in the slow one: as it was kept, and anew because another observation came.

    The quickest of several, in seconds of the processor, because machines are busy; server and client are one process.
    """
    models = [Model("one", RATES), Model("two", dict.fromkeys(RATES, 0.5))]
    url = write(models, tmp_path, more=more)
    with serving(evidence_url=url) as running, Store(url) as store:
        observed = next(entry.body for entry in store.entries() if entry.kind == "observation")

        def page() -> float:
            start = time.process_time()
            assert running.http.get("/compare/one-vs-two").status_code == 200
            return time.process_time() - start

        page()
        kept = [page() for _ in range(5)]
        anew = []
        for _ in range(5):
            store.append("observation", observed)
            anew.append(page())
    print(f"kept {1000 * min(kept):.0f} ms, anew {1000 * min(anew):.0f} ms")
    assert min(kept) < 0.2, kept
    assert min(anew) < 0.2, anew


def test_how_numbers_are_written() -> None:
    assert [percent(each) for each in (None, 0, 1, 0.5, 0.004)] == ["—", "0 %", "100 %", "50.0 %", "0.4 %"]
    assert [signed(each) for each in (None, 0.001, 0.1, -0.1)] == ["—", "0", "+10", "−10"]
    assert [probability(each) for each in (None, 0.0001, 0.04)] == ["—", "< 0.001", "0.040"]
    assert [chance(each) for each in (None, 0.0, 1.0, 0.5)] == ["—", "under 0.1 %", "over 99.9 %", "50.0 %"]
    assert [minutes(each) for each in (None, 0.5, 2.2, 120)] == ["—", "under 1 min", "3 min", "2.0 hours"]
    assert [plain(each) for each in (True, 10_485_760, None, ["a", "b"], {"x": 1}, 4096)] == [
        "yes", "10,485,760", "—", "a, b", '{"x": 1}', "4096",
    ]  # fmt: skip
    assert str(block("```\nx")) == "````\n```\nx\n````"
    assert str(code("a `b` | c\nd")) == r"`` a `b` \| c d ``"
    assert "\n" not in str(as_markdown(HOSTILE))
