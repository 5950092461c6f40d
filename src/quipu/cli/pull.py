"""``quipu pull``: bring a model from the Hugging Face hub into its standard cache on this machine."""

from __future__ import annotations

import argparse
import glob
import shutil
import sys
from pathlib import Path
from typing import Any

from quipu.cli.hub_errors import hub_errors
from quipu.cli.hub_files import HubFile, choose
from quipu.cli.terminal import bytes_text, print_json, printable
from quipu.errors import DownloadError

SUMMARY = "download a model from the Hugging Face hub"
USAGE = "quipu pull REPOSITORY [OPTIONS]"
DESCRIPTION = """\
Download a model from the Hugging Face hub into its standard cache (HF_HOME).
Only weights in safetensors or GGUF and the small text files beside them are
taken, never pickles; Meta's original/*.pth come when --file asks for them."""
EXAMPLES = """\
examples:
  quipu pull HuggingFaceTB/SmolLM2-360M-Instruct
  quipu pull llama-3.2-1b-instruct
  quipu pull bartowski/Llama-3.2-1B-Instruct-GGUF --file '*Q4_K_M.gguf'
  quipu pull meta-llama/Llama-3.2-1B-Instruct --file 'original/*'

A gated model needs its licence accepted on its page and a token in HF_TOKEN."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("repository", metavar="REPOSITORY", help="OWNER/NAME on the hub, or a known name")
    parser.add_argument(
        "--file", action="append", default=[], metavar="PATTERN", help="only files like '*Q4_K_M.gguf'; may be repeated"
    )
    parser.add_argument("--revision", metavar="REVISION", help="branch, tag or commit (main)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Download and say where it is. Raises ModelNotFound, DownloadError or Offline."""
    repository = _repository(arguments.repository)
    if repository is None:
        _installed(arguments)
        return
    files, folder = _download(repository, arguments.revision, arguments.file)
    path = _loadable(folder, files)
    # A name means the newest main in the cache and the folder's root; anything else is reached by its path.
    named = path == folder and arguments.revision in (None, "main")
    model = arguments.repository if named else str(path)
    total = sum(file.size for file in files)
    if arguments.json:
        names = [file.name for file in files]
        print_json({"repository": repository, "path": str(path), "model": model, "files": names, "bytes": total})
        return
    print(f"{repository}: {len(files)} files, {bytes_text(total)}, in\n{path}")
    print(f"chat with it: quipu chat {model}")


def _repository(model: str) -> str | None:
    """What to ask the hub for; None for a known model that an installed Python package carries."""
    from quipu.model.known import known_models

    known = {each.name: each for each in known_models()}
    return known[model].repository if model in known else model


def _installed(arguments: argparse.Namespace) -> None:
    """A known model that is no download of the hub. Raises ModelNotFound with the command that installs it."""
    from quipu.model.checkpoint import resolve

    path = resolve(arguments.repository)
    if arguments.file or arguments.revision is not None:
        raise DownloadError(
            f"{arguments.repository} comes with a Python package; it has no files or revisions to choose"
        )
    if arguments.json:
        total = path.stat().st_size
        print_json(
            {"repository": None, "path": str(path), "model": arguments.repository, "files": [path.name], "bytes": total}
        )
    else:
        print(
            f"{arguments.repository} is installed already, in\n{path}\nchat with it: quipu chat {arguments.repository}"
        )


def _download(repository: str, revision: str | None, patterns: list[str]) -> tuple[list[HubFile], Path]:
    """The files chosen and the snapshot folder they are in."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    with hub_errors(repository, revision):
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        listed = [HubFile(each.rfilename, each.size or 0) for each in info.siblings or ()]
        files, refused = choose(listed, patterns, repository)
        if refused:
            print(f"left out, because unpickling runs code: {printable(', '.join(refused))}", file=sys.stderr)
        _check_room(sum(file.size for file in files if not _here(repository, file, info.sha)))
        names = [glob.escape(file.name) for file in files]
        return files, Path(snapshot_download(repository, revision=revision, allow_patterns=names))


def _here(repository: str, file: HubFile, commit: str | None) -> bool:
    """Whether the cache has ``file`` already."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file.name, revision=commit), str)


def _check_room(size: int) -> None:
    """Refuse before the first byte what the disk cannot hold. Raises DownloadError."""
    from huggingface_hub.constants import HF_HUB_CACHE

    place = next(each for each in (Path(HF_HUB_CACHE), *Path(HF_HUB_CACHE).parents) if each.exists())
    free: Any = shutil.disk_usage(place).free
    if size > free:
        raise DownloadError(
            f"the download takes {bytes_text(size)} and the disk of {place} has {bytes_text(free)} free; "
            "make room, or set HF_HOME to a folder on a larger disk"
        )


def _loadable(folder: Path, files: list[HubFile]) -> Path:
    """What to give to other verbs: the folder, its only GGUF, or Meta's folder inside it."""
    ggufs = [file.name for file in files if file.name.endswith(".gguf")]
    if ggufs:
        return folder / ggufs[0]
    if any(file.name.endswith(".safetensors") for file in files):
        return folder
    pth = [file.name for file in files if file.name.endswith(".pth")]
    return (folder / pth[0]).parent if pth else folder
