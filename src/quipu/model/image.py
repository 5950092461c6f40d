"""Pictures -> what Llama 4's vision encoder reads: tiles of equal size, and a small copy of the whole.

Follows Meta's llama_models (Pillow, float32), which differs from transformers by a rounding step of bfloat16.
"""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from quipu.errors import InvalidRequest
from quipu.model.config import VisionConfig
from quipu.picture import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
"""What browsers and cameras write. The other decoders of Pillow are never reached."""
MOST_BYTES = 20 << 20
MOST_PIXELS = 64_000_000
"""More than phones take; 200 MB once decoded, and one picture is decoded at a time."""
MOST_RATIO = 200
"""Between the sides: beyond it nothing is left of the shorter one in a tile."""
MOST_TILES = 16

_decoding = threading.Lock()


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """``pixels`` float32 [tiles, 3, side, side] from -1 to 1: ``rows`` x ``cols`` tiles row by row, then, if there is
    more than one, the whole picture as one tile. ``digest`` tells pictures apart."""

    rows: int
    cols: int
    pixels: NDArray[np.float32]
    digest: bytes
    vectors: int
    """How many the encoder makes of them, tokens in the prompt."""


def read_tiles(image: Image, vision: VisionConfig) -> Tiles:
    """Decode a file of one of FORMATS into tiles of the size that ``vision`` wants.

    A photo is turned as its camera was held; transparency is over white; of an animation it is the first frame.
    Raises InvalidRequest for what is no such file, damaged, or too large.
    """
    side = vision.tile_size
    with _decoding:
        picture = _decoded(image.data)
        rows, cols = (1, 1) if image.detail == "low" else best_grid(picture.height, picture.width, side)
        pixels = _cut(picture, side, rows, cols)
    digest = hashlib.sha256(f"{rows} x {cols} of {side}".encode() + image.data).digest()
    return Tiles(rows, cols, pixels, digest, len(pixels) * vision.tile_tokens)


def _cut(picture: Picture, side: int, rows: int, cols: int) -> NDArray[np.float32]:
    from PIL import Image as Pillow

    width, height = _fitted(picture.width, picture.height, cols * side, rows * side, side)
    # Black before normalisation, at the right and below.
    canvas = Pillow.new("RGB", (cols * side, rows * side))
    canvas.paste(picture.resize((width, height), Pillow.Resampling.BILINEAR))
    array = np.asarray(canvas).reshape(rows, side, cols, side, 3).transpose(0, 2, 4, 1, 3).reshape(-1, 3, side, side)
    if rows * cols > 1:
        whole = np.asarray(picture.resize((side, side), Pillow.Resampling.BILINEAR)).transpose(2, 0, 1)
        array = np.concatenate([array, whole[None]])
    pixels = (array.astype(np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)
    return np.ascontiguousarray(pixels)


def best_grid(height: int, width: int, side: int) -> tuple[int, int]:
    """Rows and columns of tiles: of the grids that need no shrinking the one that enlarges least, else the one that
    shrinks least; of equals the smallest. In float32, as the references compare."""
    scales = [
        (min(np.float32(side * rows) / np.float32(height), np.float32(side * cols) / np.float32(width)), (rows, cols))
        for rows, cols in _grids()
    ]
    enlarging = [scale for scale, _ in scales if scale >= 1]
    chosen = min(enlarging) if enlarging else max(scale for scale, _ in scales)
    alike = [grid for scale, grid in scales if scale == chosen]
    return min(alike, key=lambda grid: grid[0] * grid[1])


@cache
def _grids() -> tuple[tuple[int, int], ...]:
    """Every grid of at most MOST_TILES tiles, from many to few, those of one ratio together as they first appear."""
    ratios: dict[float, list[tuple[int, int]]] = {}
    for count in range(MOST_TILES, 0, -1):
        for rows in range(1, count + 1):
            if count % rows == 0:
                ratios.setdefault(rows / (count // rows), []).append((rows, count // rows))
    return tuple(grid for grids in ratios.values() for grid in grids)


def _fitted(width: int, height: int, most_width: int, most_height: int, side: int) -> tuple[int, int]:
    """The size, of the same proportions, that fills the canvas, but is not enlarged beyond one tile."""
    most_width, most_height = min(max(width, side), most_width), min(max(height, side), most_height)
    by_width, by_height = most_width / width, most_height / height
    if by_width < by_height:
        return most_width, max(1, min(int(height * by_width), most_height))
    return max(1, min(int(width * by_height), most_width)), most_height


def _decoded(data: bytes) -> Picture:
    from PIL import Image as Pillow
    from PIL import ImageOps, UnidentifiedImageError

    if len(data) > MOST_BYTES:
        raise InvalidRequest(
            f"an image has {len(data):,} bytes; at most {MOST_BYTES:,} are read: make it smaller", param="messages"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)  # its size is looked at below
            picture = Pillow.open(io.BytesIO(data), formats=FORMATS)
            _check_size(*picture.size)
            picture.load()
            return _rgb(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError:
        raise InvalidRequest(
            f"an image is in none of the formats that are read ({', '.join(FORMATS)}); convert it", param="messages"
        ) from None
    except Pillow.DecompressionBombError:
        raise _too_large("it") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, OverflowError, ArithmeticError) as error:
        raise InvalidRequest(f"an image is damaged ({error!s:.120}); send it again", param="messages") from None


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_large(f"{width} x {height}")
    if max(width, height) > MOST_RATIO * min(width, height):
        raise InvalidRequest(
            f"an image of {width} x {height} pixels has one side more than {MOST_RATIO} times the other; crop it",
            param="messages",
        )


def _too_large(size: str) -> InvalidRequest:
    return InvalidRequest(
        f"an image is too large ({size}): at most {MOST_PIXELS:,} pixels are read; make it smaller", param="messages"
    )


def _rgb(picture: Picture) -> Picture:
    """Three channels of eight bits."""
    from PIL import Image as Pillow

    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):  # sixteen bits of grey
        picture = Pillow.fromarray((np.asarray(picture, np.float64).clip(0, 65535) / 257).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Pillow.new("RGBA", picture.size, "white")
        picture = Pillow.alpha_composite(white, picture)
    return picture.convert("RGB")
