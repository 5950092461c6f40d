"""The conversation that asks a model for records: worked examples as turns, then the text and what is wanted of it."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from quipu.capabilities.parts.notations import schema_of
from quipu.capabilities.parts.record_schema import RECORDS, RecordSchema
from quipu.types import Message

ONE: tuple[tuple[str, str, Any], ...] = (
    (
        "Good evening,\n\nMs Ruth Carver will be in Porto on 3 June with 4 guests, not 5. The bill of 1,480.50 dollars "
        "is still open.",
        "guest:str, city:str, people:int, bill:float, email:str",
        {"guest": "Ruth Carver", "city": "Porto", "people": 4, "bill": 1480.5, "email": None},
    ),
    (
        'Reminder 77: Tom Weiss still owes the library of Graz one book, "The Sea". Write to desk@graz.example.',
        "person:str, book:str, city:str, fine:float, email:str",
        {"person": "Tom Weiss", "book": "The Sea", "city": "Graz", "fine": None, "email": "desk@graz.example"},
    ),
)
MANY: tuple[tuple[str, str, Any], ...] = (
    (
        "Our boats this week:\nHeron, 4 seats, 310.50 dollars a day\nPelican, 12 seats, 95 dollars a day\nCall us!",
        "boat:str, seats:int, price:float",
        {RECORDS: [{"boat": "Heron", "seats": 4, "price": 310.5}, {"boat": "Pelican", "seats": 12, "price": 95}]},
    ),
    (
        "Participants: Ida Ross (34), Ben Sool (9). Teacher: Uma Pohl.",
        "name:str, age:int, phone:str",
        {RECORDS: [{"name": "Ida Ross", "age": 34, "phone": None}, {"name": "Ben Sool", "age": 9, "phone": None}]},
    ),
)
"""Texts, their columns, and the answers. Free to write what it likes, SmolLM2-135M gives 2 of 48 probes as JSON to the
schema without them, 14 with one and 17 with both; of one example it copies the values."""


def request(text: str, shape: RecordSchema) -> list[Message]:
    """What is in ``text`` is data, whatever it says; the answer can be nothing but records."""
    return [*_examples(shape.many), _asked(text.strip(), shape)]


@cache
def _examples(many: bool) -> tuple[Message, ...]:
    turns: list[Message] = []
    for text, columns, answer in MANY if many else ONE:
        schema = schema_of(columns)
        assert schema is not None
        turns += [_asked(text, RecordSchema.of(schema, many)), Message("assistant", json.dumps(answer))]
    return tuple(turns)


def _asked(text: str, shape: RecordSchema) -> Message:
    which = "every record" if shape.many else "these fields"
    return Message("user", f"{text}\n\n---\nExtract {which} from the text above, as JSON: {shape.shown}")
