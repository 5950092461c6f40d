"""Which files of a hub repository are worth downloading."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from quipu.cli.terminal import bytes_text
from quipu.errors import DownloadError

TEXT = {".json", ".txt", ".model", ".jinja", ".md"}
"""Configuration, tokenizer, chat template, licence."""
PICKLES = {".bin", ".pt", ".pkl", ".pickle", ".ckpt", ".msgpack", ".h5"}
"""Loading these may run code, or nothing here reads them."""


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository: its path there and its size in bytes."""

    name: str
    size: int

    @property
    def suffix(self) -> str:
        """Extension in lower case, with its dot."""
        return PurePosixPath(self.name).suffix.lower()


def choose(files: Sequence[HubFile], patterns: Sequence[str], repository: str) -> tuple[list[HubFile], list[str]]:
    """Files to download, and names that ``patterns`` ask for and that are refused. Raises DownloadError.

    Without patterns: safetensors, else the one GGUF there is, with the text files beside them at the root. Text files
    come along with a GGUF that a pattern names as well, for the licence.
    """
    if patterns:
        asked = [file for file in files if any(fnmatchcase(file.name, pattern) for pattern in patterns)]
        taken = [file for file in asked if file.suffix not in PICKLES]
        if not taken:
            why = "are pickles, which may run code" if asked else "match nothing"
            raise DownloadError(f"{', '.join(patterns)} {why} in {repository}; it has: {_listing(files)}")
        return taken, [file.name for file in asked if file not in taken]
    root = [file for file in files if "/" not in file.name]
    text = [file for file in root if file.suffix in TEXT or file.name.upper() in ("LICENSE", "NOTICE")]
    safetensors = [file for file in root if file.suffix == ".safetensors"]
    return [*(safetensors or _only_gguf(files, repository)), *text], []


def _only_gguf(files: Sequence[HubFile], repository: str) -> list[HubFile]:
    """The parts of the one GGUF model there is. Raises DownloadError when there are several, or none."""
    models: dict[str, list[HubFile]] = {}
    for file in files:
        if file.suffix == ".gguf":
            models.setdefault(re.sub(r"-\d{5}-of-\d{5}(?=\.gguf$)", "*", file.name), []).append(file)
    if not models:
        raise DownloadError(
            f"{repository} has no weights that quipu reads, neither .safetensors at its root nor .gguf; "
            f"it has: {_listing(files)}"
        )
    if len(models) > 1:
        sizes = (f"  --file '{name}'  {bytes_text(sum(part.size for part in parts))}" for name, parts in models.items())
        raise DownloadError("\n".join([f"{repository} holds {len(models)} models; choose one:", *sizes]))
    return next(iter(models.values()))


def _listing(files: Sequence[HubFile], most: int = 20) -> str:
    names = [file.name for file in files]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return (", ".join(names[:most]) or "no files") + more
