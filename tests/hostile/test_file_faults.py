"""What happens to files while they are used: a full disk, a model cut short or removed, one larger than the memory."""

import json
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import tiny
from hub_server import Hub

SOURCE = Path(__file__).parents[2] / "src"
LARGE = {"config.json": b"{}", "model.safetensors": bytes(3 << 20)}


def python(script, *arguments, limits=(), **environment):
    """A script in a process of its own: what these tests look for would end this one."""

    def limit():
        for kind, most in limits:
            resource.setrlimit(kind, (most, most))

    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=limit,
        env=os.environ | {"PYTHONPATH": str(SOURCE), "HF_HUB_DISABLE_XET": "1", **environment},
    )


# As if another program filled the disk after the room on it was checked.
PULL = (
    "import sys; from quipu.cli import main, pull; pull._check_room = lambda size: None; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def hub():
    server = Hub({"owner/large": LARGE})
    yield server
    server.close()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "quipu-test", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def check_nothing_loads(home, hub):
    """No file under the model's name, and an error that says how to get it."""
    assert not list(home.rglob("*.safetensors"))
    opened = python(PULL, "inspect", "owner/large", HF_HOME=str(home), HF_ENDPOINT=hub.url)
    assert opened.returncode != 0
    assert "Traceback" not in opened.stderr


def test_a_disk_that_fills_during_a_download(hub, small_disk):
    done = python(PULL, "pull", "owner/large", HF_HOME=str(small_disk), HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    assert "the disk is full; make room, or set HF_HOME to a folder on a larger disk" in done.stderr
    assert "Traceback" not in done.stderr
    check_nothing_loads(small_disk, hub)
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    again = python(PULL, "pull", "owner/large", HF_HOME=str(small_disk), HF_ENDPOINT=hub.url)
    assert again.returncode == 0, again.stderr
    [weights] = small_disk.rglob("model.safetensors")
    assert weights.read_bytes() == LARGE["model.safetensors"]


def test_a_disk_that_is_too_small_is_seen_before_the_first_byte(hub, small_disk):
    script = "import sys; from quipu.cli import main; sys.exit(main(sys.argv[1:]))"
    done = python(script, "pull", "owner/large", HF_HOME=str(small_disk), HF_ENDPOINT=hub.url)
    assert done.returncode != 0
    assert "the download takes" in done.stderr
    assert not hub.downloaded


def test_a_file_that_may_not_grow(hub, tmp_path):
    limits = [(resource.RLIMIT_FSIZE, 1 << 20)]
    done = python(PULL, "pull", "owner/large", HF_HOME=str(tmp_path), HF_ENDPOINT=hub.url, limits=limits)
    assert done.returncode != 0
    assert "owner/large cannot be downloaded: [Errno 27] File too large" in done.stderr
    assert "Traceback" not in done.stderr
    check_nothing_loads(tmp_path, hub)


# ---- A model whose file goes away while it is served

SERVED = """
import os, sys
import quipu
from quipu.errors import DamagedCheckpoint, QuipuError

model = quipu.load(sys.argv[1], context=64, concurrency=1)
file, change = sys.argv[2:4]
before = model.logits([1, 2, 3])
if change == "cut":
    os.truncate(file, 64)
elif change == "removed":
    os.unlink(file)
elif change == "overwritten":
    size = os.path.getsize(file)
    with open(file, "r+b") as same:
        same.seek(size // 2)
        same.write(bytes(size - size // 2))
else:
    with open(file + ".new", "wb") as new:
        new.write(b"GGUF")
    os.replace(file + ".new", file)
print(len(list(model.stream([1, 2, 3], max_tokens=4, temperature=0))) > 0)
try:
    print((model.logits([1, 2, 3]) == before).all())
except DamagedCheckpoint as error:
    print(error)
try:
    print(model.file_hash)
except QuipuError as error:
    print(error)
model.close()
"""


@pytest.mark.parametrize(
    ("file_format", "change"),
    [("gguf", "cut"), ("safetensors", "overwritten"), ("gguf", "replaced")]
    + [
        pytest.param(file_format, change, marks=pytest.mark.slow)
        for file_format in ("gguf", "safetensors", "pth")
        for change in ("cut", "overwritten", "removed", "replaced")
        if (file_format, change) not in (("gguf", "cut"), ("safetensors", "overwritten"), ("gguf", "replaced"))
    ],
)
def test_a_served_model_whose_file_changes(file_format, change, tmp_path):
    config = tiny.tiny_config()
    path = tiny.write_tiny(file_format, tmp_path / "model", config, tiny.tiny_tensors(config))
    [file] = [path] if path.is_file() else [each for each in path.iterdir() if each.suffix in (".safetensors", ".pth")]
    size = file.stat().st_size
    done = python(SERVED, path, file, change)
    assert done.returncode == 0, done.stderr
    served, reference, digest = done.stdout.splitlines()
    assert served == "True"  # weights were copied
    now = 64 if change == "cut" else size
    changed = f"{file} was changed while the model was in use ({size} bytes then, {now} now); load it again"
    assert reference == (changed if change in ("cut", "overwritten") else "True")
    # Hashed when first asked for: that of the file which is there now would be of other weights.
    gone = f"{file} does not exist; check the path"
    assert digest == (
        gone if change == "removed" else f"{file} is not the file any more that was opened; load the model again"
    )


# ---- A model whose file is cut short while it loads

LOADED = """
import os, sys
import quipu
from quipu.errors import DamagedCheckpoint

def cut(done, total, what):
    os.truncate(sys.argv[2], 64)

try:
    quipu.load(sys.argv[1], context=64, concurrency=1, runner=sys.argv[3], progress=cut)
except DamagedCheckpoint as error:
    print(error)
"""


@pytest.mark.parametrize("runner", ["native", "torch"])
@pytest.mark.parametrize("file_format", ["gguf", "safetensors", "pth"])
def test_a_file_that_is_cut_short_while_it_is_loaded(file_format, runner, tmp_path):
    """Of a mapped file, the next read would end the process with SIGBUS."""
    config = tiny.tiny_config(layers=16)
    path = tiny.write_tiny(file_format, tmp_path / "model", config, tiny.tiny_tensors(config))
    [file] = [path] if path.is_file() else [each for each in path.iterdir() if each.suffix in (".safetensors", ".pth")]
    size = file.stat().st_size
    done = python(LOADED, path, file, runner)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{file} was" in done.stdout
    assert f"while the model was in use ({size} bytes" in done.stdout
    assert "64 now); load it again" in done.stdout


CUT_AT_RANDOM = """
import multiprocessing, os, random, shutil, sys, time
import quipu
from quipu.errors import QuipuError

def cut(file, seconds):
    time.sleep(seconds)
    os.truncate(file, 0)

path, file, sound = sys.argv[1:]
quipu.load(path, context=64, concurrency=1).close()
dice = random.Random(0)
for turn in range(100):
    shutil.copyfile(file, sound) if turn == 0 else shutil.copyfile(sound, file)
    cutting = multiprocessing.get_context("fork").Process(target=cut, args=(file, dice.uniform(0, 0.04)))
    cutting.start()
    try:
        quipu.load(path, context=64, concurrency=1).close()
        print("loaded")
    except QuipuError as error:
        print(type(error).__name__)
    cutting.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("file_format", ["gguf", "safetensors"])
def test_a_file_that_is_cut_short_at_any_moment(file_format, tmp_path):
    config = tiny.tiny_config(layers=16)
    path = tiny.write_tiny(file_format, tmp_path / "model", config, tiny.tiny_tensors(config))
    [file] = [path] if path.is_file() else path.glob("*.safetensors")
    done = python(CUT_AT_RANDOM, path, file, tmp_path / "sound")
    assert done.returncode == 0, done.stderr
    ends = Counter(done.stdout.split())
    assert ends["DamagedCheckpoint"] >= 20
    assert sum(ends.values()) == 100
    assert ends.keys() <= {"loaded", "DamagedCheckpoint"}


# ---- A model larger than the memory

LOAD = """
import sys
import quipu
from quipu.errors import QuipuError
try:
    quipu.load(sys.argv[1], runner=sys.argv[2])
except QuipuError as error:
    print(type(error).__name__, error)
    with open("/proc/self/status") as status:
        print(next(line for line in status if line.startswith("VmHWM")).split()[1])
"""


@pytest.fixture
def huge(tmp_path):
    """Llama 405B's shape in a file of holes: every check of sizes against the file passes."""
    from quipu.model.weights import tensor_shapes

    config = tiny.tiny_config(
        vocabulary=128256, hidden_size=16384, intermediate_size=53248, layers=126, heads=128, kv_heads=8, head_size=128,
        tied_embeddings=False, rope=tiny.Rope(500000.0, 128, None),
    )  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(tiny.huggingface_config(config)))
    header, at = {}, 0
    for name, shape in tensor_shapes(config).items():
        size = 2
        for axis in shape:
            size *= axis
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        try:
            file.truncate(8 + len(text) + at)
        except OSError:
            pytest.skip("this disk holds no file of 800 GB, not even one of holes")
    return tmp_path


def test_a_model_larger_than_the_memory_is_refused_by_plan(huge):
    done = python(LOAD, huge, "torch")
    assert done.returncode == 0, done.stderr
    said, peak = done.stdout.splitlines()
    assert said.startswith("NotEnoughMemory the weights take 756.0 GiB in bfloat16 and")
    assert "GiB of memory are free; close other programs or choose a smaller model" in said
    assert int(peak) < 1 << 20  # KiB: torch and nothing else


def test_a_model_larger_than_the_memory_and_the_disk_is_refused(huge):
    """Weights that are mapped may be more than the memory, but not more than where they would be kept."""
    done = python(LOAD, huge, "native", QUIPU_CACHE="/proc/quipu")
    assert done.returncode == 0, done.stderr
    said, peak = done.stdout.splitlines()
    assert re.match(r"NotEnoughMemory the weights take \d+\.\d GiB, .* no file can hold them instead", said)
    assert "name a folder with more room in QUIPU_CACHE" in said
    assert int(peak) < 1 << 18


def test_a_model_larger_than_the_address_space_is_refused(huge):
    done = python(LOAD, huge, "native", limits=[(resource.RLIMIT_AS, 8 << 30)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("CheckpointError")
    assert "cannot be read: Cannot allocate memory" in done.stdout
