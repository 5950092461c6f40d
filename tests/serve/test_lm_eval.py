"""lm-eval's ``local-completions``: the program itself (``make clients``), and its requests without it."""

import json
from pathlib import Path

import numpy as np
import pytest
from running_server import serving
from tiny import tiny_config, tiny_tensors, write_tiny

import quipu

CONTEXT = 128
GENERATED = 8
PAIRS = [
    ("The capital of France is", " Paris"),
    ("The capital of France is", " a large city on the river Seine"),
    ("2 + 2 =", " 4"),
    ("Ça coûte", " 12,50 €"),
]
TASKS = {
    "multiple_choice": {
        "doc_to_choice": "choices",
        "doc_to_target": "0",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    },
    "loglikelihood_rolling": {
        "doc_to_target": "{{context}}",
        "metric_list": [{"metric": "word_perplexity", "aggregation": "weighted_perplexity", "higher_is_better": False}],
    },
    "generate_until": {
        "doc_to_target": "anything",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": GENERATED},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    },
}
"""By what lm-eval calls the kind of output; the name of a task begins with ``our_``."""


def write_tasks(folder: Path, kinds: list[str], documents: list[dict]) -> None:
    lines = folder / "documents.jsonl"
    lines.write_text("\n".join(map(json.dumps, documents)))
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(lines)}}, "test_split": "test"}
    for kind in kinds:
        task = {"task": f"our_{kind}", "output_type": kind, "doc_to_text": "{{context}}", **data, **TASKS[kind]}
        (folder / f"{kind}.yaml").write_text(json.dumps(task))  # JSON is YAML


