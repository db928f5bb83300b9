"""Figures for a page: matplotlib's SVG, made smaller, as an address that holds the whole picture."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

_COORDINATES = re.compile(r'( d="| points="| x="| y="|translate\()([^")]*)')
_FRACTION = re.compile(r"(\.\d\d)\d+")
_SIZE = re.compile(r'<svg [^>]*?viewBox="0 0 ([\d.]+) ([\d.]+)"', re.DOTALL)


@dataclass(frozen=True)
class Picture:
    """An image: its address, and its width and height in CSS pixels."""

    address: str
    width: int
    height: int


def picture(stem: Path) -> Picture | None:
    """The figure of this path without its ending: the SVG, or the PNG where there is none; None if neither is there."""
    svg, png = stem.with_name(stem.name + ".svg"), stem.with_name(stem.name + ".png")
    if svg.is_file():
        return _svg(svg.read_text(encoding="utf-8"))
    if png.is_file():
        data = png.read_bytes()
        width, height = (int.from_bytes(data[start : start + 4]) for start in (16, 20))
        return Picture("data:image/png;base64," + base64.b64encode(data).decode(), width, height)
    return None


def _svg(text: str) -> Picture:
    size = _SIZE.search(text)
    width, height = (float(part) * 4 / 3 for part in size.groups()) if size else (528.0, 300.0)  # points to pixels
    address = "data:image/svg+xml;charset=utf-8," + quote(shrink(text), safe=" !$'()*+,-./:;=?@_~|{}[]^")
    return Picture(address, round(width), round(height))


def shrink(svg: str) -> str:
    """The same picture with coordinates to a hundredth of a point, without metadata and line breaks."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _COORDINATES.sub(lambda found: found.group(1) + _FRACTION.sub(r"\1", found.group(2)), svg)
    svg = re.sub(r">\s+<", "><", re.sub(r"\s*\n\s*", " ", svg))
    return svg.replace('"', "'") if "'" not in svg else svg
