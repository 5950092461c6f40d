"""The options of ``quipu serve`` for keys, web pages and limits."""

import argparse
from dataclasses import fields
from pathlib import Path

import pytest

from quipu.cli import guarding, main, serve
from quipu.errors import InvalidRequest
from quipu.serve.limits import Limits

KEY = "a-key-for-the-tests"
ELSEWHERE = ("0.0.0.0", "::", "192.0.2.7", "2001:db8::1", "fe80::1%eth0")
HERE = ("127.0.0.1", "127.8.8.8", "::1")


def parsed(*words):
    parser = argparse.ArgumentParser()
    guarding.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv(guarding.VARIABLE, raising=False)


@pytest.mark.parametrize("address", HERE)
def test_this_machine_needs_no_key(address):
    assert guarding.find_key(parsed(), address) == (None, None)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_machines_do(address):
    key, said = guarding.find_key(parsed(), address)
    assert len(key) >= 32
    assert said.count(key) == 1
    assert guarding.find_key(parsed(), address)[0] != key


@pytest.mark.parametrize("address", [*HERE, *ELSEWHERE])
def test_a_key_that_is_given(address, tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    assert guarding.find_key(parsed("--api-key", KEY), address) == (KEY, None)
    assert guarding.find_key(parsed("--api-key-file", str(file)), address) == (KEY, None)


def test_an_empty_key_is_not_the_absence_of_one(tmp_path):
    file = tmp_path / "key"
    file.write_text("\n")
    for words in (["--api-key", ""], ["--api-key-file", str(file)], ["--api-key", "two words"]):
        with pytest.raises(InvalidRequest, match=f"{words[0]}.* must have 8 to 512 visible ASCII"):
            guarding.find_key(parsed(*words), "127.0.0.1")


def test_a_key_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InvalidRequest, match=r"--api-key-file .* cannot be read"):
            guarding.find_key(parsed("--api-key-file", str(path)), "127.0.0.1")
    (tmp_path / "large").write_bytes(b"\xff" * 10**6)
    with pytest.raises(InvalidRequest, match="visible ASCII"):
        guarding.find_key(parsed("--api-key-file", str(tmp_path / "large")), "127.0.0.1")


def test_the_strongest_source_has_the_key(tmp_path, monkeypatch):
    """Flags win over the variable, that over the file, whichever of the two options they are."""
    file, other = tmp_path / "key", tmp_path / "other"
    file.write_text(KEY)
    other.write_text("another-key")
    keys = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(serve, "run", lambda given: keys.append(guarding.find_key(given, "127.0.0.1")[0]))
    Path("quipu.toml").write_text('[serve]\napi-key = "of-the-file"\n')
    assert main(["serve"]) == main(["serve", "--api-key-file", str(file)]) == 0
    monkeypatch.setenv("QUIPU_API_KEY_FILE", str(other))
    assert main(["serve"]) == 0
    assert keys == ["of-the-file", KEY, "another-key"]
    monkeypatch.delenv("QUIPU_API_KEY_FILE")
    monkeypatch.setenv("QUIPU_API_KEY", "of-the-variable")
    assert main(["serve"]) == main(["serve", "--api-key-file", str(file)]) == 0
    assert main(["serve", "--api-key", KEY]) == 0
    assert keys[3:] == ["of-the-variable", KEY, KEY]
    monkeypatch.setenv("QUIPU_API_KEY", "")
    assert main(["serve"]) == 1  # empty is not the absence of one


def test_limits_come_from_their_flags():
    assert guarding.limits(parsed()) == Limits()
    words, wanted = [], {}
    for place, field in enumerate(fields(Limits)):
        wanted[field.name] = place + 2
        words += [field.metadata["flag"], str(place + 2)]
    assert guarding.limits(parsed(*words)) == Limits(**wanted)
    assert guarding.limits(parsed("--request-timeout", "0.5")).request_seconds == 0.5


@pytest.mark.parametrize("value", ["0", "-1", "x", "", "1e5", "nan"])
def test_values_that_are_no_limit(value, capsys):
    for flag in ("--max-body", "--receive-timeout"):
        with pytest.raises(SystemExit):
            parsed(f"{flag}={value}")
        assert flag in capsys.readouterr().err


def test_what_is_no_origin(capsys):
    assert parsed("--cors-origin", "https://a.b", "--cors-origin", "http://c").cors_origin == [
        "https://a.b",
        "http://c",
    ]
    with pytest.raises(SystemExit):
        parsed("--cors-origin", "*")
    assert "is not the origin of a web page" in capsys.readouterr().err


def test_they_are_checked_before_a_model_is_loaded(loads, capsys):
    assert main(["serve", "--port", "0", "--api-key", "x"]) == 1
    assert "--api-key (or the variable QUIPU_API_KEY) must have" in capsys.readouterr().err
    assert main(["serve", "--port", "0", "--max-requests", "2000"]) == 1
    assert "--max-requests 2000 must be less than --max-connections 1024" in capsys.readouterr().err
    assert loads == []


def test_they_reach_the_application(loads, monkeypatch):
    served = []
    monkeypatch.setattr("quipu.serve.server.run", lambda app, listener, announce: served.append(app))
    words = ["--api-key", KEY, "--max-n", "3", "--allowed-host", "llama.lan", "--cors-origin", "http://a"]
    assert main(["serve", "--port", "0", *words]) == 0
    [app] = served
    guard = app.build_middleware_stack()._app
    assert (app.state.service.limits.answers, app.state.locked) == (3, True)
    assert (guard._hosts, guard._origins) == ({"llama.lan"}, {"http://a"})
