"""Whether a claimed value and a true one agree, in the sense in which the claim is made."""

from __future__ import annotations

import math
from typing import Any

from quipu.evidence.facts import OPEN


def agrees(predicate: str, relation: str, claimed: Any, truth: Any) -> bool | None:
    """True or False; None where the truth, a list that may go on, does not tell."""
    if relation == "unknown":
        return truth is None
    if relation == "includes":
        missing = set(_items(claimed)) - set(_items(truth))
        return True if not missing else None if predicate in OPEN else False
    if relation == "at least":
        return bool(_amount(truth) >= _amount(claimed))
    if relation == "below":
        return bool(_amount(truth) < _amount(claimed))
    if relation in ("about", "up to") and _is_number(claimed) and _is_number(truth):
        return _rounded(truth, _digits(claimed)) == _rounded(claimed, _digits(claimed))
    if isinstance(truth, tuple) and isinstance(claimed, tuple):
        return set(truth) == set(claimed)
    return type(truth) is type(claimed) and bool(truth == claimed)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _items(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _amount(value: Any) -> float:
    """The number; of a list, how long it is."""
    return len(value) if isinstance(value, tuple) else value


def _digits(value: float) -> int:
    """Significant digits of a claim: 1 of 10,000,000, 2 of 0.051, 4 of 8,192."""
    mantissa = f"{value:.12e}".partition("e")[0]
    return len(mantissa.replace(".", "").replace("-", "").rstrip("0")) or 1


def _rounded(value: float, digits: int) -> float:
    if value == 0:
        return 0.0
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))
