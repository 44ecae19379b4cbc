#!/usr/bin/env python3
"""What evaluate says, computed again in Python from its replies: samples, clusters, several experts, files of
--out that give the same table, and readings of the test split."""
import itertools
import json
import os
import re
import shutil
import statistics
import sys
from collections import Counter
from math import comb
from pathlib import Path

import runs
from runs import check, one_line

sys.path.insert(0, str(runs.SOURCE / "scripts"))
sys.dont_write_bytecode = True
import compare  # noqa: E402

SAMPLES, ITEMS = 6, 20
SAMPLED = ["--quiet", "--set", "evaluate.temperature=1", "--set", f"evaluate.samples={SAMPLES}"]


def svfleet(*arguments, ranks=1):
    done = runs.svfleet(*arguments, ranks=ranks)
    check(done.returncode == 0, " ".join(map(str, arguments))[:90] + (done.stderr[-300:] if done.returncode else ""))
    return done


def refused(what, words, *texts, cwd=None):
    done = runs.svfleet(*words, cwd=cwd)
    line = one_line(done)
    check(done.returncode == 2 and all(text in line for text in texts), f"{what}: {line or done}")


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def write_items(folder, name, clusters):
    """Items of the example, right where the first vowel of the reply is an e."""
    source = (runs.SOURCE / "examples/tasks/max3/test.jsonl").read_text().splitlines()[:ITEMS]
    items = [{**json.loads(line), "answer": "e"} for line in source]
    for i, item in enumerate(items):
        if clusters:
            item["cluster"] = i // 3 if i < 9 else f"single {i}"
    (folder / name).write_text("".join(json.dumps(item) + "\n" for item in items))
    return folder / name


def write_task(folder, config):
    text = Path(config).read_text()
    start = text.index("  rewards:")
    text = text[:start] + '  rewards: [{kind: regex, pattern: "([aeiou])"}]\n' + text[text.index("\n", start) + 1:]
    for split, file in (("train", "plain"), ("validation", "plain"), ("test", "clustered")):
        text = re.sub(rf"  {split}: .*max3.*\n", f"  {split}: {folder}/{file}.jsonl\n", text)
    write_items(folder, "plain.jsonl", False)
    write_items(folder, "clustered.jsonl", True)
    Path(config).write_text(text)


def majority(answers, right, k):
    """The mean over all draws of k samples; ties are shared."""
    total = 0
    for drawn in itertools.combinations(range(len(answers)), k):
        votes = Counter(answers[i] for i in drawn if answers[i] is not None)
        top = [answer for answer, n in votes.items() if n == max(votes.values())]
        total += sum(any(right[i] for i in drawn if answers[i] == answer) for answer in top) / len(top) if top else 0
    return total / comb(len(answers), k)


def sign_flips(sums):
    sums = [s for s in sums if abs(s) > 1e-9]
    whole = abs(sum(sums)) - 1e-9
    return sum(abs(sum(x * s for x, s in zip(sums, signs))) >= whole
               for signs in itertools.product((1, -1), repeat=len(sums))) / 2 ** len(sums)


def near(a, b):
    return abs(a - b) < 1e-12


