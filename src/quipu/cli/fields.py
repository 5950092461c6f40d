"""A capability's input as options: each field is one, with its type, choices, default and description.

A field whose option is one of the verb's own gets ``--input-`` in front: the verb's options mean the same everywhere.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import types
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from quipu.errors import InvalidConfiguration
from quipu.picture import Image

if TYPE_CHECKING:
    from quipu.capabilities.base import Capability

Kind = Literal["text", "integer", "number", "switch", "choice", "texts", "pictures", "objects"]
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an input. ``choices`` by how they are written."""

    name: str
    kind: Kind
    description: str
    required: bool
    default: Any
    choices: dict[str, Any]
    example: Any = None

    def value(self, text: str) -> Any:
        """What ``text`` says, where all there is is text: an option, a cell. Lists are JSON. Raises ValueError.

        Of pictures it is the list of their paths, or one path; ``opened`` reads them.
        """
        match self.kind:
            case "text":
                return text
            case "integer":
                if not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
                    raise ValueError(f"{text!r:.80} is not a whole number")
                return int(text)
            case "number":
                return _number(text)
            case "switch":
                return _one_of(BOOLEANS, text.strip().lower(), text)
            case "choice":
                return _one_of(self.choices, text.strip(), text)
            case "pictures" if not text.lstrip().startswith("["):
                return [text]
        return _list(text)

    def opened(self, value: Any) -> Any:
        """``value``, and if it is paths of pictures, what is in those files. Raises InvalidRequest."""
        if self.kind != "pictures":
            return value
        values = [value] if isinstance(value, str) else value
        return [_picture(each, self.name) for each in values] if isinstance(values, list) else value


def fields(capability: Capability) -> list[Field]:
    """The fields of its input. Raises InvalidConfiguration for a type that is no option."""
    return list(_fields(capability))


def _fields(capability: Capability) -> Iterator[Field]:
    for name, info in capability.input.model_fields.items():
        kind, choices = _kind(info.annotation)
        if kind is None:
            raise InvalidConfiguration(
                f"the field {name} of the capability {capability.id} is {info.annotation}; a field is text, a number, "
                "true or false, one of a Literal, or a list of texts or of small objects"
            )
        required = info.is_required()
        default = None if required else info.get_default(call_default_factory=True)
        example = info.examples[0] if info.examples else None
        yield Field(name, kind, info.description or "", required, default, choices, example)


def _kind(annotation: Any) -> tuple[Kind | None, dict[str, Any]]:
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [each for each in get_args(annotation) if each is not type(None)]
        return _kind(rest[0]) if len(rest) == 1 else (None, {})
    if get_origin(annotation) is Literal:
        return "choice", {str(each): each for each in get_args(annotation)}
    simple: dict[Any, Kind] = {str: "text", int: "integer", float: "number", bool: "switch"}
    if annotation in simple:
        return simple[annotation], {}
    if get_origin(annotation) is list:
        from quipu.capabilities.parts.picture import Picture

        [item] = get_args(annotation)
        return ("texts" if item is str else "pictures" if item == Picture else "objects"), {}
    return None, {}


def file_field(capability: Capability) -> Field | None:
    """The field that a file fills: the text, or the first one of pictures."""
    name = capability.text_field
    return next(
        (each for each in fields(capability) if each.name == name or (not name and each.kind == "pictures")), None
    )


def add_options(parser: argparse.ArgumentParser, capability: Capability) -> None:
    """An option for each field; what was given is found by ``given``."""
    group = parser.add_argument_group(f"input of {capability.id}")
    parser._action_groups.insert(1, parser._action_groups.pop())  # what one looks for is shown first
    for field in fields(capability):
        option = option_name(field, parser._option_string_actions)
        common: dict[str, Any] = {"dest": _destination(field), "default": None, "help": _help(field, capability)}
        if field.kind == "switch":
            group.add_argument(option, action=argparse.BooleanOptionalAction, **common)
        elif field.kind in ("texts", "pictures"):
            metavar = "TEXT" if field.kind == "texts" else "FILE"
            group.add_argument(option, action="append", metavar=metavar, **common)
        elif field.kind == "choice":
            group.add_argument(option, type=_typed(field), metavar="{" + ",".join(field.choices) + "}", **common)
        else:
            metavar = {"text": "TEXT", "integer": "N", "number": "X", "objects": "JSON"}[field.kind]
            group.add_argument(option, type=_typed(field), metavar=metavar, **common)


def given(arguments: argparse.Namespace, capability: Capability) -> dict[str, Any]:
    """The fields that were given as options. Raises InvalidRequest for a picture that cannot be read."""
    values = [(field, getattr(arguments, _destination(field))) for field in fields(capability)]
    return {field.name: field.opened(value) for field, value in values if value is not None}


def option_name(field: Field, taken: Collection[str]) -> str:
    """The option of a field: its name, with ``input-`` in front as often as it takes to be free."""
    name = field.name.replace("_", "-")
    while f"--{name}" in taken or (field.kind == "switch" and f"--no-{name}" in taken):
        name = f"input-{name}"
    return f"--{name}"


def example(capability: Capability, taken: Collection[str]) -> str:
    """A command line that calls it: a file, what is required, and two options."""
    words, shown, file = [f"quipu run {capability.id}"], 0, file_field(capability)
    if file is not None:
        words.append("FILE")
    for field in fields(capability):
        value = _sample(field)
        if field == file or value is None or (not field.required and shown == 2):
            continue
        shown += not field.required
        words.append(f"{option_name(field, taken)} {value}")
    return " ".join(words)


def _sample(field: Field) -> str | None:
    """Something that the field takes, as one writes it in a shell; None where nothing is worth showing."""
    if field.kind == "switch":
        return ""
    if field.kind == "choice":
        return next(iter(written for written, value in field.choices.items() if value != field.default), None)
    value = field.default if field.example is None else field.example
    if value in (None, "", []):
        return {"text": "TEXT", "texts": "TEXT", "objects": "JSON"}.get(field.kind, "N") if field.required else None
    if field.kind == "texts":
        value = value[0] if isinstance(value, list) else value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if re.fullmatch(r"[\w.,-]+", text) else "'" + text.replace("'", "'\\''") + "'"


def _destination(field: Field) -> str:
    return f"input {field.name}"  # with a space, as no option of a verb can have it


def _help(field: Field, capability: Capability) -> str:
    said = field.description.removesuffix(".")
    if field.required:
        said += "; FILE or standard input" if field == file_field(capability) else "; required"
    elif field.default not in (None, "", []):
        shown = str(field.default).lower() if isinstance(field.default, bool) else field.default
        said += f" ({shown})"
    if field.kind in ("texts", "pictures"):
        said += "; may be repeated"
    return said.replace("%", "%%")


def _picture(value: Any, where: str) -> Any:
    """The data URL of the file at a path."""
    if not isinstance(value, str) or value.startswith("data:"):
        return value
    return Image.of(Path(value), where).as_part()["image_url"]["url"]


def _typed(field: Field) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            return field.value(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r:.80} is not a number")
    return value


def _one_of(known: dict[str, Any], written: str, text: str) -> Any:
    if written not in known:
        raise ValueError(f"{text!r:.80} is none of {', '.join(known)}")
    return known[written]


def _list(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{text!r:.80} is not JSON: {error}") from None
    if not isinstance(value, list):
        raise ValueError(f"{text!r:.80} is not a JSON list")
    return value
