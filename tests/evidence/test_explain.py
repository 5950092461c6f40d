import json

import pytest
from worlds import cell, id_of, snapshot, uri

from quipu.evidence.explain import explain
from quipu.evidence.workload import workload

URIS = [uri(name) for name in ("extract", "read", "write")]
LOG = snapshot(cell("a", URIS[0], [1, 0] * 50), cell("a", URIS[1], [1, 1, 1, 0] * 25), cell("a", URIS[2], [1] * 5))


def test_every_term_is_there_and_adds_up() -> None:
    found = explain(LOG, id_of("a"), workload("extract=4,read=5,write=1", URIS))
    assert found.label == "a"
    assert found.sums[0].startswith(
        "extract: weight 0.4000 x 0.5000 x 100 = 20.0000 points (n = 100, 95 % interval 0.4"
    )
    assert found.sums[1].startswith("read: weight 0.5000 x 0.7500 x 100 = 37.5000 points (n = 100, ")
    assert found.sums[2].startswith("write: weight 0.1000, thin (n = 5): 0.56")
    assert found.sums[3] == "coverage: 0.9000, the weight of what has a point"
    assert found.sums[4].startswith("score: 57.5000 / 0.9000 = 63.9 (")
    assert found.sums[5].startswith("bounds: 100 x (0.4000 x 0.5000 + 0.5000 x 0.7500 + 0.1000 x 0.56")
    assert sum(term.points or 0 for term in found.scored.terms) == pytest.approx(found.scored.score)
    assert (found.snapshot, found.snapshot_hash) == (LOG.number, LOG.hash)
    json.dumps(found.as_dict(), allow_nan=False)


def test_no_score_says_what_is_missing() -> None:
    found = explain(snapshot(), "nobody", workload("extract=1", URIS))
    assert found.label == "nobody"
    assert found.sums == (
        "extract: weight 1.0000, unmeasured: 0 to 1 in the bounds",
        "coverage: 0.0000, the weight of what has a point",
        "no score: a score takes a coverage of 0.8",
        "bounds: 100 x (1.0000 x 0.0000) = 0.0000; 100 x (1.0000 x 1.0000) = 100.0000",
    )