def by_hand(found, items):
    check((found["n"], found["samples"], found["clusters"]) == (ITEMS, SAMPLES, ITEMS - 6), "n, samples, clusters")
    shares = {}
    for result in found["results"]:
        replies = [item["replies"][result["name"]] for item in items]
        check(all(len(own) == SAMPLES for own in replies), f"{SAMPLES} replies of each")
        for reply in sum(replies, []):
            vowel = re.search("[aeiou]", reply["reply"])
            if reply["answer"] != (vowel and vowel[0]) or reply["score"] != float(reply["answer"] == "e"):
                check(False, f"what is parsed: {reply}")
        answers = [[r["answer"] for r in own] for own in replies]
        right = [[r["right"] for r in own] for own in replies]
        shares[result["name"]] = [sum(own) / SAMPLES for own in right]
        check(near(result["accuracy"], statistics.mean(shares[result["name"]])) and result["n"] == ITEMS * SAMPLES
              and result["low"] < result["accuracy"] < result["high"], f"accuracy {result['accuracy']:.3f}")
        check([at["k"] for at in result["at_k"]] == [1, 2, 4, 6], "k")
        for at in result["at_k"]:
            k = at["k"]
            own = statistics.mean(1 - comb(SAMPLES - sum(r), k) / comb(SAMPLES, k) for r in right)
            most = statistics.mean(majority(a, r, k) for a, r in zip(answers, right))
            check(near(at["pass"], own) and at["pass_low"] <= own <= at["pass_high"], f"pass@{k} {own:.3f}")
            check(near(at["majority"], most) and at["majority_low"] <= most <= at["majority_high"],
                  f"majority@{k} {most:.3f}")
    clusters = [str(item["cluster"]) for item in items]
    plain = {}
    for result in found["results"][1:]:
        gains = [a - b for a, b in zip(shares[result["name"]], shares["base"])]
        sums = [sum(g for g, c in zip(gains, clusters) if c == name) for name in dict.fromkeys(clusters)]
        plain[result["name"]] = sign_flips(sums)
        better = (sum(s > 1e-9 for s in sums), sum(s < -1e-9 for s in sums))
        check(near(result["p_value"], plain[result["name"]]) and near(result["gain"], statistics.mean(gains)) and
              (result["only_expert"], result["only_base"]) == better and result["gain_low"] < result["gain_high"],
              f"p by clusters {result['p_value']:.4f}, {better}")
    low, high = sorted(plain, key=plain.get)
    first = min(1, 2 * plain[low])
    adjusted = {low: first, high: max(first, plain[high])}
    check(all(near(r["p_adjusted"], adjusted[r["name"]]) for r in found["results"][1:]), f"Holm: {adjusted}")


def samples_and_clusters(folder, config, experts):
    out = folder / "sampled.jsonl"
    words = ["evaluate", config, *SAMPLED, "--expert", experts[0], "--expert", experts[1]]
    done = svfleet(*words, "--json", "--out", out)
    found, items = json.loads(done.stdout), lines(out)
    by_hand(found, items)
    check(svfleet("evaluate", "--from", out, "--json").stdout == done.stdout, "--from gives the same JSON")
    table = svfleet("evaluate", "--from", out).stdout
    check(table == compare.table(found) + "\n" and "majority@k" in table and "p (Holm)" in table and
          table.startswith("20 items of the test split, 6 samples of each, in 14 clusters\n"),
          "and the table of scripts/compare.py:\n" + table)
    unlike = [r["p_adjusted"] > 0.05 for r in found["results"][1:]]
    check(table.count("not distinguishable from base") == sum(unlike), f"not distinguishable: {unlike}")
    again = folder / "again.jsonl"
    told = svfleet(*words, "--out", again, ranks=2).stdout
    check(told == svfleet("evaluate", "--from", again).stdout, "evaluate's own table is that of its file")
    keep = [{**item, "evaluation": 0} for item in items]
    check([{**item, "evaluation": 0} for item in lines(again)] == keep, "two ranks sample the same replies")

    # The first sample is what a single one is; the others are not.
    one = folder / "one.jsonl"
    svfleet("evaluate", config, "--quiet", "--set", "evaluate.temperature=1", "--out", one)
    single = [item["replies"]["base"]["reply"] for item in lines(one)]
    check([[i["replies"]["base"][s]["reply"] for i in items] == single for s in range(3)] == [True, False, False],
          "samples are keyed by their number")
    # By hand: the base is wrong in six clusters where both experts are right. By plain p each differs from it, of
    # two looked at neither does.
    for i, item in enumerate(items):
        for name, replies in item["replies"].items():
            wrong = name == "base" and 9 <= i < 15
            for reply in replies:
                reply.update(right=not wrong, score=float(not wrong), answer="a" if wrong else "e")
    edited = folder / "edited.jsonl"
    edited.write_text("".join(json.dumps(item) + "\n" for item in items))
    found = json.loads(svfleet("evaluate", "--from", edited, "--json").stdout)
    ps = [(r["p_value"], r["p_adjusted"]) for r in found["results"][1:]]
    table = svfleet("evaluate", "--from", edited).stdout
    check(ps == [(2 / 2 ** 6, 4 / 2 ** 6)] * 2 and table.count("not distinguishable from base") == 2, f"six: {ps}")


