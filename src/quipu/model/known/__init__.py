"""Models known by name. Each is one TOML file beside this one; its stem is the name, so adding a model is one file."""

from __future__ import annotations

import importlib.resources
import importlib.util
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quipu.errors import ModelNotFound


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that can be named instead of given as a path.

    It comes either in an installed Python package (``package`` and the ``file`` in it, put there by ``install``) or
    from a Hugging Face ``repository``. ``sampling``: what its makers recommend, for files that do not say it.
    ``config``: the published config.json, of models that one plans for before downloading them.
    """

    name: str
    title: str
    license: str
    origin: str
    package: str | None = None
    file: str | None = None
    install: str | None = None
    repository: str | None = None
    sampling: Mapping[str, float | int] = field(default_factory=dict)
    config: Mapping[str, Any] | None = None

    def locate(self) -> Path:
        """The file or folder on this machine. Raises ModelNotFound with the command that brings it here."""
        if self.repository is not None:
            return cached_snapshot(self.repository, pull=self.name)
        assert self.package is not None
        assert self.file is not None
        # find_spec looks the package up without importing it: what it would import is its business, not ours.
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / self.file).exists():
                return Path(folder) / self.file
        raise ModelNotFound(f"{self.name} is not installed here; install it with: {self.install}", param="model")


def known_models() -> list[KnownModel]:
    """All known models, by name."""
    folder = importlib.resources.files(__name__)
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return [KnownModel(file.name.removesuffix(".toml"), **tomllib.loads(file.read_text("utf-8"))) for file in files]


def cached_snapshot(repository: str, *, pull: str | None = None) -> Path:
    """The folder of a Hugging Face repository ("owner/name") in the local cache; never touches the network.

    Raises ModelNotFound, which says how to pull it, under the name ``pull`` if given.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        # Chosen files of a repository, as `quipu pull` takes them, count as incomplete there, and are enough here:
        # opening the checkpoint checks that every weight has come.
        if snapshot := getattr(error, "snapshot_path", None):
            return Path(snapshot)
        raise ModelNotFound(
            f"{repository} is neither a path nor in the local Hugging Face cache; get it with: "
            f"quipu pull {pull or repository}",
            param="model",
        ) from None
