"""Bodies of entries for tests of the log, without a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from quipu.capabilities.base import digest
from quipu.evidence.config import Config
from quipu.evidence.store import Store


def config(name: str = "a", label: str | None = None) -> Config:
    """One of many, told apart by ``name``."""
    made = digest(name)
    return Config(
        label or name, made, "Q4_1", "quipu 0.1.0", made, {"context_length": 64}, "a machine", {"name": label or name}
    )


def config_body(of: Config) -> dict[str, Any]:
    return {"id": of.id, **asdict(of)}


def probe_set(capability: str = "capability://adding@1", probes: int = 6) -> dict[str, Any]:
    """Probes in groups of two, each group a part."""
    rows = [[digest([capability, n])[:16], f"group {n // 2}", "easy", f"part {n // 2}"] for n in range(probes)]
    return {
        "capability": capability,
        "probe_set": digest(rows),
        "title": "Add",
        "metric": "share",
        "binary": True,
        "baseline": 0.25,
        "baseline_name": "nothing",
        "probes": rows,
    }


def run(of: Config, *sets: dict[str, Any], fresh: bool = False) -> dict[str, Any]:
    names = {each["capability"]: each["probe_set"] for each in sets}
    return {"config": of.id, "probe_sets": names, "fresh": fresh, "together": 1}


def observation(of: Config, of_set: dict[str, Any], place: int, **changes: Any) -> dict[str, Any]:
    return {
        "run": 1,
        "config": of.id,
        "capability": of_set["capability"],
        "probe_set": of_set["probe_set"],
        "probe": of_set["probes"][place][0],
        "state": "scored",
        "value": 1.0,
        "passed": True,
        "why": "",
        "measured": {"said": 3},
        "text": "Ünicode\n\u2028",
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "first_token_seconds": 0.1,
        "seconds": 0.3,
        "finish_reason": "stop",
        "sampling": {"seed": place},
        "token_hash": digest(place),
        "peak_memory": 1 << 30,
    } | changes


def spent(of: Config, of_set: dict[str, Any], seconds: float, tokens: int) -> dict[str, Any]:
    names = {"capability": of_set["capability"], "probe_set": of_set["probe_set"]}
    return {"run": 1, "config": of.id, **names, "seconds": seconds, "tokens": tokens}


def small(store: Store, *names: str) -> list[Config]:
    """Measure configs of these names: all probes of one capability, half of another's."""
    configs = [config(name) for name in names]
    whole, half = probe_set(), probe_set("capability://other@2", probes=8)
    for each in (whole, half):
        store.append_once("probe_set", each)
    for of in configs:
        store.append_once("config", config_body(of))
        store.append("run", run(of, whole, half))
        for place in range(6):
            store.append("observation", observation(of, whole, place))
        for place in range(4):
            store.append("observation", observation(of, half, place, passed=False, value=0.0))
        store.append("round", spent(of, whole, 0.1, 20))
    return configs
