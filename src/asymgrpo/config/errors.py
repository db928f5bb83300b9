"""One message per mistake in the configuration: the file, the key, what was found, what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


class ConfigError(ValueError):
    """The configuration is wrong; the message is meant for the person who edits it."""


def mistake(file: str, key: str, problem: str, expected: str = "") -> ConfigError:
    """A ConfigError whose message reads ``file: key: problem; expected ...``."""
    place = ": ".join(part for part in (file, key) if part)
    return ConfigError(f"{place}: {problem}; expected {expected}" if expected else f"{place}: {problem}")


def unknown(file: str, key: str, kind: str, name: object, known: Iterable[str]) -> ConfigError:
    """The mistake of naming something that does not exist, with the nearest name that does."""
    known = list(known)
    return mistake(file, key, f"unknown {kind} {name!r}{did_you_mean(name, known)}", f"one of {', '.join(known)}")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)``, or nothing if no known name is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def show(value: Any) -> str:
    """A value as the message shows it: with its kind, so that "0.5" and 0.5 are told apart."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, Mapping):
        return f"a mapping with the keys {', '.join(map(str, value))}" if value else "an empty mapping"
    return f"the list {value}" if value else "an empty list"
