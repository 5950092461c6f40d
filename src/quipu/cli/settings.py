"""Where a command's options come from: the flags, else the environment, else a file, else the defaults.

A file names options as the flags do, without the dashes in front, for all verbs or in a table of one:

    context = 4096

    [serve]
    port = 9000
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quipu.errors import InvalidConfiguration, did_you_mean

PREFIX = "QUIPU_"
LOCAL = Path("quipu.toml")
NOT_SETTINGS = ("help", "config", "version")
SECRET = ("api-key", "evidence-url")
"""Options whose values are shown to nobody; an address may have a password in it."""
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of a verb as it is in force. ``source``: "default", a variable's name, or FILE:LINE."""

    name: str
    value: Any
    source: str


class File:
    """A configuration file that was read. Raises InvalidConfiguration for what cannot be one."""

    def __init__(self, path: Path) -> None:
        import tomllib

        self.path = path
        try:
            with path.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
            if len(data) > MAX_BYTES:
                raise InvalidConfiguration(f"{path} has more than {MAX_BYTES} bytes; this is no configuration file")
            self._text = data.decode()
            self.content = tomllib.loads(self._text)
        except OSError as error:
            raise InvalidConfiguration(f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise InvalidConfiguration(f"{path} is not TOML: {error}") from None

    def where(self, table: str | None, key: str) -> str:
        """FILE:LINE of a key, which says nothing of lines where the key is written in an unusual way."""
        current = None
        for number, line in enumerate(self._text.splitlines(), 1):
            if heading := re.fullmatch(r"\s*\[\s*([\w-]+)\s*\]\s*(#.*)?", line):
                current = heading[1]
                if table is None and key == current:
                    return f"{self.path}:{number}"
            elif current == table and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]", line):
                return f"{self.path}:{number}"
        return str(self.path)


