"""A checkpoint's own chat template: Jinja from a file that strangers wrote, run in a sandbox and with limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from quipu.errors import InvalidRequest, UnsupportedCheckpoint
from quipu.model.template_sandbox import Budget, Sandbox, spending

PINNED_DATE = "26 Jul 2024"
"""What templates that ask for today's date are told: the fallback written in Llama 3.2's own template. A date that
moves would change every prompt at midnight: no cached prefix and no repeatable answer."""

MOST_SOURCE = 100_000
"""Characters of a template; the longest of a published Llama checkpoint has some 20,000. Compiling takes up to 700
bytes for each."""

_SECONDS = 10.0
_WRITTEN = 250_000  # characters of its own; encoding a text takes a hundred times its size
_SIZE, _SIZE_PER_CHARACTER = 8_000_000, 64  # what may be made for any conversation, and for each character of it


class _Refusal(TemplateError):
    """Raised by ``raise_exception``: the template refuses the conversation; it is the caller who can change that."""


class ChatTemplate:
    """A compiled template; rendering is safe from several threads.

    The variables and functions are those that transformers gives: ``messages``, ``add_generation_prompt``,
    ``bos_token``, ``eos_token``, ``tools``, ``raise_exception``, ``strftime_now``, ``tojson``. ``date`` is written as
    "26 Jul 2024". Raises UnsupportedCheckpoint for a template that does not compile, or has more than
    MOST_SOURCE characters.
    """

    def __init__(self, source: str, *, bos_token: str = "", eos_token: str = "", date: str = PINNED_DATE) -> None:
        try:
            today = datetime.strptime(date, "%d %b %Y")
        except ValueError:
            raise InvalidRequest(f"date is {date!r:.40}; write it as {PINNED_DATE!r}", param="date") from None
        if len(source) > MOST_SOURCE:
            raise UnsupportedCheckpoint(
                f"the checkpoint's chat template has {len(source)} characters; at most {MOST_SOURCE} are read. "
                "Give another template"
            )
        self.source = source
        self._variables = {"bos_token": bos_token, "eos_token": eos_token, "date_string": date}
        sandbox = Sandbox(raise_exception=_refuse, strftime_now=lambda form: today.strftime(f"{form:.100}"))
        try:
            with spending(Budget(_SIZE, _SECONDS)):  # jinja2 computes what is constant while it compiles
                self._template = sandbox.compiled(source)
        except Exception as error:  # the compilers of jinja2 and of Python fail in many ways on nonsense
            line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
            raise UnsupportedCheckpoint(
                f"the checkpoint's chat template does not compile{line}: {error!s:.200}. Give another template"
            ) from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        add_generation_prompt: bool = True,
        *,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """The prompt as text; ``tools`` are definitions as the OpenAI API has them. A template is told none for none.

        Raises InvalidRequest with the template's own words where it refuses the conversation, and
        UnsupportedCheckpoint where the template itself fails, runs for 10 s, makes more than its budget of values, or
        writes without end.
        """
        read = len(repr(messages)) + len(repr(tools))
        limit = _WRITTEN + 8 * read
        written, length = [], 0
        try:
            with spending(Budget(_SIZE + _SIZE_PER_CHARACTER * read, _SECONDS)):
                for text in self._template.generate(
                    self._variables,
                    messages=messages,
                    add_generation_prompt=add_generation_prompt,
                    tools=list(tools) or None,
                ):
                    written.append(text)
                    length += len(text)
                    if length > limit:
                        raise TemplateError(f"it wrote more than {limit} characters")
        except _Refusal as error:
            raise InvalidRequest(
                f"the model's chat template refuses this: {error!s:.2000}", param="messages"
            ) from error
        except Exception as error:  # any Python error can come out of a template's expressions
            said = str(error)[:200] or type(error).__name__
            raise UnsupportedCheckpoint(
                f"the checkpoint's chat template fails on this conversation: {said}. Give another template"
            ) from error
        return "".join(written)


def _refuse(message: str) -> None:
    raise _Refusal(message)
