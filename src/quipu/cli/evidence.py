"""``quipu evidence``: the log that everything shown is computed from, checked, derived anew, written out, read in."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli import options
from quipu.cli.terminal import print_json, printable

if TYPE_CHECKING:
    from quipu.evidence.log import Entry
    from quipu.evidence.store import Store

SUMMARY = "check, rebuild, export or import the log of evidence"
USAGE = "quipu evidence {verify,rebuild,export,import} [FILE] [OPTIONS]"
DESCRIPTION = """\
verify checks that no entry of the log was altered, removed or replaced, and
that the tables derived from it are what it says. rebuild derives them again
and prints their hashes, the same wherever the log is kept. export writes the
log as JSON Lines; import reads such a file, which must continue this log."""
EXAMPLES = """\
examples:
  quipu evidence verify
  quipu evidence rebuild --json
  quipu evidence export log.jsonl
  quipu evidence import log.jsonl --evidence-url postgresql://me@localhost/quipu"""

ACTIONS = ("verify", "rebuild", "export", "import")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="of export and import: the log as JSON Lines"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options.add_evidence(parser)
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    """Do it and print what was found. Raises QuipuError."""
    takes_file = arguments.action in ("export", "import")
    if takes_file and arguments.file is None:
        arguments.usage_error(f"{arguments.action} needs a FILE")
    if not takes_file and arguments.file is not None:
        arguments.usage_error(f"{arguments.action} takes no FILE")
    with options.evidence(arguments, create=arguments.action == "import") as store:
        found = {"log": store.name, **_done(store, arguments.action, arguments.file)}
    if arguments.json:
        print_json(found)
        return
    for name, value in found.items():
        lines = value if isinstance(value, dict) else {name: value}
        for label, each in lines.items():
            print(f"{label}: {printable(', '.join(each) or 'none' if isinstance(each, list) else str(each))}")


def _done(store: Store, action: str, file: Path) -> dict[str, Any]:
    if action == "verify":
        return _of(store.verify())
    if action == "rebuild":
        rebuilt = store.rebuild()
        return {**_of(rebuilt.last), "tables": dict(rebuilt.tables), "differed": list(rebuilt.differed)}
    if action == "export":
        return {"file": str(file), "exported": store.export(file)}
    return {"file": str(file), "imported": store.import_(file), **_of(store.last())}


def _of(last: Entry | None) -> dict[str, Any]:
    """What the last entry says of the log before it."""
    if last is None:
        return {"entries": 0, "hash": ""}
    return {"entries": last.number, "at": last.at, "hash": last.hash}
