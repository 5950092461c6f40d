import json
import re

import pytest
from lxml import html as lxml_html
from two_models import HOSTILE, config, record, snapshot

from quipu.evidence.cards import cards
from quipu.evidence.comparison import comparison
from quipu.evidence.comparison_html import html
from quipu.evidence.comparison_markdown import escaped, markdown
from quipu.evidence.seed_rows import NAMES
from quipu.evidence.side import side
from quipu.evidence.workload import workload

REAL = {
    "smollm2-135m-instruct": {"reason": 0.3, "few_shot": 0.6},
    "llama-3.2-1b-instruct": {"reason": 0.6, "few_shot": 0.6},
}


def compared(skills, a, b, weights=None, **options):
    of = snapshot(skills)
    known = cards()
    return comparison(side(a, known, of), side(b, known, of), known, of, workload(weights), **options)


@pytest.fixture(scope="module")
def first_day():
    return compared({}, "llama-3.2-3b-instruct", "llama-4-scout")


@pytest.fixture(scope="module")
def measured():
    return compared(REAL, *REAL, "reason=1,few_shot=1", probes={}).told(record)


@pytest.fixture(scope="module")
def hostile():
    return compared({HOSTILE: {"reason": 0.9}, "worse": {"reason": 0.3}}, HOSTILE, "worse", "reason=1").told(record)


def test_the_first_day(first_day):
    assert not first_day.decided
    assert [a.name for a, _ in first_day.rows] == list(NAMES)
    assert first_day.headline.sentence.startswith("Neither was ever measured here")
    assert "contradicted" in first_day.headline.sentence
    assert first_day.change.commands == (
        "quipu measure llama-3.2-3b-instruct && "
        "quipu models add my-llama-4-scout --of llama-4-scout --base-url URL --model THERE && "
        "quipu measure my-llama-4-scout",
    )
    for each in first_day.capabilities:
        assert each.verdict.startswith("Cannot tell: ")
        for told in (each.a, each.b):
            assert (told.score.text, told.score.value) == ("—", None)
            assert told.score.why


def test_capabilities_are_aligned_one_by_one(first_day):
    ids = [each.id for each in first_day.capabilities]
    assert len(ids) == len(set(ids))
    known = cards()
    assert set(ids) >= {*known["llama-3.2-3b-instruct"].capabilities, *known["llama-4-scout"].capabilities}
    by_id = {each.id: each for each in first_day.capabilities}
    assert (by_id["summarize"].has, by_id["vision"].has, by_id["fine_tuning"].has) == ("both", "b", "b")
    assert by_id["vision"].uri == "capability://vision@1"
    assert by_id["fine_tuning"].uri is None
    assert by_id["fine_tuning"].b.declared is not None


def test_every_claim_is_judged_and_none_is_lost(first_day):
    for said in first_day.claims:
        assert {each.status for each in said} == {"verified", "contradicted", "unmeasured"}
    shown = [each for row in first_day.capabilities for each in (*row.a.claims, *row.b.claims)]
    others = [each for said in first_day.claims for each in said if each.claim.capability is None]
    assert len(shown) + len(others) == sum(map(len, first_day.claims))


def test_evidence_decides(measured):
    assert measured.decided
    assert measured.judgement.overall.verdict == "b better"
    by_id = {each.id: each for each in measured.capabilities}
    assert by_id["reason"].verdict.startswith("Llama 3.2 1B Instruct is better: A scores ")
    assert by_id["few_shot"].verdict.startswith("Equal: ")
    assert by_id["reason"].a.score.n == 175
    assert by_id["code"].a.score.why == "unrated: not measured on it yet"
    assert [a.name for a, _ in measured.rows] == list(NAMES)


def test_rows_count_the_config_that_is_compared_and_not_others_of_its_card():
    """The same model by other kernels: two configs of one card."""
    skills = {"smollm2-135m-instruct": {"reason": 0.6, "few_shot": 0.6}, "smollm2-135m": {"few_shot": 0.6}}
    both, one = (config(label).id for label in skills)
    found = {a.name: (a.value, b.value) for a, b in compared(skills, both, one).rows}
    assert found["Quality"] == ("better than trivial in 0 of 2", "better than trivial in 0 of 1")
    assert [each.rpartition(", ")[2] for each in found["Capabilities"]] == ["2 measured", "1 measured"]


def test_probes_that_only_one_passed_come_with_question_and_answers(measured):
    assert len(measured.only_b) == 3
    for each in measured.only_b:
        assert each.question
        assert each.a.text == record(each.a.observation)["text"]
        assert (each.a.value, each.b.value) == (0, 1)


