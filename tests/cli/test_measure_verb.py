"""``quipu measure`` over a fake model that can add, but not beyond 40."""

import json
import shutil
from pathlib import Path

import adding
import pytest
import several
from running_server import serving

import quipu
from quipu.cli import main
from quipu.cli.measure import _chosen, duration
from quipu.engine.fake import fake_model
from quipu.engine.local import LocalModel
from quipu.evidence.store import Store


def answer(asked: str) -> str:
    try:
        a, b = map(int, asked.split("+"))
    except ValueError:
        return f"You said: {asked}"
    return str(a + b) if a + b < 40 else "many"


RIGHT = sum(a + b < 40 for a in range(8) for b in range(20, 40))


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one capability, and no measurement from elsewhere."""
    folder = tmp_path / "capabilities"
    folder.mkdir()
    shutil.copy(adding.__file__, folder)
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(folder))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return folder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[LocalModel]:
    models = []

    def load(name: str, **options: object) -> LocalModel:
        models.append(fake_model(answer, name=name))
        return models[-1]

    monkeypatch.setattr(quipu, "load", load, raising=False)
    return models


def generated(model: LocalModel) -> int:
    return model.engine.stats().generated_tokens


def measured(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["measure", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_table(loaded: list[LocalModel], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "some", "--capability", "adding"]) == 0
    said = capsys.readouterr()
    assert f"adding@1    {100 * RIGHT / 160:.1f} %" in said.out
    assert "intervals by Wilson, of the effective number of probes" in said.err
    assert "kept in " in said.err


def test_json(loaded: list[LocalModel], capsys: pytest.CaptureFixture[str]) -> None:
    whole = measured(capsys, "some", "--capability", "adding", "--capability", "adding", "--temperature", "0")
    [found] = whole["capabilities"]
    assert (found["capability"], found["passed"], found["unparsed"]) == ("capability://adding@1", RIGHT, 160 - RIGHT)
    assert found["interval"]["mean"] == RIGHT / 160
    assert whole["model"]["name"] == "some"
    assert whole["sampling"] == {"temperature": 0}
    assert whole["streaming"] is None


def test_it_goes_on_and_begins_anew(loaded: list[LocalModel], capsys: pytest.CaptureFixture[str]) -> None:
    once = measured(capsys, "some", "--capability", "adding")
    again = measured(capsys, "some", "--capability", "adding")
    assert again["capabilities"] == once["capabilities"]
    assert generated(loaded[0]) > 0 == generated(loaded[1])
    measured(capsys, "some", "--capability", "adding", "--fresh")
    assert generated(loaded[2]) == generated(loaded[0])


def test_a_limit_says_what_is_left(loaded: list[LocalModel], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "some", "--capability", "adding", "--budget", "0.001s"]) == 0
    assert "probes were not asked yet; the same command goes on with them" in capsys.readouterr().err


def test_files_for_people(loaded: list[LocalModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, picture = tmp_path / "table.md", tmp_path / "scores.svg"
    measured(capsys, "some", "--capability", "adding", "--markdown", str(page), "--chart", str(picture))
    assert "](scores.svg)" in page.read_text()
    assert picture.read_text().startswith("<svg")
    assert main(["measure", "some", "--capability", "adding", "--markdown", str(tmp_path / "no" / "table.md")]) == 1
    assert "table.md cannot be written: No such file" in capsys.readouterr().err


def test_streaming_is_measured_over_http(loaded: list[LocalModel], capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(capsys, "some", "--capability", "streaming")
    assert found["capabilities"] == []
    assert found["streaming"]["complete"] == 1.0
    assert found["streaming"]["cancel_p50"] is not None
    with Store.at() as store:
        [(_, seen)] = store.snapshot().services.items()
        assert seen.found == found["streaming"]
        assert seen.entry == store.verify().number


def test_what_can_only_be_called_is_left_out(
    loaded: list[LocalModel], own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A capability of one's own without probes, whose input has a required field."""
    shutil.copy(several.__file__, own)
    assert main(["measure", "--capability", "several"]) == 1
    assert "several has no probes and no measure(), so there is nothing to measure" in capsys.readouterr().err
    assert not loaded
    answering, services = _chosen([])
    assert [each.id for each in services] == ["streaming"]
    assert "several" not in [each.id for each in answering]


def test_a_model_elsewhere(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    key = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("THE_KEY", key)
    with serving({"there": fake_model(answer, name="there")}, key=key) as server:
        found = measured(
            capsys, "there", "--capability", "adding", "--base-url", f"{server.url}/v1", "--key-variable", "THE_KEY"
        )
    assert found["model"] == {"name": "there", "base_url": f"{server.url}/v1"}
    assert found["capabilities"][0]["passed"] == RIGHT
    assert key not in json.dumps(found)


def test_what_is_measured_by_its_card_is_called_as_the_card(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with serving({"there": fake_model(answer, name="there")}) as server:
        add = ["models", "add", "mine", "--base-url", f"{server.url}/v1", "--model", "there"]
        assert main([*add, "--price-in", "0.05", "--price-out", "0.2"]) == 0
        assert main(["measure", "mine", "--capability", "adding"]) == 0
    with Store.at() as store:
        [found] = store.snapshot().configs.values()
    assert (found.label, found.facts["name"]) == ("mine", "there")
    capsys.readouterr()
    assert main(["compare", found.id[:12], "llama-4-scout", "--json"]) == 3
    rows = {row["name"]: row["a"]["value"] for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["Starting Price"] == "$0.05 in, $0.20 out per million tokens"


def test_wrong_usage(capsys: pytest.CaptureFixture[str], own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["measure", "--capability", "ading"]) == 1
    assert "there is no capability 'ading'; did you mean adding?" in capsys.readouterr().err
    assert main(["measure", "--key-variable", "X"]) == 2
    assert "--key-variable goes with --base-url" in capsys.readouterr().err
    assert main(["measure", "--base-url", "http://127.0.0.1:9/v1", "--adapter", "x"]) == 2
    assert "--adapter is about loading a model here" in capsys.readouterr().err
    assert main(["measure", "--base-url", "http://127.0.0.1:9/v1", "--key-variable", "NOT_SET_AT_ALL"]) == 1
    assert "--key-variable names NOT_SET_AT_ALL, which is not set" in capsys.readouterr().err
    for text in ("10", "0m", "1e3s", "m", "1d"):
        assert main(["measure", "--budget", text]) == 2
        assert f"{text!r} is not a time like 90s, 10m or 2h" in capsys.readouterr().err
    assert (duration("90s"), duration("1.5m"), duration("2h")) == (90, 90, 7200)


def test_files_of_ones_own_that_are_no_capability(
    own: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def complaint(name: str, content: str) -> str:
        folder = own.parent / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(content)
        monkeypatch.setenv("QUIPU_CAPABILITIES", str(folder))
        assert main(["measure", "--capability", name]) == 1
        return capsys.readouterr().err

    assert "defines 0 capabilities; a file is one subclass of Answering, or of Measured for" in complaint("empty", "")
    assert "broken.py cannot be imported: SyntaxError" in complaint("broken", "def")
    assert "Can't instantiate abstract class Half" in complaint(
        "half", "from quipu.capabilities.base import Answering\nclass Half(Answering): pass\n"
    )
    assert "there is a capability streaming in" in complaint("streaming", "")
    assert "the name of a capability is lower-case words joined by _" in complaint("two-words", "")
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(own / "nowhere"))
    assert main(["measure"]) == 1
    assert "which is not a folder" in capsys.readouterr().err
