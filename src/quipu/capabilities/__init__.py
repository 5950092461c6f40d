"""What is asked of a model. Each file of this folder, and of folders named by QUIPU_CAPABILITIES, is one capability."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from quipu.errors import CapabilityNotFound, InvalidConfiguration, did_you_mean

if TYPE_CHECKING:
    from quipu.capabilities.base import Capability, Event, Output
    from quipu.types import Generator

OWN = Path(__file__).parent
VARIABLE = "QUIPU_CAPABILITIES"
"""Folders with capabilities of one's own, separated as in PATH. Their files are Python and run as such."""


def names() -> list[str]:
    """The identifiers of all capabilities, sorted, from the names of files alone.

    Raises InvalidConfiguration for a folder that is not there, a name that is none, and two files of one name.
    """
    return sorted(_files(os.environ.get(VARIABLE, "")))


def find(name: str) -> Capability:
    """The capability ``name``, ready to use. Raises CapabilityNotFound with the nearest name."""
    files = _files(os.environ.get(VARIABLE, ""))
    if name not in files:
        hint = did_you_mean(name, files, f"there are {', '.join(sorted(files))}")
        raise CapabilityNotFound(f"there is no capability {name[:100]!r}; {hint}", param="capability")
    return _load(name, files[name])


def all_capabilities() -> list[Capability]:
    """Every capability, by name."""
    return [find(name) for name in names()]


def stream(
    model: Generator, name: str, /, *, sampling: Mapping[str, Any] | None = None, **given: Any
) -> Iterator[Event]:
    """Call a capability and hear of it as it happens: Progress, Delta, and at last one Result.

    ``given`` are the fields of its input. Raises at once what is wrong with them. Closing the iterator ends the work.
    """
    capability = find(name)
    return capability.events(model, capability.input.of(given), sampling or {})


def run(model: Generator, name: str, /, *, sampling: Mapping[str, Any] | None = None, **given: Any) -> Output:
    """Call a capability and wait for its output. Raises Unparsed if the model's answer cannot be read."""
    capability = find(name)
    return capability.run(model, capability.input.of(given), sampling).output


@cache
def _files(variable: str) -> dict[str, Path]:
    """Identifier -> file, of this folder and those in ``variable``."""
    files = {path.stem: path for path in OWN.glob("*.py") if path.stem not in ("__init__", "base")}
    for folder in filter(None, variable.split(os.pathsep)):
        if not Path(folder).is_dir():
            raise InvalidConfiguration(f"{VARIABLE} names {folder}, which is not a folder")
        for path in sorted(Path(folder).glob("*.py")):
            if not path.stem.isidentifier():
                raise InvalidConfiguration(f"{path}: the name of a capability is lower-case words joined by _")
            if path.stem in files:
                raise InvalidConfiguration(f"{path}: there is a capability {path.stem} in {files[path.stem].parent}")
            files[path.stem] = path
    return files


@cache
def _load(name: str, path: Path) -> Capability:
    from quipu.capabilities.base import Answering, Capability, Measured

    if path.parent == OWN:
        module = import_module(f"quipu.capabilities.{name}")
    else:
        module = _imported(f"quipu_capabilities.{name}", path)
    defined = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Capability) and each.__module__ == module.__name__
    ]
    if len(defined) != 1:
        raise InvalidConfiguration(
            f"{path} defines {len(defined)} capabilities; a file is one subclass of {Answering.__name__}, or of "
            f"{Measured.__name__} for what the service itself does"
        )
    try:
        return defined[0]()
    except TypeError as error:  # an abstract method is missing
        raise InvalidConfiguration(f"{path}: {error}") from None


def _imported(name: str, path: Path) -> ModuleType:
    """A module from a file outside of the package."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where pydantic looks annotations up
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InvalidConfiguration(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module
