"""``quipu quantize``: a model in fewer bits, as a GGUF file that quipu and llama.cpp run."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from quipu.cli.options import MODEL_HELP, QUANTIZATIONS, positive
from quipu.cli.terminal import bytes_text, print_json, print_table, printable, progress

if TYPE_CHECKING:
    from quipu.engine.quantize import Quantised

SUMMARY = "write a model in 8 or 4 bits to a GGUF file"
USAGE = "quipu quantize MODEL --to q8|q4 --out FILE.gguf [OPTIONS]"
DESCRIPTION = """\
Write a model of float32, float16 or bfloat16 weights to a GGUF file in about
8.5 or 5 bits a weight. It goes tensor by tensor: neither the model nor the file
need fit into memory. If it is ended, even by kill -9, the same command goes on
where it was; until it is done, the file is FILE.gguf.part. What a Llama 4 sees
with is written beside it in float16, to mmproj-FILE.gguf, where it is found."""
EXAMPLES = """\
examples:
  quipu quantize llama-3.2-1b-instruct --to q8 --out llama-1b-q8.gguf
  quipu quantize ./Llama-4-Scout --to q4 --out scout-q4.gguf
  quipu quantize ./model --to q4 --out model-q4.gguf --json"""
WORST = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--to", choices=QUANTIZATIONS, required=True, help="bits of a weight, about")
    parser.add_argument("--out", metavar="FILE.gguf", type=Path, required=True, help="the new file")
    parser.add_argument("--threads", type=positive, metavar="N", help="processor threads (one per core)")
    parser.add_argument("--json", action="store_true", help="print one JSON object, with every tensor")


def run(arguments: argparse.Namespace) -> None:
    """Write the file and say what it lost. Raises what ``engine.quantize.quantize`` and ``open_checkpoint`` do."""
    from quipu.engine.quantize import quantize
    from quipu.model.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(arguments.model)
    threads = arguments.threads or len(os.sched_getaffinity(0))
    with progress(arguments.out.name) as show:
        made = quantize(checkpoint, arguments.to, arguments.out, threads=threads, progress=show)
    if arguments.json:
        seeing = None if made.projector is None else _as_json(made.projector)
        print_json(_as_json(made) | {"projector": seeing})
        return
    print(f"{bytes_text(made.size)}, {made.bits:.2f} bits a weight, in\n{printable(str(made.path))}")
    print(f"lost {_percent(made.error)} of the weights (root mean square), most in")
    worst = sorted(made.tensors, key=lambda each: -each.error)[:WORST]
    print_table([[each.name, each.kind, _percent(each.error)] for each in worst if each.error])
    if made.projector is not None:
        print(f"and {bytes_text(made.projector.size)} of what it sees with, in\n{printable(str(made.projector.path))}")


def _as_json(made: Quantised) -> dict[str, object]:
    tensors = [dataclasses.asdict(each) | {"bytes": each.nbytes} for each in made.tensors]
    for each in tensors:
        del each["nbytes"]
    return {
        "path": str(made.path),
        "bytes": made.size,
        "parameters": made.parameters,
        "bits_per_weight": made.bits,
        "error": made.error,
        "tensors": tensors,
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
