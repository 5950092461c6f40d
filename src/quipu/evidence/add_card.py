"""Writing a card for a model that runs elsewhere, so that it can be named, measured and compared."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quipu.errors import InvalidRequest, StorageFailed
from quipu.evidence.card_file import NAME
from quipu.evidence.cards import card, cards, user_folder
from quipu.evidence.toml_table import written


def add_card(
    name: str,
    *,
    base_url: str,
    model: str,
    of: str | None = None,
    key_variable: str | None = None,
    context_length: int | None = None,
    price_in: float | None = None,
    price_out: float | None = None,
) -> Path:
    """Write the card and return its path. ``of``: the card of the model that is served there.

    Prices are US dollars per million tokens; None is unknown, not free. Raises InvalidRequest for a name that is taken
    or none, an address that is none or has a password in it, and what is no name of a variable; ModelNotFound where
    ``of`` is no card; StorageFailed where the file cannot be written.
    """
    _check(name, base_url, key_variable)
    base = None if of is None else card(of)
    price = {"input": price_in, "output": price_out}
    content: dict[str, Any] = {
        "title": name if base is None else f"{base.title} at {urlsplit(base_url).hostname}",
        "of": None if base is None else base.name,
        "endpoint": {
            "base_url": base_url,
            "model": model,
            "key_variable": key_variable,
            "context_length": context_length,
        },
        "price": {**price, "source": f"said when it was added, of {urlsplit(base_url).hostname}", "as_of": _today()},
    }
    if price_in is None and price_out is None:
        del content["price"]
    path = user_folder() / f"{name}.toml"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(written(content))
    except FileExistsError:
        raise InvalidRequest(f"{path} is there already; remove it, or choose another name", param="name") from None
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror}") from None
    return path


def _check(name: str, base_url: str, key_variable: str | None) -> None:
    from quipu.model.known import known_models

    if not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:100]!r} is no name; take letters, digits, dots, dashes and underscores", param="name"
        )
    known = {each.name for each in known_models()} | set(cards())
    if name in known:
        raise InvalidRequest(f"there is a model {name} already; choose another name", param="name")
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(
            f"{base_url[:200]!r} is not an address; it looks like http://127.0.0.1:8000/v1", param="base_url"
        )
    if "@" in parts.netloc or parts.query:
        raise InvalidRequest(
            "the address has a password or a key in it, which would be written to a file; put it in an environment "
            "variable and name that with --key-variable",
            param="base_url",
        )
    if key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", key_variable, re.ASCII):
        raise InvalidRequest(
            "--key-variable takes the name of an environment variable, not the key itself", param="key_variable"
        )


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
