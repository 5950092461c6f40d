"""Attacks by file that peers fell to, by name. Each of these fails when the guard it is about is taken away."""

import json
import os
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import tiny
import torch

from quipu.errors import CheckpointError, DamagedCheckpoint, ModelNotFound, QuipuError, UnsupportedCheckpoint
from quipu.model.chat_template import ChatTemplate
from quipu.model.checkpoint import open_checkpoint
from quipu.model.tokenizer import Tokenizer

# ---- Pickle in .pth: arbitrary code. Up to torch 2.5 even weights_only=True ran some (CVE-2025-32434)


class Attack:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_runs_no_code(protocol, tmp_path):
    config = tiny.tiny_config()
    folder = tiny.write_tiny("pth", tmp_path / "meta", config, tiny.tiny_tensors(config))
    trace = tmp_path / "trace"
    attack = Attack(f"touch {trace}")
    torch.save({"norm.weight": torch.ones(64), "x": attack}, folder / "consolidated.00.pth", pickle_protocol=2)
    with pytest.raises(UnsupportedCheckpoint, match="quipu runs no code from a checkpoint"):
        open_checkpoint(folder)
    # Not a zip, as torch wrote it before 1.6: the same pickle, by itself.
    (folder / "consolidated.00.pth").write_bytes(pickle.dumps(attack, protocol))
    with pytest.raises(DamagedCheckpoint, match=r"not a file of torch\.save"):
        open_checkpoint(folder)
    # A zip of one's own, with only the pickle in it.
    with zipfile.ZipFile(folder / "consolidated.00.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(attack, protocol))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    with pytest.raises(CheckpointError):
        open_checkpoint(folder)
    assert not trace.exists()


# ---- GGUF headers that lie


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(*fields, fields_said=None, tensors=b"", tensors_said=0):
    count = len(fields) if fields_said is None else fields_said
    return b"GGUF" + struct.pack("<IQQ", 3, tensors_said, count) + b"".join(fields) + tensors


def tensor(name, shape, kind=0, offset=0, dimensions=None):
    count = len(shape) if dimensions is None else dimensions
    return (
        text(name)
        + struct.pack("<I", count)
        + struct.pack(f"<{len(shape)}Q", *shape)
        + struct.pack("<IQ", kind, offset)
    )


ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")
BIG = 2**63

LIES = {
    "tensor beyond the file (CVE-2026-7482)": (
        header(ARCHITECTURE, tensors=tensor("token_embd.weight", [4096, 128256]), tensors_said=1) + bytes(64),
        "ends .* bytes past the end",
    ),
    "offset beyond the file": (
        header(ARCHITECTURE, tensors=tensor("a", [1], offset=1 << 40), tensors_said=1) + bytes(64),
        "ends .* bytes past the end",
    ),
    "offset that wraps round 2^64": (
        header(ARCHITECTURE, tensors=tensor("a", [8], offset=2**64 - 32), tensors_said=1) + bytes(64),
        "ends .* bytes past the end",
    ),
    "dimensions whose product wraps to 0": (
        header(ARCHITECTURE, tensors=tensor("a", [2**32, 2**32]), tensors_said=1) + bytes(64),
        "ends .* bytes past the end",
    ),
    "a dimension of 2^63": (
        header(ARCHITECTURE, tensors=tensor("a", [BIG, 2]), tensors_said=1) + bytes(64),
        "ends .* bytes past the end",
    ),
    "2^32-1 dimensions": (
        header(ARCHITECTURE, tensors=tensor("a", [1], dimensions=2**32 - 1), tensors_said=1) + bytes(64),
        "has 4294967295 dimensions, not 1 to 4",
    ),
    "2^63 tensors": (header(ARCHITECTURE, tensors_said=BIG), "9223372036854775808 tensors announced"),
    "2^63 metadata fields (GHSA-7rxv-5jhh-j6xx)": (header(ARCHITECTURE, fields_said=BIG), "metadata fields announced"),
    "a key of 2^64-1 bytes": (header(struct.pack("<Q", 2**64 - 1)), "truncated"),
    "a string of 2^64-1 bytes": (
        header(text("a") + struct.pack("<IQ", 8, 2**64 - 1) + bytes(64)),
        "a has 18446744073709551615 bytes",
    ),
    "2^63 strings": (
        header(text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, BIG) + bytes(64)),
        "9223372036854775808 strings in tokenizer.ggml.tokens announced",
    ),
    "2^63 numbers": (
        header(text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 12, BIG) + bytes(64)),
        "9223372036854775808 values in tokenizer.ggml.scores announced",
    ),
    "2^61 numbers of 8 bytes, which wrap to 0": (
        header(text("a") + struct.pack("<IIQ", 9, 12, 2**61) + bytes(64)),
        "2305843009213693952 values in a announced",
    ),
    "an array of arrays, 50,000 deep": (
        header(text("a") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 50_000),
        "a is an array of arrays",
    ),
    "an alignment of 0": (
        header(ARCHITECTURE, text("general.alignment") + struct.pack("<II", 4, 0)),
        "general.alignment is 0, not a power of two",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_gguf_that_lies(lie, tmp_path):
    data, message = LIES[lie]
    path = tmp_path / "lie.gguf"
    path.write_bytes(data)
    started = time.monotonic()
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("name", ["bos", "eos", "eot", "eom", "unknown"])
@pytest.mark.parametrize("token", [-1, 3, 2**31, 2**63, 2**64 - 1])
def test_token_ids_outside_the_vocabulary(name, token):
    """As an index they would read before or behind the list (GHSA-7rxv-5jhh-j6xx)."""
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", "a", "b"],
        "tokenizer.ggml.scores": [0.0, 0.0, 0.0],
        f"tokenizer.ggml.{name}_token_id": token,
    }
    with pytest.raises(DamagedCheckpoint, match=f"{name}_token_id is {token}, but the vocabulary has 3 tokens"):
        Tokenizer.from_gguf(metadata)


