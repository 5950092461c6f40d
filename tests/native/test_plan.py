"""What a plan refuses, that nothing which it accepts reads or writes elsewhere, and its threads."""

import gc
import threading
import time

import numpy as np
import pytest
from native.plans import BEST, Fed, aligned, integers, packed, stored_rows

from quipu import native

ONES = np.ones((4, 8), np.float32)


def plan(threads=1, isa=BEST):
    return native.Plan(threads, isa)


def weight(of, rows=4, cols=8, kind="F32"):
    return of.weight(kind, rows, cols, aligned(native.packed_bytes(kind, rows, cols)))


def fed(**changes):
    return Fed(ONES, blocks=2, **changes)


def refusals():
    """(message, call) of everything that can be said wrong while a plan is made."""
    p, other = plan(), plan()
    narrow, wide, qkv, head = p.buffer(4), p.buffer(8), p.buffer(3 * 8), p.buffer(8)
    cache, foreign = p.cache("f32", 1, 8, 2), other.buffer(8)
    data = aligned(native.packed_bytes("F32", 4, 8))
    ones = stored_rows("F32", ONES).reshape(-1)
    routing, unrouted, narrow_two = p.routing(2), p.routing(2), p.buffer(4)
    p.route(wide, wide, routing, p.buffer(8))
    owned, off = weight(p), aligned(data.size + 64)[4 : data.size + 4]
    another = "this belongs to another plan"
    return [
        ("does not run sse9 kernels", lambda: plan(isa="sse9")),
        ("threads are from 1 to 1024", lambda: plan(threads=0)),
        ("threads are from 1 to 1024", lambda: plan(threads=1025)),
        ("at least one row and one column", lambda: native.packed_bytes("F32", 0, 8)),
        ("at least one row and one column", lambda: native.packed_bytes("F32", 8, -1)),
        ("no packed kind is called Q4_K", lambda: native.packed_bytes("Q4_K", 1, 256)),
        ("at least one row and one column", lambda: native.pack("F32", ones, 0, 8, "F32", data)),
        ("the rows are not of the size", lambda: native.pack("F32", ones[:-1], 4, 8, "F32", data)),
        ("the packed memory is not of the size", lambda: native.pack("F32", ones, 4, 8, "F32", data[:-1])),
        ("no stored kind is called Q9", lambda: native.pack("Q9", ones, 4, 8, "F32", data)),
        ("8 columns are no whole blocks of Q8_0", lambda: native.pack("Q8_0", ones, 4, 8, "Q8_0", data)),
        ("can be packed as it is, as Q8_0 or as Q4_1", lambda: native.pack("F32", ones, 4, 8, "F16", data[:256])),
        ("from 1 to 2\\^26 columns", lambda: p.buffer(0)),
        ("from 1 to 2\\^26 columns", lambda: p.buffer(2**31 - 1)),
        ("not of the size of its shape", lambda: p.weight("F32", 4, 8, data[:-64])),
        ("not of the size of its shape", lambda: p.weight("F32", 17, 8, data)),
        ("begins at a multiple of 64 bytes", lambda: p.weight("F32", 4, 8, off)),
        ("even heads and blocks", lambda: p.cache("f32", 0, 8, 2)),
        ("even heads and blocks", lambda: p.cache("f32", 1, 7, 2)),
        ("even heads and blocks", lambda: p.cache("f32", 1, 8, 0)),
        ("at most 2\\^12 heads of 2\\^12 and 2\\^26 blocks", lambda: p.cache("f32", 4098, 8, 2)),
        ("at most 2\\^12 heads of 2\\^12 and 2\\^26 blocks", lambda: p.cache("f32", 1, 4098, 2)),
        ("at most 2\\^12 heads of 2\\^12 and 2\\^26 blocks", lambda: p.cache("f32", 1, 8, 2**31 - 1)),
        ("a KV cache is f32, f16 or int8", lambda: p.cache("q4", 1, 8, 2)),
        ("not as wide as its buffer", lambda: p.embed(owned, narrow)),
        ("two columns a frequency", lambda: p.angles([1.0] * 3, wide)),
        ("as wide as those they come from", lambda: p.gather(narrow, wide)),
        ("gathered into another buffer", lambda: p.gather(wide, wide)),
        ("a norm has one weight a column", lambda: p.rms_norm(wide, np.ones(7, np.float32), 1e-5, head)),
        ("a norm has one weight a column", lambda: p.rms_norm(wide, np.ones(8, np.float32), 1e-5, narrow)),
        ("an extent is all, gathered or scored", lambda: p.linear([owned], wide, narrow, extent="some")),
        ("as wide as what it multiplies", lambda: p.linear([owned], narrow, wide)),
        ("the rows of the weights are the columns", lambda: p.linear([owned], wide, qkv)),
        ("the rows of the weights are the columns", lambda: p.linear([], wide, narrow)),
        ("a product is written to another buffer", lambda: p.linear([owned, owned], wide, wide)),
        ("heads share key heads evenly", lambda: p.attention(qkv, cache, 0, head)),
        ("heads share key heads evenly", lambda: p.attention(qkv, cache, 2**31 - 1, head)),
        ("heads share key heads evenly", lambda: p.attention(qkv, p.cache("f32", 2, 8, 2), 1, head)),
        ("queries, keys and values are one row", lambda: p.attention(wide, cache, 1, head)),
        ("queries, keys and values are one row", lambda: p.rotate_append(wide, head, cache, 1)),
        ("angles are of another head size", lambda: p.rotate_append(qkv, narrow, cache, 1)),
        ("attention gives head_size columns a head", lambda: p.attention(qkv, cache, 1, narrow)),
        ("a chunk is a number of positions", lambda: p.attention(qkv, cache, 1, head, chunk=-1)),
        ("a chunk is a number of positions", lambda: p.angles([1.0] * 4, wide, chunk=-1)),
        ("a norm's epsilon is 0 or more", lambda: p.rotate_append(qkv, head, cache, 1, norm_epsilon=-1e-5)),
        ("a norm's epsilon is 0 or more", lambda: p.rotate_append(qkv, head, cache, 1, norm_epsilon=float("nan"))),
        ("a temperature's floor is above 0", lambda: p.append(qkv, cache, 1, 0.0, 0.1)),
        ("a temperature's floor is above 0", lambda: p.append(qkv, cache, 1, 8192.0, float("inf"))),
        ("queries, keys and values are one row", lambda: p.append(wide, cache, 1)),
        ("heads share key heads evenly", lambda: p.append(qkv, cache, 0)),
        ("from 1 to 2\\^12 experts", lambda: p.routing(0)),
        ("from 1 to 2\\^12 experts", lambda: p.routing(4097)),
        ("a logit for each expert", lambda: p.route(narrow, wide, p.routing(5), head)),
        ("as wide as those they come from", lambda: p.route(narrow, wide, routing, narrow)),
        ("routed into another buffer", lambda: p.route(narrow, wide, routing, wide)),
        ("routed into another buffer", lambda: p.route(wide, head, routing, wide)),
        ("before experts have them", lambda: p.expert_linear([[owned], [owned]], unrouted, wide, narrow)),
        ("before experts have them", lambda: p.add_routed(unrouted, wide, head)),
        ("written to another buffer", lambda: p.expert_linear([[owned], [owned]], routing, wide, wide)),
        ("written to another buffer", lambda: p.add_routed(routing, wide, wide)),
        ("each expert has weights of its own", lambda: p.expert_linear([[owned]], routing, wide, narrow)),
        ("as wide as what it multiplies", lambda: p.expert_linear([[owned], [owned]], routing, narrow, narrow_two)),
        ("the rows of the weights are the columns", lambda: p.expert_linear([[owned], []], routing, wide, narrow)),
        (
            "of all experts are of one shape",
            lambda: p.expert_linear(
                [[weight(p, 2), weight(p, 2)], [weight(p, 1), weight(p, 3)]], routing, wide, narrow
            ),
        ),
        ("as wide as those they are added to", lambda: p.add_routed(routing, wide, narrow)),
        ("gate and up are as wide as what comes out", lambda: p.swiglu(wide, head)),
        (another, lambda: p.embed(weight(other), wide)),
        (another, lambda: p.embed(owned, foreign)),
        (another, lambda: p.gather(foreign, wide)),
        (another, lambda: p.rms_norm(foreign, np.ones(8, np.float32), 1e-5, wide)),
        (another, lambda: p.linear([owned], foreign, narrow)),
        (another, lambda: p.linear([weight(other)], wide, narrow)),
        (another, lambda: p.angles([1.0] * 4, foreign)),
        (another, lambda: p.rotate_append(qkv, wide, other.cache("f32", 1, 8, 2), 1)),
        (another, lambda: p.attention(qkv, other.cache("f32", 1, 8, 2), 1, head)),
        (another, lambda: p.swiglu(foreign, narrow)),
        (another, lambda: p.append(foreign, cache, 1)),
        (another, lambda: p.append(qkv, other.cache("f32", 1, 8, 2), 1)),
        (another, lambda: p.route(wide, foreign, routing, head)),
        (another, lambda: p.route(wide, wide, other.routing(2), head)),
        (another, lambda: p.expert_linear([[owned], [weight(other)]], routing, wide, narrow)),
        (another, lambda: p.expert_linear([[owned], [owned]], other.routing(2), wide, narrow)),
        (another, lambda: p.add_routed(routing, foreign, narrow)),
        (another, lambda: p.read(foreign, 0)),
        ("no step had so many rows", lambda: p.read(wide, 1)),
        ("a plan begins with an embedding", lambda: p.run(*map(integers, ([0], [1], [0], [0], [1], [])), 0)),
    ]


