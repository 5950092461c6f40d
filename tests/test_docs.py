"""The documents against the code: paths, names, command lines, options, fields, and every Python example, run."""

import argparse
import ast
import contextlib
import dataclasses
import inspect
import json
import re
import runpy
import shlex
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import quipu
from quipu import capabilities, cli, errors
from quipu.bench import plot
from quipu.bench import report as bench_report
from quipu.capabilities.base import Answering
from quipu.capabilities.parts.calls import TOGETHER
from quipu.cli.interactive import COMMANDS
from quipu.engine.engine import Engine
from quipu.engine.fake import fake_model
from quipu.engine.load import load
from quipu.evidence import report
from quipu.model.tokenizer_gguf import PRE_TOKENIZERS
from quipu.model.weights import KINDS
from quipu.serve.app import create_app
from quipu.serve.capability_schema import CapabilityFields, SamplingOptions
from quipu.serve.limits import Limits
from quipu.serve.ollama import schemas as ollama_schemas
from quipu.serve.ollama.models import API_VERSION
from quipu.serve.openai import schemas
from quipu.serve.openai.responses_schema import ResponsesRequest
from quipu.serve.server import GRACE_SECONDS, Server, address, bind
from quipu.types import MAX_LOGPROBS, Facts, Sampling

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "quipu"
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
MODEL = "smollm2-135m-instruct"

by_name = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


def text(name):
    return (ROOT / name).read_text("utf-8")


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text(name), re.MULTILINE | re.DOTALL)


def codes(source):
    """What stands between single backticks, outside of fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", source, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def section(source, title):
    """From a heading to the next of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", source, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[2]


# ---- paths, names, links


@by_name
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8"))
    for link in links:
        if link.startswith("http"):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, link


@by_name
def test_paths_exist(path):
    """Everything in backticks that looks like a path of this repository."""
    for code in codes(path.read_text("utf-8")):
        name = code.partition(": ")[0]
        of_ours = re.fullmatch(r"(src|tests|docs|examples|bench|model|native|engine|serve|cli)/[\w./-]*", name)
        if of_ours and "NAME" not in name:
            assert (ROOT / name).exists() or (SOURCE / name).exists(), f"{path.name} names {code}"


def test_architecture_names_what_exists():
    named = [code.split(": ") for code in codes(text("docs/architecture.md")) if re.match(r"[\w/]+\.py: ", code)]
    assert len(named) > 50
    for file, name in named:
        body = ast.parse((SOURCE / file).read_text("utf-8")).body
        for part in name.split("."):
            found = [node for node in body if getattr(node, "name", None) == part]
            assert found, f"{file} has no {name}"
            body = found[0].body if isinstance(found[0], ast.ClassDef) else []