def find_file(words: Sequence[str], environment: Mapping[str, str]) -> File | None:
    """The file that --config or QUIPU_CONFIG names, else ./quipu.toml, else the user's own, else none."""
    for place, word in enumerate(words):
        if word == "--config" and place + 1 < len(words):
            return File(Path(words[place + 1]))
        if word.startswith("--config="):
            return File(Path(word.partition("=")[2]))
    if named := environment.get(f"{PREFIX}CONFIG"):
        return File(Path(named))
    home = Path(environment.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for path in (LOCAL, home / "quipu" / "config.toml"):
        if path.is_file():
            return File(path)
    return None


def check(file: File, parsers: Mapping[str, argparse.ArgumentParser]) -> None:
    """Refuse names that mean nothing, with the nearest that does. Raises InvalidConfiguration."""
    everywhere = {name for parser in parsers.values() for name in actions(parser)}
    for key, value in file.content.items():
        if isinstance(value, dict) and key in parsers:
            for name in value:
                _check_name(file, key, name, actions(parsers[key]))
        elif isinstance(value, dict):
            _check_name(file, None, key, parsers, "table")
        else:
            _check_name(file, None, key, everywhere)


def _check_name(file: File, table: str | None, name: str, known: Collection[str], kind: str = "option") -> None:
    if name in known:
        return
    hint = did_you_mean(name[:80].replace("_", "-"), known, f"known: {', '.join(sorted(known))}")
    inside = f" in [{table}]" if table else ""
    raise InvalidConfiguration(f"{file.where(table, name)}: unknown {kind} {name[:80]!r}{inside}; {hint}")


def actions(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options of a verb by the names that a file has for them; models given without a flag are ``models``."""
    named = {_name(action): action for action in parser._actions}
    return {name: action for name, action in named.items() if name not in NOT_SETTINGS}


def _name(action: argparse.Action) -> str:
    return next((option[2:] for option in action.option_strings if option.startswith("--")), action.dest)


def in_force(
    verb: str, parser: argparse.ArgumentParser, file: File | None, environment: Mapping[str, str]
) -> Iterator[Setting]:
    """The options of a verb, before its flags. Raises InvalidConfiguration for a value that the flag would refuse.

    Of options that exclude each other, one in the environment takes the place of another in the file.
    """
    found = {name: _setting(verb, name, action, file, environment) for name, action in actions(parser).items()}
    for rivals in _rivals(parser):
        given = [found[name] for name in rivals if found[name].source != "default"]
        strongest = [each for each in given if each.source in environment] or given
        if len(strongest) > 1:
            places = ", ".join(f"{each.name} ({each.source})" for each in strongest)
            raise InvalidConfiguration(f"{places}: only one of these can be set; remove the other")
        for each in given:
            if each not in strongest:
                found[each.name] = Setting(each.name, actions(parser)[each.name].default, "default")
    yield from found.values()


def unknown_variables(parsers: Mapping[str, argparse.ArgumentParser], environment: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable that looks like a setting and is none. Not an error: others may have set it."""
    named = {name for parser in parsers.values() for name, each in actions(parser).items() if each.option_strings}
    known = {_variable(name).removeprefix(PREFIX) for name in (*named, "cache", "capabilities", "config")}
    for name in sorted(environment):
        rest = name.removeprefix(PREFIX)
        if rest != name and rest not in known:
            near = difflib.get_close_matches(rest[:80], known, n=1)
            hint = f"did you mean {PREFIX}{near[0]}?" if near else "quipu config VERB lists the options"
            yield f"the variable {name[:80]!r} sets nothing; {hint}"


def _variable(name: str) -> str:
    return PREFIX + name.upper().replace("-", "_")


def _rivals(parser: argparse.ArgumentParser) -> list[list[str]]:
    """Names of options that exclude each other."""
    return [[_name(action) for action in group._group_actions] for group in parser._mutually_exclusive_groups]


def _setting(
    verb: str, name: str, action: argparse.Action, file: File | None, environment: Mapping[str, str]
) -> Setting:
    variable = _variable(name)
    table = _table(file, verb, name)
    if action.option_strings and variable in environment:
        return Setting(name, _value(action, environment[variable], variable), variable)
    if file is not None and table is not None:
        where = file.where(table or None, name)
        given = file.content[table][name] if table else file.content[name]
        return Setting(name, _value(action, given, f"{where}: {name}"), where)
    return Setting(name, action.default, "default")


def _table(file: File | None, verb: str, name: str) -> str | None:
    """The verb's table, "" for the top of the file, None where the file does not have ``name``."""
    if file is None:
        return None
    if name in file.content.get(verb, {}):
        return verb
    return "" if name in file.content else None


def _value(action: argparse.Action, given: Any, where: str) -> Any:
    if action.nargs == 0:
        value = BOOLEANS.get(given.lower()) if isinstance(given, str) else given
        if not isinstance(value, bool):
            raise InvalidConfiguration(f"{where} must be true or false, got {given!r:.80}")
        return value
    if isinstance(action, argparse._AppendAction) or action.nargs == "*":
        values = given if isinstance(given, list) else [given]
        return [_one(action, each, where) for each in values]
    return _one(action, given, where)


def _shown(action: argparse.Action, given: Any) -> str:
    return "(hidden)" if _name(action) in SECRET else f"{given!r:.80}"


def _one(action: argparse.Action, given: Any, where: str) -> Any:
    wanted = (str,) if action.type is None else (str, int, float)
    if isinstance(given, bool) or not isinstance(given, wanted):
        kind = "text" if action.type is None else "a number or text"
        raise InvalidConfiguration(f"{where} must be {kind}, got {_shown(action, given)}")
    try:
        value = action.type(str(given)) if callable(action.type) else given
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise InvalidConfiguration(f"{where}: {error}") from None
    if action.choices is not None and value not in action.choices:
        raise InvalidConfiguration(f"{where} is {value!r:.80}; it must be one of {', '.join(action.choices)}")
    return value


def apply(
    verb: str, parsers: Mapping[str, argparse.ArgumentParser], words: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Make what the environment and the file say the defaults of a verb, which its flags ``words`` then override."""
    if {"-h", "--help"} & set(words):  # help is given whatever the file says
        return
    file = find_file(words, environment)
    if file is not None:
        check(file, parsers)
    known = actions(parsers[verb])
    flags = {word.partition("=")[0] for word in words}
    given = {name for name, action in known.items() if flags & set(action.option_strings)}
    given.update(*(rivals for rivals in _rivals(parsers[verb]) if given & set(rivals)))
    for setting in in_force(verb, parsers[verb], file, environment):
        if setting.source != "default" and setting.name not in given:  # a repeated flag would add to a default
            parsers[verb].set_defaults(**{known[setting.name].dest: setting.value})
