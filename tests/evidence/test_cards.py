"""Model cards: what they say against independent sources, and files that are wrong."""

import contextlib
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quipu.errors import InvalidConfiguration, InvalidRequest, ModelNotFound, StorageFailed
from quipu.evidence.add_card import add_card
from quipu.evidence.card_file import parse, read
from quipu.evidence.cards import Price, card, cards, endpoint
from quipu.evidence.claims import PAGE, card_claims, sentences
from quipu.evidence.facts import FACTS
from quipu.evidence.header import model_facts
from quipu.evidence.toml_table import written
from quipu.model.checkpoint import open_checkpoint

NAMES = [
    "llama-3.2-1b-instruct",
    "llama-3.2-3b-instruct",
    "llama-4-maverick",
    "llama-4-scout",
    "smollm2-135m-instruct",
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The user's folder of cards, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = tmp_path / "quipu" / "models"
    made.mkdir(parents=True)
    return made


def facts(name):
    return {key: fact.value for key, fact in cards()[name].facts.items()}


# ---- what the cards say


def test_the_catalogue():
    assert list(cards()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_has_a_source_that_can_be_opened(name):
    for key, fact in cards()[name].facts.items():
        assert key in FACTS
        assert fact.source.title
        assert fact.source.url.startswith(("https://", "docs/"))


@pytest.mark.parametrize(("name", "descriptor"), [
    ("llama-3.2-1b-instruct", "Llama3.2-1B-Instruct"), ("llama-3.2-3b-instruct", "Llama3.2-3B-Instruct"),
])  # fmt: skip
def test_llama_3_2_is_what_metas_own_list_says(name, descriptor):
    from llama_models.sku_list import resolve_model

    meta, said = resolve_model(descriptor), facts(name)
    shape = meta.arch_args
    assert said["layers"] == shape["n_layers"]
    assert said["hidden_size"] == shape["dim"]
    assert said["heads"] == shape["n_heads"]
    assert said["kv_heads"] == shape["n_kv_heads"]
    assert said["head_size"] == shape["dim"] // shape["n_heads"]
    assert said["vocabulary"] == shape["vocab_size"]
    assert said["context_length"] == meta.max_seq_length


@pytest.mark.parametrize(("name", "descriptor"), [
    ("llama-4-scout", "Llama-4-Scout-17B-16E-Instruct"), ("llama-4-maverick", "Llama-4-Maverick-17B-128E-Instruct"),
])  # fmt: skip
def test_the_context_of_llama_4_is_what_metas_own_list_says(name, descriptor):
    from llama_models.sku_list import resolve_model

    assert facts(name)["context_length"] == resolve_model(descriptor).max_seq_length


def dense(said):
    """Parameters of a Llama with a tied embedding, from its shape."""
    width = said["heads"] * said["head_size"]
    attention = 2 * said["hidden_size"] * (width + said["kv_heads"] * said["head_size"])
    layer = attention + 3 * said["hidden_size"] * said["intermediate_size"] + 2 * said["hidden_size"]
    return said["layers"] * layer + said["hidden_size"] * (said["vocabulary"] + 1)


@pytest.mark.parametrize("name", ["llama-3.2-1b-instruct", "llama-3.2-3b-instruct", "smollm2-135m-instruct"])
def test_parameters_add_up(name):
    assert facts(name)["parameters"] == dense(facts(name))


@pytest.mark.parametrize("name", ["llama-4-scout", "llama-4-maverick"])
def test_parameters_of_mixtures_add_up(name):
    said = facts(name)
    d, f = said["hidden_size"], said["intermediate_size"]
    attention = 2 * d * (said["heads"] + said["kv_heads"]) * said["head_size"] + 2 * d
    mixture = said["experts"] * (d + 3 * d * f) + 3 * d * f
    moe = said["moe_layers"]
    text = said["layers"] * attention + moe * mixture + (said["layers"] - moe) * 3 * d * 2 * f
    projector = 4096 * d
    assert said["parameters"] == text + d + 2 * said["vocabulary"] * d + projector + vision_tower()


def vision_tower():
    """Llama 4's: 34 layers of 1408, patches of 14 on 336, an adapter to 4096."""
    d, mlp, patches = 1408, 5632, (336 // 14) ** 2 + 1
    block = 4 * (d * d + d) + (d * mlp + mlp) + (mlp * d + d) + 4 * d
    tower = 34 * block + 3 * 14 * 14 * d + d + patches * d + 4 * d
    return tower + mlp * 4096 + 4096 * 4096


def test_the_demonstration_model_is_what_its_file_says():
    said = facts("smollm2-135m-instruct")
    for name, value in model_facts(open_checkpoint("smollm2-135m-instruct").config).items():
        assert said[name] == value, name


def test_llama_2_70b_is_as_large_as_the_docket_says():
    from quipu.evidence.claims import seed_claims

    shape = {
        "layers": 80, "hidden_size": 8192, "heads": 64, "kv_heads": 8, "head_size": 128,
        "intermediate_size": 28672, "vocabulary": 32000,
    }  # fmt: skip
    [value] = {each.value for each in seed_claims() if each.quote == "Smaller … than Llama 2 70B"}
    assert value == dense(shape) + 32000 * 8192  # its output is a matrix of its own


@pytest.mark.parametrize("name", NAMES)
def test_every_sentence_of_a_card_is_a_claim_that_something_can_judge(name):
    its = cards()[name]
    said = card_claims(its)
    for capability, declared in its.capabilities.items():
        for prose in (declared.description, declared.unique, declared.alternatives):
            for sentence in sentences(prose):
                at = [each for each in said if each.capability == capability and sentence_has(sentence, each)]
                assert at, sentence
                assert all(each.predicate != "says" for each in at), sentence
    assert not [each for each in said if each.subject == PAGE]


def sentence_has(sentence, claim):
    return all(piece in sentence for piece in claim.quote.split(" … "))


def test_prices_name_who_asks_them_and_when():
    for its in cards().values():
        assert its.price is None or (its.price.source and its.price.as_of and its.price.url)
    assert cards()["smollm2-135m-instruct"].price is None


# ---- finding one


@pytest.mark.parametrize("name", ["llama-3.2-3b-instruct", "Llama 3.2 3B", "meta-llama/llama-3.2-3b-INSTRUCT"])
def test_a_card_is_found_by_name_and_alias(name):
    assert card(name).name == "llama-3.2-3b-instruct"


def test_a_name_of_several_models_is_refused_with_both():
    with pytest.raises(InvalidRequest, match="several models; name one of llama-4-maverick, llama-4-scout"):
        card("Llama 4")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ModelNotFound, match="did you mean llama-4-scout"):
        card("llama-4-scuot")
    with pytest.raises(ModelNotFound, match=r"there are llama-3\.2-1b-instruct"):
        card("gpt")


# ---- cards of one's own


def test_one_file_adds_a_model(folder):
    (folder / "mine.toml").write_text(
        """
        title = "Mine"
        aliases = ["my own"]
        [sources.paper]
        title = "the paper"
        url = "https://example.org/paper"
        [facts.paper]
        layers = 12
        languages = ["English"]
        [price]
        input = 0
        [capabilities.extract]
        description = "Reads invoices."
        """
    )
    its = card("My Own")
    assert (its.name, its.file, its.value("layers")) == ("mine", str(folder / "mine.toml"), 12)
    assert its.price == Price(input=0)
    assert its.context_length is None
    assert [each.predicate for each in card_claims(its)] == ["layers", "languages", "price_input", "can"]


WRONG = {
    'titel = "x"': "unknown key 'titel'; did you mean title?",
    "": "title must be text",
    "title = 3": "title must be text, got 3",
    'title = "x"\naliases = "x"': "aliases must be a list of texts",
    'title = "x"\nfacts = 3': r"\[facts\] must be a table",
    'title = "x"\n[facts.nobody]\nlayers = 3': "no source of that name: unknown key 'nobody'",
    'title = "x"\n[sources.a]\nurl = "y"': "title must be text",
    'title = "x"\n[sources.a]\ntitle = "y"\n[facts.a]\nlayer = 3': "unknown key 'layer'; did you mean layers?",
    'title = "x"\n[sources.a]\ntitle = "y"\n[facts.a]\nlayers = {}': "layers must be text, a number or a list",
    'title = "x"\n[sources.a]\ntitle = "y"\n[sources.b]\ntitle = "y"\n[facts.a]\nlayers = 1\n[facts.b]\nlayers = 2': (
        "layers is said twice"
    ),
    'title = "x"\n[price]\ninput = -1': "input must be US dollars per million tokens, got -1",
    'title = "x"\n[price]\ninput = nan': "input must be US dollars",
    'title = "x"\n[price]\ninput = true': "input must be US dollars",
    'title = "x"\n[price]\nin = 1': "unknown key 'in'",
    'title = "x"\n[endpoint]\nmodel = "y"': "base_url must be text",
    'title = "x"\n[endpoint]\nbase_url = "y"\nmodel = "z"\ncontext_length = 0': "context_length must be a number",
    'title = "x"\n[capabilities.a]': "description must be text",
    'title = "x"\n[capabilities.a]\ndescription = "y"\nclaims = 1': "claims must be a list",
    'title = "x"\n[capabilities.a]\ndescription = "y"\nclaims = [1]': "must be a table",
    'title = "x"\n[capabilities.a]\ndescription = "y"\nclaims = [{}]': "quote must be text",
    'title = "x"\n[capabilities.a]\ndescription = "y"\nclaims = [{quote="z", predicate="can", value=1}]': (
        "words 'z' of a claim do not stand there"
    ),
    'title = "x"\n[capabilities.a]\ndescription = "y"\nclaims = [{quote="y", predicate="layrs", value=1}]': (
        "predicate 'layrs' is unknown; did you mean layers?"
    ),
    'title = "x"\n[capabilities.a]\ndescription = "y"\nclaims = [{quote="y", predicate="layers"}]': "value is missing",
    'title = "x"\n[capabilities.a]\ndescription="y"\nclaims=[{quote="y",predicate="layers",value=1,relation="="}]': (
        "relation '=' is unknown"
    ),
    "title = ": "is not TOML",
    "a" + ".a" * 5000 + " = 1": "unknown key",
}


@pytest.mark.parametrize("content", WRONG, ids=lambda content: content[-30:])
def test_what_is_wrong_in_a_file_is_named(folder, content):
    (folder / "wrong.toml").write_text(content)
    with pytest.raises(InvalidConfiguration, match=rf"(?s)wrong\.toml.*{WRONG[content]}"):
        cards()


def test_files_that_are_no_cards(folder):
    path = folder / "x.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfiguration, match="is not UTF-8"):
        read(path)
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(InvalidConfiguration, match="more than 1048576 bytes"):
        read(path)
    path.unlink()
    with pytest.raises(InvalidConfiguration, match="cannot be read"):
        read(path)
    (folder / "llama-4-scout.toml").write_text('title = "x"')
    with pytest.raises(InvalidConfiguration, match="there is a card llama-4-scout already"):
        cards()


def test_a_name_that_is_none_is_refused(folder):
    (folder / "two words.toml").write_text('title = "x"')
    with pytest.raises(InvalidConfiguration, match="a card's name is letters"):
        cards()


def test_a_changed_file_is_read_again(folder):
    import os

    path = folder / "mine.toml"
    path.write_text('title = "first"')
    assert card("mine").title == "first"
    path.write_text('title = "second"')
    os.utime(path, ns=(1, 1))
    assert card("mine").title == "second"


# ---- adding one


def test_an_added_endpoint_is_read_back(folder):
    path = add_card(
        "there",
        base_url="http://127.0.0.1:1/v1",
        model="m",
        key_variable="KEY",
        context_length=99,
        price_in=0,
        price_out=2.5,
    )
    its = cards()["there"]
    assert path == folder / "there.toml"
    assert its.endpoint == endpoint("there")
    assert (its.endpoint.base_url, its.endpoint.model) == ("http://127.0.0.1:1/v1", "m")
    assert (its.endpoint.key_variable, its.context_length) == ("KEY", 99)
    assert (its.price.input, its.price.output) == (0, 2.5)
    assert its.price.as_of


def test_an_endpoint_of_a_model_has_that_models_facts_and_its_own_price():
    add_card("there", base_url="http://host/v1", model="m", of="Llama 4 Scout", price_in=9.0)
    its, base = cards()["there"], cards()["llama-4-scout"]
    assert (its.of, its.title) == ("llama-4-scout", "Llama 4 Scout 17B 16E Instruct at host")
    assert its.facts == base.facts
    assert its.capabilities == base.capabilities
    assert (its.license, its.price.input) == ("llama4", 9.0)
    assert base.served == (its.endpoint,)
    assert cards()["llama-4-maverick"].served == ()


@pytest.mark.parametrize("of", ["llama-4-scuot", "there"])
def test_an_endpoint_of_no_model_is_refused(folder, of):
    (folder / "there.toml").write_text(f'title = "x"\nof = "{of}"')
    with pytest.raises(InvalidConfiguration, match=r"there\.toml: of is .*which is no card of a model"):
        cards()
    with pytest.raises(InvalidConfiguration):
        add_card("x", base_url="http://host/v1", model="m", of=of)


def test_a_price_that_is_not_said_is_unknown_and_not_zero():
    add_card("there", base_url="http://127.0.0.1:1/v1", model="m")
    assert cards()["there"].price is None
    add_card("half", base_url="http://127.0.0.1:1/v1", model="m", price_in=1.0)
    assert (cards()["half"].price.input, cards()["half"].price.output) == (1.0, None)


@pytest.mark.parametrize(("name", "more", "said"), [
    ("a/b", {}, "is no name"),
    ("../x", {}, "is no name"),
    ("llama-4-scout", {}, "there is a model llama-4-scout already"),
    ("smollm2-135m-instruct", {}, "there is a model smollm2-135m-instruct already"),
    ("x", {"base_url": "ftp://x"}, "is not an address"),
    ("x", {"base_url": "x"}, "is not an address"),
    ("x", {"base_url": "http://me:secret@host/v1"}, "has a password or a key in it"),
    ("x", {"base_url": "http://host/v1?key=secret"}, "has a password or a key in it"),
    ("x", {"key_variable": "sk-0123"}, "not the key itself"),
])  # fmt: skip
def test_what_cannot_be_added(name, more, said):
    with pytest.raises(InvalidRequest, match=said) as refused:
        add_card(name, **{"base_url": "http://host/v1", "model": "m", **more})
    assert "secret" not in str(refused.value)
    assert "sk-0123" not in str(refused.value)


def test_nothing_is_overwritten(folder):
    add_card("x", base_url="http://host/v1", model="m")
    with pytest.raises(InvalidRequest, match="there is a model x already"):
        add_card("x", base_url="http://host/v1", model="other")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageFailed, match="cannot be written"):
        add_card("x", base_url="http://host/v1", model="m")


def test_names_that_are_paths_have_no_endpoint():
    assert endpoint("../../etc/passwd") is None
    assert endpoint("a\0b") is None
    assert endpoint("nobody") is None


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_text_survives_being_written(title, model):
    content = {
        "title": title,
        "endpoint": {"base_url": model, "model": model, "context_length": None},
        "price": {"input": 0.25},
    }
    try:
        text = written(content)
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no file can hold
        return
    assert tomllib.loads(text) == {
        "title": title,
        "endpoint": {"base_url": model, "model": model},
        "price": {"input": 0.25},
    }


@given(st.text())
def test_any_text_is_a_card_or_refused(content):
    with contextlib.suppress(InvalidConfiguration):
        parse(content, "x", "x.toml")


def test_the_example_of_the_documents_is_a_card():
    import re
    from pathlib import Path

    [content] = re.findall(
        r"^```toml\n(.*?)^```$", (Path(__file__).parents[2] / "docs" / "claims.md").read_text("utf-8"), re.M | re.S
    )
    its = parse(content, "ours", "docs/claims.md")
    assert {each.predicate for each in card_claims(its)} == {*its.facts, "price_input", "can"}


def test_the_documents_name_every_fact():
    import re
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "claims.md").read_text("utf-8")
    assert set(FACTS) - set(re.findall(r"`(\w+)`", text)) == set()
