"""Pictures through the engine: golden logits and continuations, prefixes, company, and what is kept of them."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from seeing import seeing_model

import quipu
from quipu.engine.load import load
from quipu.engine.pictures import Pictures
from quipu.errors import InvalidRequest
from quipu.model.image import Tiles
from quipu.model.image_tokens import PlacedImage, PromptIds, placed
from quipu.picture import Image
from quipu.types import Message

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = ("llama4-tiny-step1", "llama4-tiny-step2")
LIMIT = 1e-4


@pytest.fixture(params=[(step, runner) for step in STEPS for runner in ("native", "torch")], ids=str, scope="module")
def model(request: pytest.FixtureRequest) -> Iterator[quipu.LocalModel]:
    step, runner = request.param
    if runner == "native":
        pytest.importorskip("quipu.native")
    options: dict[str, Any] = {"kv_dtype": "f32"} if runner == "native" else {}
    with load(GOLDEN / step, runner=runner, context=512, concurrency=4, threads=1, **options) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def vectors(model: quipu.LocalModel) -> dict[str, np.ndarray]:
    return dict(np.load(Path(model.facts.file) / "vectors.npz"))


def tiles(pixels: np.ndarray, name: bytes) -> Tiles:
    return Tiles(1, len(pixels), pixels, name, 4 * len(pixels))


def prompt(model: quipu.LocalModel, vectors: dict[str, np.ndarray], ids: str, *numbers: int) -> PromptIds:
    images = [tiles(vectors[f"pixels_image{number}"], b"picture %d" % number) for number in numbers]
    assert model.vision is not None
    return placed(vectors[ids].tolist(), model.vision.patch_token, images)


def test_golden_logits_with_one_and_two_pictures(model, vectors):
    one = model.logits(vectors["ids_1image"].tolist(), pixels=vectors["pixels_image1"])
    assert np.abs(one - vectors["logits_1image"]).max() <= LIMIT
    both = np.concatenate([vectors["pixels_image1"], vectors["pixels_image2"]])
    two = model.logits(vectors["ids_2images"].tolist(), pixels=both)
    assert np.abs(two - vectors["logits_2images"]).max() <= LIMIT


def test_the_engine_continues_as_the_oracle_and_knows_the_picture_again(model, vectors):
    given = prompt(model, vectors, "ids_1image", 1)
    expected = vectors["greedy_1image"].tolist()
    options = {"temperature": 0, "max_tokens": len(expected), "ignore_eos": True}
    first = model.generate(given, **options)
    assert list(first.choices[0].token_ids) == expected
    assert first.usage.image_tokens == 12
    again = model.generate(prompt(model, vectors, "ids_1image", 1), **options)
    assert list(again.choices[0].token_ids) == expected
    assert again.usage.encoded_images == 0
    assert again.usage.cached_tokens == (len(given) - 1) // 16 * 16


def test_scores_of_a_prompt_with_pictures_are_those_of_the_reference(model, vectors):
    given = prompt(model, vectors, "ids_2images", 1, 2)
    scored = model.generate(given, max_tokens=1, prompt_logprobs=0).prompt_logprobs
    logits = vectors["logits_2images"].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for place in range(1, len(given)):
        assert scored[place].logprob == pytest.approx(logprobs[place - 1][given[place]], abs=1e-3)


def test_two_pictures_are_never_taken_for_one_another(model, vectors):
    """The same tokens around pictures of the same size: only their content differs."""
    ids = vectors["ids_1image"].tolist()
    images = [tiles(vectors["pixels_image1"] * scale, b"scaled %d" % scale) for scale in (1, -1)]
    made = [placed(ids, model.vision.patch_token, [image]) for image in images]
    options = {"temperature": 0, "max_tokens": 12, "ignore_eos": True, "logprobs": 0}
    alone = [model.generate(each, **options) for each in made]
    assert alone[0].usage.cached_tokens < len(ids)
    scores = [[token.logprob for token in each.choices[0].logprobs] for each in alone]
    assert scores[0] != scores[1]
    for each, before in zip(made, alone, strict=True):
        again = model.generate(placed(list(each), model.vision.patch_token, [each.images[0].tiles]), **options)
        assert again.choices[0].token_ids == before.choices[0].token_ids
        # What is before the picture is the same for both; nothing of the picture is shared.
    other = model.generate(placed(ids, model.vision.patch_token, [tiles(images[0].pixels / 2, b"half")]), **options)
    first_patch = ids.index(model.vision.patch_token)
    assert other.usage.cached_tokens <= first_patch // 16 * 16


def test_pictures_and_texts_in_company_are_those_alone(model, vectors):
    texts = [vectors["ids_17"].tolist(), vectors["ids_200"].tolist()[:40]]
    seen = [prompt(model, vectors, "ids_1image", 1), prompt(model, vectors, "ids_2images", 1, 2)]
    options = {"temperature": 0, "max_tokens": 10, "ignore_eos": True}
    alone = [list(model.generate(each, **options).choices[0].token_ids) for each in (*texts, *seen)]
    fresh = [prompt(model, vectors, "ids_1image", 1), prompt(model, vectors, "ids_2images", 1, 2)]
    streams = [model.stream(each, **options) for each in (*texts, *fresh, *texts)]
    together = [[token for chunk in stream for token in chunk.token_ids] for stream in streams]
    assert together == [*alone, *alone[:2]]


def test_several_answers_to_one_picture_encode_it_once(model, vectors):
    before = model.engine.stats().encoded_images
    image = tiles(vectors["pixels_image2"] * 0.7, b"seen once")
    ids = [1, 2, *[model.vision.patch_token] * image.vectors, 3]
    answer = model.generate(placed(ids, model.vision.patch_token, [image]), n=3, max_tokens=3, seed=1)
    assert len(answer.choices) == 3
    assert answer.usage.encoded_images == 1
    assert model.engine.stats().encoded_images == before + 1


def test_a_long_row_of_pictures_holds_up_no_other_answer(model, vectors):
    """Between two tokens of a running answer there is one piece of the work, never all of it."""
    arrived: list[str] = []
    side = model.vision.tile_size
    many = [tiles(np.full((6, 3, side, side), value, np.float32), b"many %d" % value) for value in range(5)]
    ids = [1, *[model.vision.patch_token] * sum(each.vectors for each in many), 2]
    running = model.stream([5, 6, 7], temperature=0, max_tokens=120, ignore_eos=True)
    next(iter(running))

    def look() -> None:
        model.generate(placed(ids, model.vision.patch_token, many), max_tokens=1)
        arrived.append("pictures")

    thread = threading.Thread(target=look)
    thread.start()
    for _ in running:
        arrived.append("token")
    thread.join()
    assert arrived.count("token") > 100
    assert "pictures" in arrived


def test_who_leaves_while_a_picture_is_encoded_leaves_nothing(model):
    side = model.vision.tile_size
    image = tiles(np.full((40, 3, side, side), 0.3, np.float32), b"left")
    ids = [1, *[model.vision.patch_token] * image.vectors, 2]
    stream = model.stream(placed(ids, model.vision.patch_token, [image]), max_tokens=5)
    stream.close()
    assert model.generate([1, 2, 3], max_tokens=2).usage.completion_tokens == 2
    stats = model.engine.stats()
    assert (stats.running, stats.waiting, stats.blocks_used) == (0, 0, 0)


def test_pixels_that_do_not_fit_are_refused(model, vectors):
    ids = vectors["ids_1image"].tolist()
    with pytest.raises(InvalidRequest, match="12 tokens 505 for parts of pictures, and the pixels are 4"):
        model.logits(ids, pixels=vectors["pixels_image1"][:1])
    with pytest.raises(InvalidRequest, match=r"float64 .* wants float32 \[tiles, 3, 56, 56\]"):
        model.logits(ids, pixels=vectors["pixels_image1"].astype(np.float64))
    with pytest.raises(InvalidRequest, match="the prompt has 12 places for parts of pictures, and 1 pictures with 4"):
        placed(ids, model.vision.patch_token, [tiles(vectors["pixels_image1"][:1], b"x")])


def test_a_text_model_refuses_pictures():
    with load(GOLDEN / "llama3-tiny", context=64, concurrency=1) as blind:
        assert not blind.sees
        with pytest.raises(InvalidRequest, match="reads text only"):
            blind.logits([1, 2], pixels=np.zeros((1, 3, 56, 56), np.float32))
        image = PlacedImage(tiles(np.zeros((1, 3, 56, 56), np.float32), b"x"), np.arange(4))
        given = PromptIds([1, 2, 3, 4])
        given.images = (image,)
        with pytest.raises(InvalidRequest, match="reads text only"):
            blind.generate(given)


class Eyes:
    """An encoder that counts."""

    def __init__(self) -> None:
        self.started: list[int] = []

    def encode(self, pixels: np.ndarray) -> Iterator[np.ndarray | None]:
        self.started.append(len(pixels))
        for _ in pixels:
            yield None
        yield np.ones((4 * len(pixels), 8), np.float32)


class Waiting:
    def __init__(self, *images: Tiles) -> None:
        self.images = tuple(PlacedImage(each, np.arange(each.vectors)) for each in images)
        self.vectors: list[np.ndarray | None] = [None] * len(images)
        self.ready = False


def test_what_is_kept_is_bounded_and_the_last_used_stays():
    eyes = Eyes()
    each = 4 * 8 * 4  # bytes of a picture's vectors
    pictures = Pictures(eyes, kept_bytes=2 * each)
    one, two, three = (tiles(np.zeros((1, 3, 4, 4), np.float32), name) for name in (b"1", b"2", b"3"))

    def see(*images: Tiles) -> None:
        sequence = Waiting(*images)
        for _ in range(20):
            if not sequence.ready:
                pictures.look_for(sequence)
        assert sequence.ready

    see(one, two)
    see(one)
    assert len(eyes.started) == 2
    see(three)  # "2" was used longest ago
    see(one)
    assert len(eyes.started) == 3
    see(two)
    assert len(eyes.started) == 4


# ---- conversations


@pytest.fixture(scope="module")
def talker() -> Iterator[quipu.LocalModel]:
    with seeing_model() as loaded:
        yield loaded


def picture(color: str = "red", size: tuple[int, int] = (70, 40)) -> Pillow.Image:
    return Pillow.new("RGB", size, color)


def saved(shown: Pillow.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    shown.save(file, kind)
    return file.getvalue()


def test_a_picture_however_it_is_given(talker, tmp_path):
    data = saved(picture())
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    given = [
        [{"role": "user", "content": [{"type": "image", "image": each}, {"type": "text", "text": "What?"}]}]
        for each in (data, path, url, picture(), Image(data))
    ]
    given.append([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                               {"type": "text", "text": "What?"}]}])  # fmt: skip
    given.append([Message.showing(Image(data), "What?")])
    options = {"temperature": 0, "max_tokens": 6}
    answers = [talker.chat(each, **options) for each in given]
    assert len({answer.choices[0].token_ids for answer in answers}) == 1
    assert [answer.usage.encoded_images for answer in answers] == [1] + [0] * 6
    # Two tiles wide and the whole: four vectors each.
    assert {answer.usage.image_tokens for answer in answers} == {12}
    assert talker.count(given[0]) == answers[0].usage.prompt_tokens


def test_a_second_question_about_a_picture_uses_what_is_known(talker):
    shown = Message.showing(Image(saved(picture("blue"))), "Where was this taken, and when?")
    first = talker.chat([shown], max_tokens=8, temperature=0, ignore_eos=True)
    then = [shown, Message("assistant", "Here."), Message("user", "Who?")]
    second = talker.chat(then, max_tokens=4, temperature=0)
    assert (first.usage.encoded_images, second.usage.encoded_images) == (1, 0)
    assert second.usage.cached_tokens >= first.usage.prompt_tokens // 16 * 16 - 16
    other = talker.chat([Message.showing(Image(saved(picture("green"))), "Where was this taken, and when?")],
                        max_tokens=4, temperature=0)  # fmt: skip
    assert other.usage.encoded_images == 1


def test_low_detail_is_one_tile(talker):
    part = Image(saved(picture(size=(300, 40)))).as_part()
    for detail, tokens in (("low", 4), ("auto", 4 * 7), ("high", 4 * 7)):
        part["image_url"]["detail"] = detail
        answer = talker.chat([{"role": "user", "content": [part]}], max_tokens=1)
        assert answer.usage.image_tokens == tokens


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image_url"}, r"content\[0\].image_url needs a url"),
        ({"type": "image_url", "image_url": {"url": "http://host/x.png"}}, "at addresses are not fetched here"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "no data URL in base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}, "is no base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,", "detail": "most"}}, "detail is 'most'"),
        ({"type": "image_url", "image_url": {"url": "data:x;base64,", "size": 1}}, "has no field 'size'"),
        ({"type": "image_url", "image_url": {"url": "data:x;base64,"}}, "in none of the formats"),
        ({"type": "image", "image": Path("/not/there.png")}, "'/not/there.png' cannot be read: No such file"),
        ({"type": "image", "image": Path("a\0b")}, "cannot be read"),
        ({"type": "image", "image": "/etc/passwd"}, "is text; give a file as pathlib.Path"),
        ({"type": "image", "image": 7}, "must be a path, bytes, a data URL or a picture of Pillow, got int"),
        ({"type": "image"}, "must be a path"),
    ],
)
def test_pictures_that_cannot_be_read_are_named(talker, part, said):
    with pytest.raises(InvalidRequest, match=said) as error:
        talker.chat([{"role": "user", "content": [part]}])
    assert error.value.param is not None
    assert error.value.param.startswith("messages")


def test_only_users_show_pictures(talker):
    part = Image(saved(picture())).as_part()
    for role in ("system", "assistant"):
        with pytest.raises(InvalidRequest, match="only messages of the user may"):
            talker.chat([{"role": role, "content": [part]}])


def test_media_types_are_told_by_the_first_bytes():
    for kind, media_type in (("PNG", "png"), ("JPEG", "jpeg"), ("GIF", "gif"), ("BMP", "bmp"), ("WEBP", "webp")):
        part = Image(saved(picture(), kind)).as_part()
        assert part["image_url"]["url"].startswith(f"data:image/{media_type};base64,")
    assert Image(b"what").media_type == "application/octet-stream"
