"""Models that are only a shape: random 4-bit weights, for speed where the real weights are not at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Shape:
    """A dense Llama's sizes, its embeddings tied; keys and values have ``kv_heads`` heads of ``head_size``."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int = 8192
    rope_theta: float = 500000.0

    def matrices(self) -> Iterator[tuple[str, int, int]]:
        """Name in a GGUF, rows, columns."""
        yield "token_embd", self.vocabulary, self.hidden
        for layer in range(self.layers):
            sizes = {
                "attn_q": (self.heads * self.head_size, self.hidden),
                "attn_k": (self.kv_heads * self.head_size, self.hidden),
                "attn_v": (self.kv_heads * self.head_size, self.hidden),
                "attn_output": (self.hidden, self.heads * self.head_size),
                "ffn_gate": (self.feed_forward, self.hidden),
                "ffn_up": (self.feed_forward, self.hidden),
                "ffn_down": (self.hidden, self.feed_forward),
            }
            for name, (rows, columns) in sizes.items():
                yield f"blk.{layer}.{name}", rows, columns


SHAPES = {"llama-3.2-1b": Shape(16, 2048, 8192, 32, 8, 64, 128256)}


def write(shape: Shape, path: Path) -> None:
    """A GGUF in Q4_0 without a tokenizer. Weights have a size that keeps activations near 1; nothing is zeros."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("none")  # both engines take token ids
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    random = np.random.default_rng(0)
    ones = np.ones(shape.hidden, np.float32)
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(shape.layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    for name, rows, columns in shape.matrices():
        stored = random_blocks(random, rows, columns)
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def random_blocks(random: np.random.Generator, rows: int, columns: int) -> NDArray[np.uint8]:
    """Rows in Q4_0: for 32 weights a scale in float16 and 32 random halves of bytes, which stand for -8 to 7."""
    blocks = np.empty((rows, columns // 32, 18), np.uint8)
    scale = np.float16(columns**-0.5 / 4.6)  # 4.6 is the deviation of -8 to 7, each as likely
    blocks[..., :2] = np.frombuffer(scale.tobytes(), np.uint8)
    blocks[..., 2:] = random.integers(0, 256, (rows, columns // 32, 16), np.uint8)
    return blocks.reshape(rows, -1)
