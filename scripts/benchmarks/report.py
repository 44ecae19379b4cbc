"""The section of docs/performance.md that scripts/bench writes, and what it prints."""
import re

BEGIN, END = "<!-- scripts/bench: what follows is generated -->", "<!-- scripts/bench: end -->"
TITLES = {"step": "A step", "profile": "A profile of a step", "decode": "Replies", "decompose": "Decomposition", "gradient": "The gradient",
          "tax": "The determinism tax", "scale": "Two ranks", "evolution": "Evolution strategies"}


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in rows]


def roofs(measured):
    rows = {}
    for one in measured["products"]:
        key = one["type"], f"{one['inputs']} -> {one['outputs']}"
        rows.setdefault(key, {})[one["rows"]] = f"{one['ours'] / 1e9:.0f} / {one['libtorch'] / 1e9:.0f}"
    counts = sorted({one["rows"] for one in measured["products"]})
    lines = [f"Reading memory: {measured['bandwidth'] / 1e9:.1f} GB/s, {measured['threads']} threads. Products, in GF/s, "
             "packed weights / libtorch's linear, by rows; each thread multiplies its own rows by a matrix of its own, "
             f"which stays in its cache ({measured['implementation']}):", ""]
    return lines + table(["type", "shape", *map(str, counts)],
                         [[kind, shape, *(rows[kind, shape].get(n, "-") for n in counts)] for kind, shape in rows])


def part(found):
    lines = [f"Measured on {found['date']}, commit {found['commit']}, {found['rounds']} rounds, load before it "
             f"{found['load']}."]
    for one in found["tables"]:
        lines += ["", one["title"] + ":", "", *table(one["header"], one["rows"])]
    mark = {True: "yes", False: "**no**", None: "not measured"}
    if found["verified"]:
        lines += ["", *table(["verified", "found", "right"],
                             [[v["what"], v["value"], mark[v["right"]]] for v in found["verified"]])]
    if found["wanted"]:
        lines += ["", *table(["aim", "found", "reached"],
                             [[w["what"], w["value"], mark[w["reached"]]] for w in found["wanted"]])]
    return lines + [text for note in found["notes"] for text in ("", note)]


EARLIER = "Of an earlier run, on a machine that may be another than the one above."


def earlier(page, title):
    """Lines of a part as the page has it, or none."""
    found = re.search(rf"### {re.escape(title)}\n(.*?)(?=\n### |{re.escape(END)})", page, re.S)
    kept = found[1].strip("\n").split("\n") if found else []
    return kept if not kept or EARLIER in kept else [EARLIER, "", *kept]


def block(results, page=""):
    """What is generated; of parts without results what the page has."""
    lines = [BEGIN, "## The engine beside what people would use instead", "", "    scripts/bench", "",
             "measures all of this in turns on one machine, each contender with its better number of threads, and writes "
             "this section: medians, with ranges. At least, for a stage, is the longer of the bytes that it must read / "
             "measured bandwidth and its flops / measured rate of products at its number of rows.", "",
             f"{results['machine']}."]
    if results.get("roofs"):
        lines += ["", "### What the machine can do", "", *roofs(results["roofs"])]
    for name, title in TITLES.items():
        if name in results["parts"]:
            lines += ["", f"### {title}", "", *part(results["parts"][name])]
        elif kept := earlier(page, title):
            lines += ["", f"### {title}", "", *kept]
    return "\n".join([*lines, END]) + "\n"


def put(page, text):
    """The page with its generated block replaced, or with one behind all else."""
    old = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END) + "\n", re.S)
    new = pattern.sub(lambda _: text, old) if pattern.search(old) else old.rstrip("\n") + "\n\n" + text
    page.write_text(new, encoding="utf-8")
