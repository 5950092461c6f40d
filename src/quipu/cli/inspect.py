"""``quipu inspect``: what a checkpoint's own files say of it, and the memory it would take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from quipu.cli import options
from quipu.cli.memory_plan import USUAL_CONTEXT
from quipu.cli.terminal import bytes_text, print_json, print_table, printable, progress

if TYPE_CHECKING:
    from quipu.model.checkpoint import Checkpoint
    from quipu.model.weights import Tensor

SUMMARY = "read what a model is from its files"
USAGE = "quipu inspect MODEL [OPTIONS]"
DESCRIPTION = """\
Read what a model is from its own files, never from its name: its shape, how
its weights are stored, its licence and hash, the memory it would take, and
how fast it can answer here at most. Of a known model whose weights are not
here, or a config.json alone, what follows from the configuration."""
EXAMPLES = f"""\
examples:
  quipu inspect {options.DEFAULT_MODEL}
  quipu inspect ./model.gguf --context 4096 --concurrency 8
  quipu inspect ./folder --no-hash --json
  quipu inspect ./model.gguf --no-hash --tensors
  quipu inspect llama-4-scout --context 1000000 --quantize q4"""

RUNNERS = ("native", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``run`` reads."""
    parser.add_argument("model", metavar="MODEL", help=options.MODEL_HELP)
    parser.add_argument(
        "--context", type=options.positive, metavar="TOKENS", help=f"plan for it (the model's, at most {USUAL_CONTEXT})"
    )
    parser.add_argument(
        "--concurrency", type=options.positive, default=1, metavar="N", help="plan for N conversations at once (1)"
    )
    parser.add_argument("--dtype", choices=options.DTYPES, default="auto", help="plan for this arithmetic (auto)")
    parser.add_argument(
        "--kv-dtype", choices=options.KV_DTYPES, default="auto", help="plan for keys and values in it (f16)"
    )
    parser.add_argument("--quantize", choices=options.QUANTIZATIONS, help="plan for floats made 8 or 4 bits")
    parser.add_argument("--runner", choices=RUNNERS, default="native", help="plan for this runner (native)")
    parser.add_argument("--no-hash", action="store_true", help="leave out the SHA-256, which reads the whole file")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> None:
    """Print what is known. Raises ModelNotFound, CheckpointError and its kinds, InvalidRequest."""
    from quipu.cli.memory_plan import memory_plan
    from quipu.model.outline import open_or_outline

    checkpoint = open_or_outline(arguments.model)
    # Planned before hashing, so that a wrong option is refused at once.
    memory = memory_plan(checkpoint, arguments)
    report = _report(checkpoint) | {"memory": memory}
    if not arguments.no_hash and checkpoint.files:
        with progress("hashing") as show:
            report["sha256"] = checkpoint.file_hash(lambda done, total: show(done, total, ""))
    if arguments.tensors:
        report["tensors"] = [
            {"name": each.name, "shape": list(each.shape), "type": each.kind, "bytes": each.nbytes}
            for each in _tensors(checkpoint)
        ]
    if arguments.json:
        print_json(report)
    else:
        _print(report)


def _report(checkpoint: Checkpoint) -> dict[str, Any]:
    from quipu.model.weights import active_parameters

    config, rope = checkpoint.config, checkpoint.config.rope
    scaling, experts = rope.scaling, config.experts
    return {
        "name": checkpoint.name,
        "path": str(checkpoint.path),
        "format": checkpoint.format,
        "file_bytes": sum(path.stat().st_size for path in checkpoint.files),
        "architecture": config.architecture,
        "parameters": checkpoint.parameters,
        "active_parameters": active_parameters(config),
        "layers": config.layers,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_size": config.head_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "vocabulary": config.vocabulary,
        "context_length": config.context_length,
        "rope_theta": rope.theta,
        "rope_scaling": None
        if scaling is None
        else {"kind": scaling.kind, "factor": scaling.factor}
        | (
            {
                "low_frequency_factor": scaling.low_frequency_factor,
                "high_frequency_factor": scaling.high_frequency_factor,
                "original_context_length": scaling.original_context_length,
            }
            if scaling.kind == "llama3"
            else {}
        ),
        "rope_divisors": None if rope.divisors is None else [min(rope.divisors), max(rope.divisors)],
        "tied_embeddings": config.tied_embeddings,
        "experts": None
        if experts is None
        else {
            "count": experts.count,
            "active": experts.active,
            "intermediate_size": experts.intermediate_size,
            "layers": sorted(experts.layers),
        },
        "attention_chunk": config.chunk,
        "nope_layers": sorted(config.nope_layers),
        "query_key_norm": config.query_key_norm,
        "attention_temperature": None if config.temperature is None else asdict(config.temperature),
        "vision": _vision(checkpoint),
        "quantization": _quantization(checkpoint),
        "tokenizer": _tokenizer(checkpoint),
        "chat_template": checkpoint.chat_template is not None,
        "license": checkpoint.license,
    }


