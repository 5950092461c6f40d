"""A Python function as a tool: its name, its docstring, and the JSON Schema that its type hints say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from pydantic import PydanticUserError, create_model
from pydantic.errors import PydanticSchemaGenerationError

from quipu.errors import InvalidRequest


def described(function: Callable[..., Any], where: str) -> Mapping[str, Any]:
    """The definition of ``function``, called with keyword arguments; without a hint an argument may be any JSON.

    Raises InvalidRequest for parameters that cannot be given by name, or whose type JSON cannot say.
    """
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = inspect.signature(function).parameters
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        for each in parameters.values():
            if each.kind in (each.POSITIONAL_ONLY, each.VAR_POSITIONAL, each.VAR_KEYWORD):
                raise InvalidRequest(f"{where}: {name} takes {each}, which no call can name", param=where)
            default = ... if each.default is each.empty else each.default
            fields[each.name] = (hints.get(each.name, Any), default)
        schema = create_model(name, **fields).model_json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError, NameError, TypeError, ValueError) as error:
        raise InvalidRequest(
            f"{where}: the parameters of {name} have no JSON Schema: {error!s:.200}", param=where
        ) from None
    return {"name": name, "description": inspect.getdoc(function) or "", "parameters": _untitled(schema)}


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of names: they say nothing, and would be in every prompt."""
    if isinstance(schema, list):
        return [_untitled(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: {name: _untitled(each) for name, each in value.items()}
        if key in ("properties", "$defs")
        else _untitled(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }
