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
    print_json(
        [
            {
                "id": each.id,
                "uri": each.uri,
                "version": each.version,
                "title": each.title,
                "description": each.description,
                "phrases": list(each.phrases),
                "text_field": each.text_field,
                "input": each.input.model_json_schema(),
                "output": each.output.model_json_schema(),
            }
            for each in every
        ]
    )
