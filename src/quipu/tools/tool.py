"""What a model may call: definitions as the OpenAI API has them, checked, and what is asked about calling them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from quipu.errors import InvalidRequest, check_fields, did_you_mean

MOST_TOOLS = 128
"""Tools of one request, as in the OpenAI API: every one is in the prompt and in the grammar of the answer."""
NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
"""OpenAI's rule for names, and dots, which stand in names of methods (and in BFCL's): nothing here depends on them."""
CHOICES = ("auto", "none", "required")
NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class Tool:
    """One function: its name, what it is for, and the JSON Schema of its keyword arguments.

    ``path`` is the field of the request that has the schema, for errors about it.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    path: str = field(default="tools", compare=False)

    @classmethod
    def of(cls, value: Tool | Mapping[str, Any] | Callable[..., Any], where: str = "tools[0]") -> Tool:
        """From a definition of the OpenAI API, from its ``function`` alone, or from a Python function with type hints.

        Raises InvalidRequest that names the field at fault.
        """
        if isinstance(value, Tool):
            return value
        if callable(value):
            from quipu.tools.function import described  # pydantic, which the command line does without

            return cls.of(described(value, where), where)
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{where} must be an object with type and function, got {value!r:.80}", param=where)
        if "function" not in value and "name" in value:
            return cls._of_function({name: each for name, each in value.items() if name != "type"}, where)
        check_fields(value, ("type", "function"), where)
        if value.get("type", "function") != "function":
            raise InvalidRequest(
                f"{where}.type is {value['type']!r:.80}; only functions can be called", param=f"{where}.type"
            )
        return cls._of_function(value.get("function"), f"{where}.function")

    @classmethod
    def _of_function(cls, value: Any, where: str) -> Tool:
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"{where} must be an object with a name, got {value!r:.80}", param=where)
        check_fields(value, ("name", "description", "parameters", "strict"), where)  # arguments are always kept to
        name, description = value.get("name"), value.get("description") or ""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise InvalidRequest(
                f"{where}.name is {name!r:.80}; it must be 1 to 64 letters, digits, underscores, hyphens or dots",
                param=f"{where}.name",
            )
        if not isinstance(description, str):
            raise InvalidRequest(f"{where}.description must be a string", param=f"{where}.description")
        parameters = NOTHING if value.get("parameters") is None else value["parameters"]
        if not isinstance(parameters, Mapping) or parameters.get("type", "object") != "object":
            raise InvalidRequest(
                f"{where}.parameters must be a JSON Schema of type object: a call has named arguments",
                param=f"{where}.parameters",
            )
        typed = parameters if "type" in parameters else {**NOTHING, **parameters}
        return cls(name, description, typed, f"{where}.parameters")

    def as_dict(self) -> dict[str, Any]:
        """The definition, as the OpenAI API and chat templates have it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What one answer may call: any of ``tools``, or if ``named`` only that.

    ``required``: it does call one, from its first token on. ``parallel``: it may call several.
    """

    tools: tuple[Tool, ...]
    named: str | None = None
    required: bool = False
    parallel: bool = True

    @property
    def callable(self) -> tuple[Tool, ...]:
        """The tools that a call may name."""
        return tuple(tool for tool in self.tools if self.named in (None, tool.name))

    @classmethod
    def of(cls, tools: Any, choice: Any = None, parallel: bool | None = None) -> ToolUse | None:
        """From the fields ``tools``, ``tool_choice`` and ``parallel_tool_calls``; None where nothing is to be called.

        ``tools`` are what ``Tool.of`` takes; the choice may also be the name of one. Raises InvalidRequest by field.
        """
        if not isinstance(tools, Sequence | None) or isinstance(tools, str):
            raise InvalidRequest(f"tools must be a list, got {tools!r:.80}", param="tools")
        tools = tools or ()
        if len(tools) > MOST_TOOLS:
            raise InvalidRequest(
                f"tools has {len(tools)} entries; at most {MOST_TOOLS} are taken. Leave out what this question "
                "does not need",
                param="tools",
            )
        made = tuple(Tool.of(tool, f"tools[{place}]") for place, tool in enumerate(tools))
        names = [tool.name for tool in made]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise InvalidRequest(
                    f"tools[{place}] is a second tool named {name!r}; a call could mean either", param=f"tools[{place}]"
                )
        named = _named(choice, names)
        if not made and (named is not None or choice == "required"):
            raise InvalidRequest("tool_choice asks for a call, and there are no tools", param="tool_choice")
        if not made or choice == "none":
            return None
        several = named is None if parallel is None else parallel  # OpenAI: a name asks for exactly one call
        return cls(made, named, named is not None or choice == "required", several)


def _named(choice: Any, names: Sequence[str]) -> str | None:
    """The tool that ``choice`` names, if it names one."""
    if choice is None or (isinstance(choice, str) and choice in CHOICES):
        return None
    name = choice
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        function = choice.get("function", choice)  # /v1/responses has the name beside the type
        name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise InvalidRequest(
            f"tool_choice must be auto, none, required or "
            f'{{"type": "function", "function": {{"name": ...}}}}, got {choice!r:.80}',
            param="tool_choice",
        )
    if name not in names:
        hint = did_you_mean(name[:80], names, f"there are {', '.join(names[:20])}" if names else "there are no tools")
        raise InvalidRequest(f"tool_choice names {name[:80]!r}, which is not among tools; {hint}", param="tool_choice")
    return name
