"""The mistakes that other engines shipped with Llama 3.2 and Llama 4, put back one at a time: a test fails for each.

``python tests/traps.py`` runs all, ``python tests/traps.py 6 13`` some; ``make test-all`` runs them as
``tests/test_traps.py``. A copy of the package is changed, never the package itself.
"""

# ruff: noqa: E501
from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
LLAMA4 = "tests/model/test_llama4.py"
CONFIG = "tests/model/test_config_llama4.py"
CACHE = "tests/engine/test_llama4_cache.py"
VISION = "tests/model/test_vision.py"
LOGITS = f"{LLAMA4}::test_logits_at_every_length"


@dataclass(frozen=True, slots=True)
class Trap:
    """Mistake ``number`` of the list: ``right`` in ``file`` becomes ``wrong``, and ``test`` has to fail."""

    number: int
    mistake: str
    file: str
    right: str
    wrong: str
    test: str

    def __str__(self) -> str:
        return f"{self.number} {self.mistake}"


TRAPS = [
    Trap(1, "halves are rotated", "model/config_huggingface.py", "pair_rotation=True", "pair_rotation=False", LOGITS),
    Trap(
        1,
        "q and k of a Llama 4 are permuted",
        "model/weights.py",
        "if config.pair_rotation:",
        "if False:",
        "tests/model/test_llama4_formats.py::test_weights_are_those_of_transformers",
    ),
    Trap(
        2,
        "no_rope_layers is inverted",
        "model/config_huggingface.py",
        "if not rotated)",
        "if rotated)",
        f"{LLAMA4}::test_other_configurations_of_the_same_weights",
    ),
    Trap(
        2,
        "the first of four layers does not rotate",
        "model/config.py",
        "range(interval - 1, layers, interval)",
        "range(0, layers, interval)",
        LOGITS,
    ),
    Trap(
        3,
        "Scout is scaled by 8 and 4",
        "model/config_meta.py",
        "factor, high = (16.0, 1.0)",
        "factor, high = (8.0, 4.0)",
        f"{CONFIG}::test_meta_params_are_the_published_configurations",
    ),
    Trap(
        3,
        "an empty middle band divides by zero",
        "model/frequencies.py",
        "if high == low:",
        "if False:",
        "tests/model/test_config.py::test_frequencies_equal_transformers_bit_for_bit",
    ),
    Trap(
        4,
        "Llama 3.2's factor is dropped",
        "model/frequencies.py",
        "stretched = inverse / np.float32(scaling.factor)",
        "stretched = inverse",
        "tests/model/test_llama.py::test_rope_scaling_at_32_thousand_positions",
    ),
    Trap(
        4,
        "Meta's 1B is scaled by 8",
        "model/config_meta.py",
        "32.0 if (dim, layers) in _LLAMA_3_2_TEXT else 8.0",
        "8.0",
        "tests/model/test_config.py::test_meta_params_of_llama_3_2_1b_equal_its_huggingface_config",
    ),
    Trap(
        5,
        "angles are those of whole positions",
        "model/rope.py",
        "positions % config.chunk",
        "positions",
        f"{LLAMA4}::test_angles_far_into_a_text_are_those_of_exact_arithmetic",
    ),
    Trap(
        6,
        "chunks slide",
        "model/attention.py",
        "(chunks[:, None] == chunks)",
        "(places[:, None] - places < chunk)",
        LOGITS,
    ),
    Trap(
        6,
        "layers without rotation are chunked",
        "model/config.py",
        "None if layer in self.nope_layers else self.chunk",
        "self.chunk",
        LOGITS,
    ),
    Trap(
        7,
        "decoding reads the whole cache",
        "model/attention.py",
        "parts.append(Extent(start, end - start, extent.blocks, first))",
        "parts.append(Extent(start, end - start, extent.blocks, first if end - start > 1 else 0))",
        f"{CACHE}::test_any_split_beside_any_others_equals_one_forward",
    ),
    Trap(
        8,
        "a chunk is counted from the step's start",
        "model/attention.py",
        "range(extent.start // chunk * chunk, extent.length, chunk)",
        "range(extent.start, extent.length, chunk)",
        f"{CACHE}::test_any_split_beside_any_others_equals_one_forward",
    ),
    Trap(
        9,
        "a block is freed that can still be read",
        "engine/kv_cache.py",
        "first = self._first_read(sequence.computed)",
        "first = self._first_read(sequence.computed + BLOCK_SIZE)",
        "tests/engine/test_scheduler.py::TestChunksAcrossBlocks",
    ),
    Trap(
        9,
        "nothing is freed",
        "engine/kv_cache.py",
        "if first > sequence.passed:",
        "if False:",
        "tests/engine/test_scheduler.py::test_chunked_layers_hold_no_more_than_a_chunk_and_a_step",
    ),
    Trap(
        9,
        "a prefix is used again without its chunk",
        "engine/kv_cache.py",
        "if len(tail) == count - first:",
        "if True:",
        "tests/engine/test_scheduler.py::TestChunksAcrossBlocks",
    ),
    Trap(
        10,
        "a context below a chunk needs a whole one",
        "engine/kv_cache.py",
        "return min(blocks_for(context), most_chunk_blocks(chunk, step))",
        "return most_chunk_blocks(chunk, step)",
        f"{CACHE}::test_a_short_context_needs_no_whole_chunk",
    ),
    Trap(
        11, "no norm of queries and keys", "model/llama4.py", "config.query_key_norm and self.rotates", "False", LOGITS
    ),
    Trap(
        11,
        "the norm is shared by all heads",
        "model/llama4.py",
        "else over_root_mean_square(rotated, self.norm_epsilon)",
        "else over_root_mean_square(rotated.flatten(1), self.norm_epsilon).view_as(rotated)",
        LOGITS,
    ),
    Trap(
        11,
        "its epsilon is 1e-6",
        "model/llama4.py",
        "config.norm_epsilon if config.query_key_norm",
        "1e-6 if config.query_key_norm",
        LOGITS,
    ),
    Trap(
        11,
        "layers without rotation are normed, too",
        "model/llama4.py",
        "return torch.cat((positions.sharpen(query), key), dim=1)",
        "return over_root_mean_square(torch.cat((positions.sharpen(query), key), dim=1), 1e-5)",
        LOGITS,
    ),
    Trap(
        11,
        "the norm has the length 1",
        "model/llama4.py",
        "else over_root_mean_square(rotated, self.norm_epsilon)",
        "else torch.nn.functional.normalize(rotated, dim=-1)",
        LOGITS,
    ),
    Trap(
        12,
        "temperature counts from 0",
        "model/rope.py",
        "(self._positions.to(torch.float64) + 1)",
        "self._positions.to(torch.float64)",
        f"{LLAMA4}::test_temperature_of_the_published_models",
    ),
    Trap(12, "temperature has no floor", "model/rope.py", "torch.floor((self._positions", "((self._positions", LOGITS),
    Trap(
        12,
        "temperature is off by default",
        "model/config_huggingface.py",
        "if tuned is not None and not tuned:",
        "if not tuned:",
        f"{CONFIG}::test_absent_fields_are_those_of_transformers",
    ),
    Trap(
        12,
        "the first files' 4 is refused",
        "model/config_huggingface.py",
        "bool | int | float | None",
        "bool | None",
        f"{CONFIG}::test_scout",
    ),
    Trap(
        13,
        "scores come from a softmax",
        "model/moe.py",
        "torch.sigmoid(logits.float())",
        "torch.softmax(self.router(x).float(), -1).amax(-1)",
        LOGITS,
    ),
    Trap(
        13,
        "the expert's output is scaled",
        "model/moe.py",
        "self.experts(x * score[:, None], chosen)",
        "self.experts(x, chosen) * score[:, None]",
        LOGITS,
    ),
    Trap(14, "no shared expert", "model/moe.py", "self.shared(x) + self.experts", "self.experts", LOGITS),
    Trap(
        14,
        "the shared expert's input is scaled",
        "model/moe.py",
        "self.shared(x) +",
        "self.shared(x * score[:, None]) +",
        LOGITS,
    ),
    Trap(
        14,
        "widths of dense and expert layers are one",
        "model/config_huggingface.py",
        'intermediate_size="intermediate_size_mlp"',
        'intermediate_size="intermediate_size"',
        f"{CONFIG}::test_maverick",
    ),
    Trap(
        15,
        "all experts run",
        "model/moe.py",
        "for expert in chosen.unique().tolist():",
        "for expert in range(len(self.experts)):",
        f"{LLAMA4}::test_only_chosen_experts_run",
    ),
    Trap(
        16,
        "gate and up are swapped",
        "model/names_huggingface.py",
        '.gate_proj.weight", 0, inner)',
        '.gate_proj.weight", inner, 2 * inner)',
        LOGITS,
    ),
    Trap(
        16,
        "experts are left as they are when the rest is quantised",
        "engine/packing.py",
        "if quantize is None or is_router(name):",
        'if quantize is None or is_router(name) or ".experts." in name:',
        "tests/test_traps.py::test_experts_are_quantised_and_routers_are_not",
    ),
    Trap(
        17,
        "the router is quantised",
        "engine/packing.py",
        "if quantize is None or is_router(name):",
        "if quantize is None:",
        "tests/test_traps.py::test_experts_are_quantised_and_routers_are_not",
    ),
    Trap(
        18,
        "the class token comes first",
        "model/vision.py",
        "torch.cat((x, self.class_embedding.expand(x.shape[0], 1, -1)), dim=1)",
        "torch.cat((self.class_embedding.expand(x.shape[0], 1, -1), x), dim=1)",
        f"{VISION}::test_every_step_equals_the_oracle",
    ),
    Trap(
        18,
        "rows turn what columns should",
        "model/frequencies.py",
        "for place in (column, row)",
        "for place in (row, column)",
        f"{VISION}::test_every_step_equals_the_oracle",
    ),
    Trap(
        18,
        "rows and columns count from 0",
        "model/frequencies.py",
        "(place + 1)[:, None]",
        "place[:, None]",
        f"{VISION}::test_every_step_equals_the_oracle",
    ),
    Trap(
        19,
        "a placeholder for each patch",
        "model/config.py",
        "return (self.patches_a_side // self.shuffle) ** 2",
        "return self.patches_a_side**2",
        f"{VISION}::test_token_counts_of_the_published_size",
    ),
    Trap(
        19,
        "channels are shuffled the other way round",
        "model/vision.py",
        "x.transpose(2, 3).flatten(3)",
        "x.permute(0, 1, 3, 4, 2, 5).flatten(3)",
        f"{VISION}::test_every_step_equals_the_oracle",
    ),
    Trap(
        20,
        "one GELU in the adapter",
        "model/vision.py",
        "x = functional.gelu(functional.linear(x, weight))",
        "x = functional.linear(x, weight) if weight is self.adapter[1] else functional.gelu(functional.linear(x, weight))",
        f"{VISION}::test_every_step_equals_the_oracle",
    ),
    Trap(
        21,
        "the whole picture comes first",
        "model/image.py",
        "np.concatenate([array, whole[None]])",
        "np.concatenate([whole[None], array])",
        "tests/model/test_image.py::test_tiles_equal_meta_and_are_near_transformers",
    ),
    Trap(
        21,
        "no mark after the last row",
        "model/image_tokens.py",
        "ids += row * tiles.rows",
        "ids += (row * tiles.rows)[:-1]",
        "tests/model/test_meta_format.py::test_vectors_of_llama4_with_images",
    ),
    Trap(
        21,
        "a single tile has a copy",
        "model/image.py",
        "if rows * cols > 1:",
        "if True:",
        "tests/model/test_image.py::test_tiles_equal_meta_and_are_near_transformers",
    ),
    Trap(
        22,
        "one patch for a picture",
        "model/vision.py",
        "functional.unfold(tiles, size, stride=size)",
        "functional.unfold(tiles, size, stride=tiles.shape[-1])",
        f"{VISION}::test_patches_are_small_squares",
    ),
    Trap(
        23,
        "Llama 4 has Llama 3's names",
        "engine/load.py",
        '"llama4" if checkpoint.config.architecture == "llama4" else "llama3"',
        '"llama3"',
        "tests/test_traps.py::test_a_llama_4_in_metas_files_speaks_its_own_format",
    ),
    Trap(
        23,
        "a long text goes to the tokenizer in one piece",
        "model/tokenizer_meta.py",
        "_PIECE, _RUN = 400_000, 25_000",
        "_PIECE, _RUN = 1 << 40, 1 << 40",
        "tests/model/test_tokenizer_meta.py::test_long_runs_are_cut_as_meta_cuts_them",
    ),
    Trap(
        24,
        "only the first call of a list is read",
        "model/meta_format.py",
        "said, calls = read(content)",
        "said, calls = read(content)[0], read(content)[1][:1]",
        "tests/model/test_meta_format.py",
    ),
    Trap(
        25,
        "templates are told today's date",
        "model/chat_template.py",
        "date: str = PINNED_DATE",
        "date: str = __import__('datetime').date.today().isoformat()",
        "tests/model/test_chat_template.py",
    ),
]


def fails(trap: Trap) -> str | None:
    """None if the trap's test fails with the mistake put back, as it should; else what happened instead."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "quipu"
        shutil.copytree(ROOT / "src" / "quipu", package, ignore=shutil.ignore_patterns("__pycache__", "*.cpp", "*.h"))
        changed = package / trap.file
        text = changed.read_text("utf-8")
        if trap.right not in text:
            return f"{trap.file} has no {trap.right!r} any more: the trap is out of date"
        changed.write_text(text.replace(trap.right, trap.wrong), "utf-8")
        words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", trap.test]
        environment = {**os.environ, "PYTHONPATH": folder, "QUIPU_CACHE": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode == 1 and " failed" in done.stdout:
        return None
    return f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-1000:]}"


def main() -> None:
    wanted = {int(each) for each in sys.argv[1:]}
    unnoticed = 0
    for trap in TRAPS:
        if wanted and trap.number not in wanted:
            continue
        instead = fails(trap)
        unnoticed += instead is not None
        print(f"{trap}: {'noticed' if instead is None else 'NOT NOTICED ' + instead}", flush=True)
    sys.exit(f"{unnoticed} mistakes are not noticed" if unnoticed else 0)


if __name__ == "__main__":
    main()
