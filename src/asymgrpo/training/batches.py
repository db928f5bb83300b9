"""Which prompts a step trains on: the same for every method and every backend of a seed."""

from __future__ import annotations

import torch
from torch import Tensor

from asymgrpo.training.spec import stream_seed


def problems_of_step(seed: int, step: int, available: int, wanted: int) -> Tensor:
    """Indices (wanted,) of the step's prompts: epochs in random order, the last partial batch of an epoch dropped.

    They depend on the seed only, so that the methods of one seed see the same prompts.
    """
    per_epoch = available // wanted
    epoch, position = divmod(step - 1, per_epoch)
    generator = torch.Generator().manual_seed(stream_seed("prompts", seed, epoch))
    return torch.randperm(available, generator=generator)[position * wanted : (position + 1) * wanted]
