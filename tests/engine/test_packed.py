"""The file of packed weights: mapped when it is whole and of this very model, else made anew, and never believed."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import GOLDEN

import quipu
from quipu.engine import packed, packed_file
from quipu.engine.footprint import Footprint
from quipu.engine.packed import packed_weights
from quipu.errors import NotEnoughMemory
from quipu.model.checkpoint import open_checkpoint

TINY = open_checkpoint(GOLDEN / "llama3-tiny")
KINDS = Footprint.of(TINY.config, TINY.tensors).kinds
IDENTITY = {"files": [], "dtype": "auto"}
SMALL = {"context": 64, "concurrency": 1}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUIPU_CACHE", str(folder))
    return folder


@pytest.fixture
def packings(monkeypatch):
    """How often anything was packed."""
    calls = []
    really = packed.pack_all

    def counting(*given, **options):
        calls.append(given)
        return really(*given, **options)

    monkeypatch.setattr(packed, "pack_all", counting)
    return calls


def weights(identity=IDENTITY, **changes):
    return packed_weights(TINY.tensors, KINDS, identity, threads=2, **changes)


def same(ours, theirs):
    """Whether two have the same bytes everywhere."""
    matrices = all(np.array_equal(each.data, theirs.matrices[name].data) for name, each in ours.matrices.items())
    vectors = all(np.array_equal(each, theirs.vectors[name]) for name, each in ours.vectors.items())
    return matrices and vectors and ours.losses == theirs.losses


EXPECTED = weights(None)


def test_a_second_start_maps_and_packs_nothing(cache, packings):
    first = weights()
    again = weights(progress=lambda done, total, what: pytest.fail("nothing is to be done"))
    assert len(packings) == 1
    [file] = cache.iterdir()
    assert first.file == again.file == file
    assert same(first, EXPECTED)
    assert same(again, EXPECTED)
    assert not next(iter(again.matrices.values())).data.flags.writeable


def test_what_only_lives_in_memory_leaves_no_file(cache):
    assert weights(None).file is None
    assert not cache.exists()


@pytest.fixture(scope="module")
def file_content(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUIPU_CACHE", str(tmp_path_factory.mktemp("whole")))
        path = weights().file
        return path.name, path.read_bytes()


def rebuilt(cache, file_content, content, caplog):
    """Put ``content`` where the file was; what comes is right, with a word in the log, and so is the file after it."""
    name, whole = file_content
    cache.mkdir(exist_ok=True)
    (cache / name).write_bytes(content)
    caplog.clear()
    assert same(weights(), EXPECTED)
    assert "is damaged or was altered; the weights are packed again" in caplog.text
    assert (cache / name).read_bytes() == whole


OFTEN = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@OFTEN
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_at_any_byte_is_made_anew(cache, file_content, caplog, part):
    whole = file_content[1]
    rebuilt(cache, file_content, whole[: int(part * len(whole))], caplog)


@pytest.mark.parametrize("bytes_missing", [0, 1, 27, 28, 29, 400])
def test_a_file_cut_near_its_ends_is_made_anew(cache, file_content, caplog, bytes_missing):
    whole = file_content[1]
    rebuilt(cache, file_content, whole[: len(whole) - bytes_missing] if bytes_missing else b"", caplog)


def data_places():
    """Where the bytes of each tensor lie; what fills up a page between them is read by nobody."""
    sizes = {name: each.data.nbytes for name, each in EXPECTED.matrices.items()}
    sizes |= {name: each.nbytes for name, each in EXPECTED.vectors.items()}
    at = 0
    for name in TINY.tensors:
        yield from (at, at + sizes[name] // 2, at + sizes[name] - 1)
        at += -(-sizes[name] // packed_file.PAGE) * packed_file.PAGE


@OFTEN
@given(place=st.sampled_from(list(data_places())), bit=st.integers(0, 7))
def test_one_flipped_bit_of_the_weights_is_seen(cache, file_content, caplog, place, bit):
    content = bytearray(file_content[1])
    content[place] ^= 1 << bit
    rebuilt(cache, file_content, bytes(content), caplog)


@OFTEN
@given(data=st.data(), bit=st.integers(0, 7))
def test_one_flipped_bit_of_the_header_is_seen(cache, file_content, caplog, data, bit):
    content = bytearray(file_content[1])
    header = content.index(b'{"identity"')
    content[data.draw(st.integers(header, len(content) - 1))] ^= 1 << bit
    rebuilt(cache, file_content, bytes(content), caplog)


@pytest.mark.parametrize("header", [b"[]", b"{}", b"{", b"\xff", b'{"identity": 1, "checksums": 1, "losses": 1}'])
def test_a_header_that_was_made_by_hand_is_not_believed(cache, file_content, caplog, header):
    from quipu import native

    crc = native.checksum(np.frombuffer(header, np.uint8))
    end = packed_file._END.pack(packed_file.MAGIC, 0, len(header), crc)
    rebuilt(cache, file_content, header + end, caplog)


def test_what_a_killed_process_left_is_removed_by_a_later_start(cache):
    script = f"""
import os, signal
from quipu.engine import packed
import quipu
def killed(*given, **options):
    os.kill(os.getpid(), signal.SIGKILL)
    yield  # as the real one, it begins when it is asked for the first
packed.pack_all = killed
quipu.load({str(GOLDEN / "llama3-tiny")!r})
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    [left] = cache.iterdir()
    assert left.suffix == ".partial"
    assert weights().file is not None
    assert not left.exists()
    assert [path.suffix for path in cache.iterdir()] == [".packed"]


