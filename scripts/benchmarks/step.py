"""A step of the quickstart with z held still, against scripts/reference_svf.py."""
import json
import math
import re
import shutil
import statistics
import struct

from benchmarks import decode, roof
from benchmarks.programs import (SOURCE, VENV, Contender, Skipped, alternate, baseline_type, log_steps, peak_memory,
                                 run)
from benchmarks.result import Result, spread

STEPS = 20
STILL = 1e-3  # z = 1 + STILL sin(1 + i): at z = 1 there would be nothing to merge
LINE = re.compile(r"step \d+: accuracy [\d.]+, ended [\d.]+, (\d+) tokens, "
                  r"sample ([\d.]+) s, gradient ([\d.]+) s, update ([\d.]+) s")


def write_expert(bench):
    """An expert near the base."""
    shape, header, values = roof.Shape(bench.model), {}, []
    header["__metadata__"] = {"format": "svfleet-expert", "version": "1"}
    for layer in range(shape.layers):
        for kind in ("gate", "up", "down"):
            begin = len(values)
            values += [1 + STILL * math.sin(1 + begin + i) for i in range(shape.rank)]
            header[f"model.layers.{layer}.mlp.{kind}_proj.weight"] = {
                "dtype": "F32", "shape": [shape.rank], "data_offsets": [4 * begin, 4 * len(values)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file = bench.folder / "still.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + struct.pack(f"<{len(values)}f", *values))
    return file


def train_command(bench, run_dir, steps, store, expert, more=()):
    words = [bench.svfleet, "train", SOURCE / "examples/quickstart.yaml", "--quiet"]
    for setting in (f"run_dir={run_dir}", f"model.path={bench.model}", f"svd.store={store}",
                    f"train.steps={steps}", "train.learning_rate=1e-30", f"train.init_from={expert}",
                    "train.rollout_samples=32", *more):
        words += ["--set", setting]
    return words


def trained(bench, name, steps, store, expert, more=(), launcher=()):
    """Trains for so many steps in a folder of its own; seconds of each step, and its records."""
    run_dir = bench.folder / name
    shutil.rmtree(run_dir, ignore_errors=True)
    run([*launcher, *train_command(bench, run_dir, steps, store, expert, more)])
    records = log_steps(run_dir)
    return [record["wall_s"] for record in records], {"records": records, "run_dir": run_dir}


def reference(bench, steps, threads):
    if not (VENV / "bin/python").exists():
        raise Skipped(f"no Python environment {VENV.name}: {bench.venv_problem}")
    out, _ = run([VENV / "bin/python", SOURCE / "scripts/reference_svf.py", bench.model, "--learning-rate", 0,
                  "--items", 0, "--steps", steps, "--threads", threads, "--dtype", baseline_type()], Skipped)
    lines = [tuple(map(float, found)) for found in LINE.findall(out)]
    if len(lines) != steps:
        raise Skipped("reference_svf.py did not print its steps")
    return [sum(phases) for _, *phases in lines], lines


def longest_replies(run_dir):
    """For each step, tokens of the longest reply."""
    longest = {}
    for line in (run_dir / "rollouts.jsonl").read_text().splitlines():
        record = json.loads(line)
        longest[record["step"]] = max(longest.get(record["step"], 0), record["tokens"])
    return longest


def stages(bench, found):
    """What the mean step has to do, all of it at once: one batch, what all prompts begin with once,
    and one gradient, in which each group has its own prompt."""
    shape, records = roof.Shape(bench.model), found["records"]
    asked = decode.prompts(bench, 64)
    prompt, shared = statistics.mean(map(len, asked)), decode.leading(asked[0], asked[1])
    replies = records[0]["replies"]
    groups = records[0]["groups"]
    tokens = statistics.mean(record["mean_tokens"] * replies for record in records)
    longest = statistics.mean(longest_replies(found["run_dir"]).values())
    share = statistics.mean(1 - record["skipped_groups"] / groups for record in records)
    rows = tokens / longest  # as many as have something to write, on average
    return [shape.prompts(groups, prompt - shared * (1 - 1 / groups)), shape.decode(rows, longest - 1, prompt + longest / 2),
            shape.gradient(share * (groups * prompt + tokens - replies), share * tokens, prompt + longest / 2),
            shape.merge()]


def phases(records):
    """Mean seconds of a step by phase; those of workers as if they took turns."""
    names = sorted({name for record in records for name in record["seconds"]})
    return {name: statistics.mean(record["seconds"].get(name, 0) for record in records) for name in names}


def memory(bench, result, store, expert):
    empty, empty_anonymous = peak_memory([bench.svfleet, "--help"])
    run_dir, peaks = bench.folder / "memory", []
    for _ in range(3):  # which gradients are at work at the same time differs
        shutil.rmtree(run_dir, ignore_errors=True)
        peaks.append(peak_memory(train_command(bench, run_dir, 2, store, expert)))
    peak, anonymous = sorted(peaks)[1]
    shape = roof.Shape(bench.model)
    matrices = 2 * shape.targets * shape.hidden * shape.mlp
    needed = shape.weight_bytes() + 2 * shape.targets * shape.rank**2 + matrices
    share = (peak - empty) / needed
    result.want(f"peak memory of training above an empty process ({(peak - empty) / 1e6:.0f} MB), in terms of weights, "
                f"Q and merged copy ({needed / 1e6:.0f} MB): at most 1.4", f"{share:.2f}", share <= 1.4)
    result.note(f"Of this memory no file backs {(anonymous - empty_anonymous) / 1e6:.0f} MB; the rest are pages of files, "
                "which the system takes back when it needs them.")


def measure(bench):
    result, store, expert = Result(), bench.store(), write_expert(bench)
    turns = 1 if bench.quick else 2  # few: a run's first step packs, and every tenth measures KL
    steps = 2 if bench.quick else STEPS // turns
    ours = Contender("svfleet", lambda _: trained(bench, "step", steps, store, expert))
    theirs = Contender("reference_svf.py", lambda threads: reference(bench, steps, threads), (1, 2),
                       look=lambda threads: sum(reference(bench, 1, threads)[0]))
    both = alternate(bench, [ours, theirs], turns)
    result.record(both)
    records = ours.found["records"]
    mean = statistics.mean(ours.seconds)
    lengths = [record["mean_tokens"] * record["replies"] for record in records]
    rows = [["svfleet", f"{mean:.3g} s", spread(ours.seconds), spread(lengths, "", 4), "as the quickstart"]]
    if theirs.seconds:
        rows.append([f"reference_svf.py, {baseline_type()}", f"{statistics.mean(theirs.seconds):.3g} s", spread(theirs.seconds),
                     spread([line[0] for line in theirs.found], "", 4), theirs.setting])
    result.table(f"A step of the quickstart, {len(ours.seconds)} of each: 8 prompts with 4 replies, gradient and merge",
                 ["", "mean", "median and range", "tokens a step", "threads"], rows)
    mismatch = max(record["log_prob_mismatch"]["max"] for record in records)
    result.verify("log π when drawn and when trained: largest difference", mismatch, mismatch == 0)
    hashes = {record["z_hash"] for record in records}
    result.verify("z of all steps", f"{len(hashes)} hash", len(hashes) == 1)
    gain = records[-1]["merge_gain"]
    result.verify("share of z's change that arrives in W'", f"{gain:.3f}", abs(gain - 1) < 0.1)
    result.note("Seconds of a step by phase (generate, base, score and gradient are added up over the workers): "
                + ", ".join(f"{name} {seconds:.3f}" for name, seconds in phases(records).items()) + ".")
    parts = stages(bench, ours.found)
    whole = roof.Stage("step", sum(stage.bytes for stage in parts), [p for stage in parts for p in stage.products])
    least = sum(bench.roofs.least(stage) for stage in parts)
    table = [[stage.name, f"{stage.bytes / 1e9:.3g} GB", f"{stage.flops / 1e9:.4g} GF",
              f"{bench.roofs.least(stage):.4g} s"] for stage in parts]
    table.append([f"a whole step, measured {mean:.3g} s", f"{whole.bytes / 1e9:.3g} GB",
                  f"{whole.flops / 1e9:.4g} GF", f"{least:.4g} s"])
    result.table("What a step must do at least", ["stage", "bytes", "flops", "at least"], table)
    if theirs.seconds:
        value = statistics.mean(theirs.seconds) / mean
        result.want("step of the quickstart against reference_svf.py, means: at least 6", f"{value:.2f}", value >= 6)
    else:
        result.want("step of the quickstart against reference_svf.py", f"no baseline: {theirs.skipped}", None)
    result.want("or the step's share of the roof: at least 0.6", f"{least / mean:.2f}", least / mean >= 0.6)
    memory(bench, result, store, expert)
    return result
