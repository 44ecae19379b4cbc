"""What it costs that a reply's bits are its own: attention beside libtorch's fused one, and rows of padding."""
import statistics

from benchmarks import decode, gradient, roof
from benchmarks.result import Result

ROWS, LENGTH = 32, 64     # replies at a time, and their tokens
TOKENS = 128              # of a tree


def measure(bench):
    result, layers = Result(), roof.Shape(bench.model).layers
    runs = 1 if bench.quick else bench.rounds
    file = decode.write_requests(bench, "requests-tax", [LENGTH] * ROWS)
    model = decode.endless(bench)
    found = bench.engine_part("generate", model, requests=file, threads=1, workers=2, runs=runs)
    token_s = statistics.median(run["after_first_s"] for run in found["runs"]) / (LENGTH - 1)
    asked = statistics.mean(map(len, decode.prompts(bench, ROWS)))
    replies, tree, _ = gradient.write_replies(bench, "replies-tax", 8)
    gradient_s = statistics.median(gradient.ours(bench, bench.store(), replies, runs, "bfloat16",
                                                 bench.folder / "tax.f32")[0])
    one = bench.engine_part("attention", rows=ROWS // 2, keys=round(asked + LENGTH / 2), tokens=TOKENS, runs=20)

    def in_gradient(name):
        """Its layers are gone through forwards twice: once for what comes behind them, and once for their own gradient."""
        return layers * (2 * one["tree"][name] + one["tree_gradient"][name]) * tree / 2 / TOKENS

    rows, worst = [], 0.0
    for stage, whole, ours, fused in (
            (f"one token of {ROWS} replies", token_s, layers * one["decode"]["ours"], layers * one["decode"]["fused"]),
            ("the gradient of a step", gradient_s, in_gradient("ours"), in_gradient("fused"))):
        tax = (ours - fused) / whole
        worst = max(worst, tax)
        rows.append([stage, f"{whole * 1e3:.1f} ms", f"{ours * 1e3:.2f} ms", f"{fused * 1e3:.2f} ms", f"{tax:+.1%}"])
    result.table("What is paid for bits that belong to the sequence, on two threads",
                 ["stage", "whole", "of it attention", "libtorch's fused attention", "tax"], rows)
    padded = ("No rows are padded: a product gives each its own bits, however many there are" if one["rows_from"] == 1 else
              f"Fewer than {one['rows_from']} rows are padded to so many, which is in what is timed above")
    result.note(f"A tax below nothing: this attention is the faster one. {padded}. How packed products compare with libtorch's free "
                "choice stands in the table of products above.")
    result.want("the tax: under 5 %", f"{worst:.1%}", worst < 0.05)
    return result
