"""Every capability is behind all four doors: Python, the command line, HTTP and the page. Nothing here names one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsing import ARGUMENTS, CHROMIUM
from own_folder import own_folder
from perfect import LONG, Perfect
from playwright.sync_api import Page, expect, sync_playwright
from running_server import Running, serving

import quipu
from quipu import capabilities
from quipu.capabilities.base import Answering, Output
from quipu.cli import main
from quipu.engine.local import LocalModel

ALL = capabilities.names()
OWN = "adding"
"""In a folder of one's own, which is all that is done about it."""


@pytest.fixture(scope="module")
def perfect() -> Perfect:
    return Perfect()


@pytest.fixture(scope="module", autouse=True)
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_folder(tmp_path_factory.mktemp("own"), OWN):
        yield


@pytest.fixture(scope="module")
def server(own: None, perfect: Perfect) -> Iterator[Running]:
    with serving({"fake": perfect.model()}) as running:
        yield running


@pytest.fixture(scope="module")
def page(server: Running) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        opened = browser.new_page()
        opened.goto(f"{server.url}/capabilities")
        expect(opened.locator("html")).to_have_attribute("data-ready", "true")
        yield opened
        browser.close()


def outputs_are_alike(name: str, one: Any, other: Any) -> bool:
    """Those of a service are times, which differ."""
    return bool(one == other if isinstance(capabilities.find(name), Answering) else one.keys() == other.keys())


@pytest.mark.parametrize("name", [*ALL, OWN])
def test_python_and_http_give_the_same(name: str, server: Running, perfect: Perfect) -> None:
    given = perfect.ask_for(capabilities.find(name))
    output = server.model.run(name, sampling=LONG, **given)
    assert isinstance(output, Output)
    answer = server.http.post(f"/v1/capabilities/{name}", json={**given, "sampling": LONG})
    assert answer.status_code == 200, answer.text
    assert outputs_are_alike(name, answer.json()["output"], output.model_dump(mode="json"))


@pytest.mark.parametrize("name", [*ALL, OWN])
def test_the_command_line_has_its_fields_as_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", name, "--help"]) == 0
    said = capsys.readouterr().out
    capability = capabilities.find(name)
    assert capability.title in said
    for field in capability.input.model_fields:  # with another name in front where one of the command's is the same
        assert re.search(rf"^  --(input-)*{field.replace('_', '-')}\b", said, re.MULTILINE)
    assert main(["capabilities"]) == 0
    assert capability.title in capsys.readouterr().out


@contextmanager
def lent(model: LocalModel) -> Iterator[LocalModel]:
    """Not closed in the end: it is the server's."""
    yield model


def test_the_command_line_gives_the_same(
    server: Running, perfect: Perfect, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quipu, "load", lambda *_, **__: lent(server.model), raising=False)
    perfect.answer = None
    assert main(["run", OWN, "--question", "3+4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["output"] == {"total": 7}


def test_http_lists_them_all(server: Running) -> None:
    listed = server.http.get("/v1/capabilities").json()["data"]
    assert [each["id"] for each in listed] == sorted([*ALL, OWN])
    assert server.http.get("/openapi.json").json()["paths"].keys() >= {
        f"/v1/capabilities/{name}" for name in [*ALL, OWN]
    }


@pytest.mark.parametrize("name", [*ALL, OWN])
def test_the_page_has_a_form_with_its_fields(name: str, page: Page) -> None:
    """That each can be filled and sent, tests/pages shows."""
    capability = capabilities.find(name)
    page.get_by_role("navigation", name="Capability list").locator(f'a[href="#{name}"]').click()
    expect(page.get_by_role("heading", level=1)).to_have_text(capability.title)
    for field in capability.input.model_fields:
        label = field.replace("_", " ").capitalize()
        expect(page.locator("form").locator("label, legend").get_by_text(label, exact=True).first).to_be_visible()


def test_without_the_folder_it_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert OWN in capabilities.names()
    monkeypatch.setenv(capabilities.VARIABLE, "")
    assert OWN not in capabilities.names()
