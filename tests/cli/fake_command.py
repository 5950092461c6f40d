"""``quipu`` with a fake model: it says what it was told, at length when asked for something long."""

import os
import sys
from pathlib import Path

import quipu
from quipu.cli import main, serve
from quipu.engine.fake import fake_model
from quipu.engine.local import LocalModel


def _answer(asked: str) -> str:
    _write_down(asked)
    if asked.startswith("long"):
        return "word " * 2000
    if asked.startswith("weather"):
        return 'I look it up.\n[get_weather(city="Paris", days=3)]'
    if asked.startswith("escape"):
        return "\x1b[2Jgone\x07"
    return f"You said: {asked}"


_ASKED: set[str] = set()


def _write_down(asked: str) -> None:
    """Into the file FAKE_ASKED, each question once, though it is looked at for every token."""
    if "FAKE_ASKED" in os.environ and asked not in _ASKED:
        _ASKED.add(asked)
        with Path(os.environ["FAKE_ASKED"]).open("a") as opened:
            opened.write(asked + "\n")


def _load(model: str, *, name: str | None = None, progress: object = None, **options: object) -> LocalModel:
    if callable(progress):
        progress(1, 2, "weights")
    seconds = float(os.environ.get("FAKE_SECONDS", "0"))
    return fake_model(_answer, name=name or model, context_length=12000, concurrency=1, seconds=seconds)


if __name__ == "__main__":
    quipu.load = _load  # type: ignore[assignment]
    serve.checkpoint_name = lambda model: model
    sys.exit(main())
