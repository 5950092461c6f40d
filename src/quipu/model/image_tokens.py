"""Pictures in a prompt: the tokens that stand for one, and where in the prompt the encoder's vectors take their place.

Meta's prompt format of Llama 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quipu.errors import InvalidRequest
from quipu.model.config import VisionConfig
from quipu.model.image import Tiles

PATCH = "<|patch|>"
PLACEHOLDER = "<|image|>"
"""What chat templates write for a picture."""
MARKS = ("<|image_start|>", "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>", PLACEHOLDER, PATCH)
"""Special tokens that a vocabulary has if its model sees."""


@dataclass(slots=True, eq=False)
class PlacedImage:
    """A picture in a prompt: ``positions``, int64 [vectors], of the tokens that its vectors take the place of.

    ``encoded`` once its vectors had to be made for this prompt: they were not known from another one.
    """

    tiles: Tiles
    positions: NDArray[np.int64]
    encoded: bool = False


class PromptIds(list[int]):
    """Token ids of a prompt, and the pictures among them, in order."""

    images: tuple[PlacedImage, ...] = ()


def image_ids(specials: Mapping[str, int], tiles: Tiles, tile_tokens: int) -> list[int]:
    """Tokens of one picture: its tiles row by row, with marks between and after them, then the whole picture.

    Raises InvalidRequest where the vocabulary lacks one of the marks.
    """
    lacking = [mark for mark in MARKS if mark not in specials]
    if lacking:
        raise InvalidRequest(f"this model's vocabulary lacks {lacking[0]}: it reads text only", param="messages")
    start, end, between, after_row, whole, patch = (specials[mark] for mark in MARKS)
    tile = [patch] * tile_tokens
    ids = [start]
    if tiles.rows * tiles.cols > 1:
        row = tile + [between, *tile] * (tiles.cols - 1) + [after_row]
        ids += row * tiles.rows
    return [*ids, whole, *tile, end]


def placed(ids: Iterable[int], patch: int, images: Iterable[Tiles]) -> PromptIds:
    """``ids`` with the pictures whose patches stand in it, in order.

    Raises InvalidRequest where there are more or fewer patches than vectors.
    """
    prompt = PromptIds(ids)
    everywhere = np.flatnonzero(np.array(prompt, np.int64) == patch)
    found, at = [], 0
    images = list(images)
    for tiles in images:
        count = tiles.vectors
        found.append(PlacedImage(tiles, everywhere[at : at + count]))
        at += count
    if at != len(everywhere):
        raise InvalidRequest(
            f"the prompt has {len(everywhere)} places for parts of pictures, and {len(images)} pictures with {at} parts"
        )
    prompt.images = tuple(found)
    return prompt


def patch_rows(ids: Sequence[int], vision: VisionConfig | None, vectors: int) -> NDArray[np.int64]:
    """Where in ``ids`` the patches of pictures are, int64 [vectors]. Raises InvalidRequest if they are not as many."""
    if vision is None:
        raise InvalidRequest("this model reads text only: it has no use for pixels", param="pixels")
    rows = np.flatnonzero(np.asarray(ids, np.int64) == vision.patch_token)
    if len(rows) != vectors:
        raise InvalidRequest(
            f"the ids have {len(rows)} tokens {vision.patch_token} for parts of pictures, and the pixels are {vectors}",
            param="pixels",
        )
    return rows


def place_vectors(
    states: NDArray[np.float32], ids: Sequence[int], vision: VisionConfig | None, vectors: NDArray[np.float32]
) -> None:
    """Put ``vectors`` where the patches of ``ids`` are among ``states``, [tokens, hidden size]. Raises as above."""
    states[patch_rows(ids, vision, len(vectors))] = vectors
