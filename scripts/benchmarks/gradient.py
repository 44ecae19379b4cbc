"""The z gradient of given replies, against gradients of full weights in PyTorch."""
import array
import json
import statistics

from benchmarks import decode, first_version, roof
from benchmarks.programs import Contender, alternate, baseline_type, cosine, run_json
from benchmarks.result import Result, spread

SCALE = 0.1  # z = 1 + SCALE sin(1 + i)
SAMPLES = 4


def write_replies(bench, name, prompts_count, temperature=1.0, skip=0):
    """Prompts of the quickstart with replies that the engine draws, as one step has them; returns
    the file, tokens of the trees, and trained tokens."""
    asked = decode.prompts(bench, skip + prompts_count)[skip:]
    requests = bench.folder / f"{name}-requests.json"
    requests.write_text(json.dumps([{"tokens": tokens, "max_new_tokens": 24}
                                    for tokens in asked for _ in range(SAMPLES)]))
    drawn = bench.engine_part("generate", requests=requests, threads=2, temperature=temperature)["replies"]
    groups, tree, trained = [], 0, 0
    for g, prompt in enumerate(asked):
        replies = drawn[g * SAMPLES : (g + 1) * SAMPLES]
        tree += len(prompt) + sum(len(reply) - 1 for reply in replies)
        trained += sum(map(len, replies))
        # Advantages as leave-one-out gives them; no reply without a say.
        weights = [(1.0, -0.5, 0.75, -1.25)[(g + s) % SAMPLES] / len(asked) for s in range(SAMPLES)]
        groups.append({"prompt": prompt, "replies": [{"tokens": reply, "weight": weight}
                                                     for reply, weight in zip(replies, weights)]})
    file = bench.folder / f"{name}.json"
    file.write_text(json.dumps({"groups": groups}))
    return file, tree, trained


def floats(path):
    values = array.array("f")
    values.frombytes(path.read_bytes())
    return values


def summary(found):
    return [run["seconds"] for run in found["runs"]], found


def ours(bench, store, file, runs, dtype, out, setting=(1, 2)):
    threads, workers = setting
    return summary(bench.engine_part("gradient", replies=file, store=store, runs=runs, dtype=dtype,
                                     scale=SCALE, threads=threads, workers=workers, dz=out))


def theirs(bench, store, file, runs, dtype, out, threads=2):
    return summary(bench.baseline("baseline_gradient.py", bench.model, store, file, threads, runs,
                                  dtype, SCALE, out))


def verify(bench, result, store, file):
    """In float32 both say the same; in bfloat16 each is as near to that as its roundings let it."""
    truth = Contender("PyTorch", lambda _: theirs(bench, store, file, 0, "float32", bench.folder / "their-32.f32"))
    truth.turn()
    if truth.skipped:
        return result.note(f"No comparison with PyTorch: {truth.skipped}")
    ours(bench, store, file, 1, "float32", bench.folder / "our-32.f32")
    wide = floats(bench.folder / "their-32.f32")
    value = cosine(floats(bench.folder / "our-32.f32"), wide)
    result.verify("cosine of dz with PyTorch's projected gradient, both float32", f"{value:.6f}", value > 0.999)
    both = [("svfleet", "our-16.f32")]
    if baseline_type() == "bfloat16":  # else it takes ten minutes
        both.append(("PyTorch", "their.f32"))
    for name, path in both:
        value = cosine(floats(bench.folder / path), wide)
        result.verify(f"cosine of dz in bfloat16 with PyTorch's in float32: {name}", f"{value:.4f}", value > 0.9)


