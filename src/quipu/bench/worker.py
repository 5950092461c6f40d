"""The side of the process that an engine has to itself: a job on the command line, then a line of JSON a question.

Apart, so that each engine has its own memory and threads, and one that crashes takes nothing with it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from quipu.bench import llama_cpp
from quipu.bench.limits import Limits
from quipu.bench.measures import MEASURES, TOGETHER, Timed, random_tokens
from quipu.bench.ours import Ours
from quipu.bench.quality import quality, text
from quipu.bench.serving import CONTEXT, engine_rate
from quipu.engine.load import load
from quipu.engine.memory import peak_memory
from quipu.errors import QuipuError, UnsupportedCheckpoint

Reply = Callable[[Any], None]


def main() -> None:
    """Answer until there is no further question."""
    # What libraries print must not stand between the answers.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def reply(value: Any) -> None:
        channel.write(json.dumps(value) + "\n")

    try:
        _work(json.loads(sys.argv[1]), reply)
    except QuipuError as error:
        reply({"error": str(error)})


def _work(job: dict[str, Any], reply: Reply) -> None:
    match job["kind"]:
        case "requantise":
            llama_cpp.requantise(job["path"], job["target"], job["format"], job["threads"])
            reply({"value": None})
        case "answer":
            llama_cpp.answer(job["path"], job["question"], job["threads"])
            reply({"value": None})
            os._exit(0)  # how long a process takes to end is not the question
        case "limits":
            limits = Limits(job["threads"])
            _answer({"read": lambda _: limits.read(), "multiply": lambda _: limits.multiply()}, reply)
        case "engine":
            options = {**job["options"], "context": CONTEXT, "concurrency": TOGETHER}
            model = load(job["path"], device="cpu", runner="native", speculate="off", **options)
            _answer({"rate": lambda _: engine_rate(model.engine, model.engine.vocabulary)}, reply)
        case _:
            _measure(job, reply)


def _answer(known: dict[str, Callable[[dict[str, Any]], Any]], reply: Reply) -> None:
    reply({"value": None})
    for line in sys.stdin:
        asked = json.loads(line)
        reply({"value": known[asked["ask"]](asked)})


def _measure(job: dict[str, Any], reply: Reply) -> None:
    start = time.perf_counter()
    engine = _engine(job)
    loading, loaded = time.perf_counter() - start, peak_memory()
    fastest: dict[str, str] = {}

    def timed(asked: dict[str, Any]) -> float:
        name = asked["measure"]
        if name == "memory":
            engine.use(fastest["pp512"])
            return max(loaded, MEASURES[name](engine))
        if name not in fastest:  # the first round warms up, and finds the way that is counted
            found = {}
            for variant in engine.variants:
                engine.use(variant)
                found[variant] = MEASURES[name](engine)
            better = min if name == "ttft" else max
            fastest[name] = better(found, key=lambda each: found[each])
            if fastest[name] == engine.variants[-1]:
                return found[fastest[name]]
        engine.use(fastest[name])
        return MEASURES[name](engine)

    def compared(asked: dict[str, Any]) -> dict[str, float]:
        return quality(engine, asked["tokens"], np.load(asked["reference"], mmap_mode="r"))

    _answer(
        {
            "loading": lambda _: loading,
            "time": timed,
            "variants": lambda _: fastest,
            "tokens": lambda asked: _tokens(engine, asked["limit"]),
            "reference": lambda asked: np.save(asked["file"], engine.model.logits(asked["tokens"])),  # type: ignore[attr-defined]
            "quality": compared,
        },
        reply,
    )


def _engine(job: dict[str, Any]) -> Timed:
    path, depth, room = job["path"], job["depth"], job["room"]
    if job["kind"] == "quipu":
        return Ours(path, depth, room, job["options"])
    if not Path(path).is_file():
        raise QuipuError(f"there is no file {path}")
    return llama_cpp.LlamaCpp(path, depth, room, job["threads"])


def _tokens(engine: Timed, limit: int) -> dict[str, Any]:
    """The story's first tokens; of a model without a tokenizer, random ones."""
    assert isinstance(engine, Ours)
    try:
        return {"text": "a story", "tokens": engine.model.prompt_ids(text())[:limit]}
    except UnsupportedCheckpoint:
        return {"text": "random tokens", "tokens": random_tokens(engine, limit)}


if __name__ == "__main__":
    main()
