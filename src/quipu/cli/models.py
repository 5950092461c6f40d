"""``quipu models``: what can be named instead of given as a path, and what is on this machine already."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli.terminal import bytes_text, print_json, print_table, printable

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

    from quipu.model.known import KnownModel

SUMMARY = "list known models and those on this machine"
USAGE = "quipu models [--json]"
DESCRIPTION = """\
List the models that quipu knows by name, with where they are or how to get
them, and the models in the local Hugging Face cache. Asks no network."""
EXAMPLES = """\
examples:
  quipu models
  quipu models --json"""

WEIGHTS = {".gguf": "gguf", ".safetensors": "safetensors", ".pth": "pth"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Print both lists."""
    from quipu.model.known import known_models

    known, cached = [_known(model) for model in known_models()], _cached()
    if arguments.json:
        print_json({"known": known, "cached": cached})
        return
    print("known by name")
    print_table(
        [(each["name"], each["license"], _size(each), each["path"] or f"get it: {each['get']}") for each in known]
    )
    if cached:
        print("\nin the Hugging Face cache")
        print_table([(each["name"], ", ".join(each["formats"]), _size(each), each["path"]) for each in cached])


def _size(entry: dict[str, Any]) -> str:
    return "" if entry["bytes"] is None else bytes_text(entry["bytes"])


def _known(model: KnownModel) -> dict[str, Any]:
    from quipu.errors import ModelNotFound

    try:
        path = model.locate()
    except ModelNotFound:
        path = None
    return {
        "name": model.name,
        "title": model.title,
        "license": model.license,
        "origin": model.origin,
        "installed": path is not None,
        "path": None if path is None else str(path),
        "bytes": None if path is None else _bytes(path),
        "get": model.install or f"quipu pull {model.name}",
    }


def _bytes(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def _cached() -> list[dict[str, Any]]:
    """Models in the local Hugging Face cache that have weights of a kind quipu reads."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return []
    models = [_repository(each) for each in repositories if each.repo_type == "model"]
    return sorted((model for model in models if model["formats"]), key=lambda model: str(model["name"]))


def _repository(repository: CachedRepoInfo) -> dict[str, Any]:
    newest = max(repository.revisions, key=lambda revision: revision.last_modified, default=None)
    files = [] if newest is None else [file.file_path for file in newest.files]
    return {
        "name": printable(repository.repo_id),
        "path": None if newest is None else str(newest.snapshot_path),
        "revision": None if newest is None else newest.commit_hash,
        "bytes": None if newest is None else newest.size_on_disk,
        "formats": sorted({WEIGHTS[file.suffix] for file in files if file.suffix in WEIGHTS}),
    }
