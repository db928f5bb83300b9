"""config/pins.yaml: what was fetched first, and what every later fetch is held to.

A revision or a checksum that config/ does not give is that of the first fetch (trust on first use)::

    dataset:
      HuggingFaceH4/aime_2024:
        revision: 2fe88a2f1091d5048c0f36abc874fb997b3dd99a
        files: {data/train-00000-of-00001.parquet: <sha256>}
    model:
      ...
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FILE = Path("config", "pins.yaml")
_HEAD = (
    "# What was fetched first, and what every later fetch is held to. Written by `asymgrpo fetch`; to be committed.\n"
)


@dataclass(frozen=True)
class Pin:
    """What is known of a repository."""

    revision: str
    files: Mapping[str, str]
    """path -> sha256"""


class Pins:
    """The pins of the project at `root`."""

    def __init__(self, root: Path) -> None:
        self.path = root / FILE
        self.lock = root / "results" / ".pins.lock"

    def get(self, kind: str, repository: str) -> Pin | None:
        """What is known of a `dataset` or `model`; None before its first fetch.

        Raises:
            ValueError: the file is not as this module writes it.
        """
        entry = self._read().get(kind, {}).get(repository)
        return Pin(entry["revision"], entry["files"]) if entry else None

    def add(self, kind: str, repository: str, revision: str, files: Mapping[str, str]) -> None:
        """Keep a revision and checksums beside those that are there; fetches side by side wait for each other."""
        with self._alone():
            pins = self._read()
            before = pins.get(kind, {}).get(repository, {"files": {}})
            entry = {"revision": revision, "files": dict(sorted({**before["files"], **files}.items()))}
            if before == entry:
                return
            pins.setdefault(kind, {})[repository] = entry
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
            temporary.write_text(_HEAD + yaml.safe_dump(pins, width=1000), encoding="utf-8")
            temporary.replace(self.path)

    def _read(self) -> dict[str, Any]:
        if not self.path.is_file():
            return {}
        try:
            pins = yaml.safe_load(self.path.read_text(encoding="utf-8")) or {}
            for entries in pins.values():
                for entry in entries.values():
                    texts = [entry["revision"], *entry["files"].values()]
                    if len(entry) != 2 or not all(isinstance(text, str) for text in texts):
                        raise ValueError
        except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError):
            expected = "{dataset or model: {repository: {revision: ..., files: {path: sha256}}}}"
            raise ValueError(f"{self.path}: expected {expected}, as `asymgrpo fetch` writes it") from None
        return pins

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.lock.parent.mkdir(parents=True, exist_ok=True)
        with self.lock.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