@pytest.mark.parametrize("case", range(len(refusals())))
def test_what_is_said_wrong_is_refused(case):
    message, call = refusals()[case]
    with pytest.raises(ValueError, match=message):
        call()


GOOD = {"tokens": [0, 1], "counts": [2], "starts": [0], "blocks": [0], "block_counts": [1], "rows": [1], "scored": 1}
BAD_STEPS = [
    ("a token is not in the vocabulary", {"tokens": [0, 4]}),
    ("a token is not in the vocabulary", {"tokens": [0, -1]}),
    ("a block is not in the cache", {"blocks": [2]}),
    ("a block is not in the cache", {"blocks": [-1]}),
    ("a row is not in the step", {"rows": [2]}),
    ("a row is not in the step", {"rows": [-1]}),
    ("scored rows are the first of all rows", {"scored": 2}),
    ("scored rows are the first of all rows", {"scored": -1}),
    ("a span has three numbers", {"starts": []}),
    ("a span has three numbers", {"block_counts": [1, 1]}),
    ("do not hold its positions", {"counts": [0]}),
    ("do not hold its positions", {"counts": [-2]}),
    ("do not hold its positions", {"starts": [-1]}),
    ("do not hold its positions", {"starts": [15]}),
    ("do not hold its positions", {"block_counts": [0]}),
    ("do not hold its positions", {"block_counts": [-1]}),
    ("positions are below 2\\^30", {"starts": [2**31 - 1]}),
    ("positions are below 2\\^30", {"starts": [2**30 - 1]}),
    ("spans are longer than what they are parts of", {"counts": [3]}),
    ("spans are longer than what they are parts of", {"block_counts": [2]}),
    ("every token of a step is in a span", {"counts": [1]}),
    ("every token of a step is in a span", {"tokens": [], "counts": [], "starts": [], "block_counts": [], "rows": [],
                                            "scored": 0}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "chunk_blocks"),
    [
        ("as many as blocks where a cache is chunked", None),
        ("as many as blocks where a cache is chunked", []),
        ("as many as blocks where a cache is chunked", [0, 0]),
        ("a block is not in the chunked cache", [3]),
        ("a block is not in the chunked cache", [-1]),
    ],
)
def test_a_table_of_chunked_caches_that_does_not_fit(message, chunk_blocks):
    one = fed()
    one.plan.cache("f32", 1, 2, 3, chunked=True)
    *lists, scored = GOOD.values()
    table = None if chunk_blocks is None else integers(chunk_blocks)
    with pytest.raises(ValueError, match=message):
        one.plan.run(*map(integers, lists), scored, table)
    one.plan.run(*map(integers, lists), scored, integers([2]))