def steps_of_both(bench, result):
    """Stored replies of ten steps through the first version's gradient and this one's."""
    program, store = first_version.program(bench), first_version.store(bench)
    rows, good = [], True
    for step in range(10):
        file, _, _ = write_replies(bench, f"step-{step}", 8, skip=8 * step)
        found = {}
        for dtype in ("float32", "bfloat16"):
            for version in ("new", "old"):
                out = bench.folder / f"{version}-{dtype}.f32"
                if version == "new":
                    ours(bench, store, file, 1, dtype, out)
                else:
                    run_json([program, bench.model, "gradient", file, store, dtype, SCALE, out])
                found[version, dtype] = floats(out)
        wide = cosine(found["new", "float32"], found["old", "float32"])
        good = good and wide >= 0.999
        rows.append([step + 1, f"{wide:.6f}"] + [f"{cosine(found[version, 'bfloat16'], found['new', 'float32']):.5f}"
                                                 for version in ("old", "new")])
    result.table("Stored replies of ten steps: cosine of dz",
                 ["step", "both in float32", f"{first_version.COMMIT} in bfloat16", "svfleet in bfloat16"], rows)
    result.want("float32 gradients of both versions: cosine at least 0.999 in each step", "all" if good else "not all", good)


def head(bench, runs):
    """The product with the vocabulary alone, by rows, on two threads: (stage, seconds) pairs."""
    shape, pairs = roof.Shape(bench.model), []
    for one in bench.engine_part("head", threads=2, runs=2 * runs)["rows"]:
        rows, flops = one["rows"], 2 * one["rows"] * shape.top
        size = roof.BYTES[shape.kind] * shape.top
        pairs.append((roof.Stage(f"draw, {rows} rows", size, [(rows, flops, shape.kind)]),
                      statistics.median(one["draw_s"])))
        pairs.append((roof.Stage(f"head's gradient, {rows} rows", 2 * size, [(rows, 2 * flops, shape.kind)]),
                      statistics.median(one["gradient_s"])))
    return pairs


def measure(bench):
    result, store = Result(), bench.store()
    count, runs = (2, 1) if bench.quick else (8, 3)
    file, tree, trained = write_replies(bench, "replies", count)
    mine = Contender("svfleet", lambda setting: ours(bench, store, file, runs, "bfloat16",
                                                     bench.folder / "our-16.f32", setting), ((1, 2), (2, 1)))
    full = Contender(f"PyTorch, full weights, {baseline_type()}",
                     lambda threads: theirs(bench, store, file, runs, baseline_type(), bench.folder / "their.f32", threads),
                     (1, 2))
    both = alternate(bench, [mine, full])
    result.record(both)
    verify(bench, result, store, file)
    extra = {one.name: max((run["extra_bytes"] for run in one.found["runs"]), default=0) for one in both if one.found}
    result.table(f"The gradient of {count * SAMPLES} replies to {count} prompts: {trained} trained tokens, "
                 f"{tree} in the trees, with its projection",
                 ["", "seconds", "extra memory at the peak", "threads"],
                 [[one.name, spread(one.seconds) if one.seconds else one.skipped,
                   f"{extra[one.name] / 1e6:.0f} MB" if one.name in extra else "-",
                   decode.setting_text(one.setting)] for one in both])
    stage = roof.Shape(bench.model).gradient(tree, trained, tree / count)
    merged = bench.engine_part("merge", store=store, workers=2, runs=2 * runs)
    seconds = statistics.median(run["seconds"] for run in merged["runs"])
    result.verify("share of z's change that arrives in W'", f"{merged['gain']:.3f}", abs(merged["gain"] - 1) < 0.1)
    stages = [(stage, mine.median), (roof.Shape(bench.model).merge(), seconds)]
    result.table("Shares of the roof", roof.STAGE_HEADER, roof.stage_rows(bench.roofs, stages + head(bench, runs)))
    result.ratio("gradient with its projection against full weight gradients", mine, full, 2.5)
    if len(extra) == 2:
        share = extra["svfleet"] / max(1, extra[full.name])
        result.want("extra memory beside theirs: at most 0.33", f"{share:.2f}", share <= 1 / 3)
    if bench.first_version:
        steps_of_both(bench, result)
    return result
