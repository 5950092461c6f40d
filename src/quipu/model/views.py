"""Weights that files hold as parts of other arrays: turned over, or in pieces. Read when they are asked for.

Hugging Face and Meta store experts as x @ W multiplies them, [in, out]; a weight of ours is [out, in].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quipu.model.weights import KINDS, Stored, Tensor

_TILE = 64
"""Rows turned over at once: they and what they become fit a cache, which is three times as fast as all of them."""


@dataclass(frozen=True, slots=True, eq=False)
class Transposed:
    """Columns ``first`` to ``last`` of a stored matrix as rows. ``columns``: of the matrix; ``size``: bytes of a value.

    Of the file only these columns are read.
    """

    stored: Stored
    columns: int
    size: int
    first: int
    last: int

    @property
    def nbytes(self) -> int:
        """See Stored."""
        return self.stored.nbytes // self.columns * (self.last - self.first)

    def read(self) -> NDArray[np.uint8]:
        """See Stored."""
        values = self._columns().view(f"<u{self.size}")
        rows, columns = values.shape
        turned = np.empty((columns, rows), values.dtype)
        for start in range(0, rows, _TILE):
            turned[:, start : start + _TILE] = values[start : start + _TILE].T
        return turned.reshape(-1).view(np.uint8)

    def _columns(self) -> NDArray[np.uint8]:
        """uint8 [rows, bytes of the columns wanted]."""
        row, width = self.columns * self.size, (self.last - self.first) * self.size
        if width == row:
            return self.stored.read().reshape(-1, row)
        values = np.empty((self.stored.nbytes // row, width), np.uint8)
        for index, into in enumerate(values):
            into[:] = self.stored.part(index * row + self.first * self.size, width).read()
        return values

    def part(self, start: int, nbytes: int) -> Transposed:
        """See Stored."""
        row = self.stored.nbytes // self.columns
        first = self.first + start // row
        return Transposed(self.stored, self.columns, self.size, first, first + nbytes // row)


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Matrices put together when they are read: below each other (``axis`` 0) or side by side (1)."""

    parts: tuple[Tensor, ...]
    axis: int

    @property
    def nbytes(self) -> int:
        """See Stored."""
        return sum(part.nbytes for part in self.parts)

    def read(self) -> NDArray[np.uint8]:
        """See Stored."""
        return np.concatenate([part.packed() for part in self.parts], axis=self.axis).reshape(-1)

    def part(self, start: int, nbytes: int) -> Joined:
        """See Stored."""
        if self.axis == 1:
            row = self.nbytes // self.parts[0].shape[0]
            first, last = start // row, (start + nbytes) // row
            return Joined(tuple(each.rows(first, last) for each in self.parts), 1)
        row = self.nbytes // sum(each.shape[0] for each in self.parts)
        first, last = start // row, (start + nbytes) // row
        found = []
        for each in self.parts:
            count = each.shape[0]
            if first < count and last > 0:
                found.append(each.rows(max(first, 0), min(last, count)))
            first, last = first - count, last - count
        return Joined(tuple(found), 0)


def transposed(matrix: Tensor, name: str, first: int = 0, last: int | None = None) -> Tensor:
    """Columns ``first`` to ``last`` of a matrix of floats [in, out], as the rows of a matrix of its own."""
    rows, columns = matrix.shape
    last = columns if last is None else last
    assert not isinstance(matrix.data, np.ndarray)
    data = Transposed(matrix.data, columns, KINDS[matrix.kind][1], first, last)
    return Tensor(name, (last - first, rows), matrix.kind, data)


def joined(parts: Sequence[Tensor], name: str, axis: int) -> Tensor:
    """One tensor of ``parts`` that fit together along ``axis``; a vector has only axis 0."""
    first = parts[0]
    if len(parts) == 1:
        return Tensor(name, first.shape, first.kind, first.data, first.row_order)
    shape = list(first.shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    # The bytes of a vector are one row.
    return Tensor(name, tuple(shape), first.kind, Joined(tuple(parts), axis if len(shape) > 1 else 1))


def matrix(tensor: Tensor) -> Tensor:
    """The same bytes as a matrix: all axes but the last taken together."""
    shape = (math.prod(tensor.shape[:-1]), tensor.shape[-1])
    return Tensor(tensor.name, shape, tensor.kind, tensor.data)
