import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from worlds import cell, id_of, snapshot, uri, world

from quipu.errors import InvalidRequest
from quipu.evidence.compare import Compared, Judgement, compare
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.workload import equal, workload

NAMES = [f"skill_{place}" for place in range(6)]
URIS = [uri(name) for name in NAMES]
A, B = id_of("a"), id_of("b")


def judged(log: Snapshot, text: str | None = None, **options: float) -> Judgement:
    return compare(log, A, B, workload(text, URIS), **options)


def of(found: Judgement, name: str) -> Compared:
    return next(each for each in found.capabilities if each.capability == uri(name))


def both(wins: int, losses: int, right: int, wrong: int, name: str = "skill_0") -> list:
    """Cells of a and b with so many probes that only a, only b, both and neither passed."""
    first = [1] * wins + [0] * losses + [1] * right + [0] * wrong
    second = [0] * wins + [1] * losses + [1] * right + [0] * wrong
    return [cell("a", uri(name), first, first=100), cell("b", uri(name), second, first=500)]


def test_p_is_mcnemars_and_corrected_by_holm() -> None:
    tables = [(30, 5, 60, 20), (12, 4, 70, 30), (9, 9, 50, 50), (25, 8, 40, 60)]
    log = snapshot(*[each for place, table in enumerate(tables) for each in both(*table, name=NAMES[place])])
    found = judged(log)
    expected = [mcnemar([[c, a], [b, d]], exact=True).pvalue for a, b, c, d in tables]
    assert [each.p for each in found.capabilities[:4]] == pytest.approx(expected)
    adjusted = multipletests(expected, method="holm")[1]
    assert [each.holm_p for each in found.capabilities[:4]] == pytest.approx(list(adjusted))
    assert found.compared == 4
    verdicts = [each.verdict for each in found.capabilities]
    assert verdicts == ["a better", "cannot tell", "equal", "a better", "cannot tell", "cannot tell"]


def test_a_better_one_is_found_with_its_probes() -> None:
    found = of(judged(snapshot(*both(40, 5, 60, 20))), "skill_0")
    assert (found.verdict, found.shared, found.difference) == ("a better", 125, pytest.approx(0.28))
    assert (len(found.only_a), len(found.only_b), found.both_passed, found.neither_passed) == (40, 5, 60, 20)
    assert (found.only_a[0].a, found.only_a[0].b, found.only_b[0].b) == (100, 500, 540)
    assert found.needed is None
    assert found.reason.startswith("A scores 28 points more than B on 125 shared probes (95 % interval ")
    assert found.reason.endswith("p < 0.001")


def test_sides_are_symmetrical() -> None:
    log = world(np.random.default_rng(1), {"a": dict.fromkeys(NAMES, 0.7), "b": dict.fromkeys(NAMES, 0.5)})
    there, back = compare(log, A, B, equal(URIS)), compare(log, B, A, equal(URIS))
    turned = {"a better": "b better", "b better": "a better", "equal": "equal", "cannot tell": "cannot tell"}
    for one, other in zip([*there.capabilities, there.overall], [*back.capabilities, back.overall], strict=True):
        assert other.verdict == turned[one.verdict]
        assert other.p == pytest.approx(one.p)
        assert (-other.high, -other.low) == pytest.approx((one.low, one.high))
        assert other.needed == one.needed


def test_equal_needs_enough_probes_that_agree() -> None:
    few, many = (of(judged(snapshot(*both(0, 0, right, 10))), "skill_0") for right in (15, 150))
    assert (few.verdict, few.needed_for) == ("cannot tell", "equality")
    assert many.verdict == "equal"
    assert many.within_margin
    assert many.reason.startswith("A and B score the same on 160 shared probes")
    assert of(judged(snapshot(*both(0, 0, 150, 10)), margin=0.01), "skill_0").verdict == "cannot tell"


def test_better_by_less_than_the_margin_is_said_to_be_both() -> None:
    found = of(judged(snapshot(*both(60, 10, 1000, 930)), margin=0.1), "skill_0")
    assert found.verdict == "a better"
    assert found.within_margin


def test_the_number_needed_is_that_of_the_correction_in_force() -> None:
    alone = of(judged(snapshot(*both(14, 7, 40, 39))), "skill_0")
    crowd = [each for name in NAMES for each in both(14, 7, 40, 39, name)]
    among = of(judged(snapshot(*crowd)), "skill_0")
    assert alone.needed is not None
    assert among.needed is not None
    assert alone.needed < among.needed
    assert alone.verdict == among.verdict == "cannot tell"


def test_an_empty_log_says_what_it_would_take() -> None:
    found = compare(snapshot(), "nobody", "someone", equal([uri(f"skill_{place}") for place in range(12)]))
    assert not found.decided
    assert {each.verdict for each in found.capabilities} == {"cannot tell"}
    assert found.capabilities[0].needed == pytest.approx(270, abs=5)
    assert found.capabilities[0].reason == "neither was measured"
    assert (found.overall.low, found.overall.high, found.overall.coverage) == (-1, 1, 0)
    assert found.overall.needed == 200  # 20 for each of ten capabilities, which are 0.8 of the workload
    json.dumps(found.as_dict(), allow_nan=False)


def test_what_only_one_has_neither_wins_nor_loses() -> None:
    cells = [*both(40, 5, 60, 20), cell("a", URIS[1], [1] * 100), cell("b", URIS[2], [1] * 100)]
    found = judged(snapshot(*cells))
    assert [of(found, name).measured for name in NAMES[:4]] == ["both", "a", "b", "neither"]
    assert [of(found, name).verdict for name in NAMES[1:4]] == ["cannot tell"] * 3
    assert of(found, "skill_1").reason == "only A was measured"
    assert found.overall.verdict == "cannot tell"
    assert found.overall.reason == "17 % of the workload was measured on both; a verdict takes 80 %"
    assert judged(snapshot(*cells), "skill_0=1").overall.verdict == "a better"