def _tensors(checkpoint: Checkpoint) -> list[Tensor]:
    """Those of the text model, then of what it sees with."""
    return [*checkpoint.tensors.values(), *checkpoint.vision.values()]


def _vision(checkpoint: Checkpoint) -> dict[str, int] | None:
    """What it sees with; ``tile_tokens`` is what each tile of a picture costs."""
    from quipu.model.weights import vision_parameter_count

    vision = checkpoint.config.vision
    if vision is None:
        return None
    return {
        "parameters": vision_parameter_count(checkpoint.config),
        "bytes": sum(each.nbytes for each in checkpoint.vision.values()),
        "layers": vision.layers,
        "heads": vision.heads,
        "hidden_size": vision.hidden_size,
        "intermediate_size": vision.intermediate_size,
        "tile_size": vision.tile_size,
        "patch_size": vision.patch_size,
        "tile_tokens": vision.tile_tokens,
    }


def _quantization(checkpoint: Checkpoint) -> dict[str, dict[str, float]]:
    """Per storage type: tensors, weights, bytes, and bits per weight with the scales of its blocks."""
    result: dict[str, dict[str, float]] = {}
    for tensor in _tensors(checkpoint):
        entry = result.setdefault(tensor.kind, {"tensors": 0, "weights": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["weights"] += math.prod(tensor.shape)
        entry["bytes"] += tensor.nbytes
    for entry in result.values():
        entry["bits_per_weight"] = entry["bytes"] * 8 / entry["weights"]
    return dict(sorted(result.items(), key=lambda item: -item[1]["bytes"]))


def _tokenizer(checkpoint: Checkpoint) -> str | None:
    match checkpoint.tokenizer_source:
        case ("gguf", metadata):
            kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
            return f"GGUF, {kind}" + (f", split as {split}" if split else "")
        case (_, path):
            return str(path.name)
    return None


def _print(report: Mapping[str, Any]) -> None:
    plan = report["memory"]
    facts = {
        "model": report["name"],
        "path": report["path"],
        "format": f"{report['format']}, {bytes_text(report['file_bytes'])}"
        if report["file_bytes"]
        else "a configuration; its weights are not here",
        "sha256": report.get("sha256"),
        "licence": report["license"] or "not said",
        "architecture": report["architecture"],
        "parameters": _parameters(report),
        "layers": report["layers"],
        "heads": f"{report['heads']}, sharing {report['kv_heads']} KV heads, of size {report['head_size']}",
        "hidden size": report["hidden_size"],
        "feed-forward size": report["intermediate_size"],
        "experts": _experts(report),
        "attention": _attention(report),
        "sees": _sees(report),
        "vocabulary": report["vocabulary"],
        "context": f"{report['context_length']} tokens",
        "rope": _rope(report),
        "output": "the embedding, tied" if report["tied_embeddings"] else "a matrix of its own",
        "tokenizer": report["tokenizer"] or "none: reads token ids only",
        "chat template": "its own" if report["chat_template"] else "none",
    }
    for name, value in facts.items():
        if value is not None:
            print(f"{name:<18} {printable(str(value))}")
    print("\nweights as stored" if report["file_bytes"] else "\nweights as published")
    rows = [
        (
            kind,
            f"{each['tensors']} tensor{'s' * (each['tensors'] != 1)}",
            bytes_text(each["bytes"]),
            f"{each['bits_per_weight']:.2f} bits per weight",
        )
        for kind, each in report["quantization"].items()
    ]
    print_table(rows)
    for each in plan["conversions"]:
        loss = "" if each["expected_loss"] is None else f", which loses about {each['expected_loss']:.1e} of a weight"
        print(f"{each['stored']} runs as {each['packed']}{loss}")
    print(f"\nmemory to run {plan['concurrency']} x {plan['context']} tokens in {plan['dtype']}")
    print_table(
        [
            (
                "weights",
                bytes_text(plan["weights_bytes"]),
                f"{bytes_text(plan['vision_bytes'])} of them to see with" if plan["vision_bytes"] else "",
            ),
            (
                "keys and values",
                bytes_text(plan["kv_bytes"]),
                f"{bytes_text(plan['kv_bytes_per_token'])} per token, in {plan['kv_dtype']}",
            ),
            ("total", bytes_text(plan["total_bytes"]), _verdict(plan)),
        ]
    )
    if plan["speed"] is not None:
        print(f"\n{_speed(plan['speed'])}")
    if "tensors" in report:
        print("\ntensors")
        print_table(
            [(each["name"], "x".join(map(str, each["shape"])), each["type"], bytes_text(each["bytes"]))
             for each in report["tensors"]]
        )  # fmt: skip


def _parameters(report: Mapping[str, Any]) -> str:
    every, active = report["parameters"], report["active_parameters"]
    return f"{every:,}" if every == active else f"{every:,}, of which a token meets {active:,}"


def _experts(report: Mapping[str, Any]) -> str | None:
    experts = report["experts"]
    if experts is None:
        return None
    layers = len(experts["layers"])
    where = "every layer" if layers == report["layers"] else f"{layers} of {report['layers']} layers"
    return (
        f"{experts['count']} in {where}, {experts['active']} for a token beside a shared one, "
        f"of feed-forward size {experts['intermediate_size']}"
    )


def _sees(report: Mapping[str, Any]) -> str | None:
    vision = report["vision"]
    if vision is None:
        return None
    return (
        f"with {vision['parameters']:,} of the parameters, in {vision['layers']} layers; a tile of "
        f"{vision['tile_size']} x {vision['tile_size']} pixels is {vision['tile_tokens']} tokens"
    )


def _attention(report: Mapping[str, Any]) -> str | None:
    """Of Llama 4, whose layers do not all see the same."""
    if report["attention_chunk"] is None and not report["nope_layers"]:
        return None
    free = report["nope_layers"]
    chunk = report["attention_chunk"]
    text = f"{report['layers'] - len(free)} layers in chunks of {chunk} tokens" if chunk else "all layers see all"
    if free:
        text += f"; without rotation and over everything: {', '.join(map(str, free))}"
    return text


def _rope(report: Mapping[str, Any]) -> str:
    text = f"theta {report['rope_theta']:g}"
    scaling, divisors = report["rope_scaling"], report["rope_divisors"]
    if scaling is not None:
        text += f", {scaling['kind']} scaling by {scaling['factor']:g}"
        if scaling["kind"] == "llama3":
            text += f" beyond {scaling['original_context_length']} tokens"
    if divisors is not None:
        text += f", frequencies divided by {divisors[0]:g} to {divisors[1]:g} (a table in the file)"
    return text if scaling or divisors else f"{text}, not scaled"


def _speed(speed: Mapping[str, Any]) -> str:
    text = f"at the end of this context a token reads {bytes_text(round(speed['token_bytes']))}"
    if speed["disk_bytes"]:
        disk = "a disk not measured here" if speed["disk_rate"] is None else f"disk at {_rate(speed['disk_rate'])}"
        text += f", {bytes_text(round(speed['disk_bytes']))} of it from {disk}"
    text += f"; memory is read at {_rate(speed['memory_rate'])}"
    most = speed["tokens_per_second"]
    return text if most is None else f"{text}: at most {most:.3g} tokens/s in one answer"


def _rate(bytes_per_second: float) -> str:
    return f"{bytes_text(round(bytes_per_second))}/s"


def _verdict(plan: Mapping[str, Any]) -> str:
    free = bytes_text(plan["free_bytes"])
    return f"fits: {free} are free here" if plan["fits"] else f"does not fit: only {free} are free here"
