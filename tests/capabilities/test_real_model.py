"""Each capability end to end on the demonstration model: from Python, over HTTP and on the command line, alike.

The page is tried on it in tests/pages/test_capabilities_page.py.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from running_server import Running, serving

import quipu
from quipu import capabilities
from quipu.capabilities.base import Answering, Capability
from quipu.cli import UNPARSED, main
from quipu.cli.fields import fields
from quipu.errors import CannotSee, Unparsed

MODEL = "smollm2-135m-instruct"
GREEDY = {"temperature": 0, "seed": 1}
ANSWERING = [each for each in capabilities.all_capabilities() if isinstance(each, Answering)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with quipu.load(MODEL, context=4096, concurrency=4) as model, serving({MODEL: model}) as running:
        running.http.timeout = 300
        yield running


def options(capability: Capability, given: Mapping[str, Any], folder: Path) -> list[str]:
    """``given`` as a person would type it; pictures are files in ``folder``."""
    words: list[str] = []
    for field in fields(capability):
        value = given.get(field.name)
        option = f"--{field.name.replace('_', '-')}"
        if field.kind == "texts":
            words += [word for each in value or () for word in (option, each)]
        elif field.kind == "pictures":
            for place, url in enumerate(value):
                file = folder / f"{place}.png"
                file.write_bytes(base64.b64decode(url.partition(",")[2]))
                words += [option, str(file)]
        elif field.kind == "switch":
            words += [option] if value else []
        elif value is not None:
            words += [option, json.dumps(value) if field.kind == "objects" else str(value)]
    return words


@pytest.mark.parametrize("capability", ANSWERING, ids=lambda each: each.id)
def test_three_doors_give_the_same(
    capability: Answering,
    server: Running,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The same output, the same answer that cannot be read, or, for this model, that it sees no pictures."""
    monkeypatch.setattr("sys.stdin", None)  # nothing is piped in
    given = min(capability.probes, key=lambda probe: len(json.dumps(probe.given))).given
    try:
        python: Any = server.model.run(capability.id, sampling=GREEDY, **given).model_dump(mode="json")
    except Unparsed as unparsed:
        python = unparsed.text
    except CannotSee as blind:
        python = None
        refused = str(blind)
    answer = server.http.post(f"/v1/capabilities/{capability.id}", json={**given, "sampling": GREEDY})
    body = answer.json()
    if python is None:
        assert (answer.status_code, body["error"]["message"]) == (400, refused)
        assert main(["run", capability.id, *options(capability, given, tmp_path)]) == 1
        assert refused in capsys.readouterr().err
        return
    assert (body["output"] if answer.status_code == 200 else body["error"]["text"]) == python
    words = [
        *options(capability, given, tmp_path),
        *["--context", "4096", "--temperature", "0", "--seed", "1", "--json"],
    ]
    code = main(["run", capability.id, *words])
    said = capsys.readouterr()
    if isinstance(python, str):
        assert (code, said.err.partition("the model said:\n")[2].rstrip("\n")) == (UNPARSED, python.rstrip("\n"))
    else:
        assert (code, json.loads(said.out)["output"]) == (0, python)


def test_streaming(server: Running) -> None:
    answer = server.http.post("/v1/capabilities/streaming", json={"requests": 3, "together": 2, "tokens": 8})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["output"]["complete"], answer.json()["output"]["ordered"]) == (1.0, 1.0)
