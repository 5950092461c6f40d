"""A claim as a card or the seed page's docket writes it down, and the predicates that it may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quipu.errors import InvalidConfiguration, did_you_mean
from quipu.evidence.facts import FACTS
from quipu.evidence.toml_table import check_keys, table, text

GAP = " … "
"""Between pieces of a quotation that leaves out what stands between them."""

RELATIONS: Mapping[str, str] = {
    "is": "",
    "about": "about ",
    "at least": "at least ",
    "up to": "up to ",
    "below": "below ",
    "includes": "includes ",
    "unknown": "unknown",
}
"""How a value is meant. ``about`` and ``up to``: equal once rounded to as many digits as the claim gives.
``at least`` counts a list. ``unknown``: the claim is that there is no value."""

MEASURED: Mapping[str, str] = {
    "can": "does this better than the trivial answer",
    "learns_from_examples": "does a task from so many examples better than the trivial answer",
}
"""Predicates that probes decide; what stands for ``value`` is a capability, or a number of examples."""

PAGE_ROWS: Mapping[str, str] = {
    "score": "has the score",
    "ranks_above": "ranks above",
    "adoption": "is adopted",
    "quality": "has quality",
    "ecosystem": "has an ecosystem of",
    "match_graph": "has field evidence",
    "times_matched": "was matched by searches",
    "pricing": "is offered as",
    "price_input": "costs, in US dollars per million tokens of prompt",
}
"""Predicates of the rows of the seed page's table."""

PAGE_FACTS: Mapping[str, str] = {
    "rows": "rows of its table",
    "models_meant_by_llama_4": "models that it means by Llama 4",
    "aligned_capabilities": "capabilities of both beside each other",
    "verdicts": "verdicts",
    "matched_searches": "searches that matched either model",
    "described_of_llama_3_2": "capabilities that it describes of Llama 3.2 3B",
    "counted_of_llama_3_2": "capabilities that it counts of Llama 3.2 3B",
    "undescribed_of_llama_3_2": "capabilities of Llama 3.2 3B that it counts and does not describe",
    "described_of_llama_4": "capabilities that it describes of Llama 4",
}
"""What the seed page shows of itself."""

UNDECIDED: Mapping[str, tuple[str, str]] = {
    "better_than": (
        "is better than",
        "a run of {value} on the same probes, compared pair by pair",
    ),
    "worse_than": (
        "is worse than",
        "a run of {value} on the same probes, compared pair by pair",
    ),
    "comparable_to": (
        "is about as good as",
        "a run of {value} on the same probes, and equivalence within a margin",
    ),
    "faster_than": (
        "is faster than",
        "tokens a second and time to the first token of both on one machine under one load",
    ),
    "cheaper_than": (
        "costs less than",
        "dated prices of both, for the same task",
    ),
    "smaller_than": (
        "has fewer parameters than",
        "a published number of parameters of {value}",
    ),
    "because": (
        "owes this to",
        "the same training with and without {value}; nothing published does that",
    ),
    "works_by": (
        "does this by",
        "a look inside the network while it works; its answers do not show it",
    ),
    "suits": (
        "is suited to",
        "a workload and a budget: with them, the rank says for whom it is the best choice",
    ),
    "costs_effort": (
        "takes effort of",
        "people doing it, timed",
    ),
    "overhead": (
        "has costs of",
        "bytes and seconds of both ways on the same answers",
    ),
    "says": (
        "is said to be",
        "a claim that names a value; these words do not",
    ),
}
"""Predicates that neither published facts nor probes decide: what they mean, and what would decide them."""

KEYS = ("quote", "predicate", "value", "relation", "of", "needs", "note")


@dataclass(frozen=True, slots=True)
class Statement:
    """What is said, by the names of claims.Claim; ``of``: of whom, where that is not whom the place is about."""

    quote: str
    predicate: str
    value: Any
    relation: str = "is"
    of: str = ""
    needs: str = ""
    note: str = ""

    def said_in(self, text: str) -> bool:
        """Whether its words stand in ``text``, in their order."""
        place = 0
        for piece in self.quote.split(GAP):
            place = text.find(piece, place)
            if place < 0:
                return False
            place += len(piece)
        return True


def predicates() -> tuple[str, ...]:
    """Every predicate there is: facts of cards, rows of the seed page, what probes decide, and the rest."""
    return (*FACTS, *PAGE_ROWS, *MEASURED, *UNDECIDED)


def statement(values: Any, where: str, more: tuple[str, ...] = ()) -> Statement:
    """Read one; ``more`` are predicates that hold there besides. Raises InvalidConfiguration that says ``where``."""
    check_keys(table(values, where), KEYS, where)
    said = {key: text(values, key, where, needed=key in ("quote", "predicate")) for key in KEYS if key != "value"}
    _one_of(said["predicate"], (*predicates(), *more), f"{where}: predicate")
    _one_of(said["relation"] or "is", tuple(RELATIONS), f"{where}: relation")
    if "value" not in values and said["relation"] != "unknown":
        raise InvalidConfiguration(f"{where}: value is missing")
    value = values.get("value")
    return Statement(
        said["quote"],
        said["predicate"],
        tuple(value) if isinstance(value, list) else value,
        said["relation"] or "is",
        said["of"],
        said["needs"],
        said["note"],
    )


def _one_of(name: str, known: tuple[str, ...], where: str) -> None:
    if name not in known:
        hint = did_you_mean(name[:80], known, f"known: {', '.join(known)}")
        raise InvalidConfiguration(f"{where} {name[:80]!r} is unknown; {hint}")
