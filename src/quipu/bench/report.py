"""A benchmark for people: a table and a page in Markdown. All of it from the same JSON, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from quipu.bench.limits import INT8

UNMEASURED = "—"
MIB = 1 << 20

HOW = """\
Every engine has a process of its own, and they are asked in turn, round by round, so that a busy minute hits all alike.
Cells are medians over the rounds, least and greatest in parentheses; the first round warms up. The last column is how
many times better quipu is than the best of the others: the median of the rounds' ratios, above 1 is better.

* pp512: tokens a second of a prompt of 512 tokens, from an empty cache, logits of the last one.
* tg128: tokens a second of one sequence, 128 steps after a prompt of 64; then the same after a long prompt.
* x16: tokens a second of 16 sequences together, summed; 32 steps after prompts of 64.
* x16 through the engine: the same with the scheduler and greedy sampling, from 16 requests of 64 tokens to the end of
  their answers of 128; over HTTP: 16 clients that stream the same from quipu's server on this machine.
* first token: seconds from a prompt of 512 tokens to its likeliest next token. All these without sampling, without
  tokenizing.
* load: seconds until a model can be asked, in a new process; the first load packs the weights.
* start: seconds from starting a process to the first byte of the answer to "hi", with quipu's `chat`.
* memory: most bytes of the process, while loading or with one sequence; those of mapped files count.
* GB/s: bytes that a token must read (weights, without an embedding that is only looked up, and the keys and values
  before it), times tokens a second; % of what all threads together read of a large buffer, measured in each round.
* KL: divergence of the next-token distribution from float32 arithmetic on the dequantised weights of the model's own
  file, nats a token; a format made of that file loses something by that alone."""


def rate(value: float) -> str:
    """Tokens a second."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def seconds(value: float) -> str:
    """Seconds."""
    return f"{value:.2f}"


def mebibytes(value: float) -> str:
    """MiB of bytes."""
    return f"{value / MIB:.0f}"


ROWS: tuple[tuple[str, str, Callable[[float], str], bool], ...] = (
    ("pp512", "pp512, tokens/s", rate, True),
    ("tg128", "tg128, tokens/s", rate, True),
    ("deep", "tg128 after {depth}, tokens/s", rate, True),
    ("x16", "x16, tokens/s", rate, True),
    ("engine16", "x16 through the engine, tokens/s", rate, True),
    ("http16", "x16 over HTTP, tokens/s", rate, True),
    ("ttft", "first token, s", seconds, False),
    ("load_first", "first load, s", seconds, False),
    ("load", "load, s", seconds, False),
    ("start", "start, s", seconds, False),
    ("memory", "memory, MiB", mebibytes, False),
)
"""Figure, what it is called, how it is written, and whether more is better."""


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """Rows of cells, the first a header: a row for each figure, a column for each engine."""
    ours, *peers = engines = found["engines"]
    head = ["", *(f"{each['name']} {each['format'].upper() if each is ours else each['format']}" for each in engines)]
    rows = [[*head, "× best"] if peers else head]
    for key, name, written, more in ROWS:
        cells = [_spread(each["figures"].get(key), written) for each in engines]
        ratio = [advantage(ours, peers, key, more)] if peers else []
        rows.append([name.format(depth=f"{found['depth']:,}"), *cells, *ratio])
    rows += _shares(found) + _quality(engines)
    width = len(rows[0])
    return [row + [""] * (width - len(row)) for row in rows]


def limits(found: Mapping[str, Any]) -> str:
    """What the machine did at most."""
    read, multiply = found["limits"]["read"], found["limits"]["multiply"]
    return (
        f"memory is read at {max(read):.1f} GB/s (in the rounds {min(read):.1f} to {max(read):.1f}), float32 "
        f"multiplied at {max(multiply):.0f} G operations/s"
    )


