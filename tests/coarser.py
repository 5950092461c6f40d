"""A GGUF file of the same model, with its weights rounded more coarsely: worse, and known to be."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

BLOCK = 32


def coarser(file: Path, copy: Path, levels: int) -> None:
    """Write ``copy``, in which each block of 32 weights of a matrix takes at most ``levels`` values."""
    reader = gguf.GGUFReader(file)
    writer = gguf.GGUFWriter(copy, reader.fields[gguf.Keys.General.ARCHITECTURE].contents())
    for field in reader.fields.values():
        if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        sub_type = field.types[-1] if kind is gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub_type)
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 2:
            stored = quantize(_rounded(values, levels), gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor.name, stored, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _rounded(values: NDArray[np.float32], levels: int) -> NDArray[np.float32]:
    """To evenly spaced values between the least and the greatest of each block."""
    blocks = values.reshape(-1, BLOCK)
    low, high = blocks.min(1, keepdims=True), blocks.max(1, keepdims=True)
    step = np.maximum((high - low) / (levels - 1), 1e-12)
    return (low + step * np.round((blocks - low) / step)).reshape(values.shape).astype(np.float32)
