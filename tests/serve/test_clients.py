"""Programs of others, unmodified, in an environment of their own (``make test-all``), and the shapes of lm-eval."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from running_server import Running, serving
from tiny import tiny_config, tiny_tensors, write_tiny

import quipu

PROGRAMS = Path(os.environ.get("QUIPU_CLIENTS") or Path(__file__).parents[2] / ".venv-clients") / "bin"

LITELLM = """
import json, sys
import litellm

url = sys.argv[1]
asked = dict(messages=[{"role": "user", "content": "hello"}], temperature=0, api_key="none")
openai = dict(model="openai/fake", api_base=url + "/v1", **asked)
ollama = dict(model="ollama_chat/fake", api_base=url, **asked)
said = {}
for name, options in {"openai": openai, "ollama": ollama}.items():
    answer = litellm.completion(**options)
    said[name] = [answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage.completion_tokens]
    pieces = litellm.completion(**options, stream=True)
    said[name + " stream"] = "".join(piece.choices[0].delta.content or "" for piece in pieces)
answer = litellm.responses(model="openai/fake", input="hello", temperature=0, api_base=url + "/v1", api_key="none")
said["responses"] = answer.output[0].content[0].text
vectors = litellm.embedding(model="openai/fake", input=["a", "b"], api_base=url + "/v1", api_key="none")
said["embeddings"] = [len(vectors.data), len(vectors.data[0]["embedding"])]
print("SAID " + json.dumps(said))
"""


@pytest.fixture
def program(tmp_path: Path):
    """Run one of the programs; what it prints."""

    def run(name: str, *arguments: str, **variables: str) -> str:
        assert (PROGRAMS / name).exists(), f"{PROGRAMS / name} is not there; `make clients` installs it"
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", **variables}
        done = subprocess.run(
            [PROGRAMS / name, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_litellm(server: Running, program) -> None:
    output = program("python", "-c", LITELLM, server.url, LITELLM_LOCAL_MODEL_COST_MAP="True")
    [line] = [line for line in output.splitlines() if line.startswith("SAID ")]
    said = json.loads(line.removeprefix("SAID "))
    whole = ["You said: hello", "stop", len("You said: hello") + 1]
    assert said == {
        "openai": whole, "openai stream": whole[0], "ollama": whole, "ollama stream": whole[0],
        "responses": whole[0], "embeddings": [2, 8],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("way", [[], ["--no-stream"]])
def test_llm(server: Running, program, tmp_path: Path, way: list[str]) -> None:
    entry = f"- model_id: ours\n  model_name: fake\n  api_base: {server.url}/v1\n"
    (tmp_path / "extra-openai-models.yaml").write_text(entry)
    said = program(
        "llm", "-m", "ours", "hello", "-o", "temperature", "0", "--key", "none", *way, LLM_USER_PATH=str(tmp_path)
    )
    assert said == "You said: hello\n"
    again = program("llm", "-c", "more", "-o", "temperature", "0", "--key", "none", *way, LLM_USER_PATH=str(tmp_path))
    assert again == "You said: more\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory, transformers_smollm2):
    """Random weights beside a real tokenizer."""
    folder = tmp_path_factory.mktemp("small")
    config = tiny_config(vocabulary=49152, hidden_size=32, intermediate_size=96, heads=2, kv_heads=1)
    write_tiny("safetensors", folder, config, tiny_tensors(config))
    transformers_smollm2.save_pretrained(folder)
    return quipu.load(folder, name="small", context=128, concurrency=4, dtype="float32")


TASK = [
    ("The capital of France is", " Paris"),
    ("The capital of France is", " a large city on the river Seine"),
    ("2 + 2 =", " 4"),
    ("Ça coûte", " 12,50 €"),
]


def test_log_likelihoods_as_lm_eval_asks_for_them(small) -> None:
    """lm-eval's local-completions: token ids of context and continuation, echoed, one more token that it drops."""
    encode = small.tokenizer.encode
    pairs = [(encode(context), encode(continuation)) for context, continuation in TASK]
    expected = []
    for context, continuation in pairs:
        logits = small.logits(context + continuation).astype(np.float64)
        logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        rows = logprobs[len(context) - 1 : -1]
        greedy = bool((rows.argmax(-1) == continuation).all())
        expected.append((rows[np.arange(len(continuation)), continuation].sum(), greedy))
    best = [int(small.logits(pairs[0][0])[-1].argmax())]  # a continuation that greedy decoding would bring
    pairs.append((pairs[0][0], best))
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
    found = [_parsed(choice, len(context)) for choice, (context, _) in zip(choices, pairs, strict=True)]
    for (value, greedy), (wanted, wanted_greedy) in zip(found, expected, strict=False):
        assert value == pytest.approx(wanted, abs=1e-4)
        assert greedy is wanted_greedy
    assert found[-1][1] is True


def _parsed(choice, context: int) -> tuple[float, bool]:
    """lm_eval.models.openai_completions.LocalCompletionsAPI.parse_logprobs, in its words."""
    logprobs = choice["logprobs"]
    value = sum(logprobs["token_logprobs"][context:-1])
    tokens, tops = logprobs["tokens"][context:-1], logprobs["top_logprobs"][context:-1]
    greedy = all(token == max(top.keys(), key=lambda name: top[name]) for token, top in zip(tokens, tops, strict=True))
    return value, greedy
