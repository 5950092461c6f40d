"""Who is measured: an engine with a file, as one column of the table."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quipu.bench import llama_cpp
from quipu.bench.child import Child
from quipu.bench.work import Work, packed_sizes_of, read_bytes, stored_sizes, work
from quipu.engine.native_backend import NativeBackend
from quipu.model.checkpoint import Checkpoint, open_checkpoint

QUESTION = "hi"
OURS = "quipu"


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured. ``formats``: of the peer llama.cpp, none for no peer; ``loading``: options of quipu.load."""

    rounds: int = 5
    quick: bool = False
    formats: Sequence[str] = ()
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    loading: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Contender:
    """One column of the table: an engine with a file. ``figures``: for each measure a value of each round."""

    name: str
    format: str
    path: Path
    weights: int
    work: dict[str, Work]
    figures: dict[str, list[float]] = field(default_factory=dict)
    variants: dict[str, str] = field(default_factory=dict)
    quality: dict[str, float] | None = None

    @property
    def ours(self) -> bool:
        """Whether it is quipu."""
        return self.name == OURS

    def add(self, measure: str, value: float) -> None:
        """A value of the next round."""
        self.figures.setdefault(measure, []).append(value)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; where its file was is nobody's business."""
        found = asdict(self)
        del found["path"]
        return found

    def job(self, options: Options, depth: int, room: int) -> dict[str, Any]:
        """For the worker that measures it, with a cache of ``room`` tokens."""
        loading = {**options.loading, "threads": options.threads}
        found = {"kind": self.name, "path": str(self.path), "threads": options.threads, "options": loading}
        return {**found, "depth": depth, "room": room}

    def command(self, options: Options) -> list[str]:
        """What a user starts to ask one thing; for the peer a program of ours that does as much with its library."""
        if self.ours:
            words = ["quipu", "chat", str(self.path), "-p", QUESTION, "--temperature", "0"]
            for name, value in {**options.loading, "threads": str(options.threads)}.items():
                words += [f"--{name.replace('_', '-')}", value]
        else:
            job = {"kind": "answer", "path": str(self.path), "question": QUESTION, "threads": options.threads}
            words = ["quipu.bench.worker", json.dumps(job)]
        return [sys.executable, "-m", *words]


def ours(checkpoint: Checkpoint, options: Options, depth: int) -> Contender:
    """quipu with the file as it is."""
    loading, config, tensors = options.loading, checkpoint.config, checkpoint.tensors
    dtype, quantize, kv_dtype = loading.get("dtype", "auto"), loading.get("quantize"), loading.get("kv_dtype", "auto")
    backend = NativeBackend(config, tensors, dtype=dtype, quantize=quantize, kv_dtype=kv_dtype)
    sizes = packed_sizes_of(tensors, dtype, quantize)
    weights, of_each = round(read_bytes(config, sizes)), work(config, tensors, sizes, backend.kv_dtype, depth)
    return Contender(OURS, quantize or _main_kind(checkpoint), checkpoint.path, weights, of_each)


def peer(checkpoint: Checkpoint, form: str, options: Options, depth: int, folder: Path) -> Contender:
    """llama.cpp with the same weights in a format, which is made in ``folder`` unless the file has it already."""
    path = checkpoint.path
    if form not in ("file", _main_kind(checkpoint).lower()):
        path = folder / f"{form}.gguf"
        job = {"kind": "requantise", "path": str(checkpoint.path), "target": str(path), "format": form}
        Child({**job, "threads": options.threads}, {}).close()
    opened = open_checkpoint(path)
    sizes = stored_sizes(opened.tensors)
    weights = round(read_bytes(opened.config, sizes))
    of_each = work(opened.config, opened.tensors, sizes, "f16", depth)
    return Contender(llama_cpp.NAME, form, path, weights, of_each)


def _main_kind(checkpoint: Checkpoint) -> str:
    """How most of the matrices are stored."""
    kinds: dict[str, int] = {}
    for each in checkpoint.tensors.values():
        if len(each.shape) == 2:
            kinds[each.kind] = kinds.get(each.kind, 0) + each.shape[0] * each.shape[1]
    return max(kinds, key=lambda kind: kinds[kind])
