import pytest
from two_models import HOSTILE, config, snapshot

from quipu.errors import InvalidRequest, ModelNotFound
from quipu.evidence.cards import Card, cards
from quipu.evidence.judging import Header
from quipu.evidence.side import Side, names, of_file, side

MEASURED = {"good": {"reason": 0.9}, "worse": {"reason": 0.5}}


@pytest.fixture(scope="module")
def measured():
    return snapshot(MEASURED, probes=20)


def test_a_card_that_was_never_measured(measured):
    found = side("llama-4-scout", cards(), measured)
    assert found.card is cards()["llama-4-scout"]
    assert found.config is None
    assert found.as_dict()["config"] is None


def test_an_alias_is_its_card(measured):
    its = next(each for each in cards().values() if each.aliases)
    assert side(its.aliases[0], {its.name: its}, measured).card is its


def test_a_measured_card_has_its_config():
    found = side("smollm2-135m-instruct", cards(), snapshot({"smollm2-135m-instruct": {"reason": 0.5}}, probes=20))
    assert found.config is not None
    assert found.title == cards()["smollm2-135m-instruct"].title
    assert found.as_dict()["config"]["id"] == found.config.id


@pytest.mark.parametrize("length", [6, 12, 64])
def test_the_start_of_an_id(measured, length):
    good = config("good")
    assert side(good.id[:length], cards(), measured).config == good


def test_too_short_a_start_of_an_id_is_none(measured):
    with pytest.raises(ModelNotFound):
        side(config("good").id[:5], cards(), measured)


def test_a_label_without_a_card(measured):
    found = side("good", cards(), measured)
    assert found.config == config("good")
    assert found.card == Card(name="good", title="good")
    assert found.as_dict()["card"] is None


def test_every_label_that_it_ever_had():
    one = config("first name")
    of = snapshot({"first name": {"reason": 0.5}}, probes=20)
    again = type(of)(of.number, of.hash, of.at, of.configs, of.cells, {one.id: ("first name", "second name")})
    assert side("second name", cards(), again).config == one


@pytest.mark.parametrize("name", ["wors", "llama-4-scot", "\x1b[31m" + "x" * 5000])
def test_unknown_names_are_refused_with_the_nearest(measured, name):
    with pytest.raises(ModelNotFound) as error:
        side(name, cards(), measured)
    near = {"wors": "did you mean worse?", "llama-4-scot": "did you mean llama-4-scout?"}
    assert near.get(name, "there are ") in str(error.value)
    assert "quipu measure" in str(error.value)
    assert len(str(error.value)) < 1000
    assert "\x1b" not in str(error.value)


def test_a_label_of_several_configs_is_refused_with_their_ids():
    two = [config("twin", engine="quipu 0.1.0"), config("twin", engine="quipu 0.2.0")]
    of = snapshot({"twin": {"reason": 0.5}}, probes=20)
    both = type(of)(of.number, of.hash, of.at, {each.id: each for each in two}, {})
    with pytest.raises(InvalidRequest) as error:
        side("twin", cards(), both)
    assert all(each.id[:12] in str(error.value) for each in two)
    assert "quipu 0.2.0" in str(error.value)
    assert side(two[1].id, cards(), both).config == two[1]


def test_a_file_is_what_was_measured_of_it(measured):
    good = config("good")
    assert of_file("x.gguf", good.model_hash, cards(), measured).config == good
    assert of_file("x.gguf", "0" * 64, cards(), measured).config is None
    header = Header("x.gguf", "llama-3.2-1b-instruct", {})
    found = of_file("x.gguf", good.model_hash, cards(), measured, header)
    assert found.card.name == "llama-3.2-1b-instruct"
    assert found.header is header


def test_names_tell_the_two_apart(measured):
    def named(name, title, config=None):
        return Side(name, Card(name=name, title=title), config)

    good, worse = config("good"), config("worse")
    assert names(named("a", "Llama"), named("b", "Other")) == ("Llama", "Other")
    assert names(named("a", "Llama"), named("b", "Llama")) == ("a", "b")
    assert names(named("a", "a", good), named("a", "a", worse)) == (f"a ({good.id[:12]})", f"a ({worse.id[:12]})")
    assert names(named("a", "a", good), named("a", "a", good)) == ("a (A)", "a (B)")


def test_a_hostile_label_names_its_config():
    assert side(HOSTILE, cards(), snapshot({HOSTILE: {"reason": 0.5}}, probes=20)).config == config(HOSTILE)
