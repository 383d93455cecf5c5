"""Two kinds of picture, as small SVG files: lines over a logarithmic plane, and dots on a logarithmic line.

Every series has a colour of the palette of Okabe and Ito, a mark of its own and its name beside it, so that nothing
depends on telling colours apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10
from statistics import median
from typing import Final

COLOURS: Final = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
DASHES: Final = ("", "8 3", "2 3", "10 3 2 3", "5 5", "1 4", "12 4", "3 1")
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 80, 190, 46, 44


class Scale:
    """A logarithmic axis between two pixels, from one round number (1, 2, 5, 10, ...) to another."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        decades = range(floor(log10(min(values))), ceil(log10(max(values))) + 1)
        rounds = [digit * 10.0**power for power in decades for digit in (1, 2, 5)]
        low = max(mark for mark in rounds if mark <= min(values))
        high = min(mark for mark in rounds if mark >= max(values) and mark > low)
        self.marks = [mark for mark in rounds if low <= mark <= high]
        self._start, self._end = start, end
        self._low, self._span = log10(low), log10(high / low)

    def __call__(self, value: float) -> float:
        share = (log10(value) - self._low) / self._span
        return round(self._start + share * (self._end - self._start), 1)


def _page(height: float, title: str, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="sans-serif" '
        f'font-size="13" role="img"><title>{escape(title)}</title>'
    )
    words = f'<text x="{LEFT}" y="24" font-size="16" font-weight="bold">{escape(title)}</text>'
    return "\n".join((head, '<rect width="100%" height="100%" fill="#ffffff"/>', words, *parts, "</svg>", ""))


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#333333") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="#dddddd"/>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def lines(title: str, across: str, series: Mapping[str, Sequence[tuple[float, float]]], order: Sequence[str]) -> str:
    """One line for each series of (x, y), both logarithmic. `order`: all names that may occur in any picture, so that
    one looks the same in each."""
    height = 460
    points = [point for line in series.values() for point in line]
    columns = sorted({point[0] for point in points})
    x = Scale(columns, LEFT, WIDTH - RIGHT)
    y = Scale([point[1] for point in points], height - BOTTOM, TOP)
    parts = []
    for mark in columns:
        parts += [_line(x(mark), TOP, x(mark), height - BOTTOM)]
        parts += [_text(x(mark), height - BOTTOM + 18, _number(mark), "middle")]
    for mark in y.marks:
        parts += [_line(LEFT, y(mark), WIDTH - RIGHT, y(mark)), _text(LEFT - 8, y(mark) + 4, _number(mark), "end")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 8, across, "middle"))
    ends = sorted((y(line[-1][1]), name) for name, line in series.items())
    label_at: dict[str, float] = {}
    above = 0.0
    for end, name in ends:  # Names that would lie on each other are moved apart.
        label_at[name] = above = max(end + 4, above + 15)
    for name, line in series.items():
        i = order.index(name)
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
        path = " ".join(f"{x(px):g},{y(py):g}" for px, py in line)
        width = 3 if i == 0 else 1.8
        look = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"'
        parts.append(f'<polyline points="{path}" {look}/>')
        parts += [f'<circle cx="{x(px):g}" cy="{y(py):g}" r="3" fill="{colour}"/>' for px, py in line]
        parts.append(_text(x(line[-1][0]) + 10, label_at[name], name, colour=colour))
    return _page(height, title, parts)


def dots(title: str, across: str, series: Mapping[str, Sequence[float]], order: Sequence[str]) -> str:
    """One row for each series, a dot for every value and a bar at the median."""
    row = 34
    height = TOP + row * len(series) + BOTTOM
    x = Scale([value for values in series.values() for value in values], LEFT + 90, WIDTH - 40)
    parts = []
    for mark in x.marks:
        parts += [_line(x(mark), TOP, x(mark), height - BOTTOM)]
        parts += [_text(x(mark), height - BOTTOM + 18, _number(mark), "middle")]
    parts.append(_text((LEFT + WIDTH) / 2, height - 8, across, "middle"))
    for i, (name, values) in enumerate(series.items()):
        at, colour = TOP + row * (i + 0.5), COLOURS[order.index(name) % len(COLOURS)]
        middle = median(values)
        parts.append(_text(LEFT + 78, at + 4, name, "end"))
        parts += [f'<circle cx="{x(v):g}" cy="{at:g}" r="4" fill="{colour}" fill-opacity="0.5"/>' for v in values]
        parts.append(f'<rect x="{x(middle) - 1:g}" y="{at - 11:g}" width="2.5" height="22" fill="{colour}"/>')
    return _page(height, title, parts)
