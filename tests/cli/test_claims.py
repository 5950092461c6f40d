"""``quipu claims`` and ``quipu models add``."""

import json
import shutil

import adding
import pytest
from running_server import serving

from quipu.cli import main
from quipu.engine.fake import fake_model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "config" / "quipu" / "models"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with one capability."""
    (tmp_path / "capabilities").mkdir()
    shutil.copy(adding.__file__, tmp_path / "capabilities")
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(tmp_path / "capabilities"))


def answer(asked):
    a, _, b = asked.partition("+")
    return str(int(a) + int(b)) if b else "many"


def claims(capsys, *arguments):
    assert main(["claims", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_docket(capsys):
    found = claims(capsys)
    assert sum(found["counts"].values()) == len(found["claims"]) > 250
    assert found["snapshot"] == {"number": 0, "hash": "", "at": ""}
    assert found["header"] is None
    heads = [each for each in found["claims"] if each["claim"]["quote"] == "32 heads"]
    assert [(each["status"], each["truth"]) for each in heads] == [("contradicted", 24)]


def test_it_is_read_by_people(capsys):
    assert main(["claims", "--status", "contradicted"]) == 0
    shown = capsys.readouterr().out
    assert "contradicted llama-3.2-3b-instruct: “32 heads”" in shown
    assert "attention heads: 32 | config.json of meta-llama/Llama-3.2-3B-Instruct: 24, not 32" in shown
    assert "verified     " not in shown


def test_one_model(capsys):
    found = claims(capsys, "Llama 4 Scout")
    assert {each["claim"]["subject"] for each in found["claims"]} >= {"llama-4-scout"}
    assert {each["claim"]["source"] for each in found["claims"]} == {"seed", "card llama-4-scout"}


def test_a_model_that_is_here_is_held_against_its_own_header(capsys):
    found = claims(capsys, "smollm2-135m-instruct")
    assert found["header"]["card"] == "smollm2-135m-instruct"
    assert found["counts"]["contradicted"] == 0
    path = found["header"]["path"]
    assert claims(capsys, path)["claims"] == found["claims"]
    other = claims(capsys, path, "--card", "llama-3.2-3b-instruct")
    wrong = {each["claim"]["predicate"] for each in other["claims"] if each["status"] == "contradicted"}
    assert {"layers", "heads", "parameters", "context_length"} <= wrong


def test_markdown(capsys):
    assert main(["claims", "llama-4-maverick", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("# Claims\n")
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert all(len(row.replace("\\|", "").split("|")) == 7 for row in rows)
    assert "](https://huggingface.co/meta-llama/Llama-4-Maverick-17B-128E-Instruct/blob/main/config.json)" in shown


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["nobody"], 1, "there is no card of a model 'nobody'"),
    (["llama-4-scuot"], 1, "did you mean llama-4-scout?"),
    (["Llama 4"], 1, "several models"),
    (["./nowhere.gguf"], 1, "there is no card of a model"),
    (["./nowhere.gguf", "--card", "llama-4-scout"], 1, "does not exist"),
    (["--card", "llama-4-scout"], 2, "--card goes with the file"),
    (["--json", "--markdown"], 2, "choose one"),
    (["--status", "true"], 2, "invalid choice"),
])  # fmt: skip
def test_wrong_usage(capsys, arguments, code, said):
    assert main(["claims", *arguments]) == code
    assert said in capsys.readouterr().err


def test_hostile_names_steer_no_terminal(capsys, folder):
    folder.mkdir(parents=True)
    (folder / "evil.toml").write_text('title = "x"\n[capabilities.a]\ndescription = "Says \\u001b[31m red | `x`."\n')
    assert main(["claims", "evil"]) == 0
    assert "\x1b[31m" not in capsys.readouterr().out
    assert main(["claims", "evil", "--markdown"]) == 0
    assert "red \\| \\`x\\`" in capsys.readouterr().out


# ---- a model that runs elsewhere


def test_an_added_model_is_measured_and_called_like_a_local_one(capsys, folder, monkeypatch, own):
    key = "0123456789abcdef0123456789abcdef"
    with serving({"there": fake_model(answer, name="there")}, key=key) as server:
        added = [
            "models", "add", "mine", "--base-url", f"{server.url}/v1", "--model", "there",
            "--key-variable", "THE_KEY", "--price-in", "0.08", "--price-out", "0.30",
        ]  # fmt: skip
        assert main(added) == 0
        assert "measure it: quipu measure mine" in capsys.readouterr().out
        assert main(["measure", "mine", "--capability", "adding"]) == 1
        assert "the card mine has its key in THE_KEY, which is not set" in capsys.readouterr().err
        monkeypatch.setenv("THE_KEY", key)
        assert main(["measure", "mine", "--capability", "adding", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["model"] == {"name": "there", "base_url": f"{server.url}/v1"}
        assert found["capabilities"][0]["passed"] == 160
        assert main(["run", "adding", "--question", "2+3", "--model", "mine"]) == 0
        assert json.loads(capsys.readouterr().out) == {"total": 5}
        assert main(["measure", "mine", "--capability", "adding", "--adapter", "x"]) == 2
        assert "--adapter is about loading a model here; the card mine names another's" in capsys.readouterr().err
    assert key not in (folder / "mine.toml").read_text()
    assert main(["models", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["added"]
    assert (listed["name"], listed["model"], listed["price"]) == ("mine", "there", "$0.08 in, $0.30 out")
    assert main(["models"]) == 0
    assert "mine" in capsys.readouterr().out


def test_a_model_is_called_there_as_here_unless_told_otherwise(folder, capsys):
    assert main(["models", "add", "mine", "--base-url", "http://h/v1", "--price-in", "0.1", "--price-out", "0.2"]) == 0
    capsys.readouterr()
    assert main(["models", "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)["added"]
    assert (listed["name"], listed["model"], listed["base_url"]) == ("mine", "mine", "http://h/v1")


def test_a_model_that_is_not_run_here_says_how_to_measure_it(capsys):
    assert main(["measure", "llama-4-scout"]) == 1
    assert "quipu models add HERE --of llama-4-scout" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["add"], 2, "add needs a NAME"),
    (["add", "x"], 2, "add needs --base-url"),
    (["add", "x", "--base-url", "h", "--model", "m"], 1, "is not an address"),
    (["add", "x", "--base-url", "http://h/v1", "--model", "m", "--price-in", "-1"], 2, "is not an amount"),
    (["add", "x", "--base-url", "http://h/v1", "--model", "m", "--price-in", "1e9"], 2, "is not an amount"),
    (["add", "x", "--base-url", "http://h/v1", "--model", "m", "--context", "0"], 2, "not a whole number above 0"),
    (["add", "x", "--base-url", "http://h/v1", "--model", "m", "--of", "llama-4-scuot"], 1, "did you mean"),
    (["--price-in", "1"], 2, "--price-in goes with add"),
])  # fmt: skip
def test_what_cannot_be_added(capsys, folder, arguments, code, said):
    assert main(["models", *arguments]) == code
    assert said in capsys.readouterr().err
    assert not folder.exists()
