import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from worlds import cell, id_of, snapshot, uri, world

from quipu.evidence.intervals import Sample
from quipu.evidence.posterior import Posterior, draws
from quipu.evidence.rank import rank, scored
from quipu.evidence.snapshot import Cell, Snapshot
from quipu.evidence.workload import equal, workload

NAMES = [f"skill_{place}" for place in range(5)]
URIS = [uri(name) for name in NAMES]
EQUAL = equal(URIS)


def rates(rate: float) -> dict[str, float]:
    return dict.fromkeys(NAMES, rate)


def without(log: Snapshot, *missing: tuple[str, str]) -> Snapshot:
    """The log without the cells of (label, capability name)."""
    gone = {(id_of(label), uri(name)) for label, name in missing}
    return replace(log, cells={key: each for key, each in log.cells.items() if key not in gone})


def thinned(each: Cell, keep: np.ndarray) -> Cell:
    kept = [name for name, stays in zip(each.outcomes, keep, strict=True) if stays]
    return replace(each, outcomes={name: each.outcomes[name] for name in kept})


def test_a_score_is_weights_times_values() -> None:
    log = snapshot(*[cell("a", each, [1] * (20 * place) + [0] * (100 - 20 * place)) for place, each in enumerate(URIS)])
    found = scored(log, id_of("a"), workload("skill_0=1,skill_4=3", URIS))
    assert found.score == pytest.approx(100 * 0.75 * 0.8)
    assert [term.points for term in found.terms] == pytest.approx([0, 60])
    assert found.lower_bound == found.upper_bound == pytest.approx(60)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 60 < found.high
    assert found.told == f"60.0 ({found.low:.1f} to {found.high:.1f})"


def test_unmeasured_counts_in_the_bounds_only() -> None:
    log = snapshot(*[cell("a", each, [1, 0] * 50) for each in URIS[:2]])
    found = scored(log, id_of("a"), EQUAL)
    assert (found.score, found.low, found.high) == (None, None, None)
    assert (found.lower_bound, found.upper_bound) == pytest.approx((20, 80))
    assert found.told == "unrated: 40 % of the workload measured; somewhere in 20 to 80"
    most = scored(snapshot(*[cell("a", each, [1, 0] * 50) for each in URIS[:4]]), id_of("a"), EQUAL)
    assert most.score == pytest.approx(50)  # not 40, which would count what is missing as zero
    assert (most.lower_bound, most.upper_bound) == pytest.approx((40, 60))


def test_a_config_nobody_knows_is_unrated() -> None:
    found = scored(snapshot(), "nobody", EQUAL)
    assert found.told == "unrated: 0 % of the workload measured; somewhere in 0 to 100"


def test_intervals_of_scores_cover_the_truth() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        truth = dict(zip(NAMES, random.uniform(0.03, 0.97, 5), strict=True))
        found = scored(world(random, {"a": truth}, n=160, groups=20), id_of("a"), EQUAL)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 100 * np.mean(list(truth.values())) <= found.high
    print(f"covered {covered / 200:.3f}")
    assert covered / 200 >= 0.93


def test_deleting_evidence_widens_and_never_moves_to_zero() -> None:
    random = np.random.default_rng(2)
    moves = []
    for _ in range(40):
        log = world(random, {"a": dict(zip(NAMES, random.uniform(0.2, 0.8, 5), strict=True))})
        keep = {key: random.random(len(each.outcomes)) < 0.4 for key, each in log.cells.items()}
        fewer = replace(log, cells={key: thinned(each, keep[key]) for key, each in log.cells.items()})
        before, after = scored(log, id_of("a"), EQUAL), scored(fewer, id_of("a"), EQUAL)
        assert before.score is not None
        assert after.score is not None
        assert after.high - after.low > before.high - before.low  # type: ignore[operator]
        moves.append(after.score - before.score)
        hole = scored(without(log, ("a", "skill_0")), id_of("a"), EQUAL)
        assert hole.lower_bound <= before.score <= hole.upper_bound
        two = scored(without(log, ("a", "skill_0"), ("a", "skill_1")), id_of("a"), EQUAL)
        assert two.score is None
        assert two.lower_bound < hole.lower_bound < hole.upper_bound < two.upper_bound
    assert abs(np.mean(moves)) < 4 * np.std(moves) / np.sqrt(len(moves))


def test_the_posterior_is_jeffreys() -> None:
    found = Posterior.of(Sample(0.25, 0.25 * 0.75, True, 40, 40, 40.0, None))
    assert (found.alpha, found.beta) == pytest.approx((10.5, 30.5))
    half = Posterior.of(Sample(0.25, 0.25 * 0.75, True, 40, 40, 20.0, None))
    assert (half.alpha, half.beta) == pytest.approx((5.5, 15.5))
    steady = Posterior.of(Sample(0.25, 0.01, False, 40, 40, 40.0, 39))
    assert steady.alpha + steady.beta > 41
    certain = Posterior.of(Sample(1.0, 0.0, True, 0, 40, 40.0, None))
    assert (certain.alpha, certain.beta) == (40.5, 0.5)