def test_fewer_than_twenty_shared_probes_are_no_verdict_and_no_part_of_the_correction() -> None:
    log = snapshot(*both(19, 0, 0, 0), *both(40, 5, 60, 20, "skill_1"))
    found = judged(log)
    assert found.compared == 1
    assert of(found, "skill_0").reason == "19 shared probes; a verdict takes 20"
    assert of(found, "skill_0").difference is None
    assert of(found, "skill_1").p == of(found, "skill_1").holm_p


def test_only_shared_probes_count() -> None:
    names = [f"{place:04}" for place in range(100)]
    log = snapshot(cell("a", URIS[0], [1.0] * 60, probes=names[:60]), cell("b", URIS[0], [0.0] * 60, probes=names[40:]))
    assert of(judged(log), "skill_0").shared == 20


def test_what_is_beyond_the_workload_is_shown_with_no_weight() -> None:
    found = compare(snapshot(*both(40, 5, 60, 20)), A, B, equal(URIS[1:]))
    assert [each.capability for each in found.capabilities] == [*URIS[1:], URIS[0]]
    assert found.capabilities[-1].weight == 0
    assert found.overall.verdict == "cannot tell"


def test_the_same_config_is_equal() -> None:
    log = world(np.random.default_rng(2), {"a": dict.fromkeys(NAMES, 0.6)})
    found = compare(log, A, A, equal(URIS))
    assert found.overall.verdict == "equal"
    assert not any(each.verdict.endswith("better") for each in found.capabilities)


@pytest.mark.parametrize("options", [{"margin": 0}, {"margin": 1}, {"alpha": 0}, {"margin": float("nan")}])
def test_nonsense_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match="is a share between 0 and 1"):
        judged(snapshot(), **options)


def test_order_of_the_log_changes_nothing() -> None:
    log = world(np.random.default_rng(3), {"a": dict.fromkeys(NAMES, 0.6), "b": dict.fromkeys(NAMES, 0.5)})
    turned = Snapshot(log.number, log.hash, log.at, log.configs, dict(reversed(log.cells.items())))
    assert judged(turned).as_dict() == judged(log).as_dict()


def test_no_verdict_contradicts_the_interval_beside_it() -> None:
    """Small differences, all to one side, of few probes: too many for chance, and their mean may still be 0."""
    groups = [f"group {place % 16}" for place in range(32)]
    some = [0.3 * (place % 16 < 12) for place in range(32)]
    cells = [
        cell(label, uri("skill_0"), values, groups, binary=False) for label, values in (("a", some), ("b", [0.0] * 32))
    ]
    found = judged(snapshot(*cells), "skill_0=1")
    low, high = of(found, "skill_0").low, of(found, "skill_0").high
    assert low < 0 < high
    for each in (of(found, "skill_0"), found.overall):
        assert each.verdict == "cannot tell"
        assert each.p > 0.05
        assert each.needed > 10
    random = np.random.default_rng(7)
    better = 0
    for _ in range(60):
        rates = dict(zip(NAMES, np.linspace(0.2, 0.8, 6), strict=True))
        more = {name: rate + 0.12 for name, rate in rates.items()}
        found = judged(world(random, {"a": more, "b": rates}, n=100, groups=14, alike=0.3))
        for each in (*found.capabilities, found.overall):
            if each.verdict.endswith("better"):
                better += 1
                assert not each.low <= 0 <= each.high
    assert better > 60


def test_twins_are_better_at_most_alpha_of_the_time() -> None:
    """Worlds where both can do the same: any capability, and the workload as a whole."""
    random = np.random.default_rng(4)
    worlds, one, whole = 150, 0, 0
    for _ in range(worlds):
        rates = dict(zip(NAMES, np.linspace(0.1, 0.9, 6), strict=True))
        found = judged(world(random, {"a": rates, "b": rates}, n=120, groups=20, alike=0.2))
        one += any(each.verdict.endswith("better") for each in found.capabilities)
        whole += found.overall.verdict.endswith("better")
    print(f"some capability {one / worlds:.3f}, the workload {whole / worlds:.3f}")
    assert one <= stats.binom.ppf(0.999, worlds, 0.05)
    assert whole <= stats.binom.ppf(0.999, worlds, 0.05)


def test_the_better_is_found_where_it_is_better() -> None:
    random = np.random.default_rng(5)
    found = []
    for _ in range(30):
        better = {**dict.fromkeys(NAMES, 0.5), "skill_0": 0.8}
        found.append(judged(world(random, {"a": better, "b": dict.fromkeys(NAMES, 0.5)}, n=200, groups=40, alike=0.1)))
    assert np.mean([of(each, "skill_0").verdict == "a better" for each in found]) > 0.9
    assert not any(of(each, "skill_0").verdict == "b better" for each in found)


def test_the_interval_of_the_workload_covers_the_truth() -> None:
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(150):
        first = dict(zip(NAMES, random.uniform(0.1, 0.9, 6), strict=True))
        second = dict(zip(NAMES, random.uniform(0.1, 0.9, 6), strict=True))
        found = judged(world(random, {"a": first, "b": second}, n=120, groups=20)).overall
        truth = np.mean([first[name] - second[name] for name in NAMES])
        covered += found.low <= truth <= found.high
    print(f"covered {covered / 150:.3f}")
    assert covered >= stats.binom.ppf(0.001, 150, 0.95)