def several_files(folder, config, experts):
    """On the validation split, which is not counted."""
    few = ["evaluate", config, "--quiet", "--set", "evaluate.split=validation"]
    both = [word for expert in experts for word in ("--expert", expert)]
    together = svfleet(*few, *both, "--json", "--controls").stdout
    files = [folder / "first.jsonl", folder / "second.jsonl"]
    for expert, file in zip(experts, files):
        svfleet(*few, "--expert", expert, "--controls", "--out", file)
    both_files = [word for file in files for word in ("--from", file)]
    check(svfleet("evaluate", *both_files, "--json").stdout == together, "two files are one evaluation of both experts")
    found = json.loads(together)
    check(["p_adjusted" in r for r in found["results"]] == [False, True, False, False, True, False, False]
          and "reached_by" in found["results"][1] and "reached_by" in found["results"][4]
          and "reached_by" not in found["results"][2], "controls are compared with their expert and are no claims")

    native = folder / "base"
    svfleet("export", config, "--expert", experts[0], "--format", "native", native)
    refused("an expert called as the base is", [*few, "--expert", "base"], "would both be called 'base'", cwd=folder)
    refused("an expert and its folder", [*few, "--expert", native, "--expert", native / "expert.safetensors"], "is given twice")

    shorter = folder / "shorter.jsonl"
    shorter.write_text("".join(files[1].read_text().splitlines(keepends=True)[:-1]))
    refused("an item less", ["evaluate", "--from", files[0], "--from", shorter], f"'{shorter}' does not go with",
            "other items, first in line 20")
    other = folder / "other.jsonl"
    other.write_text(files[1].read_text().replace('"item":4,', '"item":44,'))
    refused("another item", ["evaluate", "--from", files[0], "--from", other], "other items, first in line 5")
    base = lines(files[1])
    base[3]["replies"]["base"]["reply"] += "x"
    other.write_text("".join(json.dumps(item) + "\n" for item in base))
    refused("another base", ["evaluate", "--from", files[0], "--from", other], "a base that answers otherwise")
    copy = shutil.copy(files[0], folder / "copy.jsonl")
    refused("the same expert", ["evaluate", "--from", files[0], "--from", copy], f"'{experts[0]}' too")
    old = lines(files[0])
    for item in old:
        del item["evaluation"]
    other.write_text("".join(json.dumps(item) + "\n" for item in old))
    refused("a file of before", ["evaluate", "--from", other], f"{other}:1: no line of svfleet evaluate --out")
    other.write_text(files[0].read_text() + "half a li")
    refused("a torn end", ["evaluate", "--from", other], f"{other}:21: no line")
    other.write_text(files[0].read_text().replace('"samples":1', '"samples":2'))
    refused("a sample less", ["evaluate", "--from", other], f"{other}:1: 1 replies of 'base' where 2 were sampled")
    other.write_text("")
    refused("an empty file", ["evaluate", "--from", other], "holds no items")
    refused("no file", ["evaluate", "--from", folder / "none"], "none")
    refused("twice", ["evaluate", "--from", files[0], "--from", files[0]], "is given twice")
    refused("with a CONFIG", ["evaluate", config, "--from", files[0]], "leave out all else but --json")
    refused("neither", ["evaluate"], "CONFIG is required")
    refused("samples of greedy replies", ["evaluate", config, "--set", "evaluate.samples=2"],
            "evaluate.samples 2 needs evaluate.temperature above 0")
    bad = folder / "bad.jsonl"
    bad.write_text('{"question": "1?", "answer": "e", "cluster": [1]}\n')
    refused("a cluster that is a list", ["evaluate", config, "--set", f"task.test={bad}"],
            f"{bad}:1: 'cluster' is array")


