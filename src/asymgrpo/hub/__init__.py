"""Data and models from the Hugging Face hub, at pinned revisions; nothing here is needed once they are in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asymgrpo.hub.fetching import FetchError, fetch_dataset, fetch_model
from asymgrpo.hub.pins import Pin, Pins

if TYPE_CHECKING:
    from asymgrpo.config import Study

__all__ = ["FetchError", "Pin", "Pins", "fetch", "fetch_dataset", "fetch_model"]


def fetch(study: Study, names: Sequence[str] = ()) -> Iterator[str]:
    """Fetch, or check, what a study takes from the hub, and say of each what it is and where.

    Args:
        study: of one scale.
        names: of benchmarks, datasets and backbones; all of them if empty.

    Raises:
        ValueError: a name is none of those.
        FetchError: the first thing that cannot be had.
    """
    known = _known(study, Pins(study.root))
    for name in names:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "no name"
            raise ValueError(f"{name}: is not fetched at scale {study.scale}; expected {expected}")
    for name in names or known:
        directory, get = known[name]
        record = get(directory)
        yield f"{directory}/: {record['repository']}, revision {record['revision']}; licence: {record['licence']}"


def _known(study: Study, pins: Pins) -> dict[str, tuple[Path, Callable[[Path], dict[str, Any]]]]:
    """Name -> directory, and what fills it."""
    known: dict[str, tuple[Path, Callable[[Path], dict[str, Any]]]] = {}
    for problems in study.fetched_problems().values():
        s = problems.settings
        get = partial(fetch_dataset, s["repository"], s["revision"], s["content"]["files"], s["licence"], pins=pins)
        known[problems.name] = (study.raw_dir(problems.name), get)
    for backbone in study.backbones.values():
        if model := backbone.model:
            load = partial(fetch_model, model["repository"], model["revision"], model["licence"], pins=pins)
            known[backbone.name] = (study.model_dir(backbone.name), load)
    return known
