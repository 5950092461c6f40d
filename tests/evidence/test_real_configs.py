"""Real models measured from end to end and told apart, or not, as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from coarser import coarser

import quipu
from quipu import capabilities
from quipu.capabilities.base import Answering
from quipu.engine.remote import RemoteModel
from quipu.evidence.compare import Judgement, compare
from quipu.evidence.config import Config
from quipu.evidence.measure import measure
from quipu.evidence.store import Store
from quipu.evidence.workload import workload
from quipu.serve.app import create_app
from quipu.serve.server import background
from quipu.types import Generator

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
IDS = ("few_shot", "reason")
"""One that the model can do, by far, and one that it cannot."""


@pytest.fixture(scope="module")
def measured(smollm2_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, dict[str, str]]]:
    """A log of the model as shipped, of a coarser copy of its file, and of itself behind a server: name -> config."""
    copy = tmp_path_factory.mktemp("coarser") / "coarser.gguf"
    coarser(smollm2_file, copy, levels=6)
    chosen = [each for each in map(capabilities.find, IDS) if isinstance(each, Answering)]
    configs: dict[str, str] = {}
    with Store(f"sqlite:///{tmp_path_factory.mktemp('log')}/evidence.sqlite") as store, ExitStack() as opened:

        def ask(name: str, model: Generator) -> None:
            measure(model, chosen, store)
            configs[name] = Config.of(model, {}).id

        with quipu.load(copy, concurrency=16) as worse:
            ask("coarser", worse)
        model = opened.enter_context(quipu.load(smollm2_file, concurrency=16))
        ask("shipped", model)
        url = opened.enter_context(background(create_app({"another-name": model})))
        ask("another name", opened.enter_context(RemoteModel(f"{url}/v1", context_length=model.context_length)))
        yield store, configs


def judged(measured: tuple[Store, dict[str, str]], a: str, b: str) -> Judgement:
    store, configs = measured
    uris = [capabilities.find(name).uri for name in IDS]
    return compare(store.snapshot(), configs[a], configs[b], workload(None, uris))


def test_the_better_is_found_where_it_is_better(measured: tuple[Store, dict[str, str]]) -> None:
    found = {each.capability.rpartition("/")[2]: each for each in judged(measured, "shipped", "coarser").capabilities}
    assert found["few_shot@1"].verdict == "a better", found["few_shot@1"].reason
    assert found["reason@1"].verdict in ("equal", "cannot tell"), found["reason@1"].reason
    turned = {each.capability.rpartition("/")[2]: each for each in judged(measured, "coarser", "shipped").capabilities}
    assert turned["few_shot@1"].verdict == "b better"


def test_itself_under_another_name_is_never_better(measured: tuple[Store, dict[str, str]]) -> None:
    """Batches differ, and with them roundings: a few answers do, too."""
    judgement = judged(measured, "shipped", "another name")
    assert judgement.a != judgement.b
    for each in (*judgement.capabilities, judgement.overall):
        assert each.verdict in ("equal", "cannot tell"), each.reason
    same = judged(measured, "shipped", "shipped")
    assert {each.verdict for each in same.capabilities} <= {"equal", "cannot tell"}
