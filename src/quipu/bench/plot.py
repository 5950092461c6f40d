"""A roofline (Williams et al. 2009) as SVG: what the machine allows as lines, what engines reach as points."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from quipu.bench.limits import INT8
from quipu.errors import MissingLibrary

MEASURES = ("tg128", "deep", "x16", "pp512")


def check() -> None:
    """Raise MissingLibrary without altair and vl-convert: before minutes of measuring, not after."""
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise MissingLibrary(f"plots need {error.name}; pip install 'quipu-llama[charts]'") from None


def plot(found: Mapping[str, Any]) -> str:
    """The picture of a measurement."""
    import altair
    import vl_convert

    points = [
        {
            "engine": f"{each['name']} {each['format'].lower()}",
            "measure": f"tg128 after {found['depth']:,}" if name == "deep" else name,
            "intensity": each["work"][name]["operations"] / each["work"][name]["bytes"],
            "rate": median(each["figures"][name]) * each["work"][name]["operations"] / 1e9,
        }
        for each in found["engines"]
        for name in MEASURES
    ]
    read, multiply = max(found["limits"]["read"]), max(found["limits"]["multiply"])
    first, last = 0.5 * min(each["intensity"] for each in points), 2 * max(each["intensity"] for each in points)
    roofs = {
        f"memory, {read:.0f} GB/s": [(first, read * first), (INT8 * multiply / read, INT8 * multiply)],
        f"float32, {multiply:.0f} G/s": [(multiply / read, multiply), (last, multiply)],
        f"bytes, {INT8} × that": [(INT8 * multiply / read, INT8 * multiply), (last, INT8 * multiply)],
    }
    lines = [{"limit": name, "intensity": x, "rate": y} for name, ends in roofs.items() for x, y in ends if x <= last]
    log = altair.Scale(type="log", nice=False)
    x = altair.X("intensity:Q", scale=log, title="operations for each byte that must be read")
    y = altair.Y("rate:Q", scale=altair.Scale(type="log"), title="G operations/s")
    limits = altair.Chart(altair.InlineData(values=lines))
    marks = altair.Chart(altair.InlineData(values=points))
    drawn = (
        limits.mark_line(color="#555").encode(x=x, y=y, strokeDash=altair.StrokeDash("limit:N", title="limit"))
        + marks.mark_point(filled=True, size=90, opacity=0.9).encode(
            x=x,
            y=y,
            color=altair.Color("engine:N", sort=None),
            shape=altair.Shape("measure:N", sort=None),
        )
    ).properties(width=520, height=340, background="white")
    return str(vl_convert.vegalite_to_svg(drawn.to_dict()))
