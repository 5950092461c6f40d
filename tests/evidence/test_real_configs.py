"""Real models measured from end to end and told apart, or not, as they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
"""One that the model can do, by far, and one at which it is no better than guessing."""


@pytest.fixture(scope="module")
def measured(smollm2_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, dict[str, str]]]:
    """A log of the model as shipped, of copies of its file, and of itself behind a server: name -> config.

    The 16 values of each block of its weights become 6 in one copy, which loses much, and stay apart in the other.
    """
    folder = tmp_path_factory.mktemp("copies")
    chosen = [each for each in map(capabilities.find, IDS) if isinstance(each, Answering)]
    configs: dict[str, str] = {}
    with Store(f"sqlite:///{tmp_path_factory.mktemp('log')}/evidence.sqlite") as store, ExitStack() as opened:

        def ask(name: str, model: Generator, asked: Sequence[Answering] = chosen) -> None:
            measure(model, asked, store)
            configs[name] = Config.of(model, {}).id

        for name, levels in (("coarser", 6), ("hardly coarser", 64)):
            copy = folder / f"{name}.gguf"
            coarser(smollm2_file, copy, levels=levels)
            with quipu.load(copy, concurrency=16) as worse:
                ask(name, worse, chosen[:1])
        model = opened.enter_context(quipu.load(smollm2_file, concurrency=16))
        ask("shipped", model)
        url = opened.enter_context(background(create_app({"another-name": model})))
        ask("another name", opened.enter_context(RemoteModel(f"{url}/v1", context_length=model.context_length)))
        yield store, configs


def judged(measured: tuple[Store, dict[str, str]], a: str, b: str, *names: str) -> Judgement:
    store, configs = measured
    uris = [capabilities.find(name).uri for name in names or IDS]
    return compare(store.snapshot(), configs[a], configs[b], workload(None, uris))


def test_the_better_is_found_where_it_is_better(measured: tuple[Store, dict[str, str]]) -> None:
    found = judged(measured, "shipped", "coarser", "few_shot")
    assert found.overall.verdict == "a better", found.overall.reason
    assert found.capabilities[0].verdict == "a better"
    turned = judged(measured, "coarser", "shipped", "few_shot")
    assert turned.overall.verdict == turned.capabilities[0].verdict == "b better"


def test_another_file_that_is_no_worse_is_not_called_so(measured: tuple[Store, dict[str, str]]) -> None:
    judgement = judged(measured, "shipped", "hardly coarser", "few_shot")
    assert judgement.a != judgement.b
    for each in (judgement.capabilities[0], judgement.overall):
        assert each.shared == 400
        assert each.verdict in ("equal", "cannot tell"), each.reason


def test_itself_under_another_name_is_never_better(measured: tuple[Store, dict[str, str]]) -> None:
    """Batches differ, and with them roundings: a few answers do, too."""
    judgement = judged(measured, "shipped", "another name")
    assert judgement.a != judgement.b
    for each in (*judgement.capabilities, judgement.overall):
        assert each.verdict in ("equal", "cannot tell"), each.reason
    same = judged(measured, "shipped", "shipped")
    assert {each.verdict for each in same.capabilities} <= {"equal", "cannot tell"}
