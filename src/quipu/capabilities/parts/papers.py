"""Everyday papers in eight languages with known contents: invoices, messages, listings, receipts, letters."""

from __future__ import annotations

import json
import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

EACH = 4
"""Papers of one kind in one language."""
LETTERS = ("complaint", "question", "praise", "cancellation")
COMMA = ("de", "fr", "it", "pt", "es")
"""Languages that write 1.250,50, French with a space for the dot; the others write 1,250.50."""

WANTED: Mapping[str, str] = {
    "invoice": "invoice_number:str, buyer:str, total:float, due:str",
    "meeting": "person: who writes\nday: weekday that is proposed\ntime: when, on that day\nphone: telephone number",
    "flat": json.dumps(
        {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "rooms": {"type": "integer"},
                "rent": {"type": "number", "description": "a month"},
                "balcony": {"type": "boolean"},
            },
            "required": ["city", "rooms", "rent", "balcony"],
            "additionalProperties": False,
        }
    ),
    "receipt": "item:str, quantity:int, price:float",
    "code": r"/[A-Z]{2}-\d{5}/",
    "letter": " | ".join(LETTERS),
}
"""What is wanted of each kind, in as many notations."""


@dataclass(frozen=True, slots=True)
class Paper:
    """A text and the records in it. ``aside``: whether it also has a value that is like one wanted, and is not it."""

    kind: str
    language: str
    text: str
    records: list[dict[str, Any]]
    aside: bool


def papers() -> Iterator[Paper]:
    """All of them, the same each time."""
    source = resources.files("quipu.capabilities") / "probes" / "extract.toml"
    for language, material in tomllib.loads(source.read_text("utf-8"))["languages"].items():
        for kind in WANTED:
            for number in range(EACH):
                chance = random.Random(f"{language} {kind} {number}")
                if kind == "letter":
                    text = material["letters"][LETTERS[number]][chance.randrange(2)]
                    yield Paper(kind, language, text, [{"value": LETTERS[number]}], False)
                else:
                    yield _filled(kind, language, material, number, chance)


def _filled(kind: str, language: str, material: Mapping[str, Any], number: int, chance: random.Random) -> Paper:
    template, aside = material[kind][number % 2], kind != "receipt" and number >= EACH // 2
    slots = _slots(language, material, chance)
    lines = _lines(language, material["items"], chance, 2 + number) if kind == "receipt" else []
    slots["lines"] = "\n".join(material["line"].format(**written) for _, written in lines)
    slots["aside"] = material[f"{kind}_aside"].format(**slots) if aside else ""
    has_phone, has_balcony = number % 4 in (0, 3), chance.random() < 0.5
    slots["phone"] = material["phone"].format(**slots) if has_phone else ""
    slots["with_balcony"] = material["balcony"][0 if has_balcony else 1]
    records: dict[str, list[dict[str, Any]]] = {
        "invoice": [_invoice(slots)],
        "meeting": [_meeting(slots, has_phone)],
        "flat": [_flat(slots, has_balcony)],
        "receipt": [record for record, _ in lines],
        "code": [{"value": slots["code"]}],
    }
    return Paper(kind, language, template.format(**slots), records[kind], aside)


def _invoice(slots: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "invoice_number": slots["number"],
        "buyer": slots["person"],
        "total": slots["total_value"],
        "due": slots["date"],
    }


def _meeting(slots: Mapping[str, Any], has_phone: bool) -> dict[str, Any]:
    phone = slots["phone_number"] if has_phone else None
    return {"person": slots["person"], "day": slots["day_name"], "time": slots["time"], "phone": phone}


def _flat(slots: Mapping[str, Any], has_balcony: bool) -> dict[str, Any]:
    return {"city": slots["place"], "rooms": slots["rooms"], "rent": slots["rent_value"], "balcony": has_balcony}


def _slots(language: str, material: Mapping[str, Any], chance: random.Random) -> dict[str, Any]:
    totals = [chance.randrange(12, 2500) + chance.randrange(5, 100, 5) / 100 for _ in range(2)]
    rents = [chance.randrange(410, 1900, 10) for _ in range(2)]
    numbers = chance.sample(range(1000, 10000), 2)
    days = chance.sample(material["days"], 2)
    hours = chance.sample(range(10, 19), 2)
    date = material["date"].format(
        day=chance.randrange(2, 29), month=chance.choice(material["months"]), year=chance.randrange(2024, 2028)
    )
    return {
        "person": chance.choice(material["persons"]),
        "firm": chance.choice(material["firms"]),
        "place": chance.choice(material["places"]),
        "number": f"R{numbers[0]}",
        "other_number": f"R{numbers[1]}",
        "total": amount(totals[0], language),
        "total_value": totals[0],
        "other_total": amount(totals[1], language),
        "date": date,
        "day_name": days[0],
        "other_day": days[1],
        "time": f"{hours[0]}:{chance.choice(('00', '15', '30', '45'))}",
        "other_time": f"{hours[1]}:00",
        "phone_number": f"0{chance.randrange(300, 900)} {chance.randrange(100000, 999999)}",
        "rooms": chance.randrange(2, 6),
        "rent": str(rents[0]),
        "rent_value": rents[0],
        "other_rent": str(rents[1] + 1000),
        "code": f"{_letters(chance)}-{chance.randrange(10000, 100000)}",
        "other_code": f"{_letters(chance)}-{chance.randrange(100, 1000)}",
        "postcode": str(chance.randrange(10000, 100000)),
    }


def _lines(
    language: str, items: list[str], chance: random.Random, many: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The records of a receipt, and how each is written on it."""
    lines = []
    for item in chance.sample(items, many):
        quantity, price = chance.randrange(1, 10), chance.randrange(50, 900, 5) / 100
        record = {"item": item, "quantity": quantity, "price": price}
        lines.append((record, {**record, "price": amount(price, language)}))
    return lines


def _letters(chance: random.Random) -> str:
    return "".join(chance.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=2))


def amount(value: float, language: str) -> str:
    """``value`` with two decimals as it is written in ``language``."""
    english = f"{value:,.2f}"
    if language not in COMMA:
        return english
    thousands: Literal[" ", "."] = " " if language == "fr" else "."
    return english.replace(",", "_").replace(".", ",").replace("_", thousands)
