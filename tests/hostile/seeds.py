"""Tiny sound checkpoints, one folder per kind of file to be mutated: what the mutated files are made from."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import tiny
import tiny_llama4

from quipu.model.vocabulary import BYTES_BY_CHARACTER

CHATML = """\
{%- if messages[0].role != 'system' -%}{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{%- endif -%}
{%- for message in messages -%}
    {%- if message.content is string -%}{%- set text = message.content | trim -%}{%- endif -%}
    {{ '<|im_start|>' ~ message['role'] + '\\n' + text + '<|im_end|>' + '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
"""
LLAMA = """\
{{- bos_token }}{% set loop_messages = messages %}
{%- macro turn(role, text, n=1) -%}
<|im_start|>{{ role | title }}{{ '!' * n }}{{ '%s: ' | format(text[:10]) }}{{ text | replace('a', 'b') }}<|im_end|>
{%- endmacro -%}
{%- set ns = namespace(found=false, texts=[]) -%}
{%- for m in loop_messages if m.role in ['user', 'system', 'assistant'] -%}
    {%- if loop.index0 == 0 -%}{%- set ns.found = m.content.split(' ')[0].strip() -%}{%- endif -%}
    {%- set ns.texts = ns.texts + [m.content] -%}
    {%- set body %}{{ m | tojson(indent=4) }}{% endset -%}
    {{- turn(m.role, body, 2 ** loop.index) }}
{%- endfor %}
{{- ns.texts | join(', ') | upper | indent(2) }}{{ strftime_now('%d %b %Y') }}
{%- if not messages -%}{{ raise_exception('no messages') }}{%- endif -%}
"""
SPECIALS = ("<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>")
SPELLING = {byte: character for character, byte in BYTES_BY_CHARACTER.items()}
MERGED = ["th", "he", "the", "an", "in", "\u0120t", "\u0120a", "er"]
MERGES = ["t h", "h e", "t he", "a n", "i n", "\u0120 t", "\u0120 a", "e r"]
PIECES = [*(SPELLING[byte] for byte in range(256)), *MERGED, *SPECIALS]
BEGIN, END = len(PIECES) - 4, len(PIECES) - 3


@dataclass(frozen=True)
class Seed:
    """``folder`` holds the checkpoint, ``file`` in it is mutated, ``opens`` in it is what open_checkpoint takes."""

    folder: Path
    file: str
    opens: str = "."


def write_seeds(folder: Path) -> None:
    """Put the seed checkpoints below ``folder``."""
    config = tiny.tiny_config(
        vocabulary=len(PIECES), hidden_size=32, intermediate_size=96, layers=1, heads=4, kv_heads=2, head_size=8,
        rope=tiny.Rope(500000.0, 8, tiny.RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)),
    )  # fmt: skip
    tensors = tiny.tiny_tensors(config)
    for name, shards in (("one", 1), ("sharded", 2)):
        path = folder / name
        path.mkdir()
        tiny.write_huggingface(path, config, tensors, shards=shards)
        _write_tokenizer_json(path)
        (path / "chat_template.jinja").write_text(CHATML)
        generation = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "eos_token_id": [END, END + 2]}
        (path / "generation_config.json").write_text(json.dumps(generation))
        (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (folder / "templated").mkdir()
    for each in (folder / "one").iterdir():
        (folder / "templated" / each.name).write_bytes(each.read_bytes())
    (folder / "templated" / "chat_template.jinja").write_text(LLAMA)
    (folder / "meta").mkdir()
    tiny.write_meta(folder / "meta", config, tensors)
    pieces = [bytes([byte]) for byte in range(256)] + [text.replace("\u0120", " ").encode() for text in MERGED]
    lines = [f"{base64.b64encode(piece).decode()} {rank}" for rank, piece in enumerate(pieces)]
    (folder / "meta" / "tokenizer.model").write_text("\n".join(lines) + "\n")
    for name, kind, model in (("gguf", "F32", "gpt2"), ("gguf-q8", "Q8_0", "llama")):
        (folder / name).mkdir()
        _write_gguf(folder / name / "tiny.gguf", config, tensors, kind, model)
    for form in ("sharded", "pth-2", "gguf"):
        tiny_llama4.write(form, tiny_llama4.STEPS[1], folder / f"llama4-{form}")


def _write_tokenizer_json(folder: Path) -> None:
    document = {
        "version": "1.0",
        "added_tokens": [
            {"id": PIECES.index(text), "content": text, "special": True, "lstrip": False, "rstrip": False}
            for text in SPECIALS
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|\s+"}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": SPECIALS[0], "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        },
        "decoder": {"type": "ByteLevel"},
        "model": {
            "type": "BPE", "unk_token": None, "byte_fallback": False, "ignore_merges": True,
            "vocab": {text: i for i, text in enumerate(PIECES) if text not in SPECIALS}, "merges": MERGES,
        },
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    config = {
        "bos_token": SPECIALS[0],
        "eos_token": {"content": SPECIALS[1], "special": True},
        "add_bos_token": True,
        "chat_template": [{"name": "default", "template": CHATML}],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _write_gguf(path: Path, config: tiny.ModelConfig, tensors: tiny.Weights, kind: str, model: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    tiny.gguf_header(writer, config)
    writer.add_license("apache-2.0")
    writer.add_tokenizer_model(model)
    if model == "gpt2":
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list(PIECES)
        writer.add_token_merges(MERGES)
        writer.add_token_types([1] * BEGIN + [3] * 4)
    else:
        first = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        rest = ["\u2581", "t", "h", "e", "th", "the", "\u2581the"]
        writer.add_token_list([*first, *rest, *SPECIALS])
        writer.add_token_scores([0.0] * 257 + [-float(i) for i in range(11)])
        writer.add_token_types([2] + [6] * 256 + [1] * 7 + [3] * 4)
        writer.add_unk_token_id(0)
        writer.add_add_space_prefix(True)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHATML)
    quantisation = gguf.GGMLQuantizationType[kind]
    for name, weight in tensors.items():
        stored = tiny._stored(name, weight, config)
        if stored.ndim == 1 or kind == "F32":
            writer.add_tensor(tiny.gguf_name(name), tiny.np.ascontiguousarray(stored))
        else:
            packed = gguf.quants.quantize(stored, quantisation)
            writer.add_tensor(tiny.gguf_name(name), packed, raw_dtype=quantisation)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def seeds(folder: Path) -> dict[str, Seed]:
    """What is mutated, by kind."""
    return {
        "gguf": Seed(folder / "gguf", "tiny.gguf", "tiny.gguf"),
        "gguf-q8": Seed(folder / "gguf-q8", "tiny.gguf", "tiny.gguf"),
        "safetensors": Seed(folder / "one", "model.safetensors"),
        "index": Seed(folder / "sharded", "model.safetensors.index.json"),
        "config": Seed(folder / "one", "config.json"),
        "generation_config": Seed(folder / "one", "generation_config.json"),
        "tokenizer": Seed(folder / "one", "tokenizer.json"),
        "tokenizer_config": Seed(folder / "one", "tokenizer_config.json"),
        "tiktoken": Seed(folder / "meta", "tokenizer.model"),
        "params": Seed(folder / "meta", "params.json"),
        "pth": Seed(folder / "meta", "consolidated.00.pth"),
        "gguf-llama4": Seed(folder / "llama4-gguf", "tiny.gguf", "tiny.gguf"),
        "safetensors-llama4": Seed(folder / "llama4-sharded", "model-00002-of-00003.safetensors"),
        "config-llama4": Seed(folder / "llama4-sharded", "config.json"),
        "pth-llama4": Seed(folder / "llama4-pth-2", "consolidated.01.pth"),
        "params-llama4": Seed(folder / "llama4-pth-2", "params.json"),
        "template": Seed(folder / "one", "chat_template.jinja"),
        "template-rich": Seed(folder / "templated", "chat_template.jinja"),
    }
