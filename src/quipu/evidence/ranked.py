"""Whether one model was seen to be better than another, for equal weights on everything that has probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quipu.evidence.claims import Claim, Evidence, Judgement, Status
from quipu.evidence.compare import ALPHA, MARGIN
from quipu.evidence.config import Config
from quipu.evidence.measuring import measuring
from quipu.evidence.overall import Overall, overall
from quipu.evidence.pairing import pair
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.workload import workload


def ranked(claim: Claim, ours: Sequence[Config], theirs: Sequence[Config], snapshot: Snapshot) -> Judgement:
    """The claim that the configs ``ours`` rank above ``theirs``. Every pair with a verdict must say the same."""
    other = str(claim.value)
    needs = f"the probes asked of both: {measuring(claim.subject)}; {measuring(other)}"
    if not ours or not theirs:
        who = other if ours else claim.subject
        return Judgement(claim, "unmeasured", None, f"no probe was asked of {who}", (), needs)
    weights = workload(None).weights
    found = [(a, b, _overall(snapshot, a, b, weights)) for a in ours for b in theirs]
    told = [each for each in found if each[2].verdict != "cannot tell"]
    evidence = (Evidence(f"comparison of {len(found)} pairs of configs in the log up to entry {snapshot.number}"),)
    verdicts = {each.verdict for _, _, each in told}
    a, b, first = (told or found)[0]
    if not told or {"a better"} < verdicts:
        more = f"more shared probes: quipu compare {a.id[:12]} {b.id[:12]} says how many"
        return Judgement(claim, "unmeasured", None, first.reason, evidence, more)
    status: Status = "verified" if verdicts == {"a better"} else "contradicted"
    return Judgement(claim, status, first.difference, first.reason, evidence, "")


def _overall(snapshot: Snapshot, a: Config, b: Config, weights: Mapping[str, float]) -> Overall:
    pairings = {each: pair(snapshot.cells.get((a.id, each)), snapshot.cells.get((b.id, each))) for each in weights}
    return overall(pairings, weights, MARGIN, ALPHA)
