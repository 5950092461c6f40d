"""``quipu bench``: how fast a model runs on this machine, of what is possible, and beside llama.cpp."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from quipu.cli import options
from quipu.cli.terminal import faint, print_json, print_table, progress
from quipu.errors import InvalidRequest

SUMMARY = "measure how fast a model runs here"
USAGE = "quipu bench [MODEL] [OPTIONS]"
DESCRIPTION = """\
Measure how fast a model runs on this machine's processor: prompts, one answer,
16 answers at once, a long context, loading, starting, memory; beside what the
machine allows, measured in the same run, and beside the quality of what is
computed. With --peer, llama.cpp is measured in turn, on the same weights."""
EXAMPLES = """\
examples:
  quipu bench
  quipu bench ./model.gguf --quick --rounds 1
  quipu bench ./model.gguf --peer llama.cpp --peer-format q4_0,q8_0
  quipu bench --shape llama-3.2-1b --rounds 3
  quipu bench --markdown speed.md --plot speed.svg --json > speed.json"""

PEERS = ("llama.cpp",)
PEER_FORMATS = "q4_0,q4_1,q8_0"
SHAPES = ("llama-3.2-1b",)
"""As quipu.bench has them; repeated because importing that imports numpy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"{options.MODEL_HELP} ({options.DEFAULT_MODEL})")
    parser.add_argument("--shape", choices=SHAPES, help="random 4-bit weights of this shape instead of a MODEL")
    parser.add_argument("--rounds", type=options.positive, metavar="N", help="times that everything is asked (5)")
    parser.add_argument("--quick", action="store_true", help="1 round, shorter context and text: for a first look")
    parser.add_argument("--peer", choices=PEERS, help="measure this one in turn, too; needs the extra bench")
    parser.add_argument(
        "--peer-format", metavar="F,...", help=f"formats to give it, made of the same weights ({PEER_FORMATS})"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a page, too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a roofline plot as SVG, too")
    parser.add_argument("--threads", type=options.positive, metavar="N", help="processor threads (one per core)")
    parser.add_argument("--dtype", choices=options.DTYPES, help="what weights are converted to (as stored)")
    parser.add_argument("--kv-dtype", choices=options.KV_DTYPES, help="how keys and values are kept (f16)")
    parser.add_argument(
        "--quantize", choices=options.QUANTIZATIONS, help="make 8 or 4 bits of weights stored as floats"
    )
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    """Measure, then print what was found. Raises QuipuError."""
    if arguments.model is not None and arguments.shape is not None:
        arguments.usage_error("--shape makes its own weights; it goes without MODEL")
    if arguments.peer_format is not None and arguments.peer is None:
        arguments.usage_error("--peer-format goes with --peer")
    from quipu.bench import plot, report
    from quipu.bench.benchmark import measure

    # What can be refused is refused before minutes of measuring.
    if arguments.plot:
        plot.check()
    for file in (arguments.markdown, arguments.plot):
        if file is not None and not file.parent.is_dir():
            raise InvalidRequest(f"{file} cannot be written: there is no folder {file.parent}")
    model = None if arguments.shape else arguments.model or options.DEFAULT_MODEL
    with progress("bench") as show:
        found = measure(model, arguments.shape, _options(arguments), show)
    if arguments.markdown:
        picture = os.path.relpath(arguments.plot, arguments.markdown.parent) if arguments.plot else None
        _write(arguments.markdown, report.markdown(found, picture))
    if arguments.plot:
        _write(arguments.plot, plot.plot(found))
    if arguments.json:
        print_json(found)
        return
    print_table(report.table(found))
    print(faint(f"{found['machine']['threads']} threads; {report.limits(found)}", sys.stderr), file=sys.stderr)


def _options(arguments: argparse.Namespace) -> Any:
    from quipu.bench.contender import Options

    given: dict[str, Any] = {"rounds": arguments.rounds or (1 if arguments.quick else 5), "quick": arguments.quick}
    if arguments.peer is not None:
        formats = arguments.peer_format or PEER_FORMATS
        given["formats"] = list(dict.fromkeys(each.strip().lower() for each in formats.split(",")))
    if arguments.threads is not None:
        given["threads"] = arguments.threads
    loading = {name: getattr(arguments, name) for name in ("dtype", "kv_dtype", "quantize")}
    return Options(loading={name: value for name, value in loading.items() if value is not None}, **given)


def _write(path: Path, text: str) -> None:
    from quipu.cli.measure import write

    write(path, text)
