"""What the verbs that compare share: the workload, names of models, and the log."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from quipu.cli import options
from quipu.cli.terminal import progress
from quipu.errors import InvalidRequest, ModelNotFound, UnsupportedCheckpoint

if TYPE_CHECKING:
    from quipu.evidence.cards import Card
    from quipu.evidence.compare import Judgement
    from quipu.evidence.config import Config
    from quipu.evidence.explain import Explanation
    from quipu.evidence.judging import Header
    from quipu.evidence.rank import Ranking
    from quipu.evidence.side import Side
    from quipu.evidence.snapshot import Snapshot

SIDE_HELP = "a card's name, what it was measured as, the start of a config's id, or a file of weights"


def add_workload(parser: argparse.ArgumentParser) -> None:
    """The options of everything that weighs capabilities."""
    parser.add_argument("--workload", metavar="WEIGHTS", help="as in summarize=3,code=1 (equal weights)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options.add_evidence(parser)


def margin(text: str) -> float:
    """argparse type: percentage points above 0, as a share of 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points between 0 and 100")
    return value / 100


def side(name: str, cards: Mapping[str, Card], snapshot: Snapshot) -> Side:
    """What ``name`` means: see evidence.side; a path that exists is the file there.

    Claims are held against the model's own file, where it is at hand. Raises QuipuError.
    """
    found = _named(name, cards, snapshot)
    if found.header is not None or found.card.name not in cards:
        return found
    return replace(found, header=_header(found.card.name, cards))


def _named(name: str, cards: Mapping[str, Card], snapshot: Snapshot) -> Side:
    from quipu.evidence import side as sides

    try:
        return sides.side(name, cards, snapshot)
    except ModelNotFound:
        if not Path(name).exists():
            raise
        return _of_file(name, cards, snapshot)


def _of_file(name: str, cards: Mapping[str, Card], snapshot: Snapshot) -> Side:
    from quipu.evidence import side as sides
    from quipu.evidence.header import read_header
    from quipu.model.checkpoint import open_checkpoint

    try:
        header = read_header(name, cards)
    except InvalidRequest:  # no card has its shape, so nothing is claimed of it
        header = None
    try:
        checkpoint = open_checkpoint(Path(name))
    except UnsupportedCheckpoint:
        if header is None:
            raise
        return sides.of_file(name, "", cards, snapshot, header)  # a config.json: claims can be judged, and no more
    with progress("hashing") as show:
        file_hash = checkpoint.file_hash(lambda done, total: show(done, total, name))
    return sides.of_file(name, file_hash, cards, snapshot, header)


def _header(name: str, cards: Mapping[str, Card]) -> Header | None:
    """What the file of a known model says, if it is on this machine."""
    from quipu.evidence.header import read_header
    from quipu.model.known import known_models

    if name not in {each.name for each in known_models()}:
        return None
    try:
        return read_header(name, cards, name)
    except ModelNotFound:
        return None


def measured(name: str, snapshot: Snapshot) -> Config:
    """The config that ``name`` means. Raises QuipuError, also for a model that was never measured here."""
    from quipu.evidence.cards import cards
    from quipu.evidence.change import commands_for

    found = _named(name, cards(), snapshot)
    if found.config is None:
        [command] = commands_for([found])
        raise ModelNotFound(f"{name[:100]} was never measured here; measure it with: {command}", param="model")
    return found.config


def as_of(computed: Ranking | Explanation | Judgement) -> str:
    """Of which moment a result is, for people."""
    if not computed.snapshot:
        return "as of an empty log"
    return (
        f"as of entry {computed.snapshot:,} ({computed.snapshot_hash[:12]}, {computed.at}), formulas {computed.formula}"
    )
