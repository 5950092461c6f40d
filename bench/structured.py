"""What a constraint costs and what it gains, on one model: ``python bench/structured.py [MODEL]``.

Masks: free text, and the same text under a grammar that allows everything, so that nothing is forced and every token
pays for its mask; one answer and sixteen at once. Extraction: a JSON of long keys against free text of as many tokens.
Rounds alternate, and the median of each counts: other work on the machine slows both.
"""

from __future__ import annotations

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import quipu
from quipu.engine.local import LocalModel
from quipu.types import Constraint

TEXT = "Ms Anna Schmidt of Schmidt & Sons in Lyon ordered 3 oak chairs and 2 tables for 450.50 euros on 3 May 2024."
EXTRACT = [{"role": "user", "content": f"Extract the order as JSON. {TEXT}"}]
TALK = [{"role": "user", "content": f"Tell a story about this order. {TEXT}"}]
ANYTHING = Constraint("regex", r"(?s:.*)")
KEYS = {
    "customer_full_name": {"type": "string", "maxLength": 30},
    "company_name_of_the_customer": {"type": "string", "maxLength": 30},
    "city_of_the_customer": {"type": "string", "maxLength": 30},
    "date_of_the_order": {"type": "string", "format": "date"},
    "total_amount_in_euros": {"type": "number"},
    "number_of_chairs_ordered": {"type": "integer", "maximum": 99},
    "number_of_tables_ordered": {"type": "integer", "maximum": 99},
}
SCHEMA = {"type": "object", "properties": KEYS, "required": list(KEYS), "additionalProperties": False}
ROUNDS = 7


def rate(model: LocalModel, messages: Any, count: int, **options: Any) -> tuple[float, int]:
    """Tokens a second of ``count`` answers at once, and how many tokens there were."""
    start = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: model.chat(messages, temperature=0, **options), range(count)))
    tokens = sum(answer.usage.completion_tokens for answer in answers)
    return tokens / (time.perf_counter() - start), tokens


def alternating(*measures: Any) -> list[float]:
    """The median of each of ``measures``, taken in turn."""
    seen = [[measure()[0] for measure in measures] for _ in range(ROUNDS)]
    return [statistics.median(each) for each in zip(*seen, strict=True)]


def main(name: str) -> None:
    for speculate in ("off", "on"):
        with quipu.load(name, context=1024, speculate=speculate) as model:
            print(f"{name}, guessing ahead {speculate}")
            for count in (1, 16):
                free, masked = alternating(
                    lambda count=count: rate(model, TALK, count, max_tokens=96),
                    lambda count=count: rate(model, TALK, count, max_tokens=96, constraint=ANYTHING),
                )
                cost = f"{free / masked - 1:+.1%} time"
                print(f"  {count:2} at once: free {free:7.1f} tokens/s, masked {masked:7.1f}: {cost}")
            tokens = rate(model, EXTRACT, 1, constraint=Constraint("json_schema", SCHEMA), max_tokens=300)[1]
            free, extracted = alternating(
                lambda tokens=tokens: rate(model, TALK, 1, max_tokens=tokens),
                lambda: rate(model, EXTRACT, 1, constraint=Constraint("json_schema", SCHEMA), max_tokens=300),
            )
            gain = f"x{extracted / free:.2f}"
            print(f"  extraction of {tokens} tokens: {extracted:.1f} tokens/s, free text {free:.1f}: {gain}")


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["smollm2-135m-instruct"])
