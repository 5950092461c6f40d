"""Which way a model is computed: quipu's own kernels on a CPU, or torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from quipu import native
from quipu.engine.footprint import KV_BYTES
from quipu.engine.packing import QUANTIZATIONS
from quipu.engine.runner import Backend
from quipu.errors import InvalidRequest
from quipu.model.checkpoint import Checkpoint
from quipu.model.weights import Tensor

DTYPES = ("auto", "bfloat16", "float16", "float32")
KV_DTYPES = ("auto", *KV_BYTES)
RUNNERS = ("auto", "native", "torch")
GPU_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/kfd"), Path("/dev/dxg"))
"""One of them is there where the driver of a GPU is: NVIDIA's, AMD's, or that of Windows below Linux."""


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The options of quipu.load that say how to compute. Raises InvalidRequest for one that is not known."""

    runner: str = "auto"
    device: str = "auto"
    dtype: str = "auto"
    kv_dtype: str = "auto"
    quantize: str | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        known: dict[str, Sequence[str | None]] = {
            "runner": RUNNERS,
            "dtype": DTYPES,
            "kv_dtype": KV_DTYPES,
            "quantize": (None, *QUANTIZATIONS),
        }
        for option, values in known.items():
            if getattr(self, option) not in values:
                names = ", ".join(each for each in values if each is not None)
                raise InvalidRequest(f"{option} is {getattr(self, option)!r}; it must be one of {names}", param=option)

    def backend(
        self, checkpoint: Checkpoint, tensors: Mapping[str, Tensor], identity: Mapping[str, Any] | None
    ) -> Backend:
        """How ``tensors``, those of ``checkpoint`` or adapted from them, will be computed.

        ``identity`` names what is packed for the native kernels; see packed.packed_weights. Raises InvalidRequest
        where the options cannot be met together, or not on this machine.
        """
        if self._runs_natively():
            from quipu.engine.native_backend import NativeBackend

            return NativeBackend(
                checkpoint.config,
                tensors,
                dtype=self.dtype,
                quantize=self.quantize,
                kv_dtype=self.kv_dtype,
                threads=self.threads,
                identity=identity,
                vision=checkpoint.vision,
            )
        self._refuse_native_options()
        torch_runner = _torch_runner()
        device = torch_runner.find_device(self.device)
        found: Backend = torch_runner.TorchBackend(
            checkpoint.config, tensors, checkpoint.run_dtype(self.dtype), device, self.threads, checkpoint.vision
        )
        return found

    def _runs_natively(self) -> bool:
        """Whether the native kernels compute; raises InvalidRequest where they are asked for and cannot."""
        on_cpu = self.device in ("auto", "cpu")
        if self.runner == "native" and not on_cpu:
            raise InvalidRequest(
                f"the native runner computes on the CPU, not on {self.device}; use runner torch", param="device"
            )
        if self.runner == "torch" or not on_cpu:
            return False
        if self.runner == "auto" and self.device == "auto" and _torch_sees_gpu():
            return False
        if native.available():
            return True
        if self.runner == "auto" and find_spec("torch") is not None:
            return False
        raise InvalidRequest(native.MISSING)

    def _refuse_native_options(self) -> None:
        given = {"kv_dtype": None if self.kv_dtype == "auto" else self.kv_dtype, "quantize": self.quantize}
        for option, value in given.items():
            if value is not None:
                raise InvalidRequest(
                    f"{option} {value} is for the native runner, and this model runs on torch; leave it out, or use "
                    "device cpu and runner native",
                    param=option,
                )


def _torch_sees_gpu() -> bool:
    """Torch, which takes a second to import, is asked only where a driver is; it may be built for the CPU alone."""
    if not any(device.exists() for device in GPU_DEVICES):
        return False
    try:
        device = _torch_runner().find_device("auto")
    except InvalidRequest:
        return False
    return bool(device.type == "cuda")


def _torch_runner() -> ModuleType:
    try:
        from quipu.engine import torch_runner
    except ImportError as error:
        raise InvalidRequest(
            f"running a model this way needs torch, which could not be imported ({error}); install it with: "
            "pip install 'quipu-llama[torch]', or use device cpu and runner native"
        ) from error
    return torch_runner
