"""Chatting at a real pseudo-terminal."""

import json
import time
from pathlib import Path

import pytest

from quipu.cli.interactive import COMMANDS


def test_it_talks_turn_by_turn_and_remembers(terminal):
    chat = terminal("any-model")
    assert "any-model · 12000 tokens of context" in chat.expect(">>> ")
    first = chat.ask("hello")
    assert "You said: hello" in first
    assert " tokens/s" in first
    assert "0 of 23 prompt tokens cached" in first
    second = chat.ask("and again")
    assert "You said: and again" in second
    # The prompt of the second turn holds the first, whose whole blocks of 16 tokens were in the cache.
    cached = int(second.partition(" of ")[0].rpartition(" · ")[2])
    assert cached >= 32
    chat.type("\x04")
    assert chat.process.wait(20) == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal, tmp_path):
    chat = terminal(FAKE_SECONDS="0.002")
    chat.expect(">>> ")
    chat.type("long\n")
    chat.expect("word word")
    chat.type("\x03")
    stopped = chat.expect(">>> ")
    assert "[stopped]" in stopped
    assert "· stopped" in stopped
    assert "You said: still there?" in chat.ask("still there?")
    chat.ask(f"/save {tmp_path}/talk.json")
    messages = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [message.get("stopped") for message in messages] == [None, True, None, None]
    assert messages[1]["content"].startswith("word word")
    assert len(messages[1]["content"]) < 10000
    chat.type("/quit\n")
    assert chat.process.wait(20) == 0


def test_ctrl_c_at_the_prompt_hints_how_to_leave(terminal):
    chat = terminal()
    chat.expect(">>> ")
    chat.type("half a li")
    chat.expect("half a li")
    time.sleep(0.3)  # Python's readline misses a signal that comes within microseconds of a key
    chat.type("\x03")
    assert "Ctrl-D or /quit leaves" in chat.expect(">>> ")
    assert "You said: whole" in chat.ask("whole")


def test_typed_lines_are_remembered_by_the_next_chat(terminal, tmp_path):
    first = terminal(TERM="xterm")
    first.expect(">>> ")
    first.type("something to keep\n")
    first.expect("You said: something to keep")
    first.expect(">>> ")
    first.type("\x04")
    assert first.process.wait(20) == 0
    history = tmp_path / "state" / "quipu" / "chat_history"
    assert history.stat().st_mode & 0o077 == 0  # nobody else's business
    second = terminal(TERM="xterm")
    second.expect(">>> ")
    second.type("\x1b[A\n")  # the up arrow
    second.expect("You said: something to keep")


def test_an_unwritable_history_is_said_and_does_not_matter(terminal, tmp_path):
    (tmp_path / "state").write_text("a file where a folder should be")
    chat = terminal()
    assert "what you type is not remembered" in chat.expect(">>> ")
    assert "You said: hi" in chat.ask("hi")


def test_a_model_cannot_steer_the_terminal(terminal):
    chat = terminal()
    chat.expect(">>> ")
    shown = chat.ask("escape")
    assert "␛[2Jgone␇" in shown
    assert "\x1b" not in shown


def test_faint_print_where_the_terminal_has_it(terminal):
    assert "\x1b[2m" in terminal(TERM="xterm").expect(">>> ")
    assert "\x1b[2m" not in terminal(TERM="xterm", NO_COLOR="1").expect(">>> ")


def test_a_backslash_continues_the_line(terminal):
    chat = terminal()
    chat.expect(">>> ")
    chat.type("one\\\n")
    chat.expect("... ")
    chat.type("two\n")
    assert "You said: one\r\ntwo" in chat.expect(">>> ")


def test_a_question_that_does_not_fit_is_refused_and_the_chat_goes_on(terminal):
    chat = terminal()
    chat.expect(">>> ")
    chat.ask("/set max-tokens 20000")
    assert "the context of this model, as loaded, is 12000 tokens" in chat.ask("hello")
    chat.ask("/set max-tokens")
    assert "You said: hello" in chat.ask("hello")


