"""Options from flags, environment and file, in that order, and what says so."""

import json
import tomllib
from pathlib import Path

import pytest

from quipu.cli import configurable, main
from quipu.cli.settings import File, actions, apply, find_file
from quipu.errors import InvalidConfiguration

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No file and no variable of this user's."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return tmp_path


def options(words, environment=None):
    parsers = configurable()
    verb, *rest = words
    apply(verb, parsers, rest, environment or {})
    return parsers[verb].parse_args(rest)


def test_flags_win_over_the_environment_over_the_file_over_defaults():
    Path("quipu.toml").write_text("context = 64\n[serve]\nport = 1111\nconcurrency = 5\nqueue = 7\n")
    environment = {"QUIPU_PORT": "2222", "QUIPU_QUEUE": "8"}
    chosen = options(["serve", "--port", "3333"], environment)
    assert (chosen.port, chosen.queue, chosen.concurrency, chosen.context, chosen.host) == (3333, 8, 5, 64, "127.0.0.1")


def test_a_table_wins_over_the_top_and_is_for_its_verb_only():
    Path("quipu.toml").write_text("context = 64\ndtype = 'float32'\n[serve]\ncontext = 32\n")
    assert options(["serve"]).context == 32
    assert options(["chat"]).context == 64
    assert options(["chat"]).dtype == "float32"


def test_every_kind_of_option():
    Path("quipu.toml").write_text(
        'model = "m"\n[serve]\nmodels = ["a", "b"]\nkeep-alive = 1.5\n'
        '[chat]\nstop = ["x", "y"]\nignore-eos = true\nkv-memory = 0.5\n'
    )
    assert (options(["serve"]).models, options(["serve"]).keep_alive) == (["a", "b"], 1.5)
    assert options(["serve", "c"]).models == ["c"]
    chat = options(["chat"])
    assert (chat.model, chat.stop, chat.ignore_eos, chat.kv_memory) == ("m", ["x", "y"], True, 0.5)
    assert options(["chat", "--stop=z"]).stop == ["z"]
    assert options(["chat"], {"QUIPU_IGNORE_EOS": "no", "QUIPU_STOP": "q"}).ignore_eos is False


