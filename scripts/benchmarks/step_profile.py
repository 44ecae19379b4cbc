"""Where the time of a step goes, by function: what perf, where it is installed, sees of a training run.

(Not profile.py: these scripts run with their folder on the path, and Python has a module of that name.)"""
import re
import shutil
import subprocess

from benchmarks import step
from benchmarks.programs import Failed
from benchmarks.result import Result

STEPS = 8
# What a symbol belongs to, and what was done about it. The first pattern that fits counts.
KINDS = (
    (r"panel_|PanelKernel|PanelWeights|multiply_rows|turn_tile|turn_pairs|finish_rows", "products, own panels", "packed once; rows in tiles that stay in registers"),
    (r"jit|\[unknown\]|perf-\d+\.map|brgemm|dnnl", "products, oneDNN", "packed once; addend and bias before the only rounding"),
    (r"vocabulary|loss_gradient|draw_token|block_sums", "choice of tokens", "one pass over 64 fixed blocks; softmax and its gradient fused"),
    (r"attention|attend|attn", "attention", "own kernels over pages of 32 tokens, no tiny products"),
    (r"norm|rotary|gate|rounded|add_keyed|scale_rows|add_products|elementwise|Lanes", "between products",
     "fused: norm, rotary, gate, residual and keyed rounding are a pass each"),
    (r"OPENBLAS|sgemm|dgemm|mkl", "products of BLAS", "only in the decomposition"),
    (r"memcpy|memmove|memset|clear_page|page_fault|copy_", "moving memory", "pages are taken once a thread and kept"),
    (r"XXH|hash", "hashes", "the weight watch: at most 1 % of a step"),
)


def kind_of(symbol, library):
    for pattern, kind, done in KINDS:
        if re.search(pattern, f"{symbol} {library}"):
            return kind, done
    return "other", ""


def measure(bench):
    result = Result()
    if not shutil.which("perf"):
        result.note("No profile: perf is not installed (Debian: linux-perf).")
        return result
    store, expert = bench.store(), step.write_expert(bench)
    data = bench.folder / "perf.data"
    run_dir = bench.folder / "profile"
    shutil.rmtree(run_dir, ignore_errors=True)
    words = step.train_command(bench, run_dir, 2 if bench.quick else STEPS, store, expert)
    recorded = subprocess.run(["perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "-o", data, "--", *map(str, words)],
                              capture_output=True, text=True)
    if recorded.returncode:
        raise Failed(f"perf record ended with code {recorded.returncode}: {recorded.stderr.strip()[-200:]}")
    told = subprocess.run(["perf", "report", "-i", data, "--stdio", "--sort", "dso,symbol", "--percent-limit", "0.05",
                           "-F", "overhead,dso,symbol"], capture_output=True, text=True).stdout
    rows, kinds = [], {}
    for line in told.splitlines():
        found = re.match(r"\s*([\d.]+)%\s+(\S+)\s+\[[.k]\]\s+(.*\S)", line)
        if not found:
            continue
        share, library, symbol = float(found[1]), found[2], found[3]
        kind, done = kind_of(symbol, library)
        kinds[kind] = kinds.get(kind, 0) + share
        rows.append((share, re.sub(r"<.*", "", symbol.split("(")[0])[:60], library, kind, done))
    if not rows:
        raise Failed("perf report names no function")
    rows.sort(reverse=True)
    result.table(f"The ten functions with the largest share of {STEPS} steps, start and end included",
                 ["share", "function", "in", "what it is", "what was done about it"],
                 [[f"{share:.1f} %", symbol, library, kind, done] for share, symbol, library, kind, done in rows[:10]])
    result.table("By what it is", ["what", "share"],
                 [[kind, f"{share:.1f} %"] for kind, share in sorted(kinds.items(), key=lambda one: -one[1])])
    return result
