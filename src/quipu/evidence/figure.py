"""A number as people see it: the value, how sure it is and what it rests on; or why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quipu.evidence.intervals import Z, numbered

UNKNOWN = "—"
"""What stands where no number is known. Never zero."""
FEWEST_GROUPS = 10
"""With fewer independent groups the normal approximation of an interval is not to be trusted; none is given."""


@dataclass(frozen=True, slots=True)
class Figure:
    """``low`` and ``high`` bound ``value`` at 95 %; None where there is no interval, and ``why`` says so.

    ``text`` and ``range`` are value and bounds as they are shown, ``n`` how many observations they are of. ``why``:
    where they are from, or what is missing.
    """

    text: str
    range: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    why: str = ""

    @classmethod
    def of(
        cls,
        value: float | None,
        form: Callable[[float], str],
        *,
        low: float | None = None,
        high: float | None = None,
        n: int = 0,
        why: str = "",
    ) -> Figure:
        """A number shown by ``form``. None with bounds: an interval without a point."""
        bounds = "" if low is None or high is None else f"{form(low)} to {form(high)}"
        if value is None:
            return cls(bounds or UNKNOWN, "", None, low, high, n, why)
        return cls(form(value), bounds, value, low, high, n, why)

    @classmethod
    def unknown(cls, why: str) -> Figure:
        """No number, and the reason."""
        return cls(UNKNOWN, why=why)

    @property
    def known(self) -> bool:
        """Whether there is anything but a reason."""
        return self.value is not None or self.low is not None

    @property
    def details(self) -> str:
        """What stands behind the text: ``48.2 % to 60.0 %, n 160``; empty where there is nothing."""
        return ", ".join(filter(None, (self.range, f"n {self.n:,}" if self.n else "")))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ratio(
    top: Sequence[float], bottom: Sequence[float], groups: Sequence[str]
) -> tuple[float, float | None, float | None]:
    """sum(top) / sum(bottom) with its 95 % interval when the observations of a group are alike.

    The ratio estimator with the variance of its linearised residuals summed by group (Cochran, Sampling Techniques,
    1977, 6.3 and 9A.1); its lower bound is not below 0. No interval with fewer than FEWEST_GROUPS groups. ``bottom``
    must not sum to 0.
    """
    above, below = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    total = float(below.sum())
    value = float(above.sum()) / total
    places = numbered(groups)
    residuals = np.bincount(places, weights=above - value * below)
    count = len(residuals)
    if count < FEWEST_GROUPS:
        return value, None, None
    spread = Z * math.sqrt(count / (count - 1) * float((residuals**2).sum())) / total
    return value, max(0.0, value - spread), value + spread


def percent(share: float) -> str:
    """A share of 1 as a percentage, to one place: ``71.2 %``."""
    return f"{100 * share:.1f} %"


def signed(difference: float) -> str:
    """A difference of two shares in points of 100, with its sign: ``+16.0``."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def dollars(amount: float) -> str:
    """US dollars, cents or three digits of what is less: ``$12.40``, ``$0.0509``. Never in scientific notation."""
    if amount == 0:
        return "$0"
    places = 2 if amount >= 1 else 2 - math.floor(math.log10(abs(amount)))
    whole, _, decimals = f"{amount:,.{places}f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(2, '0')}"


def seconds(time: float) -> str:
    """A time for people: ``0.42 s``, ``13.1 s``, ``4.2 min``."""
    if time >= 120:
        return f"{time / 60:.1f} min"
    return f"{time:.2f} s" if time < 10 else f"{time:.1f} s"


def gibibytes(count: float) -> str:
    """Bytes for people: ``512 MiB``, ``2.31 GiB``."""
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def factor(value: float) -> str:
    """How many times as much, to two or three digits: ``0.52``, ``3.1``, ``27``."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def plural(count: int, noun: str, several: str = "") -> str:
    """``1 probe``, ``12 probes``."""
    return f"{count:,} {noun if count == 1 else several or noun + 's'}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
