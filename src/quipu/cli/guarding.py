"""Options of ``quipu serve`` for who may use the server, and how much of it."""

from __future__ import annotations

import argparse
import ipaddress
import re
import secrets
from dataclasses import fields
from pathlib import Path

from quipu.cli import options
from quipu.errors import InvalidRequest
from quipu.serve.access import checked_key, checked_origin
from quipu.serve.limits import Limits

VARIABLE = "QUIPU_API_KEY"
MAX_KEY_FILE_BYTES = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: the key, web pages, and one for each field of Limits."""
    access = parser.add_argument_group("access", "without a key the server is for this machine only")
    keys = access.add_mutually_exclusive_group()
    keys.add_argument("--api-key", metavar="KEY", help=f"what clients must send (the variable {VARIABLE})")
    keys.add_argument("--api-key-file", metavar="FILE", help="a file with the key; other users cannot see it there")
    access.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="another name of this machine, for when no key is needed; may be repeated",
    )
    access.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        type=origin,
        metavar="ORIGIN",
        help="let web pages of this origin use the server; may be repeated",
    )
    group = parser.add_argument_group("limits", "most that the server takes")
    for field in fields(Limits):
        seconds = field.metadata["unit"] == "SECONDS"
        group.add_argument(
            field.metadata["flag"],
            dest=f"limit_{field.name}",
            type=positive_seconds if seconds else options.positive,
            default=field.default,
            metavar=field.metadata["unit"],
            help=f"{field.metadata['text']} ({field.default})",
        )


def limits(arguments: argparse.Namespace) -> Limits:
    """The limits that the options set. Raises InvalidRequest for those that contradict each other."""
    return Limits(**{field.name: getattr(arguments, f"limit_{field.name}") for field in fields(Limits)})


def find_key(arguments: argparse.Namespace, address: str) -> tuple[str | None, str | None]:
    """The key for a server that listens on ``address``, and what to print if it was made here.

    None is a server that only this machine reaches. Raises InvalidRequest for a
        key that no client could send; an empty one is such a key, and not the absence of one.
    """
    if arguments.api_key is not None:
        return checked_key(arguments.api_key, f"--api-key (or the variable {VARIABLE})"), None
    if arguments.api_key_file is not None:
        return checked_key(_read(Path(arguments.api_key_file)), f"--api-key-file {arguments.api_key_file}"), None
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return None, None
    key = secrets.token_urlsafe(32)
    return key, f"{address} is reached from other machines, so clients need a key. For this run it is: {key}"


def positive_seconds(text: str) -> float:
    """argparse type: a time above 0."""
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or float(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return float(text)


def origin(text: str) -> str:
    """argparse type: the origin of a web page."""
    try:
        return checked_origin(text)
    except InvalidRequest as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES)
    except OSError as error:
        raise InvalidRequest(f"--api-key-file {path} cannot be read: {error}", param="api_key_file") from None
    return data.decode("latin-1").strip("\r\n")