@pytest.fixture
def folder(tmp_path: Path, transformers_smollm2) -> Path:
    """Random weights beside a real tokenizer."""
    config = tiny_config(vocabulary=49152, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    write_tiny("safetensors", tmp_path / "small", config, tiny_tensors(config))
    transformers_smollm2.save_pretrained(tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def small(folder: Path):
    with quipu.load(folder, name="small", context=CONTEXT, concurrency=4, dtype="float32") as model:
        yield model


def log_likelihood(small, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Of the continuation, and whether greedy decoding would bring it; from the logits alone."""
    logits = small.logits(context + continuation)[len(context) - 1 : -1].astype(np.float64)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    value = logprobs[np.arange(len(continuation)), continuation].sum()
    return float(value), bool((logprobs.argmax(-1) == continuation).all())


def greedy(small, ids: list[int], count: int) -> list[int]:
    for _ in range(count):
        ids = [*ids, int(small.logits(ids)[-1].argmax())]
    return ids[-count:]


class Expected:
    """What lm-eval should find for a document: cut as it cuts, scored from the logits."""

    longest = CONTEXT - 1  # lm-eval leaves room for the token that a completion generates

    def __init__(self, small, tokenizer) -> None:
        self.small, self.tokenizer = small, tokenizer

    def encode(self, text: str) -> list[int]:
        return self.tokenizer(text).input_ids

    def multiple_choice(self, document: dict) -> list[tuple[float, bool]]:
        context = self.encode(document["context"])
        found = []
        for choice in document["choices"]:
            ids = self.encode(document["context"] + choice)
            cut = max(0, len(ids) - self.longest)
            found.append(log_likelihood(self.small, ids[cut : len(context)], ids[len(context) :]))
        return found

    def loglikelihood_rolling(self, document: dict) -> list[float]:
        """Every token once, after a first token that stands for nothing, in windows of the model's context."""
        ids = self.encode(document["context"])
        size = self.longest - 1
        total = log_likelihood(self.small, [self.tokenizer.bos_token_id], ids[:size])[0]
        for start in range(size, len(ids), size):
            end = min(start + size, len(ids))
            total += log_likelihood(self.small, ids[end - size - 1 : start], ids[start:end])[0]
        return [total]

    def generate_until(self, document: dict) -> list[str]:
        ids = self.encode(document["context"])[-(self.longest - GENERATED) :]
        return [self.tokenizer.decode(greedy(self.small, ids, GENERATED))]


@pytest.fixture
def expected(small, transformers_smollm2) -> Expected:
    return Expected(small, transformers_smollm2)


@pytest.fixture
def documents(expected: Expected) -> list[dict]:
    """Each with a context and choices, of which the last is what greedy decoding brings."""
    contexts = list(dict.fromkeys(context for context, _ in PAIRS))
    contexts.append(" ".join(["one two three"] * 60))  # more than the model takes
    documents = []
    for context in contexts:
        choices = [continuation for other, continuation in PAIRS if other == context]
        [best] = greedy(expected.small, expected.encode(context)[-CONTEXT + 2 :], 1)
        documents.append({"context": context, "choices": [*choices, expected.tokenizer.decode([best])]})
    return documents


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "way", "kinds"),
    [
        (1, {}, list(TASKS)),
        (3, {}, list(TASKS)),
        # As text: not whole documents, since the special token that lm-eval puts before them would be spelled out.
        (2, {"num_concurrent": 2, "tokenized_requests": False}, ["multiple_choice"]),
    ],
)
def test_lm_eval(program, small, folder, expected, documents, tmp_path, batch, way, kinds) -> None:
    wanted = {kind: [getattr(expected, kind)(document) for document in documents] for kind in kinds}
    greedy_ones = {is_greedy for each in wanted["multiple_choice"] for _, is_greedy in each}
    assert greedy_ones == {True, False}
    write_tasks(tmp_path, kinds, documents)
    with serving({"small": small}) as server:
        model = {"model": "small", "base_url": f"{server.url}/v1/completions", "tokenizer": folder}
        model |= {"max_length": CONTEXT, **way}
        program(
            "lm_eval", "--model", "local-completions", "--model_args", ",".join(f"{k}={v}" for k, v in model.items()),
            "--batch_size", str(batch), "--tasks", ",".join(f"our_{kind}" for kind in kinds),
            "--include_path", str(tmp_path),
            "--log_samples", "--output_path", str(tmp_path / "out"),
            HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1",
        )  # fmt: skip
    for kind in kinds:
        [path] = (tmp_path / "out").rglob(f"samples_our_{kind}_*.jsonl")
        samples = [json.loads(line) for line in path.read_text().splitlines()]
        assert [sample["doc"] for sample in samples] == documents
        for sample, each in zip(samples, wanted[kind], strict=True):
            assert READ[kind](sample["filtered_resps"]) == each


def _scores(found: list[list[str]]) -> list[tuple[object, bool]]:
    return [(pytest.approx(float(value), abs=1e-4), {"True": True, "False": False}[best]) for value, best in found]


READ = {
    "multiple_choice": _scores,
    "loglikelihood_rolling": lambda found: [pytest.approx(float(value), abs=1e-3) for value in found],
    "generate_until": list,
}


def test_log_likelihoods_as_lm_eval_asks_for_them(small) -> None:
    """lm-eval's local-completions: token ids of context and continuation, echoed, one more token that it drops."""
    encode = small.tokenizer.encode
    pairs = [(encode(context), encode(continuation)) for context, continuation in PAIRS]
    pairs.append((pairs[0][0], greedy(small, pairs[0][0], 1)))
    wanted = [log_likelihood(small, *pair) for pair in pairs]
    assert wanted[-1][1]
    with serving({"small": small}) as server:
        body = {
            "model": "small",
            "prompt": [context + continuation for context, continuation in pairs],
            "temperature": 0,
            "max_tokens": 1,
            "logprobs": 1,
            "seed": 1234,
            "echo": True,
        }
        answer = server.http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
    for choice, (context, _), (value, is_greedy) in zip(choices, pairs, wanted, strict=True):
        assert _parsed(choice, len(context)) == (pytest.approx(value, abs=1e-4), is_greedy)


def _parsed(choice, context: int) -> tuple[float, bool]:
    """lm_eval.models.openai_completions.LocalCompletionsAPI.parse_logprobs of 0.4.13, in its words."""
    logprobs = choice["logprobs"]
    values, tops = logprobs["token_logprobs"][context:-1], logprobs["top_logprobs"][context:-1]
    return sum(values), all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
