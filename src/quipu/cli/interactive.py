"""Chatting at a terminal: lines in, answers streamed out, and a few commands that begin with a slash."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quipu.cli.answer import Answer
from quipu.cli.conversation import Conversation, Turn
from quipu.cli.line_input import LineInput, history_file
from quipu.cli.options import SAMPLING
from quipu.cli.terminal import faint, printable
from quipu.errors import InvalidRequest, QuipuError
from quipu.picture import Image
from quipu.tools.closing import ClosingCalls, shown
from quipu.types import Message, ToolCall

if TYPE_CHECKING:
    from quipu.engine.local import LocalModel


class Interactive:
    """One sitting with a model."""

    def __init__(self, model: LocalModel, conversation: Conversation, lines: LineInput) -> None:
        self.model = model
        self.conversation = conversation
        self._lines = lines

    def run(self) -> None:
        """Read, answer, repeat; until Ctrl-D or /quit."""
        self._say(f"{self.model.facts.name} · {self.model.context_length} tokens of context · /help · Ctrl-D leaves")
        if self._lines.trouble:
            self._say(self._lines.trouble)
        while True:
            try:
                line = self._lines.read(">>> ")
                if line.strip() == "/quit":
                    return
                self.take(line)
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                self._say("Ctrl-C stops an answer; Ctrl-D or /quit leaves")
            except UnicodeDecodeError as error:
                self._say(f"that line is not UTF-8 text ({error}); set the terminal to UTF-8")
            except QuipuError as error:
                self._say(str(error))

    def take(self, line: str) -> None:
        """Do what one line says. Raises QuipuError; the conversation is then as it was."""
        if not line.startswith("/"):
            if line.strip():
                self.ask(line)
            return
        name, _, rest = line.strip().partition(" ")
        if name not in COMMANDS:
            raise InvalidRequest(f"there is no {name}; /help lists what there is, a space before the slash sends it")
        COMMANDS[name][1](self, rest.strip())

    def ask(self, question: str) -> None:
        """Answer as it is generated. Ctrl-C ends the answer; what was said until then is kept and marked.

        Of what it calls, the person types the results, and it goes on; without them the turn ends with the calls.
        """
        conversation = self.conversation
        steps: list[Message] = []
        while True:
            answer = self._answer(conversation.messages(question, steps))
            calls = answer.calls if conversation.tools else ()
            results = self._results(calls)
            if not results:
                break
            steps += [Message("assistant", answer.text, tool_calls=calls), *results]
        if answer.text or calls:
            stopped = answer.finish_reason == "abort"
            turn = Turn(question, answer.text, stopped, conversation.showing, tuple(steps), calls)
            conversation.turns.append(turn)
            conversation.showing = ()
            self._say(answer.summary(self.model.context_length))
        else:
            self._say("nothing was said; the question is taken back")

    def _answer(self, messages: list[Message]) -> Answer:
        conversation = self.conversation
        answer = Answer(reading=not conversation.tools)
        told: dict[str, Any] = {"tools": conversation.tools} if conversation.tools else {}
        stopped = ""
        try:
            with self.model.stream(messages, **told, **conversation.options) as stream:
                for text in answer.watch(stream):
                    print(printable(text), end="", flush=True)
        except KeyboardInterrupt:
            stopped = faint(" [stopped]", sys.stdout)
        print(printable(answer.rest()) + stopped, end="")
        if answer.line_open or not answer.calls:
            print()
        for call in answer.calls:
            self._say(f"calls {shown(call)}")
        return answer

    def _results(self, calls: Sequence[ToolCall]) -> list[Message]:
        """What the person types for each; nothing once they leave a line empty, or leave it with Ctrl-D or Ctrl-C."""
        results = []
        for call in calls:
            try:
                result = self._lines.read(f"{call.name} returns> ")
            except (EOFError, KeyboardInterrupt):
                print()
                return []
            if not result.strip():
                return []
            results.append(Message("tool", result, tool_call_id=call.id))
        return results

    def _say(self, text: str) -> None:
        print(faint(printable(text), sys.stdout))

    def _help(self, rest: str) -> None:
        del rest
        for usage, _, what in COMMANDS.values():
            print(f"  {usage:<22} {what}")
        print("  Ctrl-C stops an answer, Ctrl-D leaves; a backslash at the end of a line continues it.")
        print(f"  What you type is remembered in {history_file()}.")

    def _reset(self, rest: str) -> None:
        del rest
        self.conversation.turns.clear()
        self._say("forgotten; the system message and settings stay")

    def _system(self, rest: str) -> None:
        self.conversation.system = rest or None
        self._say("system message set; it holds from the next answer on" if rest else "system message removed")

    def _save(self, rest: str) -> None:
        path = _path(rest, "/save FILE")
        self.conversation.save(path)
        self._say(f"saved to {path}")

    def _load(self, rest: str) -> None:
        tools = self.conversation.tools
        self.conversation = Conversation.load(_path(rest, "/load FILE"))
        self.conversation.tools = self.conversation.tools or tools
        for turn in self.conversation.turns:
            self._show(turn)
        count = len(self.conversation.turns)
        self._say(f"loaded {count} turn{'s' * (count != 1)}")

    def _show(self, turn: Turn) -> None:
        print(f"> {printable(turn.question)}")
        for message in turn.messages[1:]:
            said = ClosingCalls()
            text, calls = said.push(message.content), message.tool_calls
            if message.role == "tool":
                self._say(f"returns {message.content}")
                continue
            if not calls:
                rest, calls = said.finish()
                text += rest
            if text or not calls:
                print(printable(text))
            for call in calls:
                self._say(f"calls {shown(call)}")
        if turn.stopped:
            print("[stopped]")

    def _image(self, rest: str) -> None:
        conversation = self.conversation
        if not rest:
            conversation.showing = ()
            self._say("no picture goes with the next question")
            return
        shown = (*conversation.showing, Image.of(Path(rest), "/image"))
        if not self.model.sees:
            raise InvalidRequest(f"{self.model.facts.name} reads text only; chat with a model that sees pictures")
        self.model.count([Message.showing(*shown, "")])  # what cannot be read is said now, not with the question
        conversation.showing = shown
        self._say(f"{len(shown)} picture{'s' * (len(shown) != 1)} will go with the next question")

    def _retry(self, rest: str) -> None:
        del rest
        taken = self.conversation.undo()
        before = len(self.conversation.turns)
        try:
            self.conversation.showing = taken.images
            self.ask(taken.question)
        finally:
            self.conversation.showing = ()
            if len(self.conversation.turns) == before:  # it was stopped before a word, or failed
                self.conversation.turns.append(taken)

    def _undo(self, rest: str) -> None:
        del rest
        self._say(f"taken back: {self.conversation.undo().question}")

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if name:
            self.conversation.set(name, value.strip())
        in_force = self.model.sampling(self.conversation.options)
        self._say(", ".join(f"{each}={getattr(in_force, each)}" for each in SAMPLING))


COMMANDS: dict[str, tuple[str, Callable[[Interactive, str], None], str]] = {
    "/help": ("/help", Interactive._help, "this list"),
    "/reset": ("/reset", Interactive._reset, "forget what was said"),
    "/system": ("/system TEXT", Interactive._system, "tell the model how to behave; without TEXT, no longer"),
    "/retry": ("/retry", Interactive._retry, "answer the last question again"),
    "/undo": ("/undo", Interactive._undo, "take back the last question and its answer"),
    "/set": (
        "/set temperature 0.7",
        Interactive._set,
        "a sampling option; without a value the model's own; alone, all",
    ),
    "/image": ("/image FILE", Interactive._image, "show a picture with the next question; without FILE, none"),
    "/save": ("/save FILE", Interactive._save, "keep the conversation"),
    "/load": ("/load FILE", Interactive._load, "go on with a conversation that was kept"),
    "/quit": ("/quit", lambda self, rest: None, "leave"),
}
"""Name -> (how it is written, what does it, what it is for)."""


def _path(text: str, usage: str) -> Path:
    if not text:
        raise InvalidRequest(f"which file? {usage}")
    return Path(text).expanduser()
