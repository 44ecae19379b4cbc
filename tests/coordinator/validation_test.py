#!/usr/bin/env python3
"""What validation says of a run: the best goes by the mean score and forgets itself when validation
becomes another; an early stop, a best that is the base and steps without signal are told; each task is
counted for itself; evaluate's table, and generate in evaluate's form."""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import runs
from runs import check

sys.path.insert(0, str(runs.SOURCE / "scripts"))
sys.dont_write_bytecode = True
import compare  # noqa: E402

VOWELS = "[aeiou].*[aeiou]"


def train(config, run_dir, *pairs, more=()):
    return runs.run(config, run_dir, 1, *[x for pair in pairs for x in ("--set", pair)], *more)


def svfleet(*arguments, stdin=None):
    done = subprocess.run([runs.SVFLEET, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, input=stdin)
    if done.returncode:
        sys.exit(f"FAILED: {arguments}: {done.returncode} {done.stderr}")
    return done


def records(run_dir, kind, file="log.jsonl"):
    lines = [json.loads(line) for line in (Path(run_dir) / file).read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def exit_reason(run_dir):
    return json.loads((run_dir / "exit.json").read_text())["reason"]


def with_rewards(config, name, rewards):
    text = Path(config).read_text()
    start = text.index("  rewards:")
    path = Path(config).with_name(name)
    path.write_text(text[:start] + f"  rewards: {rewards}\n" + text[text.index("\n", start) + 1:])
    return str(path)


def two_rewards(folder, config):
    """One of them is never given: no reply is right, and the score moves."""
    two = with_rewards(config, "two.yaml", f'[{{kind: regex, pattern: "{VOWELS}", match_only: true, '
                                           "weight: 3}, {kind: exact, weight: 1}]")
    run_dir = folder / "two_rewards"
    done = train(two, run_dir, "train.steps=12", "train.validate_every=3", "train.validation_items=24",
                 "train.early_stop_after=3", more=["--json"])
    told = json.loads(done.stdout)
    seen = [(r["score"], -r["step"]) for r in records(run_dir, "evaluation")]
    score, step = max(seen)
    check(all(r["right"] == 0 and r["accuracy"] == 0 for r in records(run_dir, "evaluation")),
          "no reply is right by all rewards")
    check(score > 0 and told["best_step"] == -step > 0 and told["best_validation"] == score,
          f"the best goes by the mean score: {told['best_validation']} after step {told['best_step']} of {seen}")
    check(runs.content_hash(told["best_expert"]) != runs.content_hash(run_dir / "checkpoints/step-000012.h5")
          and "is the base model" not in done.stderr, "and is not the base model")
    last = records(run_dir, "step")[-1]
    check(last["accuracy"] == 0 and 0 < last["score"] <= 0.75 and last["right"] == 0,
          f"in training: right {last['right']}, score {last['score']}")

    # By hand, from the replies.
    out = folder / "two.jsonl"
    found = json.loads(svfleet("evaluate", two, "--quiet", "--json", "--expert", told["best_expert"], "--set",
                               "evaluate.items=20", "--out", out).stdout)
    items = [json.loads(line) for line in out.read_text().splitlines()]
    for result in found["results"]:
        replies = [item["replies"][result["name"]] for item in items]
        by_hand = [0.75 * bool(re.search(VOWELS, r["reply"])) for r in replies]
        check([r["score"] for r in replies] == by_hand and abs(result["score"] - sum(by_hand) / 20) < 1e-12
              and result["right"] == 0, f"evaluate: the score of {compare.short(result['name'])} is "
              f"{result['score']:.3f}, right {result['right']}")
    base, expert = found["results"]
    gains = [item["replies"][expert["name"]]["score"] - item["replies"]["base"]["score"] for item in items]
    mean, error = statistics.mean(gains), statistics.stdev(gains) / 20 ** 0.5
    t = 2.093024  # of 19 degrees of freedom, from the usual tables
    check(expert["p_value"] == 1 and all(abs(a - b) < 1e-6 for a, b in (
        (expert["score_gain"], mean), (expert["score_low"], mean - t * error), (expert["score_high"], mean + t * error)))
        and (expert["score_p_value"] < 0.05) == (abs(mean) > t * error) and "score_gain" not in base,
        f"the gain in score has an interval and a p of its own: {mean:.3f} ± {t * error:.3f}, p {expert['score_p_value']:.2g}")
    # Two items of which one gains 0.75: t alone says 0.375 ± 4.76.
    for seed in range(12):
        few = json.loads(svfleet("evaluate", two, "--quiet", "--json", "--expert", told["best_expert"], "--set",
                                 "evaluate.items=2", "--set", "evaluate.temperature=1", "--set",
                                 f"evaluate.seed={seed}").stdout)["results"][1]
        if abs(few.get("score_gain", 0)) == 0.375:
            break
    check(abs(few["score_gain"]) == 0.375 and (few["score_low"], few["score_high"]) == (-1, 1),
          f"the interval of two items ends where scores do: {few['score_low']} to {few['score_high']}")
    table = svfleet("evaluate", "--from", out).stdout
    check(table == compare.table(found) + "\n" and "gain in score" in table, "in the table too:\n" + table)


def early_stop(folder, config):
    run_dir = folder / "early"
    still = ["train.validate_every=1", "train.validation_items=4", "train.early_stop_after=2",
             "train.learning_rate=1e-9", "train.steps=50"]
    done = train(config, run_dir, *still)
    end = records(run_dir, "event")[-1]
    reason = exit_reason(run_dir)
    told = json.loads((run_dir / "exit.json").read_text())
    check(told["best_step"] == 0 and f"{told['best_score']:.3f}" in reason and told["code"] == 0, f"exit.json: {told}")
    check(re.fullmatch(r"early_stop after 2 of 50 steps, best score 0\.\d{3} after step 0", reason), f"exit.json: {reason}")
    check(reason in done.stdout and "experts/best.safetensors" in done.stdout, "the last line: " + done.stdout.strip())
    check((end["name"], end["reason"], end["best_step"]) == ("finish", "early_stop", 0)
          and f"{end['best_score']:.3f}" in reason, f"log: {end}")
    status = svfleet("status", run_dir).stdout
    check(f"finished, {reason}" in status, "status: " + status.splitlines()[1])
    check(re.search(r"\nbest +right 0\.\d{3} \[.*\], score 0\.\d{3} after step 0: experts/best", status)
          and "step 2 of 50" in status, "status names the best")
    check("experts/best is the base model" in (run_dir / "svfleet.log").read_text(), "a warning: the best is the base")

    done = train(config, run_dir, *still[:-1], "train.steps=60")
    check("already finished, early_stop after 2 of 60 steps" in done.stdout
          and "train.early_stop_after: 2 holds it there; with 0 it goes on" in done.stdout,
          "extended: " + done.stdout.strip())
    train(config, run_dir, *still[:-1], "train.steps=4", "train.early_stop_after=0")
    check(runs.newest_step(run_dir) == 4 and exit_reason(run_dir) == "finished", "and with 0 it goes on")
    told = json.loads(train(config, folder / "plain", "train.steps=1", more=["--json"]).stdout)
    check(told["best_validation"] is None and told["best_step"] is None, "without validation there is no best")


def no_signal(folder, config):
    never = with_rewards(config, "never.yaml", '[{kind: regex, pattern: "QQQQQQ", match_only: true}]')
    done = train(never, folder / "never", "train.steps=6")
    lines = [line for line in done.stderr.splitlines() if "had a signal" in line or "had no signal" in line]
    check(len(lines) == 2 and "step 5: 5 steps in a row had no signal" in lines[0]
          and "no step had a signal, nothing was learnt: the expert is the base model" in lines[1],
          f"never right: {lines}")
    check("length limit" not in lines[1], "truncated: score, so that the length limit is not to blame")
    done = train(never, folder / "cut", "train.steps=1", "task.max_new_tokens=1", "task.truncated=wrong")
    check("no step had a signal" in done.stderr and "cut by the length limit (max_new_tokens 1)" in done.stderr,
          "all cut: the warning names the limit: " + done.stderr.strip()[-300:])


def small_moves(folder, config):
    """In bfloat16 moves far below its steps arrive in the merged weights: the log says how much of them."""
    slow = ["model.dtype=bfloat16", "train.learning_rate=1e-4", f"svd.store={folder}/store.bf16"]
    train(config, folder / "slow", "train.steps=7", *slow)
    steps = [json.loads(line) for line in (folder / "slow/log.jsonl").read_text().splitlines()]
    steps = [step for step in steps if step["kind"] == "step"]
    moved, gains = steps[-1]["largest_z_move"], [step["merge_gain"] for step in steps]
    arrived = sum(gains[-5:]) / 5  # a sample of small matrices' rows: to the nearest it would be 0.3
    check(0 < moved < 2e-3 and 0.8 < arrived < 1.2, f"z moved by {moved:.1e}, of which {arrived:.2f} has arrived")


def forgets(folder, config):
    run_dir = folder / "forgets"
    pairs = ["train.validate_every=2", "train.validation_items=8"]
    train(config, run_dir, "train.steps=4", *pairs)
    done = train(config, run_dir, "train.steps=6", *pairs)
    check("counts no longer" not in done.stderr and len(records(run_dir, "evaluation")) == 4,
          "extended with the same validation it keeps its best")
    before = records(run_dir, "evaluation")[-1]
    kept = runs.content_hash(run_dir / "experts/best.safetensors")
    done = train(config, run_dir, "train.steps=8", pairs[0], "train.validation_items=16")
    check(re.search(rf"the best so far, {before['best_score']:.3f} after step {before['best_step']}, counts no longer: "
                    rf"the validation items in '{runs.SOURCE}/examples/tasks/max3/validation.jsonl' have changed since; "
                    r".*best-step-\d+\.safetensors, and the best is chosen "
                    "anew from step 6 on", done.stderr), "other items: " + done.stderr)
    after = records(run_dir, "evaluation")[4:]
    check([(r["step"], r["n"]) for r in after] == [(6, 16), (8, 16)] and after[-1]["best_step"] in (6, 8),
          f"and it is chosen anew: {[(r['step'], r['best_step']) for r in after]}")
    check(runs.content_hash(run_dir / f"experts/best-step-{before['best_step']}.safetensors") == kept, "the former one is kept")
    check(any(e["name"] == "best_forgotten" for e in records(run_dir, "event")), "the log says so")
    # A finished run keeps what it has.
    done = train(config, run_dir, "train.steps=8", *pairs)
    check("already finished" in done.stdout and "counts no longer" not in done.stderr, "a finished run stays as it is")


def two_tasks(folder, config):
    text = Path(config).read_text()
    start, end = text.index("task:\n"), text.index("train:\n")
    lines = text[start:end].splitlines()[1:]
    tasks = ["  - " + "\n    ".join(line.strip() for line in lines).replace("name: vowels", f"name: {name}")
             for name in ("vowels", "digits")]
    tasks[1] = tasks[1].replace(VOWELS, "[0-9]")
    both = Path(config).with_name("both.yaml")
    both.write_text(text[:start] + "task:\n" + "\n".join(tasks) + "\n" + text[end:])
    run_dir = folder / "both"
    done = train(str(both), run_dir, "train.steps=2", "train.validate_every=2", "train.validation_items=6",
                 "train.rollout_samples=32")
    for step in records(run_dir, "step"):
        texts = [r for r in records(run_dir, "rollout", "rollouts.jsonl") if r["step"] == step["step"]]
        check(len(texts) == 32, "all replies are kept")
        for task in step["by_task"]:
            own = [r for r in texts if r["task"] == task["task"]]
            by_hand = (len(own), sum(r["score"] == 1 for r in own), sum(r["ended"] for r in own) / len(own),
                       sum(r["tokens"] for r in own) / len(own), sum(r["score"] for r in own) / len(own))
            found = (task["n"], task["right"], task["ended_fraction"], task["mean_tokens"], task["score"])
            check(found == by_hand, f"step {step['step']}, {task['task']}: {found}")
        check(sum(t["right"] for t in step["by_task"]) == step["right"], "they add up")
    validation = records(run_dir, "evaluation")[-1]
    check([(t["task"], t["n"]) for t in validation["by_task"]] == [("vowels", 6), ("digits", 6)] and validation["n"] == 12,
          f"validation: {validation['by_task']}")
    status = svfleet("status", run_dir).stdout
    check(re.search(r"validation after step 2 +accuracy +score +ended +tokens\n +vowels +\d.*\n +digits +\d", status),
          "status has them")
    copy = folder / "umlauts"
    shutil.copytree(run_dir, copy)
    (copy / "log.jsonl").write_text((copy / "log.jsonl").read_text().replace('"vowels"', '"zählen 数"'))
    rows = [line for line in svfleet("status", copy).stdout.splitlines() if line.startswith(("  zählen", "  digits"))]
    check(len(rows) == 4 and len(set(map(len, rows))) == 1, f"columns are counted in characters: {rows}")
    check("prompts stand in the" not in done.stderr, "the splits of the examples have nothing in common")
    expert = run_dir / "experts/final.safetensors"
    words = ["evaluate", both, "--quiet", "--expert", expert, "--controls", "--set", "evaluate.items=6", "--set",
             "evaluate.split=validation"]  # of which no reading is told
    found = json.loads(svfleet(*words, "--json").stdout)
    table = svfleet(*words).stdout
    check("gain in score" not in table, "right and wrong alone need no test on the score")
    check(table == compare.table(found) + "\n" and table.count("\n  vowels ") == 4 and "\nboth/final shuffled " in table,
          "evaluate prints the table of scripts/compare.py:\n" + table)
    # After two steps, on six items.
    reached = [r["reached_by"] for r in found["results"] if r["name"] == str(expert)]
    check(reached == [[f"{expert} shuffled", f"{expert} mirrored"]] and
          table.endswith("\nA CONTROL REACHES THE EXPERT: 'both/final' is not clearly better than 'both/final shuffled' and "
                         "'both/final mirrored', which must fail; what it gains over the base is no evidence that it has "
                         "learnt anything\n") and
          f"A CONTROL REACHES THE EXPERT: '{expert}'" in svfleet(*words, "--json").stderr, f"controls: {reached}")
    svfleet(*words, "--set", "svd.targets=mlp")
    check(svfleet(*words, "--set", "svd.targets=mlp", "--set", "svd.layers=0").stdout == table,
          "what an expert adapts is its own matter")

    copy = folder / "copy.yaml"
    copy.write_text(both.read_text().replace("max3/test.jsonl", "max3/train.jsonl"))
    done = svfleet("evaluate", copy, "--quiet", "--set", "evaluate.items=2")
    check(re.search(r"\d+ prompts stand in the train split and in the test split, first \S+train.jsonl:1 and \S+train.jsonl:1:",
                    done.stderr), "items of two splits: " + done.stderr.strip())


def generate_as_evaluate(folder, config):
    """In bfloat16, where the form in which z is applied decides about some replies."""
    brief = ["--set", "model.dtype=bfloat16", "--quiet", "--json"]
    expert = folder / "forms/experts/final.safetensors"
    train(config, folder / "forms", "train.steps=4")
    out, prompts = folder / "forms.jsonl", []
    replies = {}
    for form in ("merged", "activation"):
        words = [*brief, "--expert", expert, "--set", f"train.form={form}"]
        svfleet("evaluate", config, *words, "--set", "evaluate.items=24", "--set", "evaluate.batch=1", "--out", out)
        items = [json.loads(line) for line in out.read_text().splitlines()]
        prompts = [item["prompt"] for item in items]
        evaluated = [item["replies"][str(expert)]["reply"] for item in items]
        told = json.loads(svfleet("generate", config, *words, "-", stdin="\n".join(prompts) + "\n").stdout)
        generated = [r["reply"] for r in told["results"] if r["name"] == str(expert)]
        check(generated == evaluated, f"generate answers as evaluate, {form}")
        replies[form] = evaluated
    differing = sum(a != b for a, b in zip(*replies.values()))
    check(differing > 0, f"the forms give {differing} of {len(prompts)} replies otherwise")

    text = Path(config).read_text().replace("  max_new_tokens", '  prefill: "So: "\n  max_new_tokens')
    prefilled = Path(config).with_name("prefilled.yaml")
    prefilled.write_text(text)
    done = svfleet("generate", prefilled, "--quiet", "hello", "--max-new-tokens", "3")
    check("[base] So: " in done.stdout, "the prefill is a part of the answer: " + done.stdout.strip())


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, 4, tokens=16)
        two_rewards(folder, config)
        early_stop(folder, config)
        no_signal(folder, config)
        small_moves(folder, config)
        forgets(folder, config)
        two_tasks(folder, config)
        generate_as_evaluate(folder, config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
