import json
from xml.etree import ElementTree

import pytest
from adding import Adding, half_right
from oracle import Oracle

from quipu.errors import MissingLibrary
from quipu.evidence import report
from quipu.evidence.measure import measure
from quipu.evidence.store import Store
from quipu.evidence.summary import about


@pytest.fixture
def measured() -> dict:
    class Never(Adding):
        version = 9

    model = Oracle(half_right)
    with Store() as store:
        found = measure(model, [Adding()], store) + measure(model, [Never()], store, seconds=0)
    return report.report(about(model, {}), found, {"first_token_p50": 1.5, "cancel_p50": None}, "bfloat16")


def test_it_survives_json(measured: dict) -> None:
    again = json.loads(json.dumps(measured))
    assert report.markdown(again) == report.markdown(measured)
    assert report.chart(again) == report.chart(measured)


def test_of_the_file_only_the_name_is_told(measured: dict) -> None:
    of = about(Oracle(half_right), {})
    of["model"] = of["model"] | {"file": "/home/someone/models/tiny.gguf"}
    assert report.report(of, [], None, "bfloat16")["model"] == of["model"] | {"file": "tiny.gguf"}


def test_the_table(measured: dict) -> None:
    header, row, never = report.table(measured)
    assert header[:3] == ["capability", "score", "95 % interval"]
    assert row[0] == "adding@1"
    assert row[1] == "50.0 %"
    assert row[4] == "160"
    assert never == ["test_report@9", "—", "—", "0.0 %", "0", "—", "—", "—"]


def test_the_page(measured: dict) -> None:
    page = report.markdown(measured, "scores.svg")
    assert page.startswith("# What oracle can do\n")
    assert "![scores with intervals, beside the baselines](scores.svg)" in page
    assert "## Add: better than the trivial answer" in page
    assert "## Add: not measured" in page
    assert "160 of 160 probes asked, 80 passed" in page
    assert "| 3 first | 20 | 50.0 % |" in page
    assert "| cancel p50 | — |" in page


@pytest.mark.parametrize(("seconds", "said"), [(1430.0, "; the answers took 24 minutes"), (20.0, "")])
def test_the_page_says_how_long_it_took(measured: dict, seconds: float, said: str) -> None:
    measured["capabilities"][0]["seconds"] = seconds
    assert f"tokens{said}. Scores are" in report.markdown(measured)


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.3, 0.4, "worse than"), (0.4, 0.6, "cannot be told from"), (0.6, 0.7, "better than")]
)
def test_verdicts(low: float, high: float, words: str) -> None:
    assert report.verdict({"interval": {"low": low, "high": high}, "baseline": 0.5}) == f"{words} the trivial answer"


def test_the_chart_shows_what_was_measured(measured: dict) -> None:
    picture = ElementTree.fromstring(report.chart(measured))
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert "adding@1" in texts
    assert "test_report@9" not in texts


def test_without_the_library_it_says_what_to_install(measured: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "altair", None)
    with pytest.raises(MissingLibrary, match=r"charts need altair; pip install 'quipu-llama\[charts\]'"):
        report.chart(measured)
