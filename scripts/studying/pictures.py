"""Pictures of a study's page, as SVG: how accuracy rose in training, and differences with their intervals."""
from dataclasses import dataclass
from html import escape
from statistics import fmean

INK, FAINT, PALE, BOLD = "#1f2328", "#d0d7de", "#a9c7e8", "#0550ae"


def svg(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
            f'font-family="sans-serif" font-size="12" fill="{INK}">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")


def text(x, y, words, anchor="start", weight="normal", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" font-size="{size}">{escape(words)}</text>'


def line(x1, y1, x2, y2, color, width=1.0):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" stroke-width="{width}"/>'


def path(points, color, width):
    return (f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}" fill="none" stroke="{color}" '
            f'stroke-width="{width}" stroke-linejoin="round"/>')


def curves(panels, across=3):
    """panels: [(title, [values of one run, one a step])]; all values from 0 to 1. Thin: a run; bold: their mean."""
    wide, high, left, top, right, bottom = 250, 150, 34, 26, 12, 22
    parts = []
    for place, (title, runs) in enumerate(panels):
        x0, y0 = place % across * wide + left, place // across * high + top
        x1, y1 = x0 + wide - left - right, y0 + high - top - bottom
        parts.append(text(x0, y0 - 8, title, weight="bold"))
        for value in (0, 0.5, 1):
            y = y1 - value * (y1 - y0)
            parts += [line(x0, y, x1, y, FAINT), text(x0 - 5, y + 4, f"{value:g}", "end", size=10)]
        steps = max(len(run) for run in runs)
        at = lambda step, value: (x0 + (x1 - x0) * step / max(1, steps - 1), y1 - value * (y1 - y0))
        parts += [path([at(step, value) for step, value in enumerate(run)], PALE, 1) for run in runs]
        mean = [fmean(run[step] for run in runs if step < len(run)) for step in range(steps)]
        parts.append(path([at(step, value) for step, value in enumerate(mean)], BOLD, 2))
        parts += [text(x0, y1 + 14, "1", size=10), text(x1, y1 + 14, f"step {steps}", "end", size=10)]
    rows = (len(panels) + across - 1) // across
    return svg(min(across, len(panels)) * wide, rows * high, parts)


@dataclass
class Difference:
    label: str
    mean: float
    low: float
    high: float
    bold: bool = False  # said beforehand, not exploratory


def differences(groups, legend):
    """groups: [(title, [Difference])]. A point with its interval each; filled where it was said beforehand."""
    width, left, right, row, top = 760, 290, 20, 19, 34
    all_of = [one for _, ones in groups for one in ones]
    most = max([0.1] + [abs(value) for one in all_of for value in (one.low, one.high)])
    most = int(most * 10 + 0.999) / 10
    at = lambda value: left + (width - left - right) * (value + most) / (2 * most)
    height = top + sum(row * (len(ones) + 1) + 6 for _, ones in groups) + 28
    step = 0.1 if most <= 0.6 else 0.2
    parts = [text(at(0) - 8, 14, "worse", "end", size=11), text(at(0) + 8, 14, "better", size=11)]
    ticks = int(most / step + 1e-9)
    for tick in range(-ticks, ticks + 1):
        x = at(tick * step)
        parts += [line(x, top - 4, x, height - 26, INK if tick == 0 else FAINT),
                  text(x, top - 8, f"{tick * step:+.1f}" if tick else "0", "middle", size=10)]
    y = top
    for title, ones in groups:
        y += row
        parts.append(text(8, y, title, weight="bold"))
        for one in ones:
            y += row
            color = BOLD if one.bold else INK
            parts += [text(24, y, one.label, weight="bold" if one.bold else "normal"),
                      line(at(one.low), y - 4, at(one.high), y - 4, color, 2.5 if one.bold else 1.2),
                      f'<circle cx="{at(one.mean):.1f}" cy="{y - 4:.1f}" r="{4.5 if one.bold else 3.5}" stroke="{color}" '
                      f'fill="{color if one.bold else "#ffffff"}"/>']
        y += 6
    parts.append(text(8, height - 8, legend, size=11))
    return svg(width, height, parts)
