"""``quipu config``: which options are in force, and where each value came from."""

from __future__ import annotations

import argparse
import os

from quipu.cli.terminal import print_json, print_table, printable

SUMMARY = "show the options in force and where each value came from"
USAGE = "quipu config [VERB] [--json]"
DESCRIPTION = """\
Show every option that is set by the environment (QUIPU_PORT for --port) or by
a configuration file (--config FILE, else ./quipu.toml, else
~/.config/quipu/config.toml). With VERB, show all options of that verb, those
that nothing sets as well. Keys are not shown."""
EXAMPLES = """\
examples:
  quipu config
  quipu config serve
  quipu config serve --config ./quipu.toml --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("verb", nargs="?", metavar="VERB", help="show all options of this verb")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    """Print the settings. Raises InvalidConfiguration."""
    from quipu.cli import configurable
    from quipu.cli.settings import SECRET, check, find_file, in_force

    parsers = configurable()
    verbs = list(parsers) if arguments.verb is None else [arguments.verb]
    if arguments.verb not in (None, *parsers):
        arguments.usage_error(f"there is no verb {arguments.verb!r}; choose from {', '.join(parsers)}")
    words = [] if arguments.config is None else ["--config", arguments.config]
    file = find_file(words, os.environ)
    if file is not None:
        check(file, parsers)
    rows = [
        (verb, each.name, "(hidden)" if each.name in SECRET and each.value else each.value, each.source)
        for verb in verbs
        for each in in_force(verb, parsers[verb], file, os.environ)
        if arguments.verb is not None or each.source != "default"
    ]
    if arguments.json:
        settings = [dict(zip(("verb", "name", "value", "source"), row, strict=True)) for row in rows]
        print_json({"file": None if file is None else str(file.path), "settings": settings})
        return
    print(f"file: {'none' if file is None else printable(str(file.path))}")
    print_table(
        [(verb, name, "" if value is None else printable(str(value)), where) for verb, name, value, where in rows]
    )
