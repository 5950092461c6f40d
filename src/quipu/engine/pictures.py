"""Pictures of waiting requests -> vectors, a bounded piece of work at a time, between the steps of answers.

Vectors are kept by the picture's content, so that a second question about one does not encode it again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from quipu.engine.request import Sequence
from quipu.engine.runner import Encoder
from quipu.model.image import Tiles

KEPT_BYTES = 512 << 20
"""Of vectors: some ten pictures of the largest size for Scout."""


class Pictures:
    """Belongs to the engine's thread. ``encoder`` None: a model that reads text only; nothing waits then."""

    def __init__(self, encoder: Encoder | None, kept_bytes: int = KEPT_BYTES) -> None:
        self._encoder = encoder
        self._kept_bytes = kept_bytes
        self._kept: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._current: tuple[bytes, Iterator[NDArray[np.float32] | None]] | None = None
        self.encoded = 0
        """How many were encoded until now."""

    def look_for(self, sequence: Sequence) -> None:
        """Do one piece of work for ``sequence``, which waits for its pictures, and see whether it was the last."""
        for number, image in enumerate(sequence.images):
            if sequence.vectors[number] is not None:
                continue
            found = self._find(image.tiles.digest)
            if found is None:
                image.encoded |= self._advance(image.tiles)
                return
            sequence.vectors[number] = found
        sequence.ready = True

    def _find(self, digest: bytes) -> NDArray[np.float32] | None:
        found = self._kept.get(digest)
        if found is not None:
            self._kept.move_to_end(digest)
        return found

    def _advance(self, tiles: Tiles) -> bool:
        """The next piece of encoding ``tiles``; True if it was the last."""
        assert self._encoder is not None
        if self._current is None or self._current[0] != tiles.digest:
            self._current = tiles.digest, self._encoder.encode(tiles.pixels)
        try:
            vectors = next(self._current[1])
        except BaseException:
            self._current = None
            raise
        if vectors is None:
            return False
        self._current = None
        self._keep(tiles.digest, vectors)
        self.encoded += 1
        return True

    def _keep(self, digest: bytes, vectors: NDArray[np.float32]) -> None:
        self._kept[digest] = vectors
        total = sum(each.nbytes for each in self._kept.values())
        while total > self._kept_bytes and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            total -= dropped.nbytes
