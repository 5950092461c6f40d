"""What vision asks of pictures, what it takes for an answer, and what an answer is worth."""

import base64
import io
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Oracle, saying
from PIL import Image as Pillow

from quipu import capabilities
from quipu.capabilities.base import Probe
from quipu.capabilities.parts.picture_score import overlap, relative_error, text_similarity, words_of
from quipu.capabilities.vision import FORMS
from quipu.engine.fake import fake_model
from quipu.errors import CannotSee, InvalidRequest, Unparsed
from quipu.picture import Image
from quipu.types import Constraint

VISION = capabilities.find("vision")
edge = st.floats(0, 1, width=32)


def png(color: str = "red", size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Pillow.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


def url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def asked(**fields: object) -> object:
    return VISION.input.of({"images": [url(png())], **fields})


def expecting(**expected: object) -> Probe:
    return Probe({}, expected, "", "g", "easy")


def test_the_pictures_stand_before_the_question_and_are_numbered_if_several() -> None:
    red, blue = png("red"), png("blue")
    [message] = VISION.messages(asked(images=[url(red), url(blue)], task="ask", question="Which is warmer?"))
    assert message.parts == ("Picture 1:", Image(red), "Picture 2:", Image(blue), "Which is warmer?")
    [message] = VISION.messages(asked(task="describe", question="Mind the colours."))
    assert message.parts == (Image(png()), "Describe what is in the picture. Mind the colours.")


def test_the_models_answer_is_held_to_the_form_of_its_task() -> None:
    oracle = saying('{"count": 4}')
    output = capabilities.run(oracle, "vision", images=[png()], task="count", question="cats {0}")
    assert (output.count, output.text) == (4, "4")
    assert oracle.options[0]["constraint"].value == FORMS["count"]
    assert "cats {0}" in oracle.asked[0][0].content  # braces are the user's own
    assert oracle.asked[0][0].images == (Image(png()),)
    oracle = saying("A red square.")
    assert str(capabilities.run(oracle, "vision", images=[png()])) == "A red square."
    assert "constraint" not in oracle.options[0]


@pytest.mark.parametrize("task", sorted(FORMS))
def test_every_form_is_one_that_answers_can_be_held_to(task: str) -> None:
    """The real engine's grammar under a fake that would say something else, and that sees nothing."""
    looking = asked(task=task, question="x", images=[url(png())] * (2 if task == "compare" else 1))
    options = {"max_tokens": VISION.longest(looking), "temperature": 0}
    with fake_model(lambda said: "no idea at all", context_length=4096) as model:
        chunks = model.stream("x", constraint=Constraint("json_schema", FORMS[task]), **options)
        text = "".join(map(str, chunks))
    assert set(json.loads(text)) == set(FORMS[task]["required"])
    VISION.parse(text, looking)


def test_a_model_that_reads_text_only_says_so_and_which_do_not() -> None:
    with (
        fake_model() as model,
        pytest.raises(CannotSee, match=r"reads text only; ask one that .* llama-4-scout") as told,
    ):
        capabilities.run(model, "vision", images=[png()])
    assert told.value.param == "images"


def test_pictures_come_as_paths_bytes_pillows_or_data_urls_and_as_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(png())
    for given_as in (file, png(), url(png())):
        assert asked(images=[given_as]).images == [url(png())]
    [kept] = asked(images=[Pillow.new("RGB", (8, 8), "red")]).images
    assert Pillow.open(io.BytesIO(Image.of_url(kept, "images").data)).getpixel((3, 3)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"images": []}, "images", "at least 1"),
        ({"images": ["/etc/passwd"]}, "images[0]", "as a data URL"),
        ({"images": ["https://example.com/a.png"]}, "images[0]", "as a data URL"),
        ({"images": ["data:image/png,abc"]}, "images[0]", "base64"),
        ({"images": ["data:image/png;base64,###"]}, "images[0]", "base64"),
        ({"images": [""]}, "images[0]", "as a data URL"),
        ({"images": [b""]}, "images[0]", "empty"),
        ({"images": [Path("nowhere.png")]}, "images[0]", "cannot be read"),
        ({"images": [7]}, "images[0]", "a path, bytes"),
        ({"images": [b"x"] * 65}, "images", "at most 64"),
        ({"task": "compare"}, "task", "at least two images"),
        ({"task": "locate", "images": [b"x", b"y"], "question": "it"}, "task", "one image"),
        ({"task": "count"}, "question", "is needed by count"),
        ({"task": "chart", "question": " "}, "question", "is needed by chart"),
        ({"task": "see"}, "task", "describe"),
    ],
)
def test_what_cannot_be_asked_is_refused_by_field(fields: dict, param: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        asked(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("task", "text"),
    [
        ("count", "seven"),
        ("count", '{"count": "7"}'),
        ("count", '{"count": true}'),
        ("count", '{"number": 7}'),
        ("locate", '{"box": {"left": 0.5, "top": 0, "right": 0.2, "bottom": 1}}'),
        ("locate", '{"box": {"left": 0, "top": 0, "right": 2, "bottom": 1}}'),
        ("locate", '{"box": [0, 0, 1, 1]}'),
        ("compare", '{"differences": "none"}'),
        ("compare", '{"differences": [1]}'),
        ("chart", '{"answer": "x", "values": ["one"]}'),
        ("chart", '{"answer": "x", "values": [1' + "0" * 400 + "]}"),
        ("chart", "[]"),
    ],
)
def test_what_is_no_answer_is_unparsed(task: str, text: str) -> None:
    images = [url(png())] * (2 if task == "compare" else 1)
    with pytest.raises(Unparsed) as unparsed:
        VISION.parse(text, asked(task=task, question="x", images=images))
    assert unparsed.value.text == text


def test_a_box_is_told_in_words() -> None:
    box = {"left": 0.7, "top": 0.0, "right": 0.9, "bottom": 0.2}
    found = VISION.parse(json.dumps({"box": box}), asked(task="locate", question="x"))
    assert (found.text, found.box.model_dump()) == ("top right: left 0.7, top 0, right 0.9, bottom 0.2", box)
    assert VISION.parse('{"box": null}', asked(task="locate", question="x")).text == "It is not there."


@pytest.mark.parametrize(
    ("task", "text", "expected", "value", "passed"),
    [
        ("describe", "Two red circles, and a violet star", {"words": ["circle", "purple", "red", "star"]}, 1, True),
        ("describe", "A red square", {"words": ["circle", "red"]}, 0.5, False),
        ("describe", "Nothing", {"words": ["circle", "red"]}, 0, False),
        ("ask", "It is green.", {"word": "green"}, 1, True),
        ("ask", "Green or red.", {"word": "green"}, 0, False),
        ("ask", "No, there is none", {"word": "no"}, 1, True),
        ("ask", "Yes. No.", {"word": "no"}, 0, False),
        ("read_text", "Mind  the\ngap", {"text": "Mind the gap"}, 1, True),
        ("read_text", "Mind the cap", {"text": "Mind the gap"}, 11 / 12, True),
        ("read_text", "xyz", {"text": "Mind the gap"}, 0, False),
        ("count", '{"count": 3}', {"count": 3}, 1, True),
        ("count", '{"count": 4}', {"count": 3}, 0, False),
        ("compare", '{"differences": ["The star is red, the circle is not."]}', {"changed": ["star"]}, 1, True),
        ("compare", '{"differences": ["star", "star"]}', {"changed": ["star"]}, 2 / 3, False),
        ("compare", '{"differences": []}', {"changed": []}, 1, True),
        ("compare", '{"differences": ["all"]}', {"changed": []}, 0, False),
        ("chart", '{"answer": "", "values": [10.4, 21]}', {"values": [10, 20]}, 1, True),
        ("chart", '{"answer": "", "values": [10, 22]}', {"values": [10, 20]}, 0.5, False),
        ("chart", '{"answer": "", "values": [10, 20, 30]}', {"values": [10, 20]}, 2 / 3, False),
        ("chart", '{"answer": "", "values": []}', {"values": [10]}, 0, False),
        ("chart", '{"answer": "It is Bread.", "values": []}', {"label": "Bread"}, 1, True),
        ("chart", '{"answer": "Breadth", "values": []}', {"label": "Bread"}, 0, False),
        ("locate", '{"box": null}', {"box": None}, 1, True),
        ("locate", '{"box": null}', {"box": [0, 0, 1, 1]}, 0, False),
        ("locate", '{"box": {"left": 0, "top": 0, "right": 1, "bottom": 1}}', {"box": [0, 0, 1, 0.5]}, 0.5, True),
        ("locate", '{"box": {"left": 0, "top": 0, "right": 0, "bottom": 0}}', {"box": [0, 0, 1, 1]}, 0, False),
        ("locate", '{"box": {"left": 0, "top": 0, "right": 1, "bottom": 1}}', {"box": None}, 0, False),
    ],
)
def test_what_an_answer_is_worth(task: str, text: str, expected: dict, value: float, passed: bool) -> None:
    images = [url(png())] * (2 if task == "compare" else 1)
    score = VISION.score(VISION.parse(text, asked(task=task, question="x", images=images)), expecting(**expected))
    assert (score.value, score.passed) == (pytest.approx(value), passed)


@given(st.tuples(edge, edge, edge, edge), st.tuples(edge, edge, edge, edge))
def test_overlap_is_that_of_the_cells_that_both_cover(one: tuple, other: tuple) -> None:
    """Both boxes on a grid of 20 x 20, as sets of cells."""

    def cells(box: tuple) -> tuple[set, tuple]:
        left, right = sorted(round(each * 20) for each in box[::2])
        top, bottom = sorted(round(each * 20) for each in box[1::2])
        return {(x, y) for x in range(left, right) for y in range(top, bottom)}, (left, top, right, bottom)

    (first, a), (second, b) = cells(one), cells(other)
    union = len(first | second)
    assert overlap(a, b) == pytest.approx(len(first & second) / union if union else 0)


def test_measures_agree_with_their_definitions() -> None:
    assert text_similarity("", "ab") == 0
    assert text_similarity("abcd", "abce") == 0.75
    assert relative_error(0, 0) == 0
    assert relative_error(1, 0) == float("inf")
    assert relative_error(-5, -10) == 0.5
    assert words_of("crosses, discs; Plus", ("cross", "circle")) == ["cross", "circle", "cross"]


def test_every_probe_shows_what_it_asks_about() -> None:
    """The colours that are expected are in the picture, and a box has its colour in the middle."""
    seen = Counter()
    named = {"red": (216, 30, 30), "green": (31, 157, 58), "blue": (31, 85, 214), "yellow": (242, 210, 27),
             "orange": (242, 138, 27), "purple": (138, 43, 184), "black": (17, 17, 17)}  # fmt: skip
    for probe in VISION.probes:
        pictures = [Pillow.open(io.BytesIO(Image.of_url(each, "").data)) for each in probe.given["images"]]
        assert len(pictures) == (2 if probe.given["task"] == "compare" else 1)
        assert all(max(each.size) <= 336 for each in pictures)
        picture = pictures[0].convert("RGB")
        colors = {color for _, color in picture.getcolors()}
        assert len(colors) > 1, f"nothing is in the picture of {probe.expected}"
        assert {named[word] for word in probe.expected.get("words", ()) if word in named} <= colors
        if probe.expected.get("box"):
            left, top, right, bottom = (edge * 336 for edge in probe.expected["box"])
            color = probe.given["question"].split()[1]
            assert picture.getpixel((round((left + right) / 2), round(top + (bottom - top) * 0.6))) == named[color]
        if len(pictures) == 2:
            same = pictures[0].convert("RGB").tobytes() == pictures[1].convert("RGB").tobytes()
            assert same is (not probe.expected["changed"])
        seen[probe.part] += 1
    assert min(seen.values()) >= 20
    assert set(seen) == {"describe", "ask", "count", "locate", "compare", "print", "handwriting", "chart"}


def test_a_perfect_reader_of_the_pictures_alone_finds_the_probe() -> None:
    """No two probes show and ask the same: an answer by what is shown is one answer."""
    answers = {}
    for probe in VISION.probes:
        key = json.dumps([probe.given["images"], probe.given["question"]])
        assert answers.setdefault(key, probe.answer) == probe.answer
    probe = VISION.probes[0]
    oracle = Oracle(lambda messages: answers[json.dumps([[url(each.data) for each in messages[0].images],
                                                         probe.given["question"]])])  # fmt: skip
    assert VISION.score(VISION.run(oracle, VISION.input.of(probe.given)).output, probe).passed
