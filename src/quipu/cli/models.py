"""``quipu models``: what can be named instead of given as a path, what is on this machine; and adding to it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli import options
from quipu.cli.terminal import bytes_text, print_json, print_table, printable

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

    from quipu.model.known import KnownModel

SUMMARY = "list known models and those on this machine, add one that runs elsewhere"
USAGE = "quipu models [--json]\n       quipu models add NAME --base-url URL [OPTIONS]"
DESCRIPTION = """\
List the models that quipu knows by name, with where they are or how to get
them, and the models in the local Hugging Face cache. Asks no network.
With add: write a model card for a model behind an OpenAI-compatible API, which
measure, run and compare then know by NAME. The key stays in the environment."""
EXAMPLES = """\
examples:
  quipu models
  quipu models --json
  quipu models add mine --base-url http://127.0.0.1:8000/v1 --model llama-3.2-3b
  quipu models add scout --base-url https://openrouter.ai/api/v1 --model meta-llama/llama-4-scout --of llama-4-scout"""

WEIGHTS = {".gguf": "gguf", ".safetensors": "safetensors", ".pth": "pth"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("action", nargs="?", choices=("add",), metavar="add", help="add a model that runs elsewhere")
    parser.add_argument("name", nargs="?", metavar="NAME", help="what to call it here: letters, digits, . - _")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    group = parser.add_argument_group("add")
    group.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible API, as in http://127.0.0.1:8000/v1")
    group.add_argument("--model", metavar="NAME", help="what it is called there (NAME)")
    group.add_argument("--of", metavar="CARD", help="the model that it is: llama-4-scout ... (none that is known)")
    group.add_argument("--key-variable", metavar="NAME", help="the environment variable that holds the key")
    group.add_argument(
        "--context", type=options.positive, metavar="TOKENS", help="prompt and answer (what the API says)"
    )
    group.add_argument("--price-in", type=dollars, metavar="USD", help="US dollars per million tokens of prompt")
    group.add_argument("--price-out", type=dollars, metavar="USD", help="US dollars per million tokens of answer")
    parser.set_defaults(usage_error=parser.error)


def dollars(text: str) -> float:
    """argparse type: an amount of US dollars, 0 or more."""
    if not re.fullmatch(r"\d{1,5}(\.\d{1,9})?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not an amount of US dollars like 0.08")
    return float(text)


def run(arguments: argparse.Namespace) -> None:
    """Print the lists, or add a model. Raises InvalidRequest, InvalidConfiguration and StorageFailed."""
    from quipu.model.known import known_models

    if arguments.action == "add":
        _add(arguments)
        return
    for name in ("model", "of", "price_in", "price_out"):
        if getattr(arguments, name) is not None:
            arguments.usage_error(f"--{name.replace('_', '-')} goes with add: quipu models add NAME ...")
    known, cached, added = [_known(model) for model in known_models()], _cached(), _added()
    if arguments.json:
        print_json({"known": known, "cached": cached, "added": added})
        return
    print("known by name")
    print_table(
        [(each["name"], each["license"], _size(each), each["path"] or f"get it: {each['get']}") for each in known]
    )
    if cached:
        print("\nin the Hugging Face cache")
        print_table([(each["name"], ", ".join(each["formats"]), _size(each), each["path"]) for each in cached])
    if added:
        print("\nadded: run elsewhere")
        print_table([(each["name"], each["model"], each["base_url"], each["price"]) for each in added])


def _add(arguments: argparse.Namespace) -> None:
    from quipu.evidence.add_card import add_card

    for name in ("name", "base_url"):
        if getattr(arguments, name) is None:
            word = "a NAME" if name == "name" else f"--{name.replace('_', '-')}"
            arguments.usage_error(f"add needs {word}: {USAGE.splitlines()[1].strip()}")
    path = add_card(
        arguments.name,
        base_url=arguments.base_url,
        model=arguments.name if arguments.model is None else arguments.model,
        of=arguments.of,
        key_variable=arguments.key_variable,
        context_length=arguments.context,
        price_in=arguments.price_in,
        price_out=arguments.price_out,
    )
    if arguments.json:
        print_json({"name": arguments.name, "card": str(path)})
        return
    print(f"{printable(str(path))} is its card")
    print(f"measure it: quipu measure {arguments.name}")


def _added() -> list[dict[str, Any]]:
    """The user's cards that say where their model is served."""
    from quipu.evidence.cards import cards
    from quipu.evidence.seed_rows import price_text

    return [
        {
            "name": card.name,
            "model": card.endpoint.model,
            "base_url": card.endpoint.base_url,
            "price": price_text(card.price),
            "card": card.file,
        }
        for card in cards().values()
        if card.endpoint is not None
    ]


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
