"""An observation made once more: do the same file, probe, seed and options still give the same tokens?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quipu import capabilities
from quipu.capabilities.base import Answering, Probe
from quipu.engine.load import files_hash
from quipu.engine.local import LocalModel
from quipu.errors import CapabilityNotFound, InvalidRequest
from quipu.evidence.config import Config
from quipu.evidence.observe import observe
from quipu.model.checkpoint import open_checkpoint

COMPARED = ("engine", "chat_template", "hardware")
"""What may differ between two runs of one file, and may change its tokens."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What came of it: ``then`` and ``now`` are hashes of tokens, ``differences`` what else is not as it was."""

    observation: int
    probe: str
    then: str
    now: str | None
    text_then: str
    text_now: str
    value_then: float
    value_now: float
    differences: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether every token is the same."""
        return self.then == self.now

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"same": self.same, **asdict(self)}


def asked(record: Mapping[str, Any]) -> tuple[Answering, Probe]:
    """The capability and the probe of an observation, as they are here. Raises InvalidRequest for why they are not."""
    number = record["number"]
    if record["state"] == "beyond context":
        raise InvalidRequest(
            f"observation {number} cannot be replayed: its probe did not fit the context, and was not asked",
            param="observation",
        )
    if record["token_hash"] is None:
        raise InvalidRequest(
            f"observation {number} cannot be replayed: its model did not tell its tokens, as remote endpoints do not",
            param="observation",
        )
    name = str(record["capability"]).removeprefix("capability://").rpartition("@")[0]
    try:
        capability = capabilities.find(name)
    except CapabilityNotFound:
        capability = None
    if not isinstance(capability, Answering) or capability.uri != record["capability"]:
        there = "there is none of that name" if capability is None else f"here it is {capability.uri}"
        raise InvalidRequest(
            f"observation {number} cannot be replayed: it is of {record['capability']}, and {there}",
            param="observation",
        )
    probe = next((each for each in capability.probes if each.id == record["probe"]), None)
    if probe is None:
        raise InvalidRequest(
            f"observation {number} cannot be replayed: {capability.uri} has no probe {record['probe']} any more",
            param="observation",
        )
    return capability, probe


def check_file(model: str | Path, adapter: str | Path | None, config: Config) -> None:
    """Whether ``model`` is the file that was measured. Raises InvalidRequest if not, and what opening it raises."""
    found = files_hash(open_checkpoint(model), adapter)
    if found != config.model_hash:
        raise InvalidRequest(
            f"{model} is not what was measured: its SHA-256 is {found}, and that of {config.label} was "
            f"{config.model_hash}; give the same file with --model",
            param="model",
        )


def replay(model: LocalModel, record: Mapping[str, Any], config: Config) -> Replay:
    """Ask the probe of ``record``, an observation of ``config``, again. Raises what ``asked`` and the model raise."""
    capability, probe = asked(record)
    # What the checkpoint recommended then: by its name it may be known to recommend more than its file says.
    model.sampling_defaults = dict(config.decoding.get("defaults", {}))
    now = Config.of(model, {})
    seen = observe(model, capability, probe, record["sampling"])
    return Replay(
        observation=record["number"],
        probe=probe.id,
        then=record["token_hash"],
        now=seen.token_hash,
        text_then=record["text"],
        text_now=seen.text,
        value_then=record["value"],
        value_now=seen.value,
        differences=tuple(
            f"{name.replace('_', ' ')}: {getattr(config, name)} then, {getattr(now, name)} now"
            for name in COMPARED
            if getattr(config, name) != getattr(now, name)
        ),
    )