def test_what_another_process_is_writing_is_left_alone(cache):
    cache.mkdir()
    with (cache / "other.partial").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        weights()
        assert (cache / "other.partial").exists()


@pytest.mark.parametrize("place", ["/proc/quipu", "file"])
def test_a_folder_that_cannot_be_written_to_costs_the_next_start_only(tmp_path, monkeypatch, caplog, place):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("QUIPU_CACHE", str(tmp_path / place))
    found = weights()
    assert found.file is None
    assert same(found, EXPECTED)
    assert "packed weights are not kept" in caplog.text
    assert "the next start packs them again" in caplog.text


def test_a_user_without_a_home_has_no_cache(monkeypatch, caplog):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("QUIPU_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert same(weights(), EXPECTED)
    assert "name a folder in QUIPU_CACHE" in caplog.text


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("QUIPU_CACHE", "/somewhere")
    assert packed_file.cache_folder() == Path("/somewhere")
    monkeypatch.delenv("QUIPU_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert packed_file.cache_folder() == tmp_path / "quipu"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert packed_file.cache_folder() == tmp_path / "home" / ".cache" / "quipu"


def full(*given):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing_behind_and_the_model_runs(cache, monkeypatch, caplog):
    monkeypatch.setattr(os, "posix_fallocate", full)
    with quipu.load(GOLDEN / "llama3-tiny", **SMALL) as model:
        assert model.generate([1, 2, 3], max_tokens=2, temperature=0).usage.completion_tokens == 2
    assert "No space left on device" in caplog.text
    assert list(cache.iterdir()) == []


def test_weights_larger_than_the_memory_need_a_disk(cache, monkeypatch):
    monkeypatch.setattr(packed, "available_memory", lambda: 1000)
    assert weights().file is not None  # mapped
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NotEnoughMemory, match=r"no file can hold them instead \(.*No space left.*QUIPU_CACHE"):
        weights({**IDENTITY, "another": 1})


def test_files_of_changed_or_removed_models_and_of_other_versions_are_dropped(cache, tmp_path, monkeypatch):
    models = [tmp_path / name for name in ("kept", "changed", "removed")]
    for folder in models:
        shutil.copytree(GOLDEN / "llama3-tiny", folder)
        quipu.load(folder, **SMALL).close()
    packed_of = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(packed_of) == 3
    with monkeypatch.context() as patch:
        for module in (packed, packed_file):
            patch.setattr(module, "VERSION", 0)
        weights()
    assert len(list(cache.iterdir())) == 1, "those of another version are of no use"
    for folder in models:
        quipu.load(folder, **SMALL).close()
    assert len(list(cache.iterdir())) == 3
    os.utime(models[1] / "model.safetensors", ns=(0, 0))
    shutil.rmtree(models[2])
    weights()
    assert len(list(cache.iterdir())) == 2  # of the first model, and of these weights


LOAD = """
import sys
import quipu
with quipu.load(sys.argv[1], context=64, concurrency=1) as model:
    print(*model.generate([1, 2, 3], max_tokens=8, temperature=0, ignore_eos=True).choices[0].token_ids)
"""


def test_two_processes_may_pack_at_once(cache):
    command = [sys.executable, "-c", LOAD, str(GOLDEN / "llama3-tiny")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert said[0] == said[1]
    assert [path.suffix for path in cache.iterdir()] == [".packed"]


def test_each_way_to_load_has_a_file_of_its_own(cache, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "llama3-tiny", folder)
    adapter = tmp_path / "adapter"
    shutil.copytree(GOLDEN / "llama3-tiny-lora", adapter)
    ways = [{}, {"dtype": "bfloat16"}, {"quantize": "q8"}, {"quantize": "q4"}, {"adapter": adapter}]
    for count, options in enumerate(ways, 1):
        for _ in range(2):
            quipu.load(folder, **options, **SMALL).close()
            assert len(list(cache.iterdir())) == count
    quipu.load(folder, kv_dtype="int8", threads=1, **SMALL).close()
    assert len(list(cache.iterdir())) == len(ways), "what is packed is the same"
    os.utime(adapter / "adapter_config.json", ns=(0, 0))
    quipu.load(folder, adapter=adapter, **SMALL).close()
    assert len(list(cache.iterdir())) == len(ways), "the one of the adapter as it was is gone"


PEAK = """
import gc, re, sys
from pathlib import Path
import gguf.quants, jinja2.sandbox, numpy, tokenizers
import quipu
from quipu.engine.fake import fake_model
from quipu.engine.footprint import Footprint
from quipu.model.checkpoint import open_checkpoint

def status(field):
    return int(re.search(field + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

quipu.load(sys.argv[1], context=64, concurrency=1).close()
with fake_model() as fake:  # what formats and tokenizers take for themselves the first time is not the model's
    fake.chat("hello")
gc.collect()
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = status("VmRSS")
with quipu.load("smollm2-135m-instruct", context=512, concurrency=1) as model:
    peak = status("VmHWM") - before
    print(peak)
    checkpoint = open_checkpoint("smollm2-135m-instruct")
    footprint = Footprint.of(checkpoint.config, checkpoint.tensors)
    print(1.3 * footprint.weights_bytes + 512 * footprint.kv_bytes_per_token)
"""


def test_loading_takes_little_more_than_the_packed_weights(cache):
    command = [sys.executable, "-c", PEAK, str(GOLDEN / "llama3-tiny")]
    for _ in range(2):  # packed, then mapped
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        peak, most = map(float, done.stdout.split())
        assert peak <= most
