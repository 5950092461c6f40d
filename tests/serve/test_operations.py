"""Everything around the answers: models, tokens, metrics, documentation."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_server import Running, serving, until

from quipu import capabilities
from quipu.engine.fake import fake_model
from quipu.serve.app import STATIC

HI = [{"role": "user", "content": "hi"}]


def test_models(server: Running) -> None:
    [model] = server.openai.models.list().data
    assert (model.id, model.object, model.owned_by) == ("fake", "model", "quipu")
    assert server.openai.models.retrieve("fake") == model
    body = server.http.get("/v1/models/fake").json()
    assert (body["max_model_len"], body["loaded"]) == (1024, True)


def test_tokenize(server: Running) -> None:
    body = server.post("/tokenize", prompt="hé").json()
    assert body == {"count": 3, "max_model_len": 1024, "tokens": [104, 195, 169], "token_strs": None}
    assert server.http.post("/tokenize", json={"prompt": ""}).json()["tokens"] == []
    strings = server.post("/tokenize", prompt="ab", add_special_tokens=False, return_token_strs=True).json()
    assert strings["token_strs"] == ["a", "b"]


def test_tokenize_messages(server: Running) -> None:
    body = server.post("/tokenize", messages=HI, return_token_strs=True).json()
    assert body["tokens"] == server.model.prompt_ids(HI)
    assert body["token_strs"][0] == "<|start|>"
    assert body["count"] == server.ask("hi").usage.prompt_tokens


@pytest.mark.parametrize("text", ["", "hé 🦙", "<|end|>"])
def test_detokenize_undoes_tokenize(server: Running, text: str) -> None:
    tokens = server.post("/tokenize", prompt=text).json()["tokens"]
    assert server.post("/detokenize", tokens=tokens).json() == {"prompt": text}


def metrics_of(server: Running) -> Mapping[tuple[str, ...], float]:
    response = server.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name != "le")): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_metrics_count_what_happened() -> None:
    with serving({"fake": fake_model(context_length=512, concurrency=4)}) as server:
        prompt = server.ask("hello there, llama").usage.prompt_tokens
        usage = server.ask("hello there, llama", n=2, stream=True, stream_options={"include_usage": True})
        last = list(usage)[-1].usage
        server.post("/v1/chat/completions", messages=HI, temperature=-1)
        server.post("/v1/completions", prompt="abc", max_tokens=2)
        server.http.get("/somewhere/else")
        found = metrics_of(server)
    text = len("You said: hello there, llama") + 1
    chat, completion = "/v1/chat/completions", "/v1/completions"
    assert found["quipu_requests_total", "fake", chat, "200"] == 2
    assert found["quipu_requests_total", "fake", chat, "400"] == 1
    assert found["quipu_requests_total", "fake", completion, "200"] == 1
    assert found["quipu_requests_total", "", "unknown", "404"] == 1
    assert found["quipu_request_seconds_count", "fake", chat] == 3
    assert found["quipu_time_to_first_token_seconds_count", "fake"] == 3
    assert found["quipu_inter_token_seconds_count", "fake"] == 3 * (text - 2) + 1
    assert 0 < found["quipu_time_to_first_token_seconds_sum", "fake"] < 5
    assert found["quipu_prompt_tokens_total", "fake"] == 2 * prompt + 3
    assert found["quipu_generated_tokens_total", "fake"] == 3 * text + 2
    assert found["quipu_cached_tokens_total", "fake"] == last.prompt_tokens_details.cached_tokens > 0
    assert found["quipu_finished_total", "fake"] == 4
    for name in ("aborted_total", "failed_total", "preempted_total", "running_requests", "waiting_requests"):
        assert found[f"quipu_{name}", "fake"] == 0
    assert found["quipu_kv_cache_usage_ratio", "fake"] == 0
    assert found["quipu_steps_total", "fake"] > text
    assert found["quipu_step_seconds_total", "fake"] > 0


def test_metrics_show_what_runs_and_what_failed() -> None:
    with serving({"fake": fake_model(seconds=0.01, concurrency=1)}) as server:
        first = server.ask("hi", stream=True, ignore_eos=True)
        until(lambda: server.stats().running == 1)
        second = server.ask("hi", stream=True)
        until(lambda: server.stats().waiting == 1)
        found = metrics_of(server)
        assert found["quipu_running_requests", "fake"] == found["quipu_waiting_requests", "fake"] == 1
        assert 0 < found["quipu_kv_cache_usage_ratio", "fake"] < 1
        server.model.close()
        for stream in (first, second):
            with pytest.raises(Exception, match="the engine was closed"):
                list(stream)
        until(lambda: ("quipu_requests_total", "fake", "/v1/chat/completions", "503") in metrics_of(server))


def test_each_server_counts_for_itself(server: Running) -> None:
    with serving() as other:
        assert ("quipu_requests_total", "fake", "/v1/chat/completions", "200") not in metrics_of(other)


def test_documentation_needs_no_internet(server: Running) -> None:
    page = server.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text
    references = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(references) == 4
    for reference in [*references, "openapi.json"]:
        assert server.http.get(f"/{reference}").status_code == 200, reference
    script = server.http.get("/static/docs.js").text
    assert "SwaggerUIBundle(" in script
    assert "validatorUrl: null" in script
    style = server.http.get("/static/swagger-ui/swagger-ui.css").text
    assert all(url.startswith("data:") for url in re.findall(r"url\([\"']?([^\"')]+)", style))
    assert "@import" not in style
    assert (
        server.http.get("/static/swagger-ui/swagger-ui-bundle.js").headers["content-type"].startswith("text/javascript")
    )


def test_swagger_ui_is_unchanged() -> None:
    folder = STATIC / "swagger-ui"
    listed = dict(line.split()[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    present = {path.name for path in Path(folder).iterdir()} - {"README.md", "SHA256SUMS"}
    assert listed.keys() == present
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


def test_openapi_describes_the_requests(server: Running) -> None:
    document = server.http.get("/openapi.json").json()
    each = {f"/v1/capabilities/{name}" for name in capabilities.names()}
    assert set(document["paths"]) == each | {
        "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/models/{name}",
        "/tokenize", "/detokenize", "/health", "/metrics", "/v1/capabilities", "/v1/capabilities/{id}", "/v1/documents",
        "/api/chat", "/api/generate", "/api/embed", "/api/tags", "/api/ps", "/api/show", "/api/version",
        "/api/v1/models", "/api/v1/models/{name}", "/api/v1/capabilities", "/api/v1/capabilities/{name}",
        "/api/v1/compare", "/api/v1/rank", "/api/v1/claims", "/api/v1/observations/{number}",
    }  # fmt: skip
    fields = document["components"]["schemas"]["ChatCompletionRequest"]
    assert {"messages", "temperature", "stop", "logit_bias", "stream_options"} <= fields["properties"].keys()
    assert "functions" not in fields["properties"]
    assert fields["additionalProperties"] is False
    assert fields["required"] == ["model", "messages"]
    prompt = document["components"]["schemas"]["CompletionRequest"]["properties"]["prompt"]
    assert len(prompt["anyOf"]) == 4
    answers = document["paths"]["/v1/chat/completions"]["post"]["responses"]
    assert answers.keys() == {"200", "4XX"}  # not the framework's 422, which is never sent
    assert answers["200"]["content"].keys() == {"application/json", "text/event-stream"}