def markdown(found: Mapping[str, Any], plot: str | None = None) -> str:
    """A page. ``plot``: the path of a picture to show."""
    machine, options = found["machine"], found["options"]
    head, *rows = table(found)
    lines = [f"| {' | '.join(head)} |", "|".join(["", "---", *["---:"] * (len(head) - 1), ""])]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    parts = [
        f"# How fast {found['model']['name']} runs",
        f"Measured {found['measured']} on {machine['processor']}, {machine['threads']} threads "
        f"({machine['instructions']}), rounds: {options['rounds']}, with quipu {found['quipu']}"
        f"{' and ' + found['peer'] if found['peer'] else ''}. There, {limits(found)}.",
        *([f"![roofline: operations a second over operations a byte]({plot})"] if plot else []),
        "\n".join(lines),
        *_text(found),
        "## What the rows are",
        HOW,
        "## How to measure it again",
        f"```\n{command(found)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def command(found: Mapping[str, Any]) -> str:
    """What measures the same again."""
    options = {name: value for name, value in found["options"].items() if value not in (False, None)}
    shape = options.pop("shape", None)
    words = ["quipu bench", f"--shape {shape}" if shape else found["model"]["name"]]
    words += [f"--{name.replace('_', '-')}{'' if value is True else f' {value}'}" for name, value in options.items()]
    if found["peer"]:
        formats = ",".join(each["format"] for each in found["engines"][1:])
        words.append(f"--peer llama.cpp --peer-format {formats}")
    return " ".join(words)


def advantage(ours: Mapping[str, Any], peers: Sequence[Mapping[str, Any]], key: str, more: bool) -> str:
    """How many times better ours is than the peer that is best in the median: round by round, since they are noisy."""
    own = ours["figures"].get(key)
    theirs = [each["figures"][key] for each in peers if key in each["figures"]]
    if not own or not theirs:
        return UNMEASURED
    best = (max if more else min)(theirs, key=median)
    ratios = [a / b if more else b / a for a, b in zip(own, best, strict=True)]
    return _spread(ratios, lambda value: f"{value:.2f}")


def share(engine: Mapping[str, Any], key: str, limit: float) -> tuple[float, float]:
    """GB/s that a measure reads, and which part that is of ``limit``."""
    read = median(engine["figures"][key]) * engine["work"][key]["bytes"] / 1e9
    return read, read / limit


def _shares(found: Mapping[str, Any]) -> list[list[str]]:
    limit = max(found["limits"]["read"])
    rows = []
    for key, name in (("tg128", "tg128"), ("deep", f"tg128 after {found['depth']:,}")):
        shares = [share(each, key, limit) for each in found["engines"]]
        rows.append([f"{name}, GB/s (of the limit)", *(f"{read:.1f} ({100 * part:.0f} %)" for read, part in shares)])
    peak = INT8 * max(found["limits"]["multiply"])
    cells = []
    for each in found["engines"]:
        done = median(each["figures"]["pp512"]) * each["work"]["pp512"]["operations"] / 1e9
        cells.append(f"{done:.0f} ({100 * done / peak:.0f} %)")
    return [*rows, [f"pp512, G operations/s (of {INT8} × float32)", *cells], *_over_http(found["engines"][0])]


def _over_http(ours: Mapping[str, Any]) -> list[list[str]]:
    """What HTTP leaves of the engine's rate: the median of the rounds' ratios."""
    figures = ours["figures"]
    if "http16" not in figures:
        return []
    ratios = [http / engine for http, engine in zip(figures["http16"], figures["engine16"], strict=True)]
    return [["x16 over HTTP / through the engine", _spread(ratios, lambda value: f"{value:.2f}")]]


def _quality(engines: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    found = [each["quality"] for each in engines]
    if not all(found):
        return []
    return [
        ["KL to float32, nats a token", *(f"{each['kl']:.4f}" for each in found)],
        ["same likeliest token", *(f"{100 * each['same_top']:.1f} %" for each in found)],
        ["perplexity / float32's", *(f"{each['perplexity_ratio']:.4f}" for each in found)],
    ]


def _text(found: Mapping[str, Any]) -> list[str]:
    if found["text"] is None:
        return ["The weights are random, so there is no quality to measure."]
    return [f"Quality is over {found['text']['tokens']:,} tokens of {found['text']['name']}."]


def _spread(values: Sequence[float] | None, written: Callable[[float], str]) -> str:
    if not values:
        return UNMEASURED
    least, greatest = written(min(values)), written(max(values))
    middle = written(median(values))
    return middle if len(values) == 1 else f"{middle} ({least}..{greatest})"
