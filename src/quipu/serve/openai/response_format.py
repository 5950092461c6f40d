"""What an answer must look like, as OpenAI's, vLLM's and Ollama's requests say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quipu.errors import InvalidRequest, check_fields
from quipu.types import Constraint

Asked = tuple[Constraint, str]
"""A constraint, and the field that asks for it, for errors."""
FORMATS = ("text", "json_object", "json_schema")
OUTPUTS: Mapping[str, str] = {
    "json": "json_schema", "json_object": "json_object", "regex": "regex", "choice": "choice", "grammar": "grammar",
}  # fmt: skip
"""vLLM's name -> the kind of constraint."""


def of_response_format(value: Mapping[str, Any] | None, where: str = "response_format") -> Asked | None:
    """OpenAI's ``response_format``, or the ``text.format`` of /v1/responses, where the schema stands beside the type.

    ``strict`` makes no difference: answers always validate. ``json_object`` with a ``schema``, as llama.cpp has it, is
    that schema. Raises InvalidRequest by field name.
    """
    if value is None:
        return None
    kind = value.get("type")
    if kind not in FORMATS:
        raise InvalidRequest(
            f"{where}.type is {kind!r:.80}; it must be one of {', '.join(FORMATS)}", param=f"{where}.type"
        )
    if kind == "text":
        check_fields(value, ("type",), where)
        return None
    if kind == "json_object":
        check_fields(value, ("type", "schema"), where)
        if value.get("schema") is None:
            return Constraint("json_object"), where
        return _schema(value, where)
    if "json_schema" not in value:
        return _schema(value, where, beside=("type",))
    check_fields(value, ("type", "json_schema"), where)
    inner = value["json_schema"]
    if not isinstance(inner, Mapping):
        raise InvalidRequest(f"{where}.json_schema must be an object with a schema", param=f"{where}.json_schema")
    return _schema(inner, f"{where}.json_schema", beside=())


def of_structured_outputs(value: Mapping[str, Any] | None, where: str = "structured_outputs") -> Asked | None:
    """vLLM's ``structured_outputs``: one of json, json_object, regex, choice and grammar. Raises InvalidRequest."""
    if value is None:
        return None
    check_fields(value, tuple(OUTPUTS), where)
    given = {name: each for name, each in value.items() if each is not None and each is not False}
    if len(given) != 1:
        raise InvalidRequest(f"{where} must have exactly one of {', '.join(OUTPUTS)}", param=where)
    [(name, asked)] = given.items()
    return _named(OUTPUTS[name], None if name == "json_object" else asked, f"{where}.{name}")


def of_format(value: str | Mapping[str, Any] | None) -> Asked | None:
    """Ollama's ``format``: "json", or a JSON Schema. Raises InvalidRequest."""
    if value is None or value == "":
        return None
    if isinstance(value, Mapping):
        return Constraint("json_schema", value), "format"
    if value != "json":
        raise InvalidRequest(f'format is {value!r:.80}; it must be "json" or a JSON Schema', param="format")
    return Constraint("json_object"), "format"


def _schema(value: Mapping[str, Any], where: str, beside: tuple[str, ...] = ("type",)) -> Asked:
    check_fields(value, (*beside, "name", "description", "schema", "strict"), where)
    if value.get("schema") is None:
        raise InvalidRequest(f"{where}.schema is missing; give a JSON Schema", param=f"{where}.schema")
    return _named("json_schema", value["schema"], f"{where}.schema")


def _named(kind: Any, value: Any, where: str) -> Asked:
    try:
        return Constraint(kind, value), where
    except InvalidRequest as error:
        raise InvalidRequest(str(error), param=where) from None
