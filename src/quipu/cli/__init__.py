"""The ``quipu`` command: thin verbs over the rooms, one file each.

argparse and not typer: typer 0.29 imports pydantic, and with it ``--help`` takes 0.4 s instead of 0.06 s. For the
same reason a verb imports what it works with inside its ``run``; importing this package imports no torch and no numpy.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence

from quipu import __version__
from quipu.cli import (
    bench,
    capabilities,
    chat,
    claims,
    compare,
    config,
    evidence,
    explain,
    flip,
    gaps,
    inspect,
    measure,
    models,
    pull,
    quantize,
    rank,
    replay,
    run,
    serve,
    settings,
)
from quipu.cli.terminal import printable
from quipu.errors import QuipuError, Unparsed

VERBS = (
    serve, chat, run, capabilities, measure, bench, compare, rank, explain, gaps, flip, claims, evidence, replay,
    models, inspect, pull, quantize, config,
)  # fmt: skip
UNPARSED = 4
"""An answer of the model that could not be read, as against an error (1): another try, or model, may succeed."""
INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended: 128 + SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code.

    0, 1 after a QuipuError, 2 for wrong usage, 3 where a comparison cannot tell, 4 when a model's answer could not be
    read, 130 when interrupted.

    ``arguments`` are those after the program's name; None takes them from the command line.
    """
    _never_fail_to_print()
    try:
        chosen = parse(sys.argv[1:] if arguments is None else list(arguments), os.environ)
        code: int | None = chosen.run(chosen)
        sys.stdout.flush()
    except SystemExit as leaving:  # argparse has printed the help, the version, or what is wrong
        return leaving.code if isinstance(leaving.code, int) else 1
    except Unparsed as error:
        answer = printable(error.text) if sys.stderr.isatty() else error.text
        print(f"quipu: {error}; the model said:\n{answer}", file=sys.stderr)
        return UNPARSED
    except QuipuError as error:
        print(f"quipu: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough, as in `quipu chat ... | head`. The interpreter flushes stdout once more
        # when it ends; into nothing, so that it does not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code or 0


def parse(words: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """What ``words``, the environment and a configuration file say. Raises SystemExit, InvalidConfiguration."""
    parser = _parser()
    verbs = configurable(parser)
    if words and words[0] in verbs:
        settings.apply(words[0], verbs, words[1:], environment)
    if words[:1] == ["run"]:
        # After the settings: what a capability is given comes from no configuration.
        run.add_fields(verbs["run"], words[1:])
        chosen = verbs["run"].parse_intermixed_args(words[1:])  # FILE may stand after options
    else:
        chosen = parser.parse_args(words)
    for sentence in settings.unknown_variables(verbs, environment):
        print(f"quipu: {sentence}", file=sys.stderr)
    return chosen


def configurable(parser: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    """The verbs whose options a configuration file can set, with their parsers."""
    [verbs] = [each for each in (parser or _parser())._actions if isinstance(each, argparse._SubParsersAction)]
    return {name: child for name, child in verbs.choices.items() if name != "config"}


def _never_fail_to_print() -> None:
    """Show what the terminal's encoding lacks as an escape instead of ending in the middle of an answer."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quipu",
        description="Run, serve and chat with Llama models on your own machine.",
        epilog="examples:\n  quipu chat\n  quipu serve --port 8000\n  quipu VERB --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"quipu {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in VERBS:
        name = verb.__name__.rpartition(".")[2]
        child = verbs.add_parser(
            name,
            help=verb.SUMMARY,
            usage=verb.USAGE,
            description=verb.DESCRIPTION,
            epilog=verb.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_arguments(child)
        child.add_argument("--config", metavar="FILE", help="options from this file (quipu.toml)")
        child.set_defaults(run=verb.run)
    return parser