def test_commands(terminal, tmp_path):
    chat = terminal("--system", "be brief", "--temperature", "0")
    chat.expect(">>> ")
    listed = chat.ask("/help")
    assert all(usage in listed for usage, _, _ in COMMANDS.values())
    assert "chat_history" in listed
    chat.ask("one")
    chat.ask("two")
    assert "You said: two" in chat.ask("/retry")
    assert "taken back: two" in chat.ask("/undo")
    assert "temperature=0.0" in chat.ask("/set")
    assert "temperature=0.7" in chat.ask("/set temperature 0.7")
    assert "system message set" in chat.ask("/system be very brief")
    assert "saved to" in chat.ask(f"/save {tmp_path}/talk.json")
    assert json.loads(Path(tmp_path / "talk.json").read_text()) == {
        "messages": [
            {"role": "system", "content": "be very brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "You said: one"},
        ],
        "options": {"temperature": 0.7},
    }
    assert "forgotten" in chat.ask("/reset")
    assert "nothing has been said yet" in chat.ask("/undo")
    loaded = chat.ask(f"/load {tmp_path}/talk.json")
    assert "You said: one" in loaded
    assert "loaded 1 turn" in loaded
    assert "system message removed" in chat.ask("/system")
    assert "there is no /nonsense; /help lists what there is" in chat.ask("/nonsense")
    assert "You said:  /nonsense" in chat.ask(" /nonsense")
    assert "which file?" in chat.ask("/save")


def test_a_call_that_nobody_asked_for_is_shown_as_one(terminal, tmp_path):
    chat = terminal(TERM="xterm")
    chat.expect(">>> ")
    shown = chat.ask("weather")
    assert "I look it up.\r\n\x1b[2mcalls get_weather(city: Paris, days: 3)\x1b[0m\r\n" in shown
    assert "[get_weather" not in shown
    chat.ask(f"/save {tmp_path}/talk.json")
    assert "calls get_weather(city: Paris, days: 3)" in chat.ask(f"/load {tmp_path}/talk.json")


def test_the_person_types_what_a_tool_returns(terminal, tmp_path, tools_file):
    chat = terminal("--tools", str(tools_file))
    chat.expect(">>> ")
    chat.type("weather\n")
    assert "calls get_weather(city: Paris, days: 3)" in chat.expect("get_weather returns> ")
    chat.type("sun and 21 degrees\n")
    assert "You said: sun and 21 degrees" in chat.expect(">>> ")
    for leaving in ("\n", "\x04", "\x03"):
        chat.type("weather\n")
        chat.expect("get_weather returns> ")
        time.sleep(0.3 if leaving == "\x03" else 0)  # see above
        chat.type(leaving)
        chat.expect(">>> ")
    assert "You said: never mind" in chat.ask("never mind")
    chat.ask(f"/save {tmp_path}/talk.json")
    kept = json.loads((tmp_path / "talk.json").read_text())
    assert kept["tools"] == json.loads(tools_file.read_text())
    called, returned, answered = kept["messages"][1:4]
    [call] = called["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"city": "Paris", "days": 3}
    assert returned == {"role": "tool", "content": "sun and 21 degrees", "tool_call_id": call["id"]}
    assert answered == {"role": "assistant", "content": "You said: sun and 21 degrees"}
    shown = terminal()
    shown.expect(">>> ")
    loaded = shown.ask(f"/load {tmp_path}/talk.json")
    assert loaded.count("calls get_weather(city: Paris, days: 3)") == 4
    assert "returns sun and 21 degrees" in loaded
    assert "loaded 5 turns" in loaded
    shown.type("weather\n")
    shown.expect("get_weather returns> ")  # the tools were kept, too


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("/set temprature 1", "did you mean temperature?"),
        ("/set temprature", "did you mean temperature?"),
        ("/set temperature hot", "temperature must be a number"),
        ("/set n 3", "n is for programs"),
        ("/load {tmp}/missing.json", "cannot be read: No such file"),
    ],
)
def test_wrong_commands_are_refused(terminal, tmp_path, typed, answer):
    chat = terminal()
    chat.expect(">>> ")
    assert answer in chat.ask(typed.format(tmp=tmp_path))
