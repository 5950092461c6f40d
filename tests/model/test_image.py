"""Pictures against Meta's and Hugging Face's own processors, and every kind of file that people or attackers send."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quipu.errors import InvalidRequest
from quipu.model import image
from quipu.model.config import VisionConfig
from quipu.model.image import MOST_BYTES, Tiles, best_grid
from quipu.picture import Image as Given

GOLDEN = Path(__file__).parents[1] / "golden"
rows = json.loads((GOLDEN / "image_vectors.json").read_text())["rows"]
SIDE = 336


def read_tiles(data: bytes, side: int, detail: str = "auto") -> Tiles:
    vision = VisionConfig(32, 128, 2, 2, side, 4, 48, 2, 10000.0, 505)
    return image.read_tiles(Given(data, detail), vision)


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def values(data: bytes, side: int = 8) -> np.ndarray:
    """Of the first tile, from 0 to 255."""
    return np.rint((read_tiles(data, side).pixels[0] + 1) * 127.5).astype(int)


def test_grids_equal_transformers():
    grids = json.loads((GOLDEN / "image_grids.json").read_text())["rows"]
    assert len(grids) == 200
    assert [list(best_grid(height, width, SIDE)) for height, width, _ in grids] == [grid for *_, grid in grids]


@pytest.mark.parametrize("row", rows, ids=lambda row: row["name"])
def test_tiles_equal_meta_and_are_near_transformers(row):
    tiles = read_tiles((GOLDEN / row["file"]).read_bytes(), SIDE)
    assert [tiles.rows, tiles.cols] == row["meta_tile_grid_rows_cols"]
    assert tiles.pixels.shape == (row["num_tiles_with_global"], 3, SIDE, SIDE)
    step = json.loads((GOLDEN / "image_vectors.json").read_text())["subsample_step"]
    seen = tiles.pixels[:, :, ::step, ::step]
    vectors = np.load(GOLDEN / "image_vectors.npz")
    assert np.abs(seen - vectors[f"{row['name']}_meta_sub"]).max() == 0
    assert np.abs(seen - vectors[f"{row['name']}_hf_sub"]).max() <= 0.0121
    np.testing.assert_allclose(tiles.pixels.mean((1, 2, 3)), row["meta_tile_mean"], atol=1e-6)
    assert tiles.pixels.dtype == np.float32


def test_a_photo_is_turned_as_the_camera_was_held():
    picture = Image.new("RGB", (8, 4), "black")
    picture.paste("white", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right
    tiles = read_tiles(saved(picture, "JPEG", exif=exif, quality=100, subsampling=0), 8)
    assert (tiles.rows, tiles.cols) == (1, 1)
    upper, lower = tiles.pixels[0, :, :3, :3].mean(), tiles.pixels[0, :, 5:, :3].mean()
    assert upper > 0.9
    assert lower < -0.9


def test_transparency_is_over_white():
    for picture in (Image.new("RGBA", (8, 8), (0, 0, 255, 0)), Image.new("LA", (8, 8), (0, 0))):
        assert (values(saved(picture)) == 255).all()
    half = values(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 128))))
    assert abs(half - 127).max() <= 1
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([0] * 9 + [255, 0, 0])
    assert (values(saved(palette, transparency=3)) == 255).all()
    assert values(saved(palette))[:, 0, 0].tolist() == [255, 0, 0]


def test_grey_of_one_eight_and_sixteen_bits():
    assert (values(saved(Image.new("1", (8, 8), 1))) == 255).all()
    assert (values(saved(Image.new("L", (8, 8), 77))) == 77).all()
    deep = Image.fromarray(np.full((8, 8), 77 * 257, np.uint16))
    assert (values(saved(deep)) == 77).all()


def test_cmyk():
    red = values(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100))
    assert abs(red[0] - 255).max() < 5
    assert red[1:].max() < 5


def test_of_an_animation_the_first_frame():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        moving = saved(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert values(moving)[:, 0, 0].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_one_pixel():
    assert (values(saved(Image.new("RGB", (1, 1), "white"))) == 255).all()


def test_pictures_are_told_apart():
    one, other = (read_tiles(saved(Image.new("RGB", (8, 8), color)), 8).digest for color in ("red", "blue"))
    assert one != other
    assert one == read_tiles(saved(Image.new("RGB", (8, 8), "red")), 8).digest


def png_of(width: int, height: int, data: bytes) -> bytes:
    """A PNG with a header that says anything."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PNG = saved(Image.new("RGB", (64, 64), "red"))
HOSTILE = {
    "a bomb": (png_of(60_000, 60_000, zlib.compress(bytes(1 << 20))), "too large"),
    "a bomb that Pillow knows": (png_of(8_000, 9_000, zlib.compress(bytes(1 << 20))), "too large .8000 x 9000"),
    "a thread": (png_of(1, 30_000, zlib.compress(bytes(4 * 30_000))), "1 x 30000 pixels .* more than 200 times"),
    "lies about its size": (png_of(4_000, 4_000, zlib.compress(bytes(100))), "damaged"),
    "cut short": (PNG[:-30], "damaged"),
    "cut in its header": (PNG[:20], "damaged|none of the formats"),
    "nothing": (b"", "none of the formats"),
    "text": (b"hello there", "none of the formats"),
    "SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "none of the formats"),
    "a TIFF": (saved(Image.new("RGB", (8, 8)), "TIFF"), "none of the formats .*PNG, JPEG"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of the formats"),
    "a ZIP that ends in a PNG": (b"PK\x03\x04" + PNG, "none of the formats"),
    "too many bytes": (PNG + bytes(MOST_BYTES), r"an image has 20,\d+,\d+ bytes; at most"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_soon_and_say_why(name):
    data, said = HOSTILE[name]
    start = time.monotonic()
    with pytest.raises(InvalidRequest, match=said) as error:
        read_tiles(data, SIDE)
    assert error.value.param == "messages"
    assert time.monotonic() - start < 20


def test_a_png_followed_by_something_else_is_the_png():
    """What a polyglot hides is never looked at."""
    assert (values(PNG + b"<script>alert(1)</script>", 64)[0] == 255).all()


def test_text_in_a_png_that_unpacks_without_end():
    """Pillow stops at a megabyte of text."""
    text = b"comment\0\0" + zlib.compress(bytes(64 << 20))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    with pytest.raises(InvalidRequest, match="damaged"):
        read_tiles(PNG[:33] + chunk + PNG[33:], SIDE)


def test_random_bytes_in_real_files_are_read_or_refused():
    random = np.random.default_rng(1)
    files = [saved(Image.radial_gradient("L").convert("RGB"), kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP")]
    refused = 0
    for place in range(300):
        data = bytearray(files[place % len(files)])
        for at in random.integers(0, min(len(data), 400), random.integers(1, 6)):
            data[at] = random.integers(0, 256)
        try:
            assert np.isfinite(read_tiles(bytes(data), 56).pixels).all()
        except InvalidRequest:
            refused += 1
    assert 20 < refused < 290


def test_a_low_detail_is_one_tile():
    data = (GOLDEN / "images" / "wide.png").read_bytes()
    low, high = read_tiles(data, SIDE, "low"), read_tiles(data, SIDE, "high")
    assert (low.rows, low.cols, low.pixels.shape[0]) == (1, 1, 1)
    assert low.digest != high.digest
    assert high.vectors == 7 * low.vectors
