"""A measurement for people: a table, a page in Markdown, and a chart. All of it from the same JSON, nothing else."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quipu.engine.machine import processor
from quipu.errors import MissingLibrary
from quipu.evidence.summary import Measurement

UNMEASURED = "—"


def report(
    about: Mapping[str, Any], measurements: Sequence[Measurement], streaming: Mapping[str, Any] | None, arithmetic: str
) -> dict[str, Any]:
    """Everything that was measured, for JSON. ``about`` is ``summary.about`` of its model; times are UTC.

    Of the model's file only the name is told: a report is shown to others, whom the folders here do not concern.
    """
    model = dict(about["model"])
    if "file" in model:
        model["file"] = Path(model["file"]).name
    return {
        **about,
        "model": model,
        "measured": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "arithmetic": arithmetic,
        },
        "capabilities": [measurement.as_dict() for measurement in measurements],
        "streaming": streaming,
    }


def table(report: Mapping[str, Any]) -> list[list[str]]:
    """Rows of cells, the first a header: one row a capability."""
    rows = [["capability", "score", "95 % interval", "baseline", "n", "effective", "unparsed", "tokens/s"]]
    for each in report["capabilities"]:
        found = each["interval"]
        name = each["capability"].removeprefix("capability://")
        if found is None:
            rows.append([name, *[UNMEASURED] * 2, _percent(each["baseline"]), "0", *[UNMEASURED] * 3])
            continue
        speed = each["tokens_per_second"]
        rows.append(
            [
                name,
                _percent(found["mean"]),
                f"{_percent(found['low'])} to {_percent(found['high'])}",
                _percent(each["baseline"]),
                str(found["n"]),
                f"{found['effective']:.0f}",
                _percent(each["unparsed"] / found["n"]),
                UNMEASURED if speed is None else f"{speed:.0f}",
            ]
        )
    return rows


def verdict(each: Mapping[str, Any]) -> str:
    """In words, whether a capability is better than its baseline."""
    found, baseline = each["interval"], each["baseline"]
    if found is None:
        return "not measured"
    if found["low"] > baseline:
        return "better than the trivial answer"
    if found["high"] < baseline:
        return "worse than the trivial answer"
    return "cannot be told from the trivial answer"


def markdown(report: Mapping[str, Any], chart: str | None = None) -> str:
    """A page: the table, a verdict for each, details and findings. ``chart``: the path of a picture to show."""
    machine = report["machine"]
    model = report["model"]["name"]
    parts = [
        f"# What {model} can do",
        f"Measured {report['measured']} with quipu {report['quipu']} on {machine['processor']}, {machine['cores']} "
        f"cores, {machine['arithmetic']}; context {report['context_length']} tokens{_took(report)}. "
        "Scores are from 0 to 100 %, with 95 % intervals that allow for probes which are alike; the baseline is what "
        "the trivial answer named below scores on the same probes.",
        *([f"![scores with intervals, beside the baselines]({chart})"] if chart else []),
        "\n".join(_markdown_rows(table(report))),
        *[_details(each) for each in report["capabilities"]],
    ]
    if report["streaming"] is not None:
        parts.append(_streaming(report["streaming"]))
    return "\n\n".join(parts) + "\n"


def chart(report: Mapping[str, Any]) -> str:
    """Scores with their intervals beside the baselines, as SVG. Raises MissingLibrary without altair and vl-convert."""
    try:
        import altair
        import vl_convert
    except ImportError as error:
        raise MissingLibrary(f"charts need {error.name}; pip install 'quipu-llama[charts]'") from None
    rows = [
        {
            "capability": each["capability"].removeprefix("capability://"),
            "score": 100 * each["interval"]["mean"],
            "low": 100 * each["interval"]["low"],
            "high": 100 * each["interval"]["high"],
            "baseline": 100 * each["baseline"],
        }
        for each in report["capabilities"]
        if each["interval"] is not None
    ]
    scale = altair.Scale(domain=[0, 100])
    base = altair.Chart(altair.InlineData(values=rows)).encode(y=altair.Y("capability:N", title=None))
    axis = altair.X("low:Q", title="score, % (line: 95 % interval; red: baseline)", scale=scale)
    layers = (
        base.mark_rule(strokeWidth=3, color="#4c78a8").encode(x=axis, x2="high:Q")
        + base.mark_point(filled=True, size=70, color="#1b3a5c").encode(x="score:Q")
        + base.mark_tick(thickness=2, size=14, color="#d1495b").encode(x="baseline:Q")
    ).properties(width=520, height=26 * max(1, len(rows)), background="white")
    return str(vl_convert.vegalite_to_svg(layers.to_dict()))


def _took(report: Mapping[str, Any]) -> str:
    """How long the answers took that the report is of; what was asked in several turns counts as long as each was."""
    seconds = sum(each["seconds"] for each in report["capabilities"])
    return f"; the answers took {seconds / 60:.0f} minutes" if seconds >= 60 else ""


def _details(each: Mapping[str, Any]) -> str:
    found = each["interval"]
    lines = [f"## {each['title']}: {verdict(each)}", ""]
    lines.append(f"Score: {each['metric']}. Baseline: {each['baseline_name']}, {_percent(each['baseline'])}.")
    if found is not None:
        lines[-1] += (
            f" {found['n']} of {each['probes']} probes asked, {each['passed']} passed, {each['unparsed']} answers "
            f"could not be read{_beyond(each)}; interval by {found['method']}."
        )
    if each["parts"]:
        rows = [["part", "n", "score"]] + [
            [part["name"], str(part["n"]), _percent(part["score"])] for part in each["parts"]
        ]
        lines += ["", *_markdown_rows(rows)]
    if each["findings"]:
        lines += ["", *[f"* {name.replace('_', ' ')}: {_finding(value)}" for name, value in each["findings"].items()]]
    return "\n".join(lines)


def _beyond(each: Mapping[str, Any]) -> str:
    count = each["beyond_context"]
    return f", {count} are longer than the context and were not asked" if count else ""


def _streaming(found: Mapping[str, Any]) -> str:
    rows = [["streaming", "value"]]
    rows += [[name.replace("_", " "), UNMEASURED if value is None else str(value)] for name, value in found.items()]
    return "## Streaming\n\nOver HTTP; times in milliseconds.\n\n" + "\n".join(_markdown_rows(rows))


def _finding(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_finding(each)}" for name, each in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return UNMEASURED if value is None else str(value)


def _markdown_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
