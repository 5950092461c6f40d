"""One product of the installed kernels with each instruction set of this machine, against numpy."""

import numpy as np

from quipu import native

assert native.available(), native.MISSING
values = np.arange(64 * 32, dtype=np.float32).reshape(64, 32) / 1024
size = native.packed_bytes("F32", *values.shape)
memory = np.empty(size + 64, np.uint8)
data = memory[-memory.ctypes.data % 64 :][:size]
native.pack("F32", values.view(np.uint8).reshape(-1), *values.shape, "F32", data)
for instructions in native.instruction_sets():
    plan = native.Plan(1, instructions)
    plan.cache("f16", 1, 32, 1)  # not used, but a token has its place in one
    weight = plan.weight("F32", *values.shape, data)
    row, gathered, product = plan.buffer(32), plan.buffer(32), plan.buffer(64)
    plan.embed(weight, row)
    plan.gather(row, gathered)
    plan.linear([weight], gathered, product, extent="scored")
    one, none = np.ones(1, np.int32), np.zeros(1, np.int32)
    plan.run(3 * one, one, none, none, one, none, 1)
    np.testing.assert_allclose(plan.read(product, 1)[0], values @ values[3], rtol=1e-5)
    print(f"kernels for {instructions}: right")
