"""Programs of others, unmodified, in an environment of their own: ``make clients``. See also test_lm_eval.py."""

import json
from pathlib import Path

import pytest
from running_server import Running

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
vectors = litellm.embedding(model="ollama/fake", input=["a", "b"], api_base=url)
said["ollama embeddings"] = [len(vectors.data), len(vectors.data[0]["embedding"])]
print("SAID " + json.dumps(said))
"""


@pytest.mark.slow
def test_litellm(server: Running, program) -> None:
    output = program("python", "-c", LITELLM, server.url, LITELLM_LOCAL_MODEL_COST_MAP="True")
    [line] = [line for line in output.splitlines() if line.startswith("SAID ")]
    said = json.loads(line.removeprefix("SAID "))
    whole = ["You said: hello", "stop", len("You said: hello") + 1]
    assert said == {
        "openai": whole, "openai stream": whole[0], "ollama": whole, "ollama stream": whole[0],
        "responses": whole[0], "embeddings": [2, 8], "ollama embeddings": [2, 8],
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