def test_the_other_way_round_it_is_the_same(measured):
    turned = compared(REAL, *reversed(REAL), "reason=1,few_shot=1")
    assert turned.judgement.overall.verdict == "a better"
    assert turned.judgement.overall.difference == pytest.approx(-measured.judgement.overall.difference)
    assert [each.probe for each in turned.only_a] == [each.probe for each in measured.only_b]
    assert turned.headline.clauses[0].text == measured.headline.clauses[0].text


def test_against_itself_nothing_is_better():
    found = compared(REAL, "smollm2-135m-instruct", config("smollm2-135m-instruct").id[:12], "reason=1,few_shot=1")
    assert found.judgement.overall.verdict == "equal"
    assert {each.compared.verdict for each in found.capabilities if each.compared and each.compared.shared} == {"equal"}
    assert not found.only_a
    assert not found.only_b
    assert "is better" not in found.headline.sentence


def test_few_probes_give_an_interval_and_no_point():
    few = snapshot(REAL, probes=10)
    known = cards()
    a, b = (side(name, known, few) for name in REAL)
    found = {each.id: each for each in comparison(a, b, known, few, workload("reason=1")).capabilities}["reason"]
    assert found.a.score.value is None
    assert re.fullmatch(r"\d+\.\d % to \d+\.\d %", found.a.score.text)
    assert found.a.score.n == 10
    assert found.verdict.startswith("Cannot tell: ")


def test_it_is_json_and_a_pure_function(measured, first_day):
    again = compared(REAL, *REAL, "reason=1,few_shot=1", probes={}).told(record)
    for one in (measured, first_day):
        text = json.dumps(one.as_dict(), allow_nan=False)
        assert json.loads(text)["comparison"] == 1
    assert json.dumps(again.as_dict()) == json.dumps(measured.as_dict())
    assert measured.as_dict()["verdict"]["decided"] is True
    assert measured.as_dict()["as_of"]["hash"] == snapshot(REAL).hash


def test_different_hardware_is_said(measured):
    assert not measured.hardware_differs
    far = config("llama-3.2-1b-instruct", hardware="unknown")
    of = snapshot(REAL, [far])
    known = cards()
    found = comparison(*(side(name, known, of) for name in REAL), known, of, workload("reason=1"))
    assert found.hardware_differs
    assert "their times do not compare" in html(found)


# ---- files


def texts(page):
    return " ".join(page.itertext())


@pytest.mark.parametrize("which", ["first_day", "measured", "hostile"])
def test_the_page_needs_nothing_beside_it_and_runs_nothing(which, request):
    page = lxml_html.fromstring(html(request.getfixturevalue(which)))
    assert not page.xpath("//script | //img | //link | //iframe | //form | //@onclick | //@onerror | //@src | //object")
    assert {link.partition(":")[0] for link in page.xpath("//@href")} <= {"https", "http"}
    assert "url(" not in page.xpath("string(//style)")
    ids = page.xpath("//@id")
    assert len(ids) == len(set(ids))


def test_a_hostile_label_is_text_on_the_page(hostile):
    page = lxml_html.fromstring(html(hostile))
    assert "<script>alert(1)</script>" in page.xpath("string(//h1)")
    assert not page.xpath("//h1//script")
    assert len(page.xpath("//pre")) >= 6


def test_the_page_shows_all_of_it(measured):
    said = " ".join(texts(lxml_html.fromstring(html(measured))).split())
    for text in (measured.headline.sentence, measured.verdict, measured.as_of, *(a.name for a, _ in measured.rows)):
        assert " ".join(text.split()) in said
    for each in measured.capabilities:
        assert each.title in said
        assert each.a.score.details in said
    for column in measured.columns:
        assert column.name in said


def test_markdown_shows_all_of_it(measured, first_day):
    page = markdown(measured)
    assert page.startswith("# SmolLM2 135M Instruct")
    assert "| `reason` | " in page
    for column in measured.columns:
        assert f"| {column.name} |" in page
    claims = re.findall(r"^\* \*\*(verified|contradicted|unmeasured)\*\*: “", markdown(first_day), re.MULTILINE)
    assert len(claims) == sum(map(len, first_day.claims))


def test_a_hostile_label_is_text_in_markdown(hostile):
    page = markdown(hostile)
    assert "<script>" not in page
    assert "\x1b" not in page
    assert not re.search(r"(?<!\\)\[x", page)
    assert not re.search(r"^# heading", page, re.MULTILINE)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) in (4, 5, 6) for row in rows)


@pytest.mark.parametrize(
    ("text", "safe"),
    [("1. one", r"1\. one"), ("- one", r"\- one"), ("a|b", r"a\|b"), ("http://x", "http&#58;//x"), ("\n\n# x", r"\# x"),
     ("<b>&", "&lt;b&gt;&amp;"), ("", "")],
)  # fmt: skip
def test_markdown_is_escaped(text, safe):
    assert escaped(text) == safe