# ---- Templates that reach for Python (CVE-2024-34359), also through the sandbox's own holes


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__.__mro__[1].__subclasses__()",
        "messages.__class__",
        "messages|attr('__class__')",
        "raise_exception.__globals__",
        "strftime_now.__closure__",
        "namespace.__init__.__globals__",
        "cycler.__init__.__globals__.os.popen('touch PATH').read()",
        "self.__init__.__globals__",
        "self._TemplateReference__context",
        "'{0.__class__}'.format(1)",
        "'{0.__class__}'.format_map({'0': 1})",
        "('{0.__class__}'|attr('format'))(1)",  # CVE-2025-27516: jinja2 before 3.1.6
        "(['{0.__class__}'.format]|map('list')|list)",  # CVE-2024-56326: a kept reference, jinja2 before 3.1.5
        "['{0.__class__}'.format][0](1)",
        "'{0.__class__}'['format'](1)",
        "messages.append(1)",
        "bos_token.__class__.__base__",
        "(1).__class__",
        "dict.fromkeys('a', 1)",
        "dict.__base__",
        "dict.mro()",
        "range.__class__",
        "''.maketrans('a', 'b')",
        "''.encode().__class__",
        "joiner.__init__.__code__",
    ],
)
def test_a_template_reaches_no_python(expression, tmp_path):
    source = "{{ (EXPRESSION)|string }}".replace("EXPRESSION", expression.replace("PATH", str(tmp_path / "trace")))
    try:
        said = ChatTemplate(source).render([{"role": "user", "content": "x"}])
    except UnsupportedCheckpoint:
        said = ""
    assert "class" not in said
    assert "module" not in said
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    "expression",
    ["''.encode()", "(1).to_bytes(9, 'big')", "(1).bit_length()", "dict.fromkeys('a')"],
)
def test_a_template_calls_known_methods_only(expression):
    """Of types that every template meets; what is not known to be harmless and small is refused."""
    with pytest.raises(UnsupportedCheckpoint, match="is unsafe"):
        ChatTemplate("{{ (EXPRESSION)|string }}".replace("EXPRESSION", expression)).render([])


# ---- Names that leave their folder (CVE-2024-37032)


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/secret.safetensors", "a/b.safetensors", "..\\x.safetensors", "x\0.safetensors"],
)
def test_an_index_names_files_of_its_folder_only(name, tmp_path):
    config = tiny.tiny_config()
    secret = tmp_path / "secret.safetensors"
    folder = tiny.write_tiny("sharded", tmp_path / "model", config, tiny.tiny_tensors(config))
    secret.write_bytes((folder / "model-00001-of-00003.safetensors").read_bytes())
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.norm.weight"] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DamagedCheckpoint, match=r"is not a \.safetensors file of its folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "name", ["../..", "..//..", "a/../b", "owner/..", "../name", "owner/name/../../..", "owner/\0"]
)
def test_a_model_name_names_no_folder_outside_the_cache(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    outside = tmp_path / "snapshots" / "x"
    outside.mkdir(parents=True)
    (outside / "config.json").write_text("{}")
    with pytest.raises(QuipuError) as error:
        open_checkpoint(name)
    # What exists as a path is a path (and no checkpoint); everything else is no model.
    assert isinstance(error.value, ModelNotFound) or Path(name).exists()


def test_a_file_beside_the_weights_is_no_way_out_either(tmp_path):
    """A hub snapshot is made of links into the cache, so links are followed; what they lead to must still be sound."""
    config = tiny.tiny_config()
    folder = tiny.write_tiny("safetensors", tmp_path / "model", config, tiny.tiny_tensors(config))
    (folder / "tokenizer_config.json").symlink_to("/etc/passwd")
    with pytest.raises(DamagedCheckpoint, match="is not JSON") as error:
        open_checkpoint(folder)
    assert "root:" not in str(error.value)


# ---- Files that grow once they are read


def test_a_header_nested_without_end(tmp_path):
    """In a process of its own: what recursion in C does to a stack is the end of it."""
    config = tiny.tiny_config()
    folder = tiny.write_tiny("safetensors", tmp_path / "model", config, tiny.tiny_tensors(config))
    nested = b"[" * 1_000_000
    (folder / "model.safetensors").write_bytes(len(nested).to_bytes(8, "little") + nested)
    script = (
        "import sys; from quipu.errors import QuipuError; from quipu.model.checkpoint import open_checkpoint\n"
        "try: open_checkpoint(sys.argv[1])\n"
        "except QuipuError as error: print(type(error).__name__)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    for change in (None, "config.json"):
        if change:
            (folder / change).write_bytes(nested)
        done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, env=environment)
        assert done.stdout.strip() == "DamagedCheckpoint", done.stderr