def test_where_the_file_is_looked_for(nowhere):
    assert find_file([], {}) is None or find_file([], {}).path.name == "config.toml"
    own = nowhere / "home" / "quipu" / "config.toml"
    own.parent.mkdir(parents=True)
    for path in (own, Path("quipu.toml"), Path("variable.toml"), Path("flag.toml")):
        path.write_text("")
    environment = {"XDG_CONFIG_HOME": str(nowhere / "home")}
    named = environment | {"QUIPU_CONFIG": "variable.toml"}
    assert find_file(["--config", "flag.toml"], named).path == Path("flag.toml")
    assert find_file(["--config=flag.toml"], named).path == Path("flag.toml")
    assert find_file([], named).path == Path("variable.toml")
    assert find_file([], environment).path == Path("quipu.toml")
    Path("quipu.toml").unlink()
    assert find_file([], environment).path == own


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n[serve]\nprot = 1\n", r"quipu.toml:3: unknown option 'prot' in \[serve\]; did you mean port\?"),
        ("keep_alive = 1\n", r"quipu.toml:1: unknown option 'keep_alive'; did you mean keep-alive\?"),
        ("[serv]\nport = 1\n", r"quipu.toml:1: unknown table 'serv'; did you mean serve\?"),
        ("[chat]\nport = 1\n", r"quipu.toml:2: unknown option 'port' in \[chat\]; "),
        ("[serve]\nport = 99999\n", "quipu.toml:2: port: '99999' is not a port"),
        ("port = true\n", "quipu.toml:1: port must be a number or text, got True"),
        ("host = 3\n", "quipu.toml:1: host must be text, got 3"),
        ("dtype = 'int3'\n", "quipu.toml:1: dtype is 'int3'; it must be one of auto, bfloat16"),
        ("port = [1]\n", r"port must be a number or text, got \[1\]"),
        ("port = \n", "quipu.toml is not TOML: .*line 1"),
        ("a = " + "[" * 5000, "quipu.toml is not TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_line(text, says):
    Path("quipu.toml").write_text(text)
    with pytest.raises(InvalidConfiguration, match=says):
        options(["serve"])


def test_what_is_wrong_in_the_environment_names_the_variable():
    with pytest.raises(InvalidConfiguration, match="QUIPU_PORT: 'x' is not a port"):
        options(["serve"], {"QUIPU_PORT": "x"})
    with pytest.raises(InvalidConfiguration, match="QUIPU_IGNORE_EOS must be true or false, got 'maybe'"):
        options(["chat"], {"QUIPU_IGNORE_EOS": "maybe"})


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InvalidConfiguration, match=r"nothing\.toml cannot be read: No such file"):
        find_file(["--config", "nothing.toml"], {})
    Path("latin.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(InvalidConfiguration, match=r"is not TOML: .*utf-8"):
        File(Path("latin.toml"))
    Path("large.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(InvalidConfiguration, match="more than 1048576 bytes"):
        File(Path("large.toml"))


def test_a_broken_file_ends_the_command_with_a_sentence_but_not_the_help(capsys):
    Path("quipu.toml").write_text("nonsense = 1")
    assert main(["serve"]) == 1
    assert "quipu.toml:1: unknown option 'nonsense'" in capsys.readouterr().err
    assert main(["serve", "--help"]) == 0


def test_config_says_what_is_in_force(monkeypatch, capsys):
    Path("quipu.toml").write_text("context = 64\n[serve]\nport = 1111\n")
    monkeypatch.setenv("QUIPU_THREADS", "2")
    assert main(["config", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["file"] == "quipu.toml"
    rows = {(row["verb"], row["name"]): (row["value"], row["source"]) for row in said["settings"]}
    assert rows["serve", "port"] == (1111, "quipu.toml:3")
    assert rows["chat", "context"] == (64, "quipu.toml:1")
    assert rows["serve", "threads"] == (2, "QUIPU_THREADS")
    assert ("serve", "host") not in rows
    assert main(["config", "serve"]) == 0
    text = capsys.readouterr().out
    assert "file: quipu.toml" in text
    assert [line.split() for line in text.splitlines() if " host " in line] == [
        ["serve", "host", "127.0.0.1", "default"]
    ]
    assert main(["config", "bake"]) == 2


@pytest.mark.parametrize("verb", [[], ["serve"]])
def test_config_shows_no_key(monkeypatch, capsys, verb):
    Path("quipu.toml").write_text('[serve]\napi-key = "secret-of-the-file"\n')
    for as_json in ([], ["--json"]):
        assert main(["config", *verb, *as_json]) == 0
        said = capsys.readouterr().out
        assert "(hidden)" in said
        assert "secret" not in said
    monkeypatch.setenv("QUIPU_API_KEY", "secret-of-the-variable")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("QUIPU_API_KYE", "secret-of-a-typo")
    assert main(["config", *verb]) == 0
    shown = capsys.readouterr()
    assert "QUIPU_API_KEY" in shown.out
    assert "secret" not in shown.out + shown.err
    assert "the variable 'QUIPU_API_KYE' sets nothing; did you mean QUIPU_API_KEY?" in shown.err


def test_no_complaint_shows_a_key(capsys):
    for given in ("123456789", '["secret123456789"]', "true"):
        Path("quipu.toml").write_text(f"[serve]\napi-key = {given}\n")
        assert main(["serve"]) == 1
        said = capsys.readouterr().err
        assert "quipu.toml:2: api-key must be text, got (hidden)" in said
        assert "123456789" not in said


def test_two_options_that_exclude_each_other():
    Path("quipu.toml").write_text('[serve]\napi-key = "x"\napi-key-file = "y"\n')
    with pytest.raises(InvalidConfiguration, match=r"api-key \(quipu.toml:2\), api-key-file \(.*:3\): only one"):
        options(["serve"])
    chosen = options(["serve"], {"QUIPU_API_KEY_FILE": "z"})
    assert (chosen.api_key, chosen.api_key_file) == (None, "z")


def test_variables_that_set_nothing_are_named(monkeypatch, capsys):
    monkeypatch.setenv("QUIPU_PRT", "9000")
    monkeypatch.setenv("QUIPU_WHATEVER", "1")
    monkeypatch.setenv("QUIPU_KV_MEMORY", "1")
    assert main(["config", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["settings"]
    assert [line for line in err.splitlines() if "QUIPU_CLIENTS" not in line] == [
        "quipu: the variable 'QUIPU_PRT' sets nothing; did you mean QUIPU_PORT?",
        "quipu: the variable 'QUIPU_WHATEVER' sets nothing; quipu config VERB lists the options",
    ]


def test_config_reads_the_file_that_it_is_given(capsys):
    Path("other.toml").write_text("[serve]\nport = 4\n")
    assert main(["config", "--config", "other.toml"]) == 0
    assert "other.toml:2" in capsys.readouterr().out


def test_the_documented_file_is_valid(nowhere):
    [text] = [part.partition("```")[0] for part in DOCUMENT.read_text().split("```toml\n")[1:]]
    Path("quipu.toml").write_text(text)
    assert tomllib.loads(text)["serve"]["keep-alive"] == options(["serve"]).keep_alive


def test_names_are_those_of_the_flags():
    for parser in configurable().values():
        flags = {option[2:] for action in parser._actions for option in action.option_strings if option[:2] == "--"}
        assert flags - {"help", "config"} <= actions(parser).keys()
