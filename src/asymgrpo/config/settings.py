"""Settings with their provenance: ``{value: X, provenance: WORD, note: TEXT}`` in YAML, flat and immutable here."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

PROVENANCES = ("stated", "derived", "v1", "assumed", "inferred", "ours")


@dataclass(frozen=True)
class Setting:
    """One value and where it comes from; `provenance` is one of :data:`PROVENANCES`, explained in config/README.md."""

    value: Any
    provenance: str
    note: str = ""


Key = tuple[str, ...]  # of keys; not joined by dots, because a key (t0.4) may hold one
Settings = Mapping[Key, Setting]
T = TypeVar("T")


def flatten(node: Mapping[str, Any], path: Key = ()) -> dict[Key, Setting]:
    """Every setting below `node`, by its path. A setting whose value is a mapping gives one for each leaf of it.

    Plain entries (labels, descriptions) are no settings and are left out.
    """
    found: dict[Key, Setting] = {}
    for key, child in node.items():
        here = (*path, key)
        if not isinstance(child, Mapping):
            continue
        if "value" in child and "provenance" in child:
            found.update(_leaves(child["value"], here, child["provenance"], child.get("note", "")))
        else:
            found.update(flatten(child, here))
    return found


def _leaves(value: Any, path: Key, provenance: str, note: str) -> dict[Key, Setting]:
    if not isinstance(value, Mapping):
        return {path: Setting(value, provenance, note)}
    return {k: v for key, inner in value.items() for k, v in _leaves(inner, (*path, key), provenance, note).items()}


def below(settings: Mapping[Key, T], *prefix: str) -> dict[Key, T]:
    """The settings whose path begins with `prefix`, without it; the setting at `prefix` itself has the path ()."""
    return {path[len(prefix) :]: setting for path, setting in settings.items() if path[: len(prefix)] == prefix}


def under(prefix: str, settings: Settings) -> dict[Key, Setting]:
    """The same settings, one level deeper."""
    return {(prefix, *path): setting for path, setting in settings.items()}


def values(settings: Settings) -> dict[str, Any]:
    """Settings as nested plain dicts of values only: a fresh copy, free to be changed."""
    nested: dict[str, Any] = {}
    for path, setting in settings.items():
        place = nested
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = copy.deepcopy(setting.value)
    return nested
