"""Each capability end to end on the demonstration model: from Python, over HTTP and on the command line, alike.

The page is tried on it in tests/pages/test_capabilities_page.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from running_server import Running, serving

import quipu
from quipu import capabilities
from quipu.capabilities.base import Answering, Capability
from quipu.cli import UNPARSED, main
from quipu.cli.fields import fields
from quipu.errors import Unparsed

MODEL = "smollm2-135m-instruct"
GREEDY = {"temperature": 0, "seed": 1}
ANSWERING = [each for each in capabilities.all_capabilities() if isinstance(each, Answering)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with quipu.load(MODEL, context=4096, concurrency=4) as model, serving({MODEL: model}) as running:
        running.http.timeout = 300
        yield running


def options(capability: Capability, given: Mapping[str, Any]) -> list[str]:
    """``given`` as a person would type it."""
    words: list[str] = []
    for field in fields(capability):
        value = given.get(field.name)
        option = f"--{field.name.replace('_', '-')}"
        if field.kind == "texts":
            words += [word for each in value or () for word in (option, each)]
        elif field.kind == "switch":
            words += [option] if value else []
        elif value is not None:
            words += [option, json.dumps(value) if field.kind == "objects" else str(value)]
    return words


@pytest.mark.parametrize("capability", ANSWERING, ids=lambda each: each.id)
def test_three_doors_give_the_same(
    capability: Answering, server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same output, or the same answer that cannot be read."""
    given = min(capability.probes, key=lambda probe: len(json.dumps(probe.given))).given
    try:
        python: Any = server.model.run(capability.id, sampling=GREEDY, **given).model_dump(mode="json")
    except Unparsed as unparsed:
        python = unparsed.text
    answer = server.http.post(f"/v1/capabilities/{capability.id}", json={**given, "sampling": GREEDY})
    body = answer.json()
    assert (body["output"] if answer.status_code == 200 else body["error"]["text"]) == python
    words = [*options(capability, given), *["--context", "4096", "--temperature", "0", "--seed", "1", "--json"]]
    monkeypatch.setattr("sys.stdin", None)  # nothing is piped in
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
