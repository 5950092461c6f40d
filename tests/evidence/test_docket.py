"""The docket against the page it is of: no word, cell or number left out, and the page's own counts are right."""

import re
from pathlib import Path

import pytest

from quipu.evidence.cards import cards
from quipu.evidence.claims import PAGE, SEED, page_facts, seed_claims
from quipu.evidence.seed_rows import NAMES
from quipu.evidence.statement import GAP, predicates

LINES = (Path(__file__).parents[1] / "golden" / "seed_page.txt").read_text("utf-8").splitlines()
THREE, FOUR = "llama-3.2-3b-instruct", ("llama-4-scout", "llama-4-maverick")
SECTIONS = {
    "Meta: Llama 3.2 3B Instruct Capabilities": (
        "generate", "summarize", "translate", "few_shot", "extract", "chat", "instruct", "streaming",
    ),
    "Llama 4 Capabilities": ("vision", "long_context", "fine_tuning", "overview"),
}  # fmt: skip
LABELS = {"Unique: ": ", unique", "vs alternatives: ": ", alternatives"}
NAMES_WITH_NUMBERS = r"Llama 3\.2(?: 3B)?|Llama [24](?: 70B)?|GPT-(?:3\.5|4|2)"
JOINING = {
    "a", "an", "and", "as", "e", "g", "for", "in", "is", "it", "of", "or", "that", "the", "this", "to", "while", "with",
}  # fmt: skip
"""Words that claim nothing by themselves."""


def page():
    """(place, text) of everything that stands on the page but the table, in order."""
    found, names, place = [("title", LINES[0]), ("lead", LINES[1])], iter(()), ""
    for line in LINES[2:]:
        label = next((each for each in LABELS if line.startswith(each)), None)
        if line.startswith("|"):
            continue
        if line in SECTIONS:
            names = iter(SECTIONS[line])
            found.append(("headings", line))
        elif line.startswith("+1") or line in ("Verdict", "Need something different?", "Search the match graph →"):
            found.append(("headings", line))
        elif line.startswith("Llama 4 scores higher"):
            found.append(("verdict", line))
        elif label:
            found.append((place + LABELS[label], line.removeprefix(label)))
        else:
            place = next(names)
            found.append((place, line))
    assert next(names, None) is None
    return found


def table():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES if line.startswith("| ")]
    return rows[0], rows[1:]


def said_at(place):
    return [each for each in seed_claims() if each.place == place]


def test_the_copy_is_the_whole_page():
    assert len(LINES) > 50
    assert len(page()) == 2 + 2 + 4 + (8 + 4) * 3 + 1
    assert [row[0] for row in table()[1]] == list(NAMES)


@pytest.mark.parametrize(("place", "text"), page(), ids=lambda value: value[:40])
def test_no_word_is_left_out(place, text):
    covered = [False] * len(text)
    for piece in {piece for claim in said_at(place) for piece in claim.quote.split(GAP)}:
        for found in re.finditer(re.escape(piece), text):
            covered[found.start() : found.end()] = [True] * len(piece)
    left = [word[0] for word in re.finditer(r"[\w'-]+", text) if not all(covered[word.start() : word.end()])]
    assert {word.lower() for word in left} <= JOINING, left


@pytest.mark.parametrize(("place", "text"), page(), ids=lambda value: value[:40])
def test_no_number_is_left_out(place, text):
    names = [range(*each.span()) for each in re.finditer(NAMES_WITH_NUMBERS, text)]
    for number in re.finditer(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", text):
        if any(number.start() in name for name in names):
            continue
        claims = [each for each in said_at(place) if number[0] in each.quote]
        assert any(_holds(each, number[0]) for each in claims), f"{number[0]} in {text[:80]}"


def _holds(claim, number):
    value = float(number.replace(",", ""))
    if f"{number}/100" not in claim.quote and "100" in number:  # the 100 of 64/100
        return "/100" in claim.quote
    values = claim.value if isinstance(claim.value, tuple) else (claim.value,)
    for each in values:
        if isinstance(each, str) and re.search(rf"\b{number}\b", each):
            return True
        if not isinstance(each, str) and each in (value, value * 1e6, value * 1e9):
            return True
    return False


def test_no_cell_is_left_out():
    head, rows = table()
    assert {each.quote for each in said_at("table")} == set(head)
    for name, *cells in rows:
        for cell, subjects in zip(cells, ((THREE,), FOUR), strict=True):
            said = [each for each in said_at(f"table, {name}") if each.quote == cell]
            about = {each.subject for each in said}
            assert set(subjects) <= about or about == {PAGE}, (name, cell)
            assert len(said) >= len(about)


def test_cells_that_are_numbers_are_claimed_as_such():
    for name, *cells in table()[1]:
        for cell in cells:
            number = re.match(r"\$?([\d.e-]+\d|\d)", cell)
            values = {each.value for each in said_at(f"table, {name}") if each.quote == cell}
            if number and name == "Starting Price":
                assert list(values) == [pytest.approx(float(number[1]) * 1e6)]
            elif number:
                assert values == {float(number[1])}, (name, cell)


def test_every_quotation_stands_where_it_is_said_to():
    places = {}
    for place, text in page():
        places[place] = f"{places.get(place, '')} {text}"
    for name, *cells in table()[1]:
        places[f"table, {name}"] = " ".join(cells)
    places["table"] = " ".join(table()[0])
    for claim in seed_claims():
        position = 0
        for piece in claim.quote.split(GAP):
            position = places[claim.place].find(piece, position)
            assert position >= 0, (claim.place, piece)


def test_what_is_said_of_llama_4_is_said_of_both():
    scout, maverick = map(seed_claims, FOUR)
    assert [(each.quote, each.value) for each in scout] == [(each.quote, each.value) for each in maverick]
    assert len(scout) > 50


def test_the_page_shows_what_the_docket_counts_on_it():
    """What a claim is contradicted with must be on the page."""
    shows = {name: fact.value for name, fact in page_facts().items()}
    rows = {name: cells for name, *cells in table()[1]}
    described = {heading: len(names) for heading, names in SECTIONS.items()}
    assert shows == {
        "rows": len(rows),
        "models_meant_by_llama_4": sum(name.startswith("llama-4") for name in cards()),
        "aligned_capabilities": len(set.intersection(*map(set, SECTIONS.values()))),
        "verdicts": LINES.count("Verdict"),
        "matched_searches": sum(int(cell) for name in ("Match Graph", "Times Matched") for cell in rows[name]),
        "described_of_llama_3_2": described["Meta: Llama 3.2 3B Instruct Capabilities"],
        "undescribed_of_llama_3_2": 1,
        "counted_of_llama_3_2": described["Meta: Llama 3.2 3B Instruct Capabilities"] + 1,
        "described_of_llama_4": described["Llama 4 Capabilities"],
    }
    assert "+1 more capabilities" in LINES


def test_claims_are_typed_and_told_apart():
    known = {*predicates(), *page_facts()}
    for claim in seed_claims():
        assert claim.predicate in known
        assert claim.source == SEED
        assert claim.subject in (*cards(), PAGE)
    identifiers = [each.id for each in seed_claims()]
    assert len(set(identifiers)) == len(identifiers)
    assert all(re.fullmatch("[0-9a-f]{12}", each) for each in identifiers)
