"""``quipu inspect`` of Llama 4: from published configurations alone, and what of a token's weights is where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_llama4 import STEPS, write_gguf, write_projector

from quipu.bench.speed import Speed, expected_speed
from quipu.cli import main
from quipu.model.outline import open_or_outline

GOLDEN = Path(__file__).parents[1] / "golden"
GIB = 1 << 30


def report(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["inspect", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("name", "parameters", "active", "experts", "layers"),
    [
        ("llama-4-scout", 108_641_793_536, 17_172_894_720, 16, 48),
        ("llama-4-maverick", 401_583_781_376, 17_184_691_200, 128, 24),
    ],
)
def test_published_configurations(capsys, name, parameters, active, experts, layers):
    """The counts are those published, 109 and 402 billion, of which a token of text meets 17."""
    said = report(capsys, name, "--context", "1000000", "--dtype", "bfloat16")
    assert (said["format"], said["file_bytes"], said["license"]) == ("config", 0, "llama4")
    assert (said["parameters"], said["active_parameters"]) == (parameters, active)
    assert said["experts"]["count"] == experts
    assert len(said["experts"]["layers"]) == layers
    assert said["attention_chunk"] == 8192
    assert said["nope_layers"] == list(range(3, 48, 4))
    assert said["attention_temperature"] == {"floor": 8192.0, "scale": 0.1}
    assert "sha256" not in said
    plan = said["memory"]
    assert 2 * parameters <= plan["weights_bytes"] < 2.001 * parameters
    # What sees: 34 layers, patches, 577 places, adapter and projector; heads of 88 are filled up to 96.
    eyes = 871_932_416
    assert said["vision"] == {
        "parameters": eyes, "bytes": 2 * eyes, "layers": 34, "heads": 16, "hidden_size": 1408,
        "intermediate_size": 5632, "tile_size": 336, "patch_size": 14, "tile_tokens": 144,
    }  # fmt: skip
    filled_up = 34 * 4 * 1408 * 16 * (96 - 88)
    assert 2 * (eyes + filled_up) <= plan["vision_bytes"] < 2.01 * (eyes + filled_up)
    # Twelve layers keep everything, 36 a chunk, a step of a prompt and a block that both begin and end in.
    assert plan["kv_bytes_per_token"] == 12 * 2 * 8 * 128 * 2 == 48 * 1024
    assert plan["chunk_bytes_per_token"] == 36 * 2 * 8 * 128 * 2
    assert plan["kv_bytes"] == 1_000_000 * 48 * 1024 + (8192 + 512 + 16) * 144 * 1024
    assert plan["fits"] is False
    torch = report(capsys, name, "--context", "1000000", "--dtype", "bfloat16", "--runner", "torch")["memory"]
    assert (torch["vision_bytes"], torch["weights_bytes"]) == (2 * eyes, 2 * parameters)
    assert [torch[each] for each in plan if each.startswith(("kv_", "chunk_"))] == [
        "bfloat16", 48 * 1024, 144 * 1024, plan["kv_bytes"],
    ]  # fmt: skip
    assert plan["speed"]["tokens_per_second"] is None  # no file is here whose disk could be measured


def test_for_people(capsys):
    assert main(["inspect", "llama-4-scout", "--context", "1000000", "--quantize", "q4"]) == 0
    said = capsys.readouterr().out
    for words in (
        "a configuration; its weights are not here",
        "of which a token meets 17,172,894,720",
        "16 in every layer, 1 for a token beside a shared one, of feed-forward size 8192",
        "36 layers in chunks of 8192 tokens; without rotation and over everything: 3, 7, 11",
        "does not fit: only",
        "from a disk not measured here",
        "with 871,932,416 of the parameters, in 34 layers; a tile of 336 x 336 pixels is 144 tokens",
        "MiB of them to see with",
    ):
        assert words in said
    assert main(["inspect", "llama-4-maverick"]) == 0
    assert "128 in 24 of 48 layers" in capsys.readouterr().out


def test_what_it_sees_with_is_counted(tmp_path, capsys):
    """In parameters, storage, tensors and memory, whatever file it lies in."""
    (tmp_path / "blind").mkdir()
    write_gguf(tmp_path / "text.gguf", STEPS[0])
    write_projector(tmp_path / "mmproj-text.gguf", STEPS[0])
    blind = report(capsys, str(write_gguf(tmp_path / "blind" / "text.gguf", STEPS[0])), "--no-hash", "--tensors")
    eyes = open_or_outline(str(GOLDEN / STEPS[0])).vision
    count = sum(each.float32().size for each in eyes.values())
    for given in (GOLDEN / STEPS[0], tmp_path / "text.gguf"):
        said = report(capsys, str(given), "--no-hash", "--tensors")
        assert said["vision"]["parameters"] == said["parameters"] - blind["parameters"] == count
        assert said["vision"]["bytes"] == 4 * count
        assert {each["name"] for each in said["tensors"]} - {each["name"] for each in blind["tensors"]} == eyes.keys()
        assert said["quantization"]["F32"]["weights"] == said["parameters"]
        plan = said["memory"]
        assert plan["weights_bytes"] - plan["vision_bytes"] == blind["memory"]["weights_bytes"]
        assert 4 * count <= plan["vision_bytes"] < 4.2 * count
    assert blind["vision"] is None
    assert blind["memory"]["vision_bytes"] == 0


def test_a_config_json_alone(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    text = json.loads((GOLDEN / "llama4-tiny-step2" / "config.json").read_text())
    (tmp_path / "mine" / "config.json").write_text(json.dumps(text))
    for given in (tmp_path / "mine", tmp_path / "mine" / "config.json"):
        said = report(capsys, str(given))
        assert (said["name"], said["format"]) == ("mine", "config")
        assert said["quantization"].keys() == {"F32"}  # as its torch_dtype says
    del text["text_config"]["vocab_size"]
    (tmp_path / "mine" / "config.json").write_text(json.dumps(text))
    assert main(["inspect", str(tmp_path / "mine")]) != 0
    assert "vocab_size is missing" in capsys.readouterr().err


def test_an_outline_has_no_weights_to_run(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(Exception, match="not its weights; pull it first"):
        open_or_outline("llama-4-scout").tensors["model.norm.weight"].float32()
    assert main(["chat", "llama-4-scout", "-p", "hello"]) != 0
    assert "quipu pull llama-4-scout" in capsys.readouterr().err


def test_where_a_token_finds_its_weights(tmp_path):
    """Of 17 parts of 1 GiB each, 16 of them experts, a token reads the first and one more."""
    config = open_or_outline("llama-4-scout").config
    expert = "model.layers.0.feed_forward.experts.{}.up_proj.weight"
    sizes = {"model.norm.weight": GIB} | {expert.format(number): GIB for number in range(16)}
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(1 << 16))

    def speed(free: int) -> Speed:
        return expected_speed(config, sizes, 0, free, [weights], threads=1)

    assert (speed(18 * GIB).token_bytes, speed(18 * GIB).disk_bytes) == (2 * GIB, 0)
    assert speed(18 * GIB).tokens_per_second == pytest.approx(speed(18 * GIB).memory_rate / (2 * GIB), rel=0.9)
    assert speed(9 * GIB).disk_bytes == pytest.approx(GIB / 2)  # half of the experts are in memory
    assert speed(GIB // 2).disk_bytes == 2 * GIB
    slow = Speed(2 * GIB, GIB, 10 * GIB, GIB / 2)
    assert slow.tokens_per_second == pytest.approx(1 / (0.2 + 2))
    assert Speed(GIB, GIB, GIB, None).tokens_per_second is None
