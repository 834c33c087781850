#!/usr/bin/env python3
"""Draws the curves of the documentation as SVG files, from the Markdown tables that contain their numbers.

Usage: draw_curves.py [--check] FILE.md..., usually draw_curves.py docs/*.md. With --check, it writes nothing, and exits with
status 1 if a file is not what it would write.

A comment in the line above a table asks for a file next to the Markdown file; several comments can follow each other:

    <!-- curve: curves-NAME.svg; y: hard PSNR (dB); log; from: 22; lines: hard dB -->

`y` is the title of the vertical axis, `log` makes it logarithmic, and `from` is the lowest value that it shows. `lines` names
the rows or columns to show, separated by commas; by default, all. The steps are in the header row or, if that has other
cells, in the first column. The value of a cell is its first number: 26.8 for `**26.8** (715)`. An empty cell is a gap, bridged
by a dotted line. A row `VQ: hard dB` is the line `hard dB` of VQ, as are the rows below it whose names have no colon.
"""
import itertools
import math
import pathlib
import re
import sys
import textwrap
from xml.sax.saxutils import escape

START, SYNTAX = "<!-- curve", "<!-- curve: NAME.svg; y: TITLE[; log][; from: NUMBER][; lines: NAME, ...] -->"
COMMENT = re.compile(r"<!-- curve: ([\w.-]+\.svg); y: ([^;]+?)(; log)?(?:; from: (-?\d+(?:\.\d+)?))?(?:; lines: ([^;]+?))? -->")
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?")
COLORS, WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 4, 420, 240, 46, 30, 204
LETTER, LABEL_LETTERS, LABEL_ROW, LEADER = 6.2, 20, 13, 20  # of the labels; LETTER is the estimated width of one
STYLE = """
text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; font-variant-numeric: tabular-nums; fill: #667079; }
.end { text-anchor: end; } .middle { text-anchor: middle; } circle { fill: currentColor; }
.line, .gap, .leader { stroke: currentColor; stroke-width: 1.6; stroke-linecap: round; }
.gap { stroke-dasharray: 1 4; } .leader { stroke-width: 1; stroke-opacity: .5; }
.paper { fill: #fdfdfc; } .rule { stroke: #dfe2e5; } .axis { stroke: #667079; } .label { fill: #1f2328; }
.series-0 { color: #1f6fb4; } .series-1 { color: #c4561a; } .series-2 { color: #2b8a57; } .series-3 { color: #8250b8; }
@media (prefers-color-scheme: dark) {
text { fill: #97a0a9; } .paper { fill: #16181b; } .rule { stroke: #33383d; } .axis { stroke: #97a0a9; } .label { fill: #dfe2e5; }
.series-0 { color: #5aa7e8; } .series-1 { color: #e98a52; } .series-2 { color: #5fbd8a; } .series-3 { color: #b48ce0; }
}
"""  # the look of src/report/html.cpp


class CurveError(Exception):
    """Says what is wrong with a comment or its table."""


def number_in(cell):
    match = NUMBER.search(cell)
    if not match:
        raise CurveError(f'expected a number, found "{cell}"')
    return float(match.group().replace(",", ""))


def read_table(rows):
    """The cells of the table at the start of these rows, transposed if the steps are in the first column."""
    rows = itertools.takewhile(lambda row: row.startswith("|"), rows)
    table = [[re.sub("[`*]", "", cell).strip() for cell in re.sub(r"^\||\|\s*$", "", row).split("|")] for row in rows]
    del table[1:2]
    if len(table) < 2 or len(table[0]) < 2 or any(len(cells) != len(table[0]) for cells in table):
        raise CurveError("expected a table below this line, with the same number of cells in each row")
    return table if all(NUMBER.fullmatch(cell) for cell in table[0][1:]) else list(zip(*table))


def read_lines(table, names):
    """By label, the points (index of the step, step, value) of the lines with these names, or of all lines."""
    steps, group, lines, missing = [number_in(cell) for cell in table[0][1:]], "", {}, set(names)
    for name, *cells in table[1:]:
        before, colon, measure = name.rpartition(": ")
        group = before if colon else group
        name = f"{group}: {measure}" if group else name
        if not names or {name, measure}.intersection(names):
            label = group if group and names == [measure] else name
            if label in lines:
                raise CurveError(f'the table has two lines "{name}"')
            lines[label] = [(i, steps[i], number_in(cell)) for i, cell in enumerate(cells) if cell]
            missing -= {name, measure}
    if missing or len(steps) < 2 or len(lines) > COLORS or not all(lines.values()):
        raise CurveError(f'the table has no line "{min(missing)}"' if missing else
                         f"expected two steps or more and at most {COLORS} lines, each with a value")
    return lines


