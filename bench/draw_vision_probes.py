"""The pictures of vision's probes, drawn: shapes and printed words by Pillow, charts by altair, real digits by hand.

    python bench/draw_vision_probes.py digits.csv.gz

Writes src/quipu/capabilities/probes/vision.jsonl: a picture, or two, a line, with what is asked of them and the
answers. ``digits.csv.gz`` is that of scikit-learn (sklearn/datasets/data/). Everything is drawn at random from a seed,
but what antialiasing makes of a letter differs from one FreeType to the next: that is why the pictures are kept, not
drawn anew each time. They are of one tile (336 pixels), in at most sixteen colours, to be small.
"""

from __future__ import annotations

import base64
import csv
import gzip
import io
import json
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import altair
import vl_convert
from PIL import Image, ImageDraw, ImageFilter, ImageFont

DATA = Path(__file__).parents[1] / "src" / "quipu" / "capabilities" / "probes" / "vision.jsonl"
SIDE = 336
COLORS = {
    "red": "#d81e1e",
    "green": "#1f9d3a",
    "blue": "#1f55d6",
    "yellow": "#f2d21b",
    "orange": "#f28a1b",
    "purple": "#8a2bb8",
    "black": "#111111",
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "hexagon")
DIFFICULTIES = ("easy", "medium", "hard")
PRINTED = {
    "en": "OPEN | Platform 9 | Mind the gap | Room 214 | No parking at any time | Total: 48.20 EUR | KX-7741-QZ | "
    "The library closes at six on Friday. | Wet paint, please do not touch | Serial 0O1I-58B3",
    "de": "AUSGANG | Bitte nicht rauchen | Straßenfest im Grünen | Gleis 7, Abfahrt 14:52 | IBAN DE89 3704 0044 | "
    "Der Aufzug ist außer Betrieb.",
    "fr": "SORTIE | Fermé le dimanche | Crème brûlée 6,50 € | Défense d'afficher | La bibliothèque ouvre à dix heures.",
    "es": "ABIERTO | Salida de emergencia | Mañana no hay función | ¿Dónde está la estación? | El ascensor no anda.",
    "it": "ENTRATA | Vietato fumare | Caffè e cornetto 2,80 | Il museo è chiuso il lunedì. | Binario 12",
    "pt": "FECHADO | Não pise a grama | Pão de queijo 3,90 | A reunião começa às nove. | Atenção ao degrau",
}
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{side}" height="{side}">
<rect width="{side}" height="{side}" fill="{ground}"/>
<g transform="rotate({turn} {half} {half})" font-family="{family}" font-size="{size}" fill="{ink}" text-anchor="middle">
{lines}</g></svg>"""

Line = dict[str, Any]
"""What is kept of a picture: see ``line``."""


@dataclass(frozen=True)
class Thing:
    """A shape in a picture: ``x``, ``y`` its middle and ``r`` its half size, in pixels."""

    shape: str
    color: str
    x: int
    y: int
    r: int

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"

    @property
    def box(self) -> list[float]:
        """Left, top, right and bottom of what is drawn, as shares of the picture."""
        xs, ys = zip(*self.corners, strict=True)
        return [round(edge / SIDE, 3) for edge in (min(xs), min(ys), max(xs), max(ys))]

    @property
    def corners(self) -> list[tuple[float, float]]:
        """Of the polygon; of a circle, those of the square around it."""
        around = {"triangle": (3, 1.0), "hexagon": (6, 1.0), "star": (10, 0.45)}
        if self.shape in around:
            count, inner = around[self.shape]
            rays = [(2 * math.pi * i / count - math.pi / 2, inner if i % 2 else 1.0) for i in range(count)]
            offsets = [(self.r * far * math.cos(angle), self.r * far * math.sin(angle)) for angle, far in rays]
        elif self.shape == "cross":
            quarter = [(-1 / 3, -1), (1 / 3, -1), (1 / 3, -1 / 3)]
            turned = [(x, y) for times in range(4) for x, y in (_turned(each, times) for each in quarter)]
            offsets = [(self.r * x, self.r * y) for x, y in turned]
        else:
            offsets = [(-self.r, -self.r), (self.r, -self.r), (self.r, self.r), (-self.r, self.r)]
        return [(self.x + x, self.y + y) for x, y in offsets]


def _turned(point: tuple[float, float], times: int) -> tuple[float, float]:
    x, y = point
    for _ in range(times):
        x, y = -y, x
    return x, y


def drawn(things: Sequence[Thing], ground: str = "white") -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    pen = ImageDraw.Draw(picture)
    for thing in things:
        if thing.shape == "circle":
            pen.ellipse([thing.corners[0], thing.corners[2]], fill=COLORS[thing.color])
        else:
            pen.polygon(thing.corners, fill=COLORS[thing.color])
    return picture


def scene(chance: random.Random, names: Sequence[tuple[str, str]], cells: int) -> list[Thing]:
    """A thing of each (shape, colour), in a cell of its own of ``cells`` x ``cells``, so that none touches another."""
    wide = SIDE // cells
    found = []
    for (shape, color), cell in zip(names, chance.sample(range(cells * cells), len(names)), strict=True):
        r = chance.randint(wide // 4, wide * 2 // 5)
        slack = wide // 2 - r - 1
        x, y = (wide * at + wide // 2 + chance.randint(-slack, slack) for at in (cell % cells, cell // cells))
        found.append(Thing(shape, color, x, y, r))
    return found


def different(chance: random.Random, count: int) -> list[tuple[str, str]]:
    """(shape, colour): no shape and no colour twice."""
    return list(zip(chance.sample(SHAPES, count), chance.sample(list(COLORS), count), strict=True))


def line(task: str, group: str, level: int, pictures: Sequence[Image.Image], *asked: Any, part: str = "") -> Line:
    """What is kept. ``asked``: [question, what is expected, a perfect answer], each a probe; ``level`` 0 is easy."""
    return {
        "task": task,
        "group": group,
        "difficulty": DIFFICULTIES[level],
        "part": part or task,
        "images": [packed(picture) for picture in pictures],
        "asked": asked,
    }


def packed(picture: Image.Image) -> str:
    """A PNG of few colours, in base64."""
    file = io.BytesIO()
    picture.convert("RGB").quantize(16, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def answer(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False)


def describe() -> Iterator[Line]:
    for n in range(20):
        chance, count = random.Random(f"describe {n}"), 1 + n % 4
        names = different(chance, count)
        said = " and ".join(f"{'an' if color == 'orange' else 'a'} {color} {shape}" for shape, color in names)
        expected = {"words": sorted({word for name in names for word in name})}
        picture = drawn(scene(chance, names, 3))
        yield line("describe", f"describe {count}", min(count - 1, 2), [picture], ["", expected, f"It shows {said}."])


def ask() -> Iterator[Line]:
    for n in range(15):
        chance, count = random.Random(f"ask {n}"), 2 + n % 4
        things = scene(chance, different(chance, count), 3)
        one, other = things[:2]
        absent = chance.choice([color for color in COLORS if color not in {thing.color for thing in things}])
        if abs(one.x - other.x) > abs(one.y - other.y):
            beside, true = "to the left of", one.x < other.x
        else:
            beside, true = "above", one.y < other.y
        questions = [
            (f"What colour is the {one.shape}?", one.color),
            (f"What shape is {other.color}?", other.shape),
            (f"Is the {one.shape} {beside} the {other.shape}?", "yes" if true else "no"),
            (f"Is there anything {absent} in the picture?", "no"),
            (f"Is there anything {one.color} in the picture?", "yes"),
        ]
        asked = [[question, {"word": word}, word] for question, word in (questions[n % 5], questions[(n + 2) % 5])]
        yield line("ask", f"ask {n}", int(count > 2), [drawn(things)], *asked)


def count() -> Iterator[Line]:
    for n in range(36):
        chance, kind, level = random.Random(f"count {n}"), ("all", "color", "shape", "both")[n % 4], n // 4 % 3
        cells = (3, 4, 6)[level]
        total = chance.randint(1, (6, 12, 24)[level])
        shapes, colors = chance.sample(SHAPES, 3), chance.sample(list(COLORS), 3)
        things = scene(chance, [(chance.choice(shapes), chance.choice(colors)) for _ in range(total)], cells)
        shape, color = (kind in ("shape", "both") and shapes[0]), (kind in ("color", "both") and colors[0])
        found = sum((not shape or each.shape == shape) and (not color or each.color == color) for each in things)
        wanted = f"{color or ''} {plural(shape) if shape else 'shapes'}".strip()
        picture = drawn(things, chance.choice(["white", "#e8e8e8"]))
        asked = [wanted, {"count": found}, answer(count=found)]
        yield line("count", f"count {kind} {cells}", level, [picture], asked)


def plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def locate() -> Iterator[Line]:
    for n in range(20):
        chance, level = random.Random(f"locate {n}"), n % 3
        things = scene(chance, different(chance, (2, 4, 6)[level]), (2, 3, 4)[level])
        asked = [[f"the {thing.name}", {"box": thing.box}, boxed(thing.box)] for thing in things[:2]]
        if n % 5 == 4:  # something that is not there
            asked[1] = [f"the {things[0].color} {things[1].shape}", {"box": None}, boxed(None)]
        yield line("locate", f"locate {n}", level, [drawn(things)], *asked)


def boxed(box: Sequence[float] | None) -> str:
    return answer(box=None if box is None else dict(zip(("left", "top", "right", "bottom"), box, strict=True)))


def compare() -> Iterator[Line]:
    for n in range(26):
        chance, changes = random.Random(f"compare {n}"), (1, 2, 0, 3)[n % 4]
        *things, spare = scene(chance, different(chance, 6), 3)
        unused = next(color for color in COLORS if color not in {each.color for each in [*things, spare]})
        second, changed, said = list(things), [], []
        ways = chance.sample(["colour", "gone", "new"], changes)
        for way, thing in zip(ways, chance.sample(things, changes), strict=True):
            if way == "colour":
                second[second.index(thing)] = replace(thing, color=unused)
                said.append(f"The {thing.shape} is {thing.color} in the first picture and {unused} in the second.")
            elif way == "gone":
                second.remove(thing)
                said.append(f"The {thing.name} is missing in the second picture.")
            else:
                second.append(spare)
                said.append(f"The {spare.name} is only in the second picture.")
            changed.append(spare.shape if way == "new" else thing.shape)
        asked = ["", {"changed": changed}, answer(differences=said)]
        level, group = (1, 0, 1, 2)[changes], f"compare {'+'.join(sorted(ways)) or 'same'}"
        yield line("compare", group, level, [drawn(things), drawn(second)], asked)


def read_text() -> Iterator[Line]:
    """By Pillow's own font, which has ASCII alone, and by what vl-convert takes for serif, sans-serif and monospace."""
    printed = [(language, text) for language, texts in PRINTED.items() for text in texts.split(" | ")]
    for n, (language, text) in enumerate(printed):
        chance, level = random.Random(f"text {n}"), n % 3
        picture = typeset(chance, broken(text), level, by_pillow=text.isascii() and n % 2 == 0)
        group = f"print {language} {DIFFICULTIES[level]}"
        yield line("read_text", group, level, [picture], ["", {"text": text}, text], part="print")


