"""``quipu pull`` against a server that speaks the hub's API, and without one."""

import errno
import json
import socket
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from quipu.cli import main, pull
from quipu.cli.hub_errors import _refused, hub_errors
from quipu.cli.hub_files import HubFile, choose
from quipu.errors import DownloadError, Offline

TINY = Path(__file__).parents[1] / "golden" / "llama3-tiny"
SAFETENSORS = {
    name: (TINY / name).read_bytes() for name in ("config.json", "generation_config.json", "model.safetensors")
}
SIDE = {"README.md": b"# tiny", "tokenizer.json": b"{}", "LICENSE": b"free"}
UNWANTED = {"pytorch_model.bin": b"pickle", "onnx/model.onnx": b"x", "original/consolidated.00.pth": b"x", "a.png": b""}


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub(
        {
            "owner/tiny": SAFETENSORS | SIDE | UNWANTED,
            "owner/one-gguf": {"m-00001-of-00002.gguf": b"1", "m-00002-of-00002.gguf": b"2", "README.md": b""},
            "owner/two-ggufs": {"m.Q4_K_M.gguf": b"four", "m.Q8_0.gguf": b"eight!", "README.md": b""},
            "owner/pickles": {"pytorch_model.bin": b"pickle", "config.json": b"{}"},
            "owner/gated": (403, "GatedRepo"),
            "owner/forbidden": (403, None),
            "owner/private": (401, "RepoNotFound"),
            "owner/expired": (401, None),
            "owner/broken": (418, None),
        }
    )
    yield server
    server.close()


def test_safetensors_and_text_come_and_pickles_do_not(hub, command, tmp_path):
    done = command("pull", "owner/tiny", "--json", HF_ENDPOINT=hub.url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report = json.loads(done.stdout)
    wanted = SAFETENSORS | SIDE
    path = Path(report["path"])
    assert {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()} == wanted
    assert tmp_path in path.parents
    assert path.name == COMMIT
    assert sorted(report["files"]) == sorted(hub.downloaded) == sorted(wanted)
    assert report["bytes"] == sum(map(len, wanted.values()))
    assert report["model"] == report["repository"] == "owner/tiny"


def test_what_was_pulled_goes_by_its_name_without_network(hub, command):
    done = command("pull", "owner/tiny", HF_ENDPOINT=hub.url)
    assert "chat with it: quipu chat owner/tiny" in done.stdout
    inspected = command("inspect", "owner/tiny", "--json", "--no-hash", HF_ENDPOINT="http://127.0.0.1:9")
    assert inspected.returncode == 0, inspected.stderr
    config = json.loads(SAFETENSORS["config.json"])
    assert json.loads(inspected.stdout)["layers"] == config["num_hidden_layers"]
    listed = json.loads(command("models", "--json").stdout)["cached"]
    assert [(each["name"], each["formats"], each["revision"]) for each in listed] == [
        ("owner/tiny", ["safetensors"], COMMIT)
    ]
    assert "owner/tiny" in command("models").stdout


def test_a_second_pull_downloads_nothing(hub, command):
    command("pull", "owner/tiny", HF_ENDPOINT=hub.url)
    hub.downloaded.clear()
    assert command("pull", "owner/tiny", HF_ENDPOINT=hub.url).returncode == 0
    assert hub.downloaded == []


def test_one_gguf_comes_in_all_its_parts(hub, command):
    report = json.loads(command("pull", "owner/one-gguf", "--json", HF_ENDPOINT=hub.url).stdout)
    assert report["files"] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "README.md"]
    assert report["model"] == report["path"]
    assert report["path"].endswith("m-00001-of-00002.gguf")


def test_of_several_ggufs_one_is_chosen(hub, command):
    done = command("pull", "owner/two-ggufs", HF_ENDPOINT=hub.url)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "quipu: owner/two-ggufs holds 2 models; choose one:",
        "  --file 'm.Q4_K_M.gguf'  4 B",
        "  --file 'm.Q8_0.gguf'  6 B",
    ]
    done = command("pull", "owner/two-ggufs", "--file", "*Q8_0.gguf", HF_ENDPOINT=hub.url)
    assert done.returncode == 0
    assert hub.downloaded == ["m.Q8_0.gguf"]
    assert done.stdout.splitlines()[-1].endswith(f"/{COMMIT}/m.Q8_0.gguf")


def test_metas_files_come_when_asked_for(hub, command):
    report = json.loads(command("pull", "owner/tiny", "--file", "original/*", "--json", HF_ENDPOINT=hub.url).stdout)
    assert report["files"] == ["original/consolidated.00.pth"]
    assert report["model"].endswith(f"/{COMMIT}/original")


