"""Every mistake of ``traps.py``, put back, makes its test fail; and two that no other test looks for."""

from __future__ import annotations

from pathlib import Path

import pytest
from traps import TRAPS, Trap, fails

from quipu.engine.load import _chat_format, _tokenizer
from quipu.engine.packing import packed_kinds
from quipu.model.checkpoint import open_checkpoint

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("trap", TRAPS, ids=str)
def test_a_mistake_put_back_is_noticed(trap: Trap) -> None:
    assert fails(trap) is None


def test_experts_are_quantised_and_routers_are_not():
    kinds = packed_kinds(open_checkpoint(GOLDEN / "llama4-tiny-step1").tensors, "auto", "q4")
    assert {kind for name, kind in kinds.items() if ".experts." in name} == {"Q4_1"}
    assert {kind for name, kind in kinds.items() if name.endswith("router.weight")} == {"F32"}
    assert sum(".experts." in name for name in kinds) == 8 * 4 * 3


def test_a_llama_4_in_metas_files_speaks_its_own_format(meta_tokenizer_file, tmp_path):
    """Meta's tokenizer.model names no special tokens."""
    from tiny_llama4 import write_meta

    write_meta(tmp_path, "llama4-tiny-step1", 1)
    (tmp_path / "tokenizer.model").write_bytes(Path(meta_tokenizer_file("llama4")).read_bytes())
    checkpoint = open_checkpoint(tmp_path)
    tokenizer = _tokenizer(checkpoint)
    assert tokenizer is not None
    assert tokenizer.specials["<|header_start|>"] == 200005
    assert {200001, 200007, 200008} <= set(tokenizer.eos_ids)
    chat_format = _chat_format(checkpoint, tokenizer)
    assert chat_format is not None
    assert chat_format.name == "llama4"
