"""Whether one model was seen to be better than another, for equal weights on everything that has probes."""

from __future__ import annotations

from collections.abc import Sequence

from quipu.evidence.claims import Claim, Evidence, Judgement, Status
from quipu.evidence.compare import Judgement as Verdict
from quipu.evidence.compare import compare
from quipu.evidence.config import Config
from quipu.evidence.measuring import measuring
from quipu.evidence.snapshot import Snapshot
from quipu.evidence.workload import workload


def ranked(claim: Claim, ours: Sequence[Config], theirs: Sequence[Config], snapshot: Snapshot) -> Judgement:
    """The claim that the configs ``ours`` rank above ``theirs``. Every pair with a verdict must say the same."""
    other = str(claim.value)
    needs = f"the probes asked of both: {measuring(claim.subject)}; {measuring(other)}"
    if not ours or not theirs:
        who = other if ours else claim.subject
        return Judgement(claim, "unmeasured", None, f"no probe was asked of {who}", (), needs)
    weights = workload(None)
    found = [compare(snapshot, a.id, b.id, weights) for a in ours for b in theirs]
    told = [each for each in found if each.decided]
    evidence = (Evidence(f"comparison of {len(found)} pairs of configs in the log up to entry {snapshot.number}"),)
    verdicts = {each.overall.verdict for each in told}
    if not told or {"a better"} < verdicts:
        one = (told or found)[0]
        return Judgement(claim, "unmeasured", None, one.overall.reason, evidence, _command(one))
    status: Status = "verified" if verdicts == {"a better"} else "contradicted"
    return Judgement(claim, status, told[0].overall.difference, told[0].overall.reason, evidence, "")


def _command(verdict: Verdict) -> str:
    return f"more shared probes: quipu compare {verdict.a[:12]} {verdict.b[:12]} says how many"
