"""``quipu claims``: what is said of models, sentence by sentence, and whether it is true."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from quipu.cli import options
from quipu.cli.terminal import faint, print_json, print_table, printable
from quipu.errors import ModelNotFound

if TYPE_CHECKING:
    from quipu.evidence.cards import Card
    from quipu.evidence.claims import Claim, Judgement
    from quipu.evidence.judging import Header

SUMMARY = "judge what is said of models: verified, contradicted, unmeasured"
USAGE = "quipu claims [MODEL] [OPTIONS]"
DESCRIPTION = """\
Judge what is said of models. Without MODEL: every sentence of the page "Llama
3.2 3B Instruct vs Llama 4". With MODEL, a card's name or a file: what its card
says of it and what that page says of it, against the header of the file where
one is at hand (a config.json is enough), else against published facts, else
against what was measured."""
EXAMPLES = """\
examples:
  quipu claims
  quipu claims llama-3.2-3b-instruct
  quipu claims ./Llama-3.2-3B-Instruct.gguf --status contradicted
  quipu claims ./config.json
  quipu claims ./finetuned --card llama-3.2-3b-instruct --json
  quipu claims --markdown"""

STATUSES = ("verified", "contradicted", "unmeasured")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"a card's name, or {options.MODEL_HELP}")
    parser.add_argument("--card", metavar="NAME", help="hold the file against this card (the one of its shape)")
    parser.add_argument("--status", choices=STATUSES, help="only these (all)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    options.add_evidence(parser)
    parser.set_defaults(usage_error=parser.error)


def run(arguments: argparse.Namespace) -> None:
    """Print every claim with its status. Raises QuipuError."""
    from quipu.evidence import claims_report
    from quipu.evidence.cards import card, cards
    from quipu.evidence.claims import claims_about, seed_claims
    from quipu.evidence.judging import judge

    if arguments.json and arguments.markdown:
        arguments.usage_error("--json and --markdown are two forms of the same; choose one")
    if arguments.card is not None and arguments.model is None:
        arguments.usage_error("--card goes with the file that is held against it")
    known = cards()
    header: Header | None = None
    said: Sequence[Claim] = seed_claims()
    if arguments.model is not None:
        its, header = _asked(arguments.model, None if arguments.card is None else card(arguments.card, known), known)
        said = claims_about(its)
    with options.evidence(arguments) as store:
        snapshot = store.snapshot()
    judged = [each for each in judge(said, known, snapshot, header) if arguments.status in (None, each.status)]
    if arguments.json:
        print_json(claims_report.report(judged, snapshot, header))
    elif arguments.markdown:
        print(claims_report.markdown(judged, snapshot, header), end="")
    else:
        _print(judged, header)


def _asked(model: str, of: Card | None, known: Mapping[str, Card]) -> tuple[Card, Header | None]:
    """The card that ``model`` means, and the header of its file where one is here."""
    from quipu.evidence.cards import card
    from quipu.evidence.header import read_header

    if of is not None:
        return of, read_header(model, known, of.name)
    try:
        its = card(model, known)
    except ModelNotFound as unknown:
        try:
            header = read_header(model, known)
        except ModelNotFound:
            raise unknown from None
        return known[header.subject], header
    try:
        return its, read_header(model, known, its.name)
    except ModelNotFound:  # no weights here: what is published has to do
        return its, None


def _print(judged: Sequence[Judgement], header: Header | None) -> None:
    from quipu.evidence.claims import counts

    place = ""
    for each in judged:
        claim = each.claim
        if claim.place != place:
            place = claim.place
            print(f"\n{printable(place)}")
        reason = f"{each.why}; needs: {each.needs}" if each.needs else each.why
        print(f"  {each.status:<13}{printable(claim.subject)}: “{printable(claim.quote)}”")
        print(faint(f"  {'':<13}{printable(claim.words)} | {printable(reason)}", sys.stdout))
        if claim.note:
            print(faint(f"  {'':<13}{printable(claim.note)}", sys.stdout))
    print()
    print_table([[str(count), status] for status, count in counts(judged).items()])
    if header is not None:
        print(faint(f"held against the header of {printable(header.path)}", sys.stdout))