def test_a_table_that_no_cache_needs_is_refused():
    *lists, scored = GOOD.values()
    with pytest.raises(ValueError, match="none elsewhere"):
        fed().plan.run(*map(integers, lists), scored, integers([0]))


def test_a_span_without_room_in_chunked_caches_alone():
    one = native.Plan(1, BEST)
    one.cache("f32", 1, 2, 3, chunked=True)
    one.embed(weight(one), one.buffer(8))
    with pytest.raises(ValueError, match="do not hold its positions"):
        one.run(*map(integers, ([0], [1], [16], [0], [1], [])), 0, integers([0]))


@pytest.mark.parametrize(("message", "change"), BAD_STEPS)
def test_a_step_that_does_not_fit_is_refused_and_the_next_one_runs(message, change):
    one = fed()

    def run(step):
        *lists, scored = step.values()
        one.plan.run(*map(integers, lists), scored)

    with pytest.raises(ValueError, match=message):
        run(GOOD | change)
    run(GOOD)
    np.testing.assert_array_equal(one.plan.read(one.inputs, 2), ONES[:2])


def test_the_smallest_of_several_caches_and_tables_counts():
    p = plan()
    first, second = p.buffer(8), p.buffer(8)
    p.embed(weight(p, rows=4), first)
    p.embed(weight(p, rows=9), second)
    p.cache("f32", 1, 2, 1)
    p.cache("f32", 1, 2, 5)
    with pytest.raises(ValueError, match="a token is not"):
        p.run(*map(integers, ([4], [1], [0], [0], [1], [])), 0)
    with pytest.raises(ValueError, match="a block is not"):
        p.run(*map(integers, ([3], [1], [0], [1], [1], [])), 0)


