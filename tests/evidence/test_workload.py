import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import uri

from quipu.errors import InvalidRequest
from quipu.evidence.workload import equal, measurable, workload

URIS = [uri(name) for name in ("extract", "summarize", "translate")]


def test_equal_weights_are_said_aloud() -> None:
    found = workload(None, URIS)
    assert dict(found.weights) == {each: pytest.approx(1 / 3) for each in URIS}
    assert found.told == "equal weights over 3 capabilities: there are no real searches yet"
    assert found.text == "extract=1,summarize=1,translate=1"
    assert equal(URIS[:1]).told == "equal weights over 1 capability: there are no real searches yet"


def test_stated_weights_are_divided_by_their_sum() -> None:
    found = workload(" summarize = 3, extract=1 ", URIS)
    assert dict(found.weights) == {URIS[0]: 0.25, URIS[1]: 0.75, URIS[2]: 0}
    assert found.told == "as stated: summarize 75 %, extract 25 %"
    assert found.as_dict()["source"] == "stated"


@given(st.dictionaries(st.sampled_from(URIS), st.floats(1e-3, 1e3), min_size=1))
def test_what_it_says_is_read_back(weights: dict[str, float]) -> None:
    text = ",".join(f"{each[13:-2]}={weight!r}" for each, weight in weights.items())
    found = workload(text, URIS)
    assert sum(found.weights.values()) == pytest.approx(1)
    assert dict(workload(found.text, URIS).weights) == pytest.approx(dict(found.weights), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sumarize=1", "knows no capability 'sumarize'; did you mean summarize"),
        ("zzz=1", "there are extract, summarize, translate"),
        ("", "knows no capability ''"),
        ("extract=1,", "knows no capability ''"),
        ("extract", "gives extract no weight; write extract=1"),
        ("extract=1,extract=2", "names extract twice"),
        ("extract=-1", "'-1', which is not a number from 0 on"),
        ("extract=nan", "'nan'"),
        ("extract=inf", "'inf'"),
        ("extract=x", "'x'"),
        ("extract=0", "gives no capability a weight"),
        ("extract=1e308,summarize=1e308", "adds up to infinity"),
    ],
)
def test_what_is_wrong_is_named(text: str, fault: str) -> None:
    with pytest.raises(InvalidRequest, match="the workload") as caught:
        workload(text, URIS)
    assert fault in str(caught.value)
    assert caught.value.param == "workload"


def test_no_capability_has_no_workload() -> None:
    with pytest.raises(InvalidRequest, match="there is no capability to give a weight"):
        workload(None, [])


def test_what_can_be_measured_has_probes() -> None:
    assert "capability://summarize@1" in measurable()
    assert not any("streaming" in each for each in measurable())
    assert len(workload(None).weights) == len(measurable())
