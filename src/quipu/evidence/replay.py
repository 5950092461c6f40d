"""An observation made once more: do the same file, probe, seed and options still give the same tokens?"""

from __future__ import annotations

import re
from collections.abc import Generator as Steps
from collections.abc import Mapping
from contextlib import closing
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
from quipu.types import Chunk, Chunks, Prompt, Sampling, TokenLogprob

COMPARED = ("engine", "chat_template", "hardware")
"""What may differ between two runs of one file, and may change its tokens."""


@dataclass(frozen=True, slots=True)
class Apart:
    """After how many characters two answers differ, and how near the two likeliest tokens are there, in nats."""

    characters: int
    nats: float


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
    apart: Apart | None
    """Where the answers go apart; None if they do not, or not within one answer."""

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


def arithmetic(config: Config) -> dict[str, Any]:
    """The arguments of quipu.load that say how ``config`` was computed, by what NativeBackend.version told of it."""
    dtype = str(config.facts["dtype"])
    native = re.search(r", native .*, KV (\w+)(?:, quantised to (\w+))?$", config.engine)
    if native is None:
        return {"runner": "torch", "dtype": dtype}
    stored = dtype == "int8" or native[2] is not None
    return {"runner": "native", "dtype": "auto" if stored else dtype, "kv_dtype": native[1], "quantize": native[2]}


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
    heard = _Heard(model)
    seen = observe(heard, capability, probe, record["sampling"])
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
        apart=heard.apart(record["text"]),
    )


class _Heard:
    """A Generator that notes each token of another's answers, with how likely it and the next best were."""

    def __init__(self, model: LocalModel) -> None:
        self.facts = model.facts
        self.context_length = model.context_length
        self.count = model.count
        self._model = model
        self._answers: list[list[TokenLogprob]] = []

    def stream(self, prompt: Prompt, sampling: Sampling | None = None, **options: Any) -> Chunks:
        """The other's chunks."""
        return self._note(self._model.stream(prompt, sampling, **{**options, "logprobs": 2}))

    def apart(self, text: str) -> Apart | None:
        """Where the only answer, as it is now, leaves ``text``."""
        said = ""
        for token in self._answers[0] if len(self._answers) == 1 else ():
            if not text.startswith(said + token.text):
                best, second = (other.logprob or 0.0 for other in token.top[:2])
                return Apart(len(said), best - second)
            said += token.text
        return None

    def _note(self, chunks: Chunks) -> Steps[Chunk, None, None]:
        tokens: list[TokenLogprob] = []
        self._answers.append(tokens)
        with closing(chunks):
            for chunk in chunks:
                tokens.extend(chunk.logprobs)
                yield chunk