def test_only_rows_that_a_step_had_can_be_read():
    one = fed()
    one.run()
    with pytest.raises(ValueError, match="no step had so many rows"):
        one.plan.read(one.inputs, 1 << 40)
    with pytest.raises(TypeError):
        one.plan.read(one.inputs, -1)


def test_steps_added_after_a_step_find_what_they_read():
    """A product of quantised weights needs its input quantised, which nobody wanted in the first step."""
    one = fed()
    one.run()
    out = one.plan.buffer(3)
    data, _ = packed("F32", stored_rows("F32", np.ones((3, 8), np.float32)), 8, "Q8_0")
    one.plan.linear([one.plan.weight("Q8_0", 3, 8, data)], one.inputs, out)
    one.run()
    np.testing.assert_allclose(one.plan.read(out, 4), 8, rtol=1e-3)


def test_a_packed_array_that_would_be_copied_is_refused():
    """The copy would be packed into and thrown away."""
    memory = np.zeros(2 * native.packed_bytes("F32", 4, 8), np.uint8)
    read_only = memory[: memory.size // 2]
    read_only.flags.writeable = False
    for array in (memory[::2], read_only, memory[: memory.size // 2].view(np.int8)):
        with pytest.raises(TypeError):
            native.pack("F32", stored_rows("F32", ONES).reshape(-1), 4, 8, "F32", array)


def test_memory_lives_as_long_as_it_is_needed():
    """Weights that nobody else holds, and handles whose plan nobody else holds."""
    p = plan()
    out, normed = p.buffer(8), p.buffer(8)
    p.cache("f32", 1, 2, 1)
    p.embed(p.weight("F32", 4, 8, packed("F32", stored_rows("F32", 2 * ONES), 8)[0]), out)
    p.rms_norm(out, np.full(8, 3, np.float32), 0, normed)
    gc.collect()
    junk = [np.full(native.packed_bytes("F32", 4, 8), 255, np.uint8) for _ in range(50)]
    p.run(*map(integers, ([3], [1], [0], [0], [1], [])), 0)
    np.testing.assert_array_equal(p.read(out, 1), 2)
    np.testing.assert_array_equal(p.read(normed, 1), 3)
    del p, junk
    gc.collect()
    with pytest.raises(ValueError, match="another plan"):
        plan().gather(out, normed)


def test_one_plan_in_several_threads_runs_one_step_after_another():
    table = np.repeat(np.arange(400, dtype=np.float32)[:, None], 8, axis=1)
    one = Fed(table, threads=2)
    failures = []

    def work(seed):
        for length in np.random.default_rng(seed).integers(1, 400, 25).tolist():
            one.run(range(length))
            if not np.array_equal(one.plan.read(one.inputs, 1), table[:1]):
                failures.append(length)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_many_plans_come_and_go():
    """Their threads end with them."""
    before = len(_tasks())
    for threads in [1, 2, 4, 8] * 50:
        one = fed(threads=threads)
        if threads < 8:
            one.run()
    del one
    gc.collect()
    assert len(_tasks()) == before


def test_more_threads_than_cores_give_the_same():
    x = np.random.default_rng(0).normal(0, 1, (30, 64)).astype(np.float32)
    results = []
    for count in (1, 16):
        one = Fed(x, threads=count)
        out = one.plan.buffer(64)
        one.plan.linear([one.weight("F32", stored_rows("F32", x.repeat(3, 0)[:64]), 64)], one.inputs, out)
        for _ in range(20):
            one.run()
        results.append(one.plan.read(out, 30))
    np.testing.assert_array_equal(*results)


def test_an_idle_plan_uses_no_processor():
    plans = [fed(threads=4) for _ in range(3)]
    for one in plans:
        one.run()
    time.sleep(0.05)  # they may spin briefly
    before = time.process_time()
    time.sleep(1)
    assert time.process_time() - before < 0.02


def _tasks():
    from pathlib import Path

    return list(Path("/proc/self/task").iterdir())
