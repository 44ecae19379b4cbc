"""What a part found: tables, what was verified, and what is wanted of it."""
import statistics


def spread(values, unit="s", digits=3):
    """Median and range."""
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    show = "{:." + str(digits) + "g}"
    if len(values) == 1:
        return f"{show.format(middle)} {unit}".strip()
    return f"{show.format(middle)} {unit} ({show.format(low)} to {show.format(high)})"


class Result:
    def __init__(self):
        self.tables, self.notes, self.verified, self.wanted, self.data = [], [], [], [], {}

    def table(self, title, header, rows):
        self.tables.append({"title": title, "header": header, "rows": [[str(x) for x in row] for row in rows]})

    def note(self, text):
        self.notes.append(text)

    def verify(self, what, value, right):
        """A figure that says whether what was timed is right."""
        self.verified.append({"what": what, "value": str(value), "right": bool(right)})

    def want(self, what, value, reached):
        self.wanted.append({"what": what, "value": str(value), "reached": None if reached is None else bool(reached)})

    def ratio(self, what, ours, other, least):
        """How many times faster than a contender, which may be missing."""
        if other.skipped or not other.seconds or not ours.seconds:
            return self.want(what, f"no baseline: {other.skipped}", None)
        value = other.median / ours.median
        self.want(f"{what}: at least {least}", f"{value:.2f}", value >= least)

    def record(self, contenders):
        for one in contenders:
            self.data[one.name] = {"seconds": one.seconds, "setting": one.setting, "skipped": one.skipped}

    def to_json(self):
        return {"tables": self.tables, "notes": self.notes, "verified": self.verified,
                "wanted": self.wanted, "data": self.data}
