"""The log of evidence at size: how long writing, rebuilding, verifying and looking up take.

    python bench/evidence.py [--observations 100000] [--evidence-url postgresql://...] [--folder FOLDER]

Every observation is one of a made-up config: capabilities of 200 probes each, answers of some hundred characters. The
log is written into an empty place through the same functions as `quipu measure` and `quipu evidence import`.

    append      one observation at a time, on the disk each: milliseconds, median of 200
    import      the exported log into an empty one
    rebuild     every derived table from the log
    verify      the chain, and the derived tables against a derivation in memory
    snapshot    of two configs: in a process that has looked at nothing yet, then again; after one more observation
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quipu.capabilities.base import digest
from quipu.evidence.config import Config
from quipu.evidence.log import Entry, canonical
from quipu.evidence.store import Store

PROBES = 200
CAPABILITIES = 10
AT = "2026-01-01T00:00:00.000+00:00"


def config(number: int) -> Config:
    made = digest(number)
    facts = {"name": f"model-{number}", "parameters": 10**9}
    decoding = {"context_length": 8192}
    return Config(f"model-{number}", made, "Q4_1", "quipu 0.1.0", made, decoding, "AMD EPYC, 2 cores, bfloat16", facts)


def probe_set(capability: int) -> dict[str, Any]:
    probes = [[digest([capability, n])[:16], f"group {n % 40}", "easy", f"part {n % 4}"] for n in range(PROBES)]
    return {
        "capability": f"capability://capability_{capability}@1",
        "probe_set": digest(probes),
        "title": f"Capability {capability}",
        "metric": "share",
        "binary": True,
        "baseline": 0.25,
        "baseline_name": "the first word",
        "probes": probes,
    }


def observation(chance: random.Random, run: int, of: Config, of_set: dict[str, Any], probe: str) -> dict[str, Any]:
    passed = chance.random() < 0.6
    return {
        "run": run, "config": of.id, "capability": of_set["capability"], "probe_set": of_set["probe_set"],
        "probe": probe, "state": "scored", "value": float(passed), "passed": passed, "why": "", "measured": {},
        "text": "The answer of a model. " * chance.randrange(1, 40), "prompt_tokens": chance.randrange(40, 900),
        "completion_tokens": chance.randrange(5, 200), "first_token_seconds": chance.random(),
        "seconds": 10 * chance.random(), "finish_reason": "stop", "sampling": {"seed": chance.randrange(2**32)},
        "token_hash": digest(probe), "peak_memory": 1 << 30,
    }  # fmt: skip


def bodies(observations: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kinds and bodies of a log with so many observations: one run for each config."""
    chance = random.Random(0)
    sets = [probe_set(capability) for capability in range(CAPABILITIES)]
    for each in sets:
        yield "probe_set", each
    written = len(sets)
    for number in range(-(-observations // (PROBES * CAPABILITIES))):
        of = config(number)
        yield "config", {"id": of.id, **asdict(of)}
        names = {each["capability"]: each["probe_set"] for each in sets}
        yield "run", {"config": of.id, "probe_sets": names, "fresh": False, "together": 16}
        written += 2
        run = written
        for of_set in sets:
            for probe, *_ in of_set["probes"]:
                if observations:
                    yield "observation", observation(chance, run, of, of_set, probe)
                    observations -= 1
                    written += 1
            spent = {"capability": of_set["capability"], "seconds": 12.5, "tokens": 20_000}
            yield "round", {"run": run, "config": of.id, "probe_set": of_set["probe_set"], **spent}
            written += 1


def write(path: Path, observations: int) -> None:
    last = None
    with path.open("w", encoding="utf-8") as file:
        for kind, body in bodies(observations):
            last = Entry.following(last, AT, kind, canonical(body))
            file.write(f"{last.line}\n")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--observations", type=int, default=100_000)
    parser.add_argument("--evidence-url", help="an empty log (a file in FOLDER)")
    parser.add_argument("--folder", type=Path, help="where files go (a temporary one)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        exported = Path(folder) / "log.jsonl"
        write(exported, given.observations)
        url = given.evidence_url or f"sqlite:///{folder}/evidence.sqlite"
        found: dict[str, Any] = {"observations": given.observations, "exported_mb": exported.stat().st_size / 1e6}
        with Store(url) as store:
            found["import_s"] = timed(lambda: store.import_(exported))
            found["rebuild_s"] = timed(store.rebuild)
            found["verify_s"] = timed(store.verify)
        pair = [config(0).id, config(1).id]
        with Store(url) as store:
            found["snapshot_of_two_ms"] = 1000 * timed(lambda: store.snapshot(pair))
            found["snapshot_of_two_again_ms"] = 1000 * timed(lambda: store.snapshot(pair))
            one = next(body for kind, body in bodies(1) if kind == "observation")
            found["append_ms"] = 1000 * statistics.median(
                timed(lambda: store.append("observation", one)) for _ in range(200)
            )
            found["snapshot_of_two_after_another_ms"] = 1000 * timed(lambda: store.snapshot(pair))
            found["outcomes_of_two"] = sum(len(cell.outcomes) for cell in store.snapshot(pair).cells.values())
        with Store(url) as store:
            found["snapshot_of_all_ms"] = 1000 * timed(store.snapshot)
    print(json.dumps({name: round(value, 2) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
