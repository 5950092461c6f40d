"""What becomes of claims: every status with what it rests on, from published facts, a header, or a made-up log."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from adding import Adding
from hypothesis import given
from hypothesis import strategies as st
from made_snapshot import EMPTY, SMALL, cell, config, log

from quipu import capabilities
from quipu.capabilities.base import Answering
from quipu.errors import CheckpointError, InvalidRequest
from quipu.evidence.agreement import agrees
from quipu.evidence.cards import Card, Endpoint, Fact, Source, cards
from quipu.evidence.claims import PAGE, Claim, card_claims, claims_about, counts, seed_claims
from quipu.evidence.header import read_header
from quipu.evidence.judging import Header, configs_of, judge
from quipu.evidence.snapshot import Service, Snapshot

ROOT = Path(__file__).parents[2]
THREE, SCOUT, MAVERICK = "llama-3.2-3b-instruct", "llama-4-scout", "llama-4-maverick"


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def claim(predicate="can", value="summarize", subject=SMALL, **more):
    said = {
        "relation": "is",
        "quote": "words",
        "source": "seed",
        "place": "here",
        "capability": None,
        "needs": "",
        "note": "",
    }
    return Claim(subject=subject, predicate=predicate, value=value, **{**said, **more})


def one(claim, snapshot=EMPTY, header=None, among=None):
    [judged] = judge([claim], cards() if among is None else among, snapshot, header)
    return judged


# ---- the seed page


@pytest.mark.parametrize(("subject", "quote", "status", "truth"), [
    (THREE, "32 heads", "contradicted", 24),
    (THREE, "distributed across 26 layers", "contradicted", 28),
    (THREE, "3B parameters", "verified", 3212749824),
    (THREE, "across variable input lengths up to 8,192 tokens", "contradicted", 131072),
    (THREE, "with optimized attention patterns (grouped query attention)", "verified", ("multi-head", "grouped-query")),
    (THREE, "trained on parallel corpora", "unmeasured", None),
    (THREE, "Smaller … than Llama 2 70B", "verified", 3212749824),
    (THREE, "Smaller … GPT-3.5", "unmeasured", None),
    (THREE, "More coherent and context-aware summaries than rule-based", "unmeasured", None),
    (THREE, "Hugging Face Inference API", "unmeasured", None),
    (THREE, "$5.10e-8 per prompt token", "verified", 0.0509),
    (THREE, "making it more accessible", "contradicted", True),
    (SCOUT, "The ability to handle a 10 million token context window", "verified", 10485760),
    (MAVERICK, "The ability to handle a 10 million token context window", "contradicted", 1048576),
    (SCOUT, "unlike traditional models that handle them separately", "contradicted", True),
    (SCOUT, "Llama 4 processes both text and image inputs", "verified", ("text", "image")),
    (SCOUT, "Llama 4 ranks higher", "unmeasured", None),
    (SCOUT, "64/100", "unmeasured", None),
    (SCOUT, "—", "contradicted", 0.08),
    (PAGE, "backed by match graph evidence from real search data", "contradicted", 0),
    (PAGE, "Capability-level comparison", "contradicted", 0),
    (PAGE, "vs Llama 4", "contradicted", 2),
])  # fmt: skip
def test_the_seed_page(subject, quote, status, truth):
    [found] = [each for each in judge(seed_claims(subject), cards(), EMPTY) if each.claim.quote == quote]
    assert found.status == status, found
    assert status == "unmeasured" or found.truth == truth


def test_every_judgement_says_what_it_rests_on_or_what_would_decide_it():
    judged = judge(
        [*seed_claims(), *(claim for each in cards().values() for claim in card_claims(each))], cards(), EMPTY
    )
    for each in judged:
        assert each.why
        if each.status == "unmeasured":
            assert each.needs
            assert "{" not in each.needs
        else:
            assert each.evidence
            assert not each.needs
        for evidence in each.evidence:
            assert evidence.title
            assert re.fullmatch(r"(https://\S+|docs/\S+)?", evidence.url)
            if evidence.url.startswith("docs/"):
                assert (ROOT / evidence.url.partition("#")[0]).exists()
    found = counts(judged)
    assert sum(found.values()) == len(judged)
    assert json.loads(json.dumps([each.as_dict() for each in judged]))


def test_without_evidence_nothing_is_better_or_worse():
    for each in judge(seed_claims(), cards(), EMPTY):
        if each.claim.predicate in (
            "better_than",
            "worse_than",
            "faster_than",
            "can",
            "score",
            "ranks_above",
            "quality",
        ):
            assert each.status == "unmeasured", each.claim.quote


def test_judging_is_pure():
    assert judge(seed_claims(), cards(), EMPTY) == judge(seed_claims(), dict(reversed(cards().items())), EMPTY)


def test_what_a_card_says_agrees_with_its_own_sources():
    for its in cards().values():
        judged = judge(card_claims(its), cards(), EMPTY)
        assert not [each for each in judged if each.status == "contradicted"]


# ---- how values agree


@pytest.mark.parametrize(("relation", "claimed", "truth", "expected"), [
    ("is", 28, 28, True),
    ("is", 26, 28, False),
    ("is", True, 1, False),
    ("is", 0, False, False),
    ("is", ("a", "b"), ("b", "a"), True),
    ("about", 3000000000, 3212749824, True),
    ("about", 3000000000, 3600000000, False),
    ("about", 0.051, 0.0509, True),
    ("about", 0.051, 0.0524, False),
    ("about", 5, 0, False),
    ("up to", 10000000, 10485760, True),
    ("up to", 10000000, 1048576, False),
    ("up to", 8192, 131072, False),
    ("at least", 8, 8, True),
    ("at least", 8, ("a",) * 7, False),
    ("at least", 8, ("a",) * 12, True),
    ("below", 10, 9, True),
    ("below", 10, 10, False),
    ("unknown", None, 0.08, False),
    ("unknown", None, None, True),
    ("includes", ("a",), ("a", "b"), True),
    ("includes", ("c",), ("a", "b"), False),
    ("includes", "a", "a", True),
])  # fmt: skip
def test_agreement(relation, claimed, truth, expected):
    assert agrees("layers", relation, claimed, truth) is expected


def test_a_list_that_may_go_on_contradicts_nothing():
    assert agrees("training", "includes", ("parallel corpora",), ("pruning",)) is None
    assert agrees("input", "includes", ("image",), ("text",)) is False


@given(st.integers(1, 10**15), st.integers(1, 15))
def test_a_number_agrees_with_itself_rounded(value, digits):
    import math

    rounded = round(value, digits - 1 - math.floor(math.log10(value)))
    assert agrees("parameters", "about", rounded, value) is True
    assert agrees("parameters", "is", value, value) is True


# ---- headers


def test_a_header_goes_before_what_is_published():
    said = claim("layers", 26, THREE)
    assert one(said).truth == 28
    found = one(said, header=Header("/x.gguf", THREE, {"layers": 26}))
    assert (found.status, found.truth, found.evidence[0].url) == ("verified", 26, "/x.gguf")
    assert one(said, header=Header("/x.gguf", SCOUT, {"layers": 26})).truth == 28


def test_a_file_is_held_against_the_card_of_its_shape():
    found = read_header(SMALL, cards())
    assert found.subject == SMALL
    judged = judge(card_claims(cards()[SMALL]), cards(), EMPTY, found)
    by_header = [each for each in judged if each.evidence and each.evidence[0].title == "header"]
    assert len(by_header) >= 11
    assert all(each.status == "verified" for each in by_header)


def test_a_file_of_no_cards_shape_is_refused():
    some = {THREE: cards()[THREE]}
    with pytest.raises(InvalidRequest, match=r"has the shape of no model card .*layers 30.*--card"):
        read_header(SMALL, some)
    found = read_header(SMALL, some, THREE)
    [layers] = [
        each
        for each in judge(card_claims(some[THREE]), some, EMPTY, found)
        if each.claim.predicate == "layers" and each.claim.subject == THREE
    ]
    assert (layers.status, layers.truth) == ("contradicted", 30)


VISION = {
    "hidden_size": 1408, "num_hidden_layers": 34, "num_attention_heads": 16, "intermediate_size": 5632,
    "image_size": 336, "patch_size": 14, "pixel_shuffle_ratio": 0.5, "vision_output_dim": 4096,
}  # fmt: skip


def configuration(experts=16, **changes):
    """What is published of Llama 4's config.json, as far as it is read."""
    text = {
        "num_hidden_layers": 48, "hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 8192, "vocab_size": 202048, "max_position_embeddings": 10485760,
        "num_local_experts": experts, "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "no_rope_layers": [],
        "attention_chunk_size": 8192, "rms_norm_eps": 1e-5,
    }  # fmt: skip
    return {"model_type": "llama4", "text_config": {**text, **changes}, "vision_config": VISION}


