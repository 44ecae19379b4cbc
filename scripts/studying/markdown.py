"""Tables and numbers of a page."""
from statistics import fmean


def table(header, rows):
    lines = ["| " + " | ".join(map(str, header)) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]


def number(value, places=3):
    return "-" if value is None else f"{value:.{places}f}"


def spread(values):
    """Mean, and each where there are several."""
    values = [one for one in values if one is not None]
    if not values:
        return "-"
    return f"{fmean(values):.3f}" + (f" ({', '.join(f'{one:.2f}' for one in values)})" if len(values) > 1 else "")