def ticks_of(low, high, is_log=False):
    """About five round numbers in a range; on a logarithmic axis, powers of ten, and 2 and 5 times those if they are few."""
    if is_log:
        powers = [10.0 ** i for i in range(math.floor(math.log10(low)), math.ceil(math.log10(high)))]
        factors = (1, 2, 5) if len(powers) < 4 else (1,)
        ticks = [factor * power for power in powers for factor in factors if low <= factor * power <= high]
        if len(ticks) > 1:
            return ticks
    power = 10 ** math.floor(math.log10((high - low) / 5))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= (high - low) / 5 * (1 - 1e-9))
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def line(x1, y1, x2, y2, kind):
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(x, y, content, kind):
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def labels(x, ends):
    """Labels of the lines with these ends, (y, x, color, rows of text), moved down or up so that none overlaps another."""
    height = LABEL_ROW * max(len(rows) for *_, rows in ends) + 4
    middle = -math.inf
    for i, (y, end, color, rows) in enumerate(sorted(ends)):
        middle = max(y, middle + height)
        shown = min(middle, BOTTOM - height * (len(ends) - i - 0.5))
        yield f'<g class="series-{color}">{line(end + 5, y, x - 4, shown, "leader")}</g>'
        baseline = shown - LABEL_ROW * len(rows) / 2 + 10
        yield from (text(x, baseline + LABEL_ROW * j, row, "label") for j, row in enumerate(rows))


def chart(lines, x_title, y_title, is_log, lowest):
    """The elements of an SVG file."""
    scale = math.log10 if is_log else float
    steps, values = zip(*((step, value) for points in lines.values() for _, step, value in points))
    least = min(values) if lowest is None else float(lowest)
    if max(values) < least:
        raise CurveError(f"all values are below {lowest}")
    if is_log and min(least, *values) <= 0:
        raise CurveError(f"a logarithmic axis cannot show {min(least, *values):g}")
    first, last, low, high = min(steps), max(steps), scale(least), scale(max(values))
    pad = 0.06 * (high - low) or 0.1
    low, high = low - (pad if lowest is None else 0), high + pad
    names = [textwrap.wrap(label, LABEL_LETTERS) for label in lines] if len(lines) > 1 else []
    right = WIDTH - (14 + LEADER + LETTER * max(len(row) for rows in names for row in rows) if names else 24)

    def at(step, value):
        return (LEFT + (right - LEFT) * (step - first) / (last - first),
                BOTTOM - (BOTTOM - TOP) * (scale(value) - low) / (high - low))

    yield text(10, 17, y_title, "label")
    for tick in ticks_of(10 ** low, 10 ** high, True) if is_log else ticks_of(low, high):
        _, y = at(first, tick)
        yield line(LEFT, y, right, y, "rule") + text(LEFT - 6, y + 4, f"{tick:,.6g}", "end")
    yield line(LEFT, BOTTOM, right, BOTTOM, "axis")
    for tick in ticks_of(first, last):
        x, _ = at(tick, values[0])
        yield line(x, BOTTOM, x, BOTTOM + 3, "axis") + text(x, BOTTOM + 15, f"{tick:,.6g}", "middle")
    yield text(right, BOTTOM + 29, x_title, "end")
    yield f'<clipPath id="plot"><rect y="{TOP - 4}" width="{WIDTH}" height="{BOTTOM - TOP + 4}"/></clipPath>'
    ends = []
    for color, points in enumerate(lines.values()):
        dots = [at(step, value) for _, step, value in points]
        yield f'<g class="series-{color}" clip-path="url(#plot)">'
        for (i, *_), (j, *_), start, end in zip(points, points[1:], dots, dots[1:]):
            yield line(*start, *end, "line" if j == i + 1 else "gap")
        yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2"/>' for x, y in dots)
        yield "</g>"
        ends.append((*dots[-1][::-1], color, names[color] if names else []))
    if names:
        yield from labels(right + LEADER, ends)


def curve(path, comment, below):
    """The path and content of the SVG file that a comment in a Markdown file asks for, given the rows below it."""
    match = COMMENT.fullmatch(comment.rstrip())
    if not match:
        raise CurveError(f"expected {SYNTAX}")
    name, y_title, log, lowest, names = match.groups()
    table = read_table(itertools.dropwhile(lambda row: row.startswith(START), below))
    lines = read_lines(table, [part.strip() for part in names.split(",")] if names else [])
    return path.with_name(name), "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<!-- written by scripts/draw_curves.py, from {path.name} -->", f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="6"/>',
        *chart(lines, table[0][0], y_title, bool(log), lowest), "</svg>\n"])


def main(arguments):
    is_check, status = "--check" in arguments, 0
    for path in (pathlib.Path(name) for name in arguments if name != "--check"):
        if not path.is_file():
            sys.exit(f"{path}: no such file")
        rows = path.read_text(encoding="utf-8").splitlines()
        for number, row in enumerate(rows, 1):
            if not row.startswith(START):
                continue
            try:
                svg, content = curve(path, row, rows[number:])
            except CurveError as error:
                sys.exit(f"{path}:{number}: {error}")
            if not is_check:
                svg.write_text(content, encoding="utf-8")
            elif not svg.exists() or svg.read_text(encoding="utf-8") != content:
                print(f"{path}:{number}: {svg} is not up to date: run scripts/draw_curves.py {path}", file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
