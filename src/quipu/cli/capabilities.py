"""``quipu capabilities``: what can be asked of a model."""

from __future__ import annotations

import argparse

from quipu.cli.terminal import print_json, print_table

SUMMARY = "list what can be asked of a model"
USAGE = "quipu capabilities [--json]"
DESCRIPTION = """\
List the capabilities: what `quipu run` calls. Those in folders named by
QUIPU_CAPABILITIES are among them. Loads no model."""
EXAMPLES = """\
examples:
  quipu capabilities
  quipu capabilities --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("--json", action="store_true", help="print one JSON list, with the schemas of input and output")


def run(arguments: argparse.Namespace) -> None:
    """Print them by name."""
    from quipu import capabilities

    every = capabilities.all_capabilities()
    if not arguments.json:
        print_table([(each.id, each.title, " ".join(each.description.split())) for each in every])
        return
    from quipu.serve.capability_schema import card

    print_json([card(each) for each in every])
