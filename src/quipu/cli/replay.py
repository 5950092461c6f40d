"""``quipu replay``: one observation of the log made again, token by token."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from quipu.cli import options
from quipu.cli.terminal import print_json, printable, progress
from quipu.errors import InvalidRequest

if TYPE_CHECKING:
    from quipu.evidence.config import Config
    from quipu.evidence.replay import Replay

SUMMARY = "make one observation again and compare its tokens"
USAGE = "quipu replay OBSERVATION [OPTIONS]"
DESCRIPTION = """\
Load the model file of an observation, whose hash must be the one that was
measured, ask it the same probe with the same seed and options, and compare the
tokens. Exit code 0 if all are the same, 1 if not or if it cannot be done."""
EXAMPLES = """\
examples:
  quipu replay 1234
  quipu replay 1234 --model ./model.gguf --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    help_number = "the number of its entry in the log"
    parser.add_argument("observation", type=options.positive, metavar="OBSERVATION", help=help_number)
    parser.add_argument("--model", metavar="MODEL", help="where the model is now (where it was)")
    parser.add_argument("--adapter", metavar="FOLDER", help="the LoRA adapter that was measured with it")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (auto)")
    parser.add_argument("--threads", type=options.positive, metavar="N", help="processor threads (one per core)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options.add_evidence(parser)


def run(arguments: argparse.Namespace) -> None:
    """Replay and print what came of it; leaves with 1 if a token differs. Raises QuipuError."""
    import quipu
    from quipu.evidence.replay import arithmetic, asked, check_file, replay

    with options.evidence(arguments) as store:
        record = store.observation(arguments.observation)
        config = store.config(record["config"])
    asked(record)
    path = arguments.model or _file(config)
    with progress("hashing"):
        check_file(path, arguments.adapter, config)
    with (
        progress(config.label) as show,
        quipu.load(
            path,
            name=config.label,
            context=int(config.decoding["context_length"]),
            concurrency=1,
            device=arguments.device,
            threads=arguments.threads,
            adapter=arguments.adapter,
            progress=show,
            **arithmetic(config),
        ) as model,
    ):
        found = replay(model, record, config)
    if arguments.json:
        print_json(found.as_dict())
    else:
        _print(found)
    if not found.same:
        raise SystemExit(1)


def _file(config: Config) -> str:
    file = config.facts.get("file")
    if not isinstance(file, str) or not file:
        raise InvalidRequest(f"{config.label} was measured without a file of its own; there is nothing to load")
    return file


def _print(found: Replay) -> None:
    print("the same tokens again" if found.same else "other tokens")
    print(f"  then {found.then}\n  now  {found.now}")
    if not found.same:
        print(f"score {found.value_then:g} then, {found.value_now:g} now")
    if found.apart is not None:
        print(
            f"the answers go apart after {found.apart.characters} characters, where the two likeliest tokens are "
            f"{found.apart.nats:.3f} nats apart"
        )
    for difference in found.differences:
        print(printable(difference))
