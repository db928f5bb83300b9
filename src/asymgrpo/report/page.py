"""The page: plain data and the files of `assets/` as one HTML file that needs nothing else and may reach nothing else.

What keeps text from becoming code: Jinja2 escapes every value; data for scripts is base64 of compressed JSON, which no
parser of HTML can end early; scripts make nodes, never markup (`require-trusted-types-for` has browsers refuse the
latter); and the content security policy lets nothing run but the scripts of this file, by their hashes, and nothing be
fetched at all.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from asymgrpo.report import claims, curves
from asymgrpo.report.collect import Report
from asymgrpo.report.responses import OF_EACH

ASSETS = Path(__file__).parent / "assets"
STYLES = ("vendor/uPlot-1.6.32.min.css", "style.css")
SCRIPTS = (
    "vendor/uPlot-1.6.32.min.js", "core.js", "tables.js", "figures.js", "curves.js", "runs.js", "responses.js",
)  # fmt: skip
MARKS = {"reproduced": "✓", "contradicted": "✗", "inconclusive": "?", "untested": "–"}


def render(report: Report) -> str:
    """The page as text; the same report gives the same text."""
    styles = [_asset(name) for name in STYLES]
    scripts = [_asset(name) for name in SCRIPTS]
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            facts=report.facts,
            policy=_policy(styles, scripts),
            styles=styles,
            scripts=scripts,
            data={name: Markup(packed(value)) for name, value in _data(report).items()},
            verdicts=claims.VERDICTS,
            marks=MARKS,
            bars=claims.bars,
            tally=claims.tally(report.claims["claims"]) if report.claims else [],
            of_each=OF_EACH,
            most_points=curves.MOST_POINTS,
        )
    )


def _data(report: Report) -> dict[str, Any]:
    return {
        "names": {
            "methods": report.methods, "backbones": report.backbones, "benchmarks": report.benchmarks,
            "choices": report.choices, "band": report.band, "smoothing": report.smoothing,
        },
        "curves": report.panels,
        "runs": report.runs,
        "responses": report.responses,
    }  # fmt: skip


def packed(value: Any) -> str:
    """Data as base64 of zlib-compressed JSON; ValueError for NaN, which JSON does not have."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def unpacked(text: str) -> Any:
    """What :func:`packed` has packed."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


@cache
def _asset(name: str) -> Markup:
    text = (ASSETS / name).read_text(encoding="utf-8").strip()
    if "</" + ("style" if name.endswith(".css") else "script") in text.lower():
        raise ValueError(f"{ASSETS / name}: holds the end of its own element; expected none, written in two parts")
    return Markup(text)


def _policy(styles: list[Markup], scripts: list[Markup]) -> str:
    """The content security policy: no address is reached, nothing runs or is styled but what is in this file."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src " + " ".join(map(_hash, scripts)),
            "style-src " + " ".join(map(_hash, styles)),
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"signed": _signed, "number": _number, "p": _p, "hours": _hours, "interval": _interval}
    return environment


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3g}".replace("-", "−")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}".replace("-", "−")


def _p(value: float | None) -> str:
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _hours(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2g}" if value < 1 else f"{value:.1f}"


def _interval(one: Mapping[str, Any]) -> str:
    """``+0.03 [+0.01, +0.05]``."""
    if one.get("low") is None or one.get("high") is None:
        return _signed(one.get("effect"))
    return f"{_signed(one.get('effect'))} [{_signed(one['low'])}, {_signed(one['high'])}]"
