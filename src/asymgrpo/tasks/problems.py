"""Rows of a file of problems (:data:`asymgrpo.records.BENCHMARK`): training sets and benchmarks have the same.

What a file as a whole says of itself - source, licence, how many problems there were - is in its parquet metadata
(:func:`about`), so that it cannot be parted from the problems.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from asymgrpo import records

Message = dict[str, str]
"""Of a chat: role and content."""

ANSWER_TYPES = (
    "countdown",
    "countdown-value",
    "numerical",
    "expression",
    "equation",
    "tuple",
    "interval",
    "multiple",
)
"""How a ground truth is compared.

`countdown` simulates every step of a solution; `countdown-value` is the number that the last step's operation gives,
whatever result the response states; `multiple` is several answers in any order, separated by commas outside brackets.
"""

_KEY = b"asymgrpo"


def as_messages(text: str) -> list[Message]:
    """A prompt of one message by the user."""
    return [{"role": "user", "content": text}]


def text_of(prompt: Sequence[Message]) -> str:
    """The text of such a prompt.

    Raises:
        ValueError: it has another number of messages, or another role.
    """
    if [message["role"] for message in prompt] != ["user"]:
        raise ValueError(f"prompt: expected one message by the user, found {list(prompt)}")
    return prompt[0]["content"]


def write(path: Path, rows: Iterable[Mapping[str, Any]], about: Mapping[str, Any] | None = None) -> None:
    """Write problems, with what the file says of itself (plain values)."""
    schema = records.BENCHMARK
    if about is not None:
        schema = schema.with_metadata({_KEY: json.dumps(about, sort_keys=True)})
    records.write(path, rows, schema)


def about(path: Path) -> dict[str, Any]:
    """What a file of problems says of itself; nothing for generated ones."""
    return json.loads((pq.read_schema(path).metadata or {}).get(_KEY, b"{}"))