def test_a_configuration_without_weights_is_enough(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(configuration()))
    found = read_header(str(path), cards())
    assert (found.subject, found.path) == (SCOUT, str(path))
    assert found == read_header(str(tmp_path), cards())
    judged = judge(claims_about(cards()[SCOUT]), cards(), EMPTY, found)
    by_header = [each for each in judged if each.evidence and each.evidence[0].title == "header"]
    assert {each.claim.predicate for each in by_header} >= {"layers", "experts", "context_length", "attention_chunk"}
    wrong = {each.claim.quote for each in by_header if each.status == "contradicted"}
    assert wrong == {
        "unlike traditional models that handle them separately",
        "that require separate processing pipelines",
    }
    maverick = configuration(128, interleave_moe_layer_step=2, max_position_embeddings=1048576)
    path.write_text(json.dumps(maverick))
    found = read_header(str(path), cards())
    assert (found.subject, found.facts["moe_layers"], found.facts["full_attention_layers"]) == (MAVERICK, 24, 12)


def test_a_configuration_in_other_words(tmp_path):
    path = tmp_path / "config.json"
    several = configuration(moe_layers=[1, 3], no_rope_layers=[1, 1, 1, 0] * 12, attention_chunk_size=None)
    path.write_text(json.dumps(several))
    facts = read_header(str(path), cards()).facts
    assert facts["moe_layers"] == 2
    assert "attention_chunk" not in facts
    assert "chunked" not in facts["attention"]
    path.write_text(json.dumps({"model_type": "llama4_text", **configuration()["text_config"]}))
    assert read_header(str(path), cards()).facts["separate_vision_encoder"] is False
    whole = Path(__file__).parents[1] / "golden" / "llama4-tiny-step1"
    assert read_header(str(whole), cards(), SCOUT).facts["separate_vision_encoder"] is True
    three = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 3072,
        "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24, "num_key_value_heads": 8,
        "head_dim": 128, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        "tie_word_embeddings": True, "hidden_act": "silu",
        "rope_scaling": {
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    }  # fmt: skip
    path.write_text(json.dumps(three))
    found = read_header(str(path), cards())
    assert (found.subject, found.facts["parameters"]) == (THREE, 3212749824)
    published = {name: cards()[THREE].value(name) for name in found.facts}
    assert found.facts == published


