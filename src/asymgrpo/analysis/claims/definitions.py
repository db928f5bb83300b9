"""From the claims in config/claims.yaml to statements: one quantity, one window, one contrast, one backbone each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

from asymgrpo.analysis.claims.quantities import QUANTITIES

if TYPE_CHECKING:
    from asymgrpo.config import Study

ARTEFACT = "claims"
FINAL, ALPHA_STEPS = "final", "alpha-steps"


@dataclass(frozen=True)
class Statement:
    """What must hold of one backbone.

    Attributes:
        id: unique, of the claim, the quantity, the contrast and the backbone.
        text: in words.
        backbone: its name; empty if the scale has none in that role.
        quantity: a key of :data:`asymgrpo.analysis.claims.quantities.QUANTITIES`.
        window: in words, for this scale.
        windows: (first, last) training step of each part; empty for the final evaluation.
        of: method.
        minus: the method that it is compared with; empty for none.
        direction: a key of :data:`asymgrpo.analysis.claims.statistics.DIRECTIONS`.
        threshold: in the quantity's unit.
        reason: why it is asked like this.
        missing: why it cannot be tested at this scale; empty if it can.
    """

    id: str
    text: str
    backbone: str
    quantity: str
    window: str
    windows: tuple[tuple[int, int], ...]
    of: str
    minus: str
    direction: str
    threshold: float
    reason: str
    missing: str


@dataclass(frozen=True)
class Claim:
    """A claim with its statements, in order; ``combine``: whether it takes ``all`` of them or ``any`` one."""

    name: str
    title: str
    own: bool
    combine: str
    figure: str
    statements: tuple[Statement, ...]


def claims(study: Study) -> list[Claim]:
    """Every claim, expanded over the backbones and the contrasts that it speaks of."""
    return [
        Claim(
            name=name,
            title=" ".join(entry["title"].split()),
            own=entry.get("own", False),
            combine=entry.get("combine", "all"),
            figure=entry["figure"],
            statements=tuple(
                _statement(study, name, part, backbone, of, minus)
                for part in entry["statements"]
                for backbone in _backbones(study, part["backbones"])
                for of, minus in _contrasts(part)
            ),
        )
        for name, entry in study.claims["claims"].items()
    ]


def _backbones(study: Study, roles: list[str]) -> Iterator[str]:
    """Those in these roles; an empty name where the scale has none, but for `others`, of which there may be none."""
    names = list(study.backbones)
    for role in roles:
        found = {"primary": names[:1], "second": names[1:2], "others": names[2:]}[role]
        yield from found or ([] if role == "others" else [""])


def _contrasts(part: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "chain" in part:
        return [(after, before) for before, after in pairwise(part["chain"])]
    return list(product(part["of"], part.get("minus", [""])))


def _statement(study: Study, claim: str, part: Mapping[str, Any], backbone: str, of: str, minus: str) -> Statement:
    quantity, direction, threshold = part["quantity"], part["direction"], float(part.get("threshold", 0.0))
    title, windows = _window(study, part["window"])
    contrast = f"{of}-vs-{minus}" if minus else of
    place = backbone or "no-second-backbone"
    return Statement(
        id=f"{claim}-{quantity.replace('_', '-')}-{contrast}-{place}",
        text=_words(study, quantity, title, of, minus, direction, threshold),
        backbone=backbone,
        quantity=quantity,
        window=_steps(title, windows),
        windows=windows,
        of=of,
        minus=minus,
        direction=direction,
        threshold=threshold,
        reason=" ".join(part.get("reason", "").split()),
        missing=_missing(study, backbone, [name for name in (of, minus) if name]),
    )


def _missing(study: Study, backbone: str, methods: list[str]) -> str:
    if not backbone:
        return "the scale has no second backbone"
    there = study.methods_of(ARTEFACT, backbone)
    absent = [study.every_method[name].label for name in methods if name not in there]
    label = study.backbones[backbone].label
    return f"{' and '.join(absent)} not run on {label} at this scale" if absent else ""


def _window(study: Study, name: str) -> tuple[str, tuple[tuple[int, int], ...]]:
    """In words, and the steps of each part; one that has no step is (k + 1, k)."""
    steps = int(study.settings["training"]["steps"])
    if name == FINAL:
        return "last policy", ()
    if name == ALPHA_STEPS:
        last = min(steps, int(study.artefact("table1").settings["alpha_steps"]))
        return f"first {last} steps", ((1, last),)
    entry = study.claims["windows"][name]
    windows = tuple((int(start * steps + 1e-9) + 1, int(end * steps + 1e-9)) for start, end in entry["shares"])
    return entry["title"], windows


def _steps(title: str, windows: tuple[tuple[int, int], ...]) -> str:
    if not windows:
        return title
    return "steps " + ", ".join(f"{first}–{last}" if last > first else str(first) for first, last in windows)


def _words(study: Study, quantity: str, window: str, of: str, minus: str, direction: str, threshold: float) -> str:
    """``Pos-Only (0.5): higher entropy than REINFORCE, throughout``."""
    about, label = QUANTITIES[quantity], study.every_method[of].label
    margin = f"{threshold:g} {about.unit}" if threshold or direction == "within" else ""
    if not minus:
        said = (
            f"{about.title} {direction} {threshold:g}" if direction != "within" else f"{about.title} within ±{margin}"
        )
    elif direction == "within":
        said = f"{about.title} within ±{margin} of that of {study.every_method[minus].label}"
    else:
        said = f"{'higher' if direction == 'above' else 'lower'} {about.title} than {study.every_method[minus].label}"
        said += f", by more than {margin}" if margin else ""
    return f"{label}: {said}, {window}"
