"""vLLM's side of verl on a CPU: a worker extension that lets weights be loaded again."""

from __future__ import annotations

from typing import Any

import vllm._custom_ops as operations
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class WorkerExtension(vLLMColocateWorkerExtension):
    """verl's own, for a CPU."""

    def __new__(cls, **kwargs: Any) -> Any:
        """Without oneDNN: vLLM would repack linear weights at load and drop the originals that are to be replaced."""
        operations._supports_onednn = False
        return super().__new__(cls, **kwargs)

    def _update_weights(self, weights: Any, peft_config: Any, base_sync_done: bool) -> None:
        # out of the shared bucket, which is filled anew for the next weights
        super()._update_weights([(name, tensor.clone()) for name, tensor in weights], peft_config, base_sync_done)
