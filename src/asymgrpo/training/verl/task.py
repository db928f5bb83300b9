"""What the launcher tells the trainer besides verl's configuration, and where the two keep their files."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

BEST_STEP = "step.txt"


@dataclass(frozen=True)
class Task:
    """One run, as the trainer needs to know it."""

    name: str
    """backbone/method/seed-n, for messages."""
    work: str
    """Directory for everything that is not a declared output, absolute."""
    select_on: str
    """Benchmark that the best policy is chosen on."""
    problems: dict[str, int]
    """Benchmark -> problems; a validation that returns another number is an error."""

    @property
    def file(self) -> Path:
        """Where this is written down."""
        return Path(self.work, "task.json")

    @property
    def journal(self) -> Path:
        """The trainer's journal."""
        return Path(self.work, "journal.jsonl")

    @property
    def checkpoints(self) -> Path:
        """verl's `trainer.default_local_dir`."""
        return Path(self.work, "checkpoints")

    @property
    def best(self) -> Path:
        """The best policy so far, in Hugging Face layout."""
        return Path(self.work, "best")

    def exported(self, step: int) -> Path:
        """The policy of a checkpoint in Hugging Face layout, as verl writes it."""
        return self.checkpoints / f"global_step_{step}" / "actor" / "huggingface"

    def write(self) -> None:
        """For the process that trains."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, path: Path) -> Task:
        """As it was written."""
        return cls(**json.loads(path.read_text()))


def keep(exported: Path, place: Path, step: int) -> None:
    """Keep the policy exported after `step` in `place`, whole or not at all; as links, so it takes no room."""
    temporary = place.with_name(f".{place.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(exported, temporary, copy_function=os.link)
    (temporary / BEST_STEP).write_text(f"{step}\n")
    shutil.rmtree(place, ignore_errors=True)
    temporary.rename(place)


def saved_step(work: Path) -> int:
    """The step of the newest checkpoint in a run's work directory, as its files' names say; 0 if there is none."""
    places = (file.parent.name for file in work.glob("checkpoints/global_step_*/data.pt"))  # that file is the last
    return max((int(name.rpartition("_")[2]) for name in places), default=0)


def kept_step(place: Path) -> int:
    """The step of the policy that :func:`keep` put there; 0 if there is none."""
    try:
        return int((place / BEST_STEP).read_text())
    except (OSError, ValueError):
        return 0
