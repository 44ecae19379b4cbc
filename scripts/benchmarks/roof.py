"""The machine's limits, and how long a stage must take at least: the longer of the bytes that it
must read / measured bandwidth and its flops / measured rate of products at its number of rows."""
import json
import math

BYTES = {"bfloat16": 2, "float32": 4}


class Roof:
    def __init__(self, measured):
        self.bandwidth, self.measured = measured["bandwidth"], measured
        self.products = measured["products"]

    def rate(self, rows, kind="bfloat16"):
        """flops/s at so many rows: of the better of the two libraries, by shape; the best shape's."""
        by_rows = {}
        for one in self.products:
            if one["type"] == kind:
                best = max(one["ours"], one["libtorch"])
                by_rows[one["rows"]] = max(best, by_rows.get(one["rows"], 0))
        known = sorted(by_rows)
        if rows <= known[0]:
            return by_rows[known[0]]
        if rows >= known[-1]:
            return by_rows[known[-1]]
        above = next(n for n in known if n >= rows)
        below = max(n for n in known if n <= rows)
        if above == below:
            return by_rows[above]
        share = (math.log(rows) - math.log(below)) / (math.log(above) - math.log(below))
        return by_rows[below] + share * (by_rows[above] - by_rows[below])

    def least(self, stage):
        return max(stage.bytes / self.bandwidth,
                   sum(flops / self.rate(rows, kind) for rows, flops, kind in stage.products))


class Stage:
    """Bytes that must be read, and products as (rows, flops, type)."""

    def __init__(self, name, size=0, products=()):
        self.name, self.bytes, self.products = name, size, list(products)

    @property
    def flops(self):
        return sum(flops for _, flops, _ in self.products)


class Shape:
    """Of a Llama-family model with its MLPs adapted."""

    def __init__(self, folder, kind="bfloat16"):
        config = json.loads((folder / "config.json").read_text())
        self.kind, self.layers = kind, config["num_hidden_layers"]
        self.hidden, self.mlp = config["hidden_size"], config["intermediate_size"]
        self.vocabulary = config["vocab_size"]
        heads = config["num_attention_heads"]
        self.head = config.get("head_dim") or self.hidden // heads
        self.kv = self.head * config.get("num_key_value_heads", heads)
        self.attention = self.head * heads
        hidden = self.hidden
        self.body = self.layers * (hidden * (2 * self.attention + 2 * self.kv) + 3 * hidden * self.mlp)
        self.top = hidden * self.vocabulary
        self.rank = min(hidden, self.mlp)
        self.targets = 3 * self.layers

    def weight_bytes(self):
        return BYTES[self.kind] * (self.body + self.top)

    def attended(self, tokens, length):
        """Flops of so many queries over that many keys each."""
        return 4 * self.layers * self.attention * tokens * length

    def decode(self, rows, tokens, context):
        """`tokens` one after the other, `rows` at a time; each over `context` keys on average."""
        kept = 2 * BYTES[self.kind] * self.kv * self.layers * context * rows
        flops = 2 * rows * (self.body + self.top) + self.attended(rows, context)
        return Stage(f"decode, {rows:.3g} rows", tokens * (self.weight_bytes() + kept),
                     [(rows, tokens * flops, self.kind)])

    def prompts(self, count, tokens):
        """Prompts of so many tokens each; a row of logits for each."""
        flops = 2 * count * tokens * self.body + self.attended(count * tokens, tokens / 2)
        return Stage("prompts", self.weight_bytes(),
                     [(count * tokens, flops, self.kind), (count, 2 * count * self.top, self.kind)])

    def gradient(self, tokens, trained, context):
        """Forward, back to every layer's input, the head for trained tokens, and dz of all MLPs:
        r x r three times for each token and matrix, and W x once more where the form is left."""
        rank = 2 * tokens * (self.targets * 3 * self.rank**2 + self.layers * self.hidden * self.mlp)
        body = 4 * tokens * self.body + 3 * self.attended(tokens, context)
        read = 2 * self.weight_bytes() + BYTES[self.kind] * self.targets * self.rank**2
        return Stage("gradient", read, [(tokens, body + rank, self.kind),
                                        (trained, 4 * trained * self.top, self.kind)])

    def merge(self):
        """Q diag Q^T, and W times it, of each target; W and Q read and W' written."""
        matrix = self.hidden * self.mlp
        flops = self.targets * 2 * (self.rank**3 + self.rank * matrix)
        size = BYTES[self.kind] * self.targets * (2 * matrix + self.rank**2)
        return Stage("merge", size, [(512, flops, self.kind)])


def stage_rows(roof, measured):
    """Rows of a table from (stage, seconds) pairs."""
    rows = []
    for stage, seconds in measured:
        least = roof.least(stage)
        rows.append([stage.name, f"{stage.bytes / 1e9:.3g} GB", f"{stage.flops / 1e9:.4g} GF",
                     f"{least:.4g} s", f"{seconds:.4g} s", f"{least / seconds:.2f}"])
    return rows


STAGE_HEADER = ["stage", "bytes", "flops", "at least", "measured", "share of the roof"]