def readings(folder, config, run_dir, expert):
    file = run_dir / "readings.jsonl"
    file.unlink(missing_ok=True)
    few = ["evaluate", config, "--quiet", "--set", "evaluate.items=4"]
    svfleet(*few)
    svfleet(*few, "--expert", expert, "--set", "evaluate.split=validation")
    check(not file.exists(), "neither the base nor another split is a reading")
    told = [svfleet(*few, "--expert", expert).stdout for _ in range(3)]
    noted = lines(file)
    keys = ["data", "expert", "items", "kind", "samples", "split", "time"]
    check(len(noted) == 3 and all(sorted(line) == keys and (line["split"], line["items"]) == ("test", 4)
                                  and line["expert"] == runs.content_hash(expert) for line in noted), f"{noted[0]}")
    text = f"the test split of '{run_dir}' was read "
    check("was read" not in told[0] and told[1].startswith(told[0] + text + "1 time before: what was chosen by it ")
          and text + "2 times before" in told[2], "and told: " + told[2].splitlines()[-1])
    found = json.loads(svfleet(*few, "--expert", expert, "--json").stdout)
    check(found["read_before"] == [{"run": str(run_dir), "times": 3}], "in JSON too")

    # A copy elsewhere counts for the run of the configuration; a live owner is no obstacle.
    copy = shutil.copy(expert, folder / "elsewhere.safetensors")
    owner = run_dir / "owner.json"
    owner.write_text(json.dumps({"format": "svfleet-owner", "version": 1, "host": os.uname().nodename,
                                 "pid": os.getpid(), "job": "", "restarts": 0, "token": "0" * 32, "process_start": 0,
                                 "started": ""}))
    svfleet(*few, "--expert", copy, "--set", f"run_dir={run_dir}")
    owner.unlink()
    svfleet(*few, "--expert", copy, "--set", f"run_dir={folder}/nowhere")
    check(len(lines(file)) == 5 and not (folder / "nowhere").exists(), "five by now")
    torn = file.read_text() + '{"kind": "rea'
    file.write_text(torn)
    svfleet(*few, "--expert", expert)
    whole = [line for line in file.read_text().splitlines() if line != '{"kind": "rea']
    check(len([json.loads(line) for line in whole]) == 6, "a torn line is no reading, and the next one is whole")
    read = json.loads(svfleet(*few, "--expert", expert, "--json").stdout)["read_before"]
    check(read == [{"run": str(run_dir), "times": 6}], f"and it is passed over: {read}")
    svfleet("train", config, "--quiet", "--set", f"run_dir={run_dir}", "--set", "train.steps=3", "--set",
            "train.learning_rate=0.05", "--set", "train.seed=1")
    foreign = json.loads(svfleet("verify", run_dir, "--quiet", "--json").stdout)["foreign"]
    check(len(file.read_text().splitlines()) == 8 and foreign == [], f"a run that goes on leaves it, verify knows it: {foreign}")
    kept = file.read_text()
    file.unlink()
    file.mkdir()
    done = svfleet(*few, "--expert", expert)
    check("is not noted in" in done.stderr and "accuracy" in done.stdout, "a folder of that name: " + done.stderr)
    file.rmdir()
    file.write_text(kept)


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, 2, tokens=16)
        write_task(folder, config)
        experts = []
        for seed in (1, 2):
            run_dir = folder / f"run{seed}"
            runs.run(config, run_dir, 1, "--set", f"train.seed={seed}", "--set", "train.learning_rate=0.05")
            experts.append(run_dir / "experts/final.safetensors")
        samples_and_clusters(folder, config, experts)
        several_files(folder, config, experts)
        readings(folder, config, folder / "run1", experts[0])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