@pytest.mark.parametrize(("content", "said"), [
    ({"model_type": "gpt2"}, "gpt2"),
    ({"model_type": "llama4"}, "num_attention_heads is missing"),
    ({"model_type": "llama4", "text_config": 3}, "text_config is 3, not an object"),
    (configuration(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    (configuration(num_local_experts="many"), "num_local_experts is 'many', not a whole number"),
    ([], "must hold a JSON object"),
])  # fmt: skip
def test_a_configuration_that_is_wrong_is_named(tmp_path, content, said):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=said):
        read_header(str(path), cards())


# ---- measurements


def test_a_model_that_is_better_than_the_trivial_answer_can():
    of = config()
    found = one(claim(), log(cell(of, "summarize", 90, 10), of=of))
    assert found.status == "verified"
    assert found.truth == 0.9
    assert "above the 19.1 % of the trivial answer" in found.why
    assert "n 100" in found.why
    assert found.evidence[0].observations == (1, 100)


def test_a_model_that_is_worse_cannot():
    of = config()
    assert one(claim(), log(cell(of, "summarize", 2, 98), of=of)).status == "contradicted"


@pytest.mark.parametrize(("passed", "failed", "why"), [
    (25, 75, "cannot be told from"), (19, 0, "19 probes were asked; from 20 on"), (0, 0, "no probe of it was asked"),
])  # fmt: skip
def test_what_is_not_clear_stays_unmeasured(passed, failed, why):
    of = config()
    found = one(claim(), log(cell(of, "summarize", passed, failed), of=of))
    assert found.status == "unmeasured"
    assert why in found.why
    assert "quipu measure smollm2-135m-instruct --capability summarize" in found.needs


def test_probes_that_are_alike_count_for_less():
    of = config()
    apart = log(cell(of, "summarize", 30, 70), of=of)
    assert one(claim(), apart).status == "verified"
    alike = cell(of, "summarize", 30, 70)
    outcomes = {key: replace(each, group=str(int(each.passed))) for key, each in alike.outcomes.items()}
    assert one(claim(), log(replace(alike, outcomes=outcomes), of=of)).status == "unmeasured"


def test_one_config_that_can_is_enough_and_all_must_fail():
    good, bad = config(), config(engine="quipu 0.0.9")
    both = {each.id: each for each in (bad, good)}
    cells = {(good.id, each.capability): each for each in [cell(good, "summarize", 90, 10)]}
    worse = {(bad.id, each.capability): each for each in [cell(bad, "summarize", 2, 98)]}
    assert one(claim(), Snapshot(1, "", "", both, {**cells, **worse})).status == "verified"
    assert one(claim(), Snapshot(1, "", "", both, worse)).status == "contradicted"
    unclear = {(good.id, each.capability): each for each in [cell(good, "summarize", 25, 75)]}
    assert one(claim(), Snapshot(1, "", "", both, {**unclear, **worse})).status == "unmeasured"


def test_what_an_older_version_of_the_probes_says_is_not_counted():
    of = config()
    assert one(claim(), log(cell(of, "summarize", 90, 10, version=999), of=of)).status == "unmeasured"


def test_examples_are_those_that_the_claim_names():
    of = config()
    parts = {}
    for part, passed in (("0 examples", 100), ("2 examples", 10), ("3 examples", 10), ("16 examples", 100)):
        parts |= cell(of, "few_shot", passed, 100 - passed, part=part).outcomes
    measured = replace(cell(of, "few_shot", 0, 0, baseline=0.2), outcomes=parts)
    found = one(claim("learns_from_examples", (2, 3)), log(measured, of=of))
    assert found.status == "contradicted"
    assert found.truth == pytest.approx(0.1)
    assert one(claim(value="few_shot"), log(measured, of=of)).status == "verified"


def test_what_has_no_probes_says_so():
    assert "quipu has no probes of fine_tuning yet" in one(claim(value="fine_tuning")).why
    assert "no right answers" in one(claim(value="streaming")).why
    of = config()
    assert one(claim(needs="something else"), log(cell(of, "summarize", 90, 10), of=of)).needs == "something else"
    assert one(claim(subject="nobody")).needs == "a card of nobody"


@pytest.mark.parametrize(("changes", "status"), [
    ({}, "verified"), ({"complete": 0.9}, "contradicted"), ({"inter_token_p50": None}, "contradicted"),
])  # fmt: skip
def test_a_service_is_judged_by_what_was_seen_of_it(changes, status):
    of, streaming = config(), capabilities.find("streaming")
    seen = {"complete": 1.0, "ordered": 1.0, "inter_token_p50": 20.5, "requests": 16, **changes}
    service = Service(7, seen)
    found = one(claim(value="streaming"), replace(log(of=of), services={(of.id, streaming.uri): service}))
    assert found.status == status
    assert "entry 7" in found.evidence[0].title
    assert "requests 16" in found.why


def test_capabilities_of_ones_own_are_measured_like_the_others(own_capability):
    of = config()
    uri = Adding().uri
    measured = replace(cell(of, "summarize", 90, 10), capability=uri)
    assert one(claim(value="adding"), log(measured, of=of)).status == "verified"


@pytest.fixture
def own_capability(tmp_path, monkeypatch):
    (tmp_path / "adding.py").write_text((ROOT / "tests" / "adding.py").read_text())
    monkeypatch.setenv("QUIPU_CAPABILITIES", str(tmp_path))


# ---- who ranks above whom


def both(ours, theirs):
    """A log in which the small model passed ``ours`` and Llama 3.2 3B ``theirs`` of 200 probes of each capability."""
    a, b = config(), config(THREE)
    names = [each.id for each in capabilities.all_capabilities() if isinstance(each, Answering)]
    cells = [cell(of, name, passed, 200 - passed) for of, passed in ((a, ours), (b, theirs)) for name in names]
    return Snapshot(9, "", "", {a.id: a, b.id: b}, {(each.config, each.capability): each for each in cells})


@pytest.mark.parametrize(("ours", "theirs", "status"), [
    (180, 80, "verified"), (80, 180, "contradicted"), (150, 150, "contradicted"),
])  # fmt: skip
def test_who_ranks_above_whom_is_compared_pair_by_pair(ours, theirs, status):
    assert one(claim("ranks_above", THREE), both(ours, theirs)).status == status


def test_a_rank_without_probes_of_both_is_unmeasured():
    of = config()
    found = one(claim("ranks_above", THREE), log(cell(of, "summarize", 90, 10), of=of))
    assert (found.status, found.why) == ("unmeasured", f"no probe was asked of {THREE}")
    assert one(claim("ranks_above", "nobody")).status == "unmeasured"


def test_configs_that_disagree_decide_no_rank():
    a, b = config(), config(THREE)
    c = config(THREE, engine="quipu 0.0.9")
    names = [each.id for each in capabilities.all_capabilities() if isinstance(each, Answering)]
    cells = [cell(of, name, passed, 200 - passed) for of, passed in ((a, 120), (b, 40), (c, 190)) for name in names]
    found = Snapshot(9, "", "", {each.id: each for each in (a, b, c)}, {(e.config, e.capability): e for e in cells})
    judged = one(claim("ranks_above", THREE), found)
    assert judged.status == "unmeasured"
    assert "quipu compare" in judged.needs


# ---- which configs are of a card's model


def test_a_name_proposes_and_the_header_decides():
    mine = config(SMALL, layers=30, hidden_size=576)
    false = config(SMALL, engine="quipu 0.0.1", layers=12)
    other = config("something else")
    snapshot = Snapshot(1, "", "", {each.id: each for each in (mine, false, other)}, {})
    assert configs_of(cards()[SMALL], snapshot) == (mine,)
    named = replace(snapshot, labels={other.id: ("SmolLM2 135m",)})
    assert configs_of(cards()[SMALL], named) == (mine, other)


def test_an_endpoint_is_known_by_its_address():
    at = Card("there", "There", endpoint=Endpoint("http://host/v1", "m"))
    here = config("m", "remote http://host/v1")
    elsewhere = config("m", "remote http://other/v1")
    snapshot = Snapshot(1, "", "", {each.id: each for each in (here, elsewhere)}, {})
    assert configs_of(at, snapshot) == (here,)


def test_what_is_measured_at_an_endpoint_of_a_model_is_evidence_of_the_model():
    served = replace(cards()[SCOUT], served=(Endpoint("http://host/v1", "m"),))
    here = config("m", "remote http://host/v1")
    snapshot = log(cell(here, "summarize", 90, 10), of=here)
    assert configs_of(served, snapshot) == (here,)
    assert one(claim(subject=SCOUT), snapshot, among={**cards(), SCOUT: served}).status == "verified"
    assert one(claim(subject=SCOUT), snapshot).status == "unmeasured"
    assert f"--of {SCOUT}" in one(claim(subject=SCOUT), snapshot).needs


# ---- rows of the table that need more than one fact


def test_pricing_and_price_without_evidence_stay_unmeasured():
    bare = {"x": Card("x", "X", facts={"formats": Fact(("gguf",), Source("here", "https://x"))})}
    assert one(claim("pricing", ("free weights",), "x"), among=bare).status == "unmeasured"
    assert one(claim("price_input", 1.0, "x"), among=bare).status == "unmeasured"
    assert one(claim("ecosystem", 1, "x"), among=bare).status == "verified"
    assert one(claim("ecosystem", 1, "y"), among=bare).status == "unmeasured"
    assert one(claim("layers", 1, "x"), among=bare).needs == "a published layers of x"
    assert one(claim("maker", "X", "x"), among=bare).status == "unmeasured"


def test_identifiers_stay_and_differ():
    first = claim()
    assert first.id == claim().id == replace(first, note="another", needs="else").id
    for other in (
        claim(value="chat"),
        claim(subject=THREE),
        claim("layers"),
        claim(quote="other"),
        claim(relation="about"),
    ):
        assert other.id != first.id


def test_claims_about_a_card_are_its_own_and_the_pages():
    said = claims_about(cards()[THREE])
    assert {each.source for each in said} == {f"card {THREE}", "seed"}
    assert len(said) == len(card_claims(cards()[THREE])) + len(seed_claims(THREE))
