"""verl's checkpoints on disk: where to go on, what to remove, and the policy in them in Hugging Face layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file, save_file

from asymgrpo.training.verl.task import BEST_STEP

TRACKER = "latest_checkpointed_iteration.txt"
PREFIX = "global_step_"


def resume_point(checkpoints: Path) -> int:
    """The step of the newest whole checkpoint, 0 if there is none; everything else in the directory is removed.

    verl finds its checkpoint through a small file that a kill may leave empty.
    """
    whole = {step_of(place): place for place in checkpoints.glob(f"{PREFIX}*") if _is_whole(place)}
    tracker = checkpoints / TRACKER
    named = _named(tracker)
    # a checkpoint that the tracker does not name yet is whole if its last file (data.pt) is there
    step = max(whole, default=0)
    for place in checkpoints.glob(f"{PREFIX}*"):
        if place != whole.get(step):
            shutil.rmtree(place)
    if step == 0:
        tracker.unlink(missing_ok=True)
    elif named != step:
        temporary = tracker.with_suffix(".writing")
        temporary.write_text(str(step))
        temporary.replace(tracker)
    return step


def remove_old(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest checkpoints."""
    for place in sorted(checkpoints.glob(f"{PREFIX}*"), key=step_of)[:-keep]:
        shutil.rmtree(place, ignore_errors=True)


def step_of(place: Path) -> int:
    """The step in a checkpoint's name."""
    return int(place.name.removeprefix(PREFIX))


def export(policy: Path, place: Path, half: bool) -> None:
    """Copy a policy in Hugging Face layout, whole or not at all; with `half` its weights become bfloat16.

    verl trains and exports float32 master weights; rollouts are bfloat16 on GPUs, and so is what is evaluated.
    """
    temporary = place.with_name(f".{place.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(policy, temporary)
    (temporary / BEST_STEP).unlink(missing_ok=True)
    if half:
        for weights in temporary.glob("*.safetensors"):
            tensors = load_file(weights)
            save_file(
                {name: t.bfloat16() if t.dtype == torch.float32 else t for name, t in tensors.items()},
                weights,
                metadata={"format": "pt"},
            )
    config = json.loads((temporary / "config.json").read_text())
    config |= {"dtype": "bfloat16" if half else "float32", "torch_dtype": "bfloat16" if half else "float32"}
    (temporary / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary.rename(place)


def device(gpus: int) -> torch.device:
    """What a run used, for its record."""
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")


def _is_whole(place: Path) -> bool:
    """data.pt is the last thing that verl writes into a checkpoint; its own end is what makes it a zip archive."""
    return is_zipfile(place / "data.pt") and any((place / "actor").glob("model_world_size_*"))


def _named(tracker: Path) -> int | None:
    try:
        return int(tracker.read_text())
    except (OSError, ValueError):
        return None