def test_architecture_forgets_no_file():
    named = set(codes(text("docs/architecture.md")))
    files = {str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py")}
    files |= {str(file.relative_to(SOURCE)) for ending in ("cpp", "h") for file in SOURCE.glob(f"native/*.{ending}")}
    rooms = {name for name in files if name.endswith(("__init__.py", "__main__.py"))}
    assert files - rooms - named == set()


def test_architecture_knows_where_torch_is():
    said = re.search(r"\*\*torch stops\*\* at (.*?)\. Two", text("docs/architecture.md"), re.DOTALL)
    importing = {
        str(file.relative_to(SOURCE))
        for file in SOURCE.rglob("*.py")
        if re.search(r"^(import|from) torch\b", file.read_text("utf-8"), re.MULTILINE)
    }
    assert set(codes(said[1])) == importing


# ---- the command line


def command_lines(name):
    """Lines of fenced blocks that run quipu, without what the shell does with them."""
    for block in blocks(name, ""):
        for line in block.splitlines():
            if line.startswith("quipu ") and not re.search("VERB|CAPABILITY", line):
                yield re.sub(r"\s+[<>|#] .*", "", line)


@pytest.mark.parametrize("line", [*command_lines("README.md"), *command_lines("docs/cli.md")])
def test_command_lines_parse(line, capsys):
    with contextlib.suppress(SystemExit) if line == "quipu --version" else contextlib.nullcontext():
        words = shlex.split(line)[1:]
        parsed = cli.parse(words, {}) if words[0] == "run" else cli._parser().parse_args(words)
        assert isinstance(parsed, argparse.Namespace), capsys.readouterr().err


def options(verb):
    [verbs] = [action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return {option for action in verbs.choices[verb]._actions for option in action.option_strings} - {
        "-h", "--help", "--config",
    }  # fmt: skip


@pytest.mark.parametrize(
    "verb",
    [
        "serve",
        "chat",
        "run",
        "capabilities",
        "measure",
        "bench",
        "compare",
        "rank",
        "explain",
        "gaps",
        "flip",
        "claims",
        "evidence",
        "replay",
        "models",
        "inspect",
        "pull",
        "quantize",
        "config",
    ],
)
def test_every_option_is_described_and_every_described_one_exists(verb):
    document = text("docs/cli.md")
    own = section(document, f"quipu {verb}")
    shared = [title for title in ("Loading", "Sampling") if f"(#{title.lower()})" in own]
    rows = [row for part in (own, *(section(document, each) for each in shared)) for row in part.splitlines()]
    said = {option for row in rows if row.startswith("| `-") for option in re.findall(r"`(-[-\w]+)", row.split("|")[1])}
    assert said == options(verb)


def test_every_command_of_a_chat_is_described():
    rows = re.findall(r"^\| `(/\w+)", text("docs/cli.md"), re.MULTILINE)
    assert rows == list(COMMANDS)


# ---- the HTTP API


def test_every_request_field_is_described():
    document = text("docs/http.md")
    both = section(document, "Both kinds of generation")
    places = {
        schemas.SamplingFields: both,
        schemas.StreamOptions: both,
        schemas.ChatCompletionRequest: both + section(document, "POST /v1/chat/completions"),
        schemas.CompletionRequest: both + section(document, "POST /v1/completions"),
        ResponsesRequest: both + section(document, "POST /v1/responses"),
        schemas.EmbeddingRequest: both + section(document, "POST /v1/embeddings"),
        schemas.TokenizeRequest: section(document, "POST /tokenize, POST /detokenize"),
        schemas.DetokenizeRequest: section(document, "POST /tokenize, POST /detokenize"),
        CapabilityFields: section(document, "Capabilities"),
        SamplingOptions: section(document, "Capabilities"),
    }
    for schema, place in places.items():
        assert set(schema.model_fields) - set(codes(place)) == set(), schema.__name__
    assert set(schemas.NEUTRAL) - set(codes(both)) == set()
    assert set(ResponsesRequest.neutral) - set(codes(places[ResponsesRequest])) == set()


def test_every_field_and_option_of_ollama_is_described():
    said = set(codes(section(text("docs/http.md"), "Ollama's API")))
    requests = (ollama_schemas.ChatRequest, ollama_schemas.GenerateRequest, ollama_schemas.EmbedRequest)
    for schema in (*requests, ollama_schemas.Options):
        assert set(schema.model_fields) | set(schema.neutral) <= said
    assert API_VERSION in text("docs/http.md")


def test_every_described_request_field_exists():
    kinds = (
        schemas.ChatCompletionRequest,
        schemas.CompletionRequest,
        ResponsesRequest,
        schemas.EmbeddingRequest,
        schemas.TokenizeRequest,
        CapabilityFields,
    )
    known = {name for schema in (*kinds, schemas.DetokenizeRequest) for name in schema.model_fields}
    openai = text("docs/http.md").replace(section(text("docs/http.md"), "Ollama's API"), "")
    tables = re.findall(r"^\| field \|.*?\n\n", openai, re.MULTILINE | re.DOTALL)
    assert len(tables) == 7
    for table in tables:
        assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) <= known


def test_every_endpoint_is_described(server):
    said = set(re.findall(r"`(?:GET|POST) (/[^`]*)`", text("docs/http.md")))
    each = {f"/v1/capabilities/{name}" for name in capabilities.names()}  # described together
    paths = set(server.app.openapi()["paths"]) - each | {"/docs", "/openapi.json"}
    assert said == paths


def test_every_metric_is_described(server):
    import httpx

    families = re.findall(r"^# TYPE (\S+) (\w+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    real = {(name, kind) for name, kind in families if not name.endswith("_created")}
    said = re.findall(r"^\| `(quipu_\w+)` \| (\w+) \|", text("docs/http.md"), re.MULTILINE)
    assert set(said) == real


def test_every_error_code_exists_with_its_status():
    def kinds(error):
        return [error, *(deeper for below in error.__subclasses__() for deeper in kinds(below))]

    known = {(str(error.status), str(error.code)) for error in kinds(errors.QuipuError)}
    of_framework = {("404", "unknown_url"), ("405", "None"), ("500", "internal_error")}
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", text("docs/http.md"), re.MULTILINE)
    assert {(status, code.replace("null", "None")) for status, code in rows} <= known | of_framework


def test_numbers_are_those_of_the_code():
    document = " ".join(text("docs/http.md").split())
    assert f"at most {Limits().body_bytes >> 20} MiB" in document
    assert f"a string or at most {Limits().stops}" in document
    assert f"at most {TOGETHER} answers there" in document
    assert f"off; 0 to {MAX_LOGPROBS}" in document
    defaults = {name: each.default for name, each in inspect.signature(Engine.__init__).parameters.items()}
    assert f"{defaults['prompt_tokens']} tokens a step" in document
    assert f"{defaults['mixed_prompt_tokens']} when something does" in document
    keep_alive = inspect.signature(create_app).parameters["keep_alive_seconds"].default
    assert f"nothing comes for {keep_alive:.0f} seconds" in document
    assert f"get {GRACE_SECONDS:.0f} seconds to complete" in text("docs/cli.md")


# ---- checkpoints


def test_every_storage_type_and_pre_tokenizer_is_described():
    document = text("docs/formats.md")
    rows = re.findall(r"^\| ([\w, ]+) \| (\d+) \| ([\d.]+) \|$", section(document, "GGUF"), re.MULTILINE)
    said = {kind: (int(block), float(bits)) for kinds, block, bits in rows for kind in kinds.split(", ")}
    assert said == {kind: (block, size * 8 / block) for kind, (block, size) in KINDS.items()}
    assert set(PRE_TOKENIZERS) <= set(codes(section(document, "Tokenizers")))
    listed = re.search(r"GGUF: (.*?), in one file", text("README.md"))[1]
    assert set(listed.split(", ")) == set(KINDS)


# ---- the Python API


def test_every_argument_option_and_fact_is_described():
    document = text("docs/python.md")
    said = set(codes(document))
    assert re.findall(r"^\| `(\w+)` \|", section(document, "Loading"), re.MULTILINE) == list(
        inspect.signature(load).parameters
    )
    sampling = re.findall(r"^\| `(\w+)` \|", section(document, "Sampling"), re.MULTILINE)
    assert sorted(sampling) == sorted(field.name for field in dataclasses.fields(Sampling))
    assert {field.name for field in dataclasses.fields(Facts)} <= said
    assert {f"quipu.{name}" for name in quipu.__all__ if name != "load"} <= said


ARGUMENTS = {"documents": [str(ROOT / "docs" / "security.md")]}


def answering(name, **changes):
    model = fake_model(name=name, **changes)
    model._reference = lambda ids, pixels: np.zeros((len(ids), model.facts.vocabulary), np.float32)
    return model


class Running:
    def __init__(self, app, url):
        self.app, self.url = app, url


@pytest.fixture(scope="module")
def server():
    """A real server over a model without arithmetic, under the demonstration model's name."""
    app = create_app({MODEL: answering(MODEL)})
    ready = threading.Event()
    with bind("127.0.0.1", 0) as listener:
        uvicorn = Server(app, app.state.service, lambda _: ready.set(), 0.2)
        thread = threading.Thread(target=uvicorn.run, args=([listener],))
        thread.start()
        assert ready.wait(10)
        yield Running(app, address(listener))
        uvicorn.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


@pytest.fixture
def loads(monkeypatch):
    """quipu.load takes what the real one takes and gives a fake; all are closed in the end."""
    models = []

    def fake_load(*arguments, **options):
        bound = inspect.signature(load).bind(*arguments, **options).arguments
        models.append(answering(bound["model"]))
        return models[-1]

    monkeypatch.setattr(quipu, "load", fake_load, raising=False)
    yield models
    for model in models:
        model.close()


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_python_blocks_run(name, server, loads, capsys):
    """In order, in one namespace, as a reader would type them; what a comment says is printed, is."""
    namespace: dict[str, object] = {}
    found = blocks(name, "python")
    assert found
    for block in found:
        source = block.replace("http://127.0.0.1:8000", server.url)
        exec(compile(textwrap.dedent(source), name, "exec"), namespace)
        if "openai" in block:
            namespace["client"].close()
        printed = capsys.readouterr().out
        for comment in re.findall(r"print\(error\) +# (.*)$", block, re.MULTILINE):
            assert comment in printed
    assert loads


@pytest.mark.parametrize("name", ["openai_chat", "python_api", "logprobs", "documents"])
def test_examples_run(name, server, loads, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setattr("sys.argv", [f"{name}.py", *ARGUMENTS.get(name, ())])
    left = runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    if "client" in left:
        left["client"].close()
    printed = capsys.readouterr().out
    expected = {
        "openai_chat": "You said: And of Italy?",
        "python_api": "You said: What is the chemical symbol for water?\n  [stop, ",
        "logprobs": "The capital of France is cheese.",
        "documents": "# Security",
    }
    assert expected[name] in printed


def test_every_example_is_tested():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == {
        "openai_chat", "python_api", "logprobs", "documents",
    }  # fmt: skip


# ---- security


def test_every_named_test_exists():
    rows = re.findall(r"^\| .*`tests/.*$", text("docs/security.md"), re.MULTILINE)
    assert len(rows) > 10
    for row in rows:
        file = None
        for code in codes(row):
            if code.startswith("tests/"):
                file = code
            elif code.startswith("test_"):
                assert f"def {code}(" in text(file), f"{file} has no {code}"


def test_every_limit_is_described_with_its_default():
    for field in dataclasses.fields(Limits):
        row = rf"^\| `{field.metadata['flag']}` \| [^|]* \| {int(field.default)} \|"
        assert re.search(row, text("docs/http.md"), re.MULTILINE), field.name


# ---- what the demonstration model can do


def test_the_table_of_capabilities_is_that_of_its_measurement():
    """Every figure and the picture come from the JSON, and that is of the probes that there are now."""
    measured = json.loads(text("docs/capabilities.json"))
    assert text("docs/capabilities.md") == report.markdown(measured, "capabilities.svg")
    assert text("docs/capabilities.svg") == report.chart(measured)
    probes = {each.uri: each.probe_set for each in capabilities.all_capabilities() if isinstance(each, Answering)}
    assert {each["capability"]: each["probe_set"] for each in measured["capabilities"]} == probes
    assert measured["streaming"] is not None


# ---- how fast it is


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("benchmarks*.md")), ids=lambda path: path.name)
def test_the_figures_of_speed_are_those_of_their_measurement(path):
    """Every figure and the picture come from the JSON; without one there is no table."""
    name = f"docs/{path.stem}"
    if not path.with_suffix(".json").exists():
        assert "|" not in text(f"{name}.md")
        return
    measured = json.loads(text(f"{name}.json"))
    assert text(f"{name}.md") == bench_report.markdown(measured, f"{path.stem}.svg")
    assert text(f"{name}.svg") == plot.plot(measured)
    assert not measured["options"]["quick"]
    assert measured["peer"]
