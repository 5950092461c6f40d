"""The whole run: processes asked in turn, round by round, so that a busy minute hits all of them alike."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from quipu import __version__, native
from quipu.bench import llama_cpp, quality, shapes
from quipu.bench.child import Child, seconds_to_first_byte
from quipu.bench.contender import Contender, Options, ours, peer
from quipu.bench.measures import DEEP, MEASURES, ROOM_EACH, STEPS, TOGETHER
from quipu.bench.serving import Served
from quipu.engine.machine import processor
from quipu.errors import InvalidRequest
from quipu.model.checkpoint import Checkpoint, open_checkpoint

QUICK_DEEP = 1000
Progress = Callable[[int, int, str], None]


def measure(model: str | None, shape: str | None, options: Options, report: Progress) -> dict[str, Any]:
    """Everything measured of ``model``, or of random weights of a ``shape``, for JSON. Raises QuipuError."""
    if options.formats:
        llama_cpp.check(options.formats)
    with ExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory(prefix="quipu-bench-")))
        if shape is not None:
            report(0, 1, "random weights")
            shapes.write(shapes.SHAPES[shape], folder / f"{shape}.gguf")
            model = str(folder / f"{shape}.gguf")
        assert model is not None
        run = _Run(open_checkpoint(model), shape, options, folder, report)
        with Child({"kind": "limits", "threads": options.threads}, {"OPENBLAS_NUM_THREADS": "1"}) as limits:
            run.starts()
            run.rounds(limits)
            run.serving()
        return run.as_dict()


class _Run:
    """One run over one checkpoint; its contenders are ours and the peer once for each format."""

    def __init__(
        self, checkpoint: Checkpoint, shape: str | None, options: Options, folder: Path, report: Progress
    ) -> None:
        self.checkpoint, self.shape, self.options, self.folder = checkpoint, shape, options, folder
        context = checkpoint.config.context_length
        least = TOGETHER * ROOM_EACH
        if context < least:
            raise InvalidRequest(f"quipu bench needs a context of {least} tokens; {checkpoint.name} has {context}")
        if options.formats and checkpoint.format != "gguf":
            raise InvalidRequest(
                f"llama.cpp reads GGUF files, and {checkpoint.name} is a folder of {checkpoint.format}; name a .gguf, "
                "or leave --peer out",
                param="peer",
            )
        self.depth = min(QUICK_DEEP if options.quick else DEEP, context - STEPS)
        self.room = max(self.depth + STEPS, least)
        self.limits: dict[str, list[float]] = {"read": [], "multiply": []}
        self.text: dict[str, Any] | None = None
        self._report, self._done = report, 0
        self._total = (1 + len(options.formats)) * (options.rounds + (options.rounds + 1) * len(MEASURES))
        self._total += 2 * (options.rounds + 1)
        # Packed weights go where nobody else's are: a first start is one.
        self._environment = {"QUIPU_CACHE": str(folder / "cache")}
        self.contenders = [ours(checkpoint, options, self.depth)]
        for form in options.formats:
            report(0, self._total, f"making {form}")
            self.contenders.append(peer(checkpoint, form, options, self.depth, folder))

    def starts(self) -> None:
        """Loading and starting, the first load of each round without packed weights."""
        for round_number in range(self.options.rounds):
            for each in self._in_turn(round_number):
                self._next(f"start of {each.name} {each.format}")
                if each.ours:
                    shutil.rmtree(self.folder / "cache", ignore_errors=True)
                    each.add("load_first", self._loading(each))
                each.add("load", self._loading(each))
                if self.checkpoint.chat_template is not None:
                    each.add("start", seconds_to_first_byte(each.command(self.options), self._environment))

    def rounds(self, limits: Child) -> None:
        """Everything else. The first round warms up and is not counted, but for memory, which is asked only there."""
        with ExitStack() as opened:
            children = [opened.enter_context(self._child(each)) for each in self.contenders]
            for round_number in range(self.options.rounds + 1):
                if round_number:
                    for limit, values in self.limits.items():
                        values.append(limits.ask(limit))
                for name in MEASURES:
                    for place in self._order(round_number):
                        each = self.contenders[place]
                        self._next(f"{name} of {each.name} {each.format}")
                        if (name == "memory") == (round_number == 0):
                            each.add(name, children[place].ask("time", measure=name))
                        elif name != "memory":
                            children[place].ask("time", measure=name)
            for each, child in zip(self.contenders, children, strict=True):
                each.variants = {name: way for name, way in child.ask("variants").items() if way}
            if self.shape is None:
                self._quality(children)

    def serving(self) -> None:
        """Sixteen streams of ours through the engine and, with a tokenizer, over HTTP. The first round warms up."""
        [each] = [each for each in self.contenders if each.ours]
        job = {**each.job(self.options, self.depth, self.room), "kind": "engine"}
        with ExitStack() as opened:
            engine = opened.enter_context(Child(job, self._environment))
            asked: dict[str, Callable[[], float]] = {"engine16": lambda: engine.ask("rate")}
            if self.checkpoint.tokenizer_source is not None:
                loading = {name: str(value) for name, value in job["options"].items()}
                vocabulary = self.checkpoint.config.vocabulary
                asked["http16"] = opened.enter_context(
                    Served(str(each.path), vocabulary, loading, {**os.environ, **self._environment})
                ).rate
            for round_number in range(self.options.rounds + 1):
                for name, rate in asked.items():
                    self._next(f"{name} of {each.name} {each.format}")
                    found = rate()
                    if round_number:
                        each.add(name, found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Times are UTC."""
        config = self.checkpoint.config
        return {
            "quipu": __version__,
            "measured": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "machine": {
                "processor": processor(),
                "threads": self.options.threads,
                "instructions": native.instruction_sets()[0],
                "system": platform.system(),
            },
            "model": {
                "name": self.checkpoint.name,
                "quantization": self.checkpoint.quantization,
                "parameters": self.checkpoint.parameters,
                "layers": config.layers,
                "hidden_size": config.hidden_size,
                "vocabulary": config.vocabulary,
            },
            "options": {
                "rounds": self.options.rounds,
                "quick": self.options.quick,
                **self.options.loading,
                "shape": self.shape,
            },
            "depth": self.depth,
            "peer": f"llama-cpp-python {importlib.metadata.version('llama-cpp-python')}"
            if self.options.formats
            else None,
            "text": self.text,
            "limits": self.limits,
            "engines": [each.as_dict() for each in self.contenders],
        }

    def _order(self, round_number: int) -> list[int]:
        """Every other round backwards, so that nobody always comes after the same."""
        return list(range(len(self.contenders)))[:: 1 if round_number % 2 else -1]

    def _in_turn(self, round_number: int) -> list[Contender]:
        return [self.contenders[place] for place in self._order(round_number)]

    def _next(self, what: str) -> None:
        self._report(self._done, self._total, what)
        self._done += 1

    def _child(self, each: Contender) -> Child:
        return Child(each.job(self.options, self.depth, self.room), self._environment)

    def _loading(self, each: Contender) -> float:
        with self._child(each) as child:
            found: float = child.ask("loading")
            return found

    def _quality(self, children: Sequence[Child]) -> None:
        limit = quality.QUICK_TOKENS if self.options.quick else quality.TOKENS
        self._report(self._total - 1, self._total, "quality")
        found = children[0].ask("tokens", limit=limit)
        file = str(self.folder / "reference.npy")
        children[0].ask("reference", tokens=found["tokens"], file=file)
        for each, child in zip(self.contenders, children, strict=True):
            each.quality = child.ask("quality", tokens=found["tokens"], reference=file)
        self.text = {"name": found["text"], "tokens": len(found["tokens"])}