def broken(text: str) -> list[str]:
    """Into lines of about sixteen characters."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + len(word) < 16:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def typeset(chance: random.Random, lines: Sequence[str], level: int, *, by_pillow: bool) -> Image.Image:
    """Large and black on white; smaller and turned a little; small, turned, pale and blurred."""
    size, turn = (34, 24, 15)[level], (0, 6, 14)[level] * chance.choice([-1, 1])
    ink, ground = (("black", "white"), ("#203060", "#f4ecd8"), ("#8a8a8a", "#d8d8d8"))[level]
    family = chance.choice(["serif", "sans-serif", "monospace"])
    half = SIDE / 2
    if by_pillow:
        picture = Image.new("RGB", (SIDE, SIDE), ground)
        pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size)
        pen.multiline_text((half, half), "\n".join(lines), ink, font, anchor="mm", align="center")
        picture = picture.rotate(-turn, Image.Resampling.BICUBIC, fillcolor=ground)
    else:
        first = half + size / 3 - (len(lines) - 1) * size * 0.65
        each = [f'<text x="{half}" y="{first + at * size * 1.3}">{text}</text>' for at, text in enumerate(lines)]
        look = {"ground": ground, "turn": turn, "family": family, "size": size, "ink": ink}
        svg = SVG.format(side=SIDE, half=half, lines="\n".join(each), **look)
        picture = Image.open(io.BytesIO(vl_convert.svg_to_png(svg))).convert("RGB")
    return picture.filter(ImageFilter.GaussianBlur(0.7)) if level == 2 else picture


def handwriting(path: str) -> Iterator[Line]:
    """Ten digits alone, ten numbers of three and ten of six: a hundred digits in all, none twice."""
    with gzip.open(path, "rt") as file:
        written = [[int(float(each)) for each in row] for row in csv.reader(file)]
    chosen = iter(random.Random("digits").sample(written, 100))
    for n in range(30):
        level, length = n % 3, (1, 3, 6)[n % 3]
        digits = [next(chosen) for _ in range(length)]
        picture = Image.new("L", (10 * length, 10), 255)
        for at, digit in enumerate(digits):
            one = Image.frombytes("L", (8, 8), bytes(255 - min(255, value * 16) for value in digit[:64]))
            picture.paste(one, (10 * at + 1, 1))
        zoom = min(16, SIDE // picture.width)
        large = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.BICUBIC)
        text = "".join(str(digit[64]) for digit in digits)
        asked = ["the handwritten digits", {"text": text}, text]
        yield line("read_text", f"digits {length}", level, [large], asked, part="handwriting")


def chart() -> Iterator[Line]:
    names = ["Apples", "Bread", "Cheese", "Dates", "Eggs", "Figs", "Grapes"]
    for n in range(14):
        chance, level, kind = random.Random(f"chart {n}"), n % 3, ("bar", "bar", "line", "bar", "line")[n % 5]
        labels = names[: 3 + level] if kind == "bar" else [str(year) for year in range(2019, 2023 + level)]
        series = ["North", "South"] if level == 2 else [""]
        places = [(name, label) for name in series for label in labels]
        numbers = chance.sample(range(5, 100), len(places))
        data = [
            {"label": label, "series": name, "value": value}
            for (name, label), value in zip(places, numbers, strict=True)
        ]
        yield line("chart", f"chart {n}", level, [plotted(kind, data, level)], *about(chance, data, series))


def plotted(kind: str, data: list[dict[str, Any]], level: int) -> Image.Image:
    """Easy: the values stand at the marks. Medium: at the axis alone. Hard: two series."""
    base = altair.Chart(altair.InlineData(values=data)).encode(
        x=altair.X("label:N", title=None), y=altair.Y("value:Q", title="sold", scale=altair.Scale(domain=[0, 100]))
    )
    marks = base.mark_bar(color="#4c78a8") if kind == "bar" else base.mark_line(point=True, color="#4c78a8")
    if level == 2:
        several = {"xOffset": altair.XOffset("series:N")} if kind == "bar" else {}
        marks = marks.encode(color=altair.Color("series:N", title=None), **several)
    layers = altair.layer(marks, base.mark_text(dy=-8, fontSize=13).encode(text="value:Q")) if level == 0 else marks
    spec = layers.properties(width=220 if level == 2 else 260, height=260).to_dict()
    return Image.open(io.BytesIO(vl_convert.vegalite_to_png(spec))).convert("RGB")


def about(chance: random.Random, data: list[dict[str, Any]], series: Sequence[str]) -> Iterator[Any]:
    """One value; the label with the most; all values of a series, in order."""
    name = chance.choice(series)
    rows = [each for each in data if each["series"] == name]
    of = f" of {name}" if name else ""
    one, most = chance.choice(rows), max(rows, key=lambda each: each["value"])
    value, label, values = one["value"], most["label"], [each["value"] for each in rows]
    listed = ", ".join(map(str, values))
    question = f"How many{of} were sold for {one['label']}?"
    yield [question, {"values": [value]}, answer(answer=str(value), values=[value])]
    yield [f"Which label{of} has the largest value?", {"label": label}, answer(answer=label, values=[])]
    yield [f"List all values{of}, from left to right.", {"values": values}, answer(answer=listed, values=values)]


def main(digits: str) -> None:
    lines = [*describe(), *ask(), *count(), *locate(), *compare(), *read_text(), *handwriting(digits), *chart()]
    DATA.write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in lines), encoding="utf-8")
    print(f"{sum(len(each['asked']) for each in lines)} probes in {len(lines)} lines, {DATA.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