def test_a_pickle_that_a_pattern_catches_is_left_out_and_named(hub, command):
    done = command("pull", "owner/tiny", "--file", "*o*", HF_ENDPOINT=hub.url)
    assert done.returncode == 0
    assert "left out, because unpickling runs code: pytorch_model.bin" in done.stderr
    assert "pytorch_model.bin" not in hub.downloaded


def test_a_revision_is_reached_by_its_path(hub, command):
    report = json.loads(command("pull", "owner/tiny", "--revision", COMMIT, "--json", HF_ENDPOINT=hub.url).stdout)
    assert report["model"] == report["path"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["owner/gated"], "owner/gated is gated: accept its licence at https://huggingface.co/owner/gated"),
        (["owner/gated"], "HF_TOKEN=hf_"),
        (["owner/forbidden"], "the hub refuses access to owner/forbidden (403); set HF_TOKEN"),
        (["owner/expired"], "the hub refuses access to owner/expired (401); set HF_TOKEN to a valid token"),
        (["owner/private"], "the hub shows no model owner/private: check the spelling; if it is private, set HF_TOKEN"),
        (["owner/missing"], "the hub shows no model owner/missing: check the spelling"),
        (["llama-3.2-1b-instruct"], "the hub shows no model meta-llama/Llama-3.2-1B-Instruct"),
        (["owner/tiny", "--revision", "v9"], "owner/tiny has no revision 'v9'"),
        (["owner/pickles"], "has no weights that quipu reads"),
        (["owner/pickles", "--file", "*.bin"], "*.bin are pickles, which may run code"),
        (["owner/tiny", "--file", "*.gguf"], "*.gguf match nothing in owner/tiny; it has: config.json"),
        (["owner/broken"], "the hub answered 418 for owner/broken"),
        (["no name at all"], "'no name at all' is no name of a model on the hub; it looks like OWNER/NAME"),
        (["smollm2-135m-instruct", "--revision", "x"], "comes with a Python package"),
    ],
)
def test_refusals_say_what_to_do(hub, command, arguments, said):
    done = command("pull", *arguments, HF_ENDPOINT=hub.url)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert hub.downloaded == []


def test_offline(command):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        done = command("pull", "owner/tiny", HF_ENDPOINT=f"http://127.0.0.1:{closed.getsockname()[1]}")
    assert done.returncode == 1
    assert "the hub cannot be reached" in done.stderr
    assert done.stderr.count("\n") == 1
    done = command("pull", "owner/tiny", HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert "the hub cannot be reached" in done.stderr
    assert "HF_HUB_OFFLINE" in done.stderr


def test_an_installed_model_needs_no_download(capsys):
    assert main(["pull", "smollm2-135m-instruct"]) == 0
    assert "is installed already" in capsys.readouterr().out
    assert main(["pull", "smollm2-135m-instruct", "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["path"]).is_file()


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            DownloadError,
            "the disk is full; make room, or set HF_HOME",
        ),
        (RuntimeError("I/O error: No space left on device (os error 28)"), DownloadError, "the disk is full"),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            DownloadError,
            "cannot be downloaded: .*Permission denied",
        ),
        (RuntimeError("CAS service error\nand more"), DownloadError, "CAS service error; run the same again$"),
        (HfHubHTTPError.__mro__[1]("the connection broke"), Offline, "cannot be reached .the connection broke."),
        (LocalEntryNotFoundError("not on disk"), Offline, "cannot be reached .not on disk."),
    ],
)
def test_what_may_happen_on_the_way(error, kind, said):
    with pytest.raises(kind, match=said), hub_errors("owner/name", None):
        raise error


def test_too_many_requests():
    assert "asks for fewer requests (429)" in str(_refused("owner/name", 429))


def test_too_large_for_the_disk(monkeypatch):
    disk = namedtuple("disk", "total used free")
    monkeypatch.setattr(pull.shutil, "disk_usage", lambda place: disk(10, 5, 5))
    with pytest.raises(DownloadError, match=r"takes 6 B and the disk of .* has 5 B free; make room, or set HF_HOME"):
        pull._check_room(6)
    pull._check_room(5)


def test_what_is_here_already_needs_no_room(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = tmp_path / "models--owner--name" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "here.json").write_text("{}")
    assert pull._here("owner/name", HubFile("here.json", 2), COMMIT)
    assert not pull._here("owner/name", HubFile("absent.json", 2), COMMIT)


def test_choice_prefers_safetensors_at_the_root():
    names = ["model.safetensors", "x/other.safetensors", "m.gguf", "config.json", "x/config.json", "MODEL.BIN"]
    chosen, refused = choose([HubFile(name, 1) for name in names], [], "owner/name")
    assert [file.name for file in chosen] == ["model.safetensors", "config.json"]
    assert refused == []
