"""How sure a model was of a value it wrote, and how often values of which it was so sure are right."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import accumulate

from quipu.types import TokenLogprob

Curve = Sequence[tuple[float, float]]
"""(probability, share of right values), both rising."""


class Probabilities:
    """Of the pieces of ``text``, an answer, made of ``tokens``. Without their probabilities it knows none."""

    def __init__(self, text: str, tokens: Sequence[TokenLogprob]) -> None:
        self._text = text
        self._tokens = tokens
        self._ends = list(accumulate(len(token.bytes) for token in tokens))
        written = b"".join(token.bytes for token in tokens)
        self._known = bool(tokens) and written.startswith(text.encode(errors="surrogatepass"))

    def of(self, start: int, end: int) -> float | None:
        """The product of the probabilities of the tokens that have characters ``start`` to ``end``.

        Of those of the demonstration model it tells right values from wrong ones best: area under the ROC curve over
        940 values of the probes 0.63, of the least token 0.57, of the geometric mean 0.51. That a value is a quotation
        tells more: 0.47 of quotations are right and 0.05 of the others. So each has a curve of its own.
        """
        if not self._known or start >= end:
            return None
        first = bisect_right(self._ends, self._bytes(start))
        last = bisect_right(self._ends, self._bytes(end) - 1)
        values = [token.logprob for token in self._tokens[first : last + 1] if token.logprob is not None]
        return math.exp(sum(values)) if values else None

    def _bytes(self, place: int) -> int:
        return len(self._text[:place].encode(errors="surrogatepass"))


def confidence(model: str, probability: float | None, quoted: bool) -> float | None:
    """The share of right values among those of probes that ``model`` wrote with such a probability; None if unknown."""
    curves = _curves().get(model)
    if curves is None or probability is None:
        return None
    curve = curves["quoted" if quoted else "not quoted"]
    return round(_interpolated(curve, probability), 3)


def is_calibrated(model: str) -> bool:
    """Whether anything is known of ``model``."""
    return model in _curves()


def _interpolated(curve: Curve, at: float) -> float:
    place = bisect_right(curve, (at, math.inf))
    if place in (0, len(curve)):
        return curve[max(0, place - 1)][1]
    (left, low), (right, high) = curve[place - 1], curve[place]
    return low + (high - low) * (at - left) / (right - left)


@cache
def _curves() -> Mapping[str, Mapping[str, Curve]]:
    """By the name of a model, as measured; ``bench/calibrate_extract.py`` writes them."""
    source = resources.files("quipu.capabilities") / "probes" / "extract_confidence.json"
    found: dict[str, dict[str, list[list[float]]]] = json.loads(source.read_text("utf-8"))
    return {
        model: {kind: [(each[0], each[1]) for each in curve] for kind, curve in curves.items()}
        for model, curves in found.items()
    }