def test_draws_follow_the_posterior_and_shared_luck() -> None:
    log = world(
        np.random.default_rng(3), {"a": {"skill_0": 0.6}, "b": {"skill_0": 0.6}}, groups=160, common=1.0, alike=0
    )
    first, second = (draws(log.cells[id_of(label), URIS[0]]) for label in "ab")
    right = sum(each.value for each in log.cells[id_of("a"), URIS[0]].outcomes.values())
    assert stats.kstest(first, stats.beta(0.5 + right, 160.5 - right).cdf).pvalue > 0.001
    assert np.corrcoef(first, second)[0, 1] > 0.9
    apart = world(
        np.random.default_rng(3), {"a": {"skill_0": 0.6}, "b": {"skill_0": 0.6}}, groups=160, common=0, alike=0
    )
    first, second = (draws(apart.cells[id_of(label), URIS[0]]) for label in "ab")
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.3


def test_what_is_always_right_is_not_drawn_alike() -> None:
    log = snapshot(*[cell(label, URIS[0], [1] * 100) for label in "ab"])
    first, second = (draws(log.cells[id_of(label), URIS[0]]) for label in "ab")
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_the_best_is_first_and_alone_in_its_tier() -> None:
    log = world(np.random.default_rng(4), {"low": rates(0.2), "high": rates(0.9), "middle": rates(0.55)})
    found = rank(log, EQUAL)
    assert [log.configs[row.scored.config].label for row in found.rows] == ["high", "middle", "low"]
    assert [row.tier for row in found.rows] == [1, 2, 3]
    assert [(row.rank_low, row.rank_high) for row in found.rows] == [(1, 1), (2, 2), (3, 3)]
    assert [row.best for row in found.rows] == pytest.approx([1, 0, 0], abs=0.001)
    json.dumps(found.as_dict(), allow_nan=False)


def test_order_of_display_never_changes_a_rank() -> None:
    random = np.random.default_rng(5)
    log = world(random, {f"model {place}": rates(0.5 + place / 50) for place in range(5)}, n=60)
    expected = rank(log, EQUAL)
    for _ in range(4):
        order = [list(log.configs)[place] for place in random.permutation(5)]
        shuffled = replace(
            log,
            configs={each: log.configs[each] for each in order},
            cells=dict(sorted(log.cells.items(), key=lambda item: order.index(item[0][0]))),
        )
        assert rank(shuffled, EQUAL) == expected
        assert rank(shuffled, EQUAL, order[::-1]) == expected


def test_twins_share_a_tier_and_the_chance_of_being_best() -> None:
    random = np.random.default_rng(6)
    apart, best = 0, []
    for _ in range(60):
        found = rank(world(random, {"a": rates(0.6), "b": rates(0.6)}, alike=0.2), EQUAL)
        apart += found.rows[1].tier == 2
        best.append(next(row.best for row in found.rows if row.scored.config == id_of("a")))
        assert sum(row.best or 0 for row in found.rows) == pytest.approx(1)
    assert apart <= stats.binom.ppf(0.999, 60, 0.05)
    assert abs(np.mean(best) - 0.5) < 0.2


def test_the_unmeasured_neither_win_nor_lose() -> None:
    log = world(np.random.default_rng(7), {"whole": rates(0.5), "holes": rates(0.9), "none": rates(0.1)})
    log = without(log, ("holes", "skill_0"), ("holes", "skill_1"), *[("none", name) for name in NAMES])
    found = rank(log, EQUAL)
    assert [log.configs[row.scored.config].label for row in found.rows] == ["whole", "holes", "none"]
    assert [row.tier for row in found.rows] == [1, None, None]
    assert [row.rank_low for row in found.rows] == [1, None, None]
    assert found.rows[0].best == 1
    assert found.common == tuple(URIS)


def test_ranks_are_over_what_was_measured_for_all() -> None:
    """One hole each: the strong one lacks its best capability, which must not help the other."""
    strong = {**rates(0.7), "skill_0": 0.95}
    log = without(world(np.random.default_rng(8), {"strong": strong, "weak": rates(0.4)}, n=200), ("strong", "skill_0"))
    found = rank(log, EQUAL)
    assert found.common == tuple(URIS[1:])
    assert log.configs[found.rows[0].scored.config].label == "strong"
    common = [row.common for row in found.rows]
    assert common[1] == pytest.approx(
        25 * sum(np.mean([o.value for o in log.cells[id_of("weak"), each].outcomes.values()]) for each in URIS[1:])
    )


def test_nothing_in_common_is_no_rank() -> None:
    names = [f"skill_{place}" for place in range(10)]
    wanted = workload("skill_0=1,skill_1=1", [uri(name) for name in names])
    cells = [cell("a", uri("skill_0"), [1, 0] * 20), cell("b", uri("skill_1"), [1, 0] * 20)]
    assert {row.tier for row in rank(snapshot(*cells), wanted).rows} == {None}
    assert rank(snapshot(), wanted).rows == ()


def test_the_rank_interval_holds_the_true_rank() -> None:
    random = np.random.default_rng(9)
    hits = total = firsts = 0
    for _ in range(25):
        abilities = random.uniform(0.3, 0.8, 5)
        log = world(random, {f"model {place}": rates(rate) for place, rate in enumerate(abilities)}, n=100)
        true = {id_of(f"model {place}"): int((abilities > rate).sum()) + 1 for place, rate in enumerate(abilities)}
        for row in rank(log, EQUAL).rows:
            assert row.rank_low is not None
            assert row.rank_high is not None
            hits += row.rank_low <= true[row.scored.config] <= row.rank_high
            total += 1
            firsts += bool(row.best and row.best > 0.5 and true[row.scored.config] == 1)
    print(f"rank intervals hold {hits / total:.3f}; the likeliest best is the best {firsts / 25:.2f}")
    assert hits / total >= 0.93
