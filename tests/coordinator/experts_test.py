#!/usr/bin/env python3
"""Several experts in one run (`experts:`): each gets, bit for bit and step for step, what it gets in a run
of its own in the same form: z, p, m, v, updates, position, best. On 1 and 2 ranks, for any chunks, after
kills inside a step and between its records; swapped seeds and tasks are others. What they must share,
and what may not change in a run that goes on, is refused in one line."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check

DATA = runs.SOURCE / "examples/tasks"


def task(name, pattern, data="max3", tokens=24):
    return {"name": name, "rewards": [{"kind": "regex", "pattern": pattern, "match_only": True}],
            "max_new_tokens": tokens, "truncated": "score",
            **{split: f"{DATA}/{data}/{split}.jsonl" for split in ("train", "validation", "test")}}


SHARED = {"form": "activation", "steps": 3, "prompts_per_step": 4, "samples_per_prompt": 4,
          "prompts_per_chunk": 2, "learning_rate": 0.01}
EXPERTS = [
    {"name": "vowels", "task": task("vowels", "[aeiou].*[aeiou]"), "train": {"seed": 1}},
    {"name": "few", "task": task("digits", "[0-9]", tokens=16),
     "train": {"seed": 7, "steps": 2, "learning_rate": 0.03, "samples_per_prompt": 6, "kl_beta": 0.01}},
    {"name": "spaces", "task": task("spaces", " [a-z].* [a-z]", data="first_letter"),
     "train": {"seed": 7, "steps": 5, "prompts_per_step": 6, "schedule": "cosine", "validate_every": 2,
               "validation_items": 20, "clip_norm": 0.5, "baseline": "whitened"}},
]


def write(path, folder, **more):
    config = {"model": {"path": str(runs.SOURCE / "tests/data/models/tiny_llama3"), "dtype": "float32"},
              "svd": {"store": f"{folder}/store", "targets": ["all"]}, "run_dir": f"{folder}/run",
              "timeout_s": 60, "train": SHARED, **more}
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return str(path)


def alone(folder, expert):
    """The last state of a run of its own, and each step's z and state."""
    config = write(folder / f"{expert['name']}.yaml", folder, task=expert["task"],
                   train={**SHARED, **expert["train"]})
    run_dir = folder / f"alone-{expert['name']}"
    result = json.loads(runs.run(config, run_dir, 1, "--json").stdout)
    return {"hash": result["hash"], "run_dir": run_dir, "best_step": result["best_step"],
            "steps": {step: (r["z_hash"], r["state_hash"], r["updates"], r["position"])
                      for step, r in runs.log_steps(run_dir).items()}}


def together(config, run_dir, ranks, *more):
    """By expert, the same of a run of several."""
    result = json.loads(runs.run(config, run_dir, ranks, "--json", *more).stdout)
    steps = {}
    for line in (run_dir / "log.jsonl").read_text().splitlines():
        r = json.loads(line)
        if r["kind"] == "step":
            steps.setdefault(r["expert"], {})[r["step"]] = (r["z_hash"], r["state_hash"], r["updates"],
                                                            r["position"])
    return {one["name"]: {"hash": one["hash"], "best_step": one["best_step"], "steps": steps[one["name"]]}
            for one in result["experts"]}


def same(found, truth):
    return {name: {key: one[key] for key in ("hash", "best_step", "steps")} for name, one in found.items()} \
        == {name: {key: one[key] for key in ("hash", "best_step", "steps")} for name, one in truth.items()}


def files_are_those_of_runs_of_their_own(run_dir, truth):
    for name, one in truth.items():
        own = one["run_dir"] / "experts"
        for file in sorted(path.name for path in own.iterdir()):
            check(runs.content_hash(run_dir / "experts" / name / file) == runs.content_hash(own / file),
                  f"experts/{name}/{file} has the z of a run of its own")
        check(sorted(p.name for p in own.iterdir()) ==
              sorted(p.name for p in (run_dir / "experts" / name).iterdir()), f"{name}: the same files")


def equal_in_every_way(config, folder, truth):
    for ranks, workers, prompts, rows in ((1, 1, 2, 256), (1, 3, 1, 0), (2, 1, 2, 1), (2, 2, 1, 256)):
        run_dir = folder / f"together-{ranks}-{workers}-{prompts}"
        found = together(config, run_dir, ranks, "--set", f"workers={workers}", "--set",
                         f"train.prompts_per_chunk={prompts}", "--set", f"train.rows_per_worker={rows}")
        most = max(step["chunks_in_flight"] for step in runs.log_steps(run_dir).values())
        if rows == 1 or ranks * workers == 1:  # else it depends on who comes first
            check((most > 1) == (rows > 1), f"{most} chunks of each in flight")
        check(same(found, truth), f"{ranks} ranks, {workers} workers, chunks of {prompts}: every step of "
              f"every expert has the z, p, m, v, updates and position of its own run")
    files_are_those_of_runs_of_their_own(run_dir, truth)
    return runs.content_hash(run_dir)


def controls(folder, truth):
    def swapped(key):
        first, second, third = (dict(e, train=dict(e["train"])) for e in EXPERTS)
        if key == "seed":
            first["train"]["seed"], second["train"]["seed"] = second["train"]["seed"], first["train"]["seed"]
        elif key == "name":
            first["name"], second["name"] = second["name"], first["name"]
        else:
            first["task"], second["task"] = second["task"], first["task"]
        return [first, second, third]
    for key in ("seed", "name", "task"):
        config = write(folder / f"swapped-{key}.yaml", folder, experts=swapped(key))
        found = together(config, folder / f"swapped-{key}", 1)
        check(all(found[name]["hash"] != truth[name]["hash"] for name in ("vowels", "few")) and
              found["spaces"]["hash"] == truth["spaces"]["hash"],
              f"{key} swapped between two: their hashes are others, that of the third is not")


def killed(config, folder, truth, whole, ranks, ranks_after, steps_of_kill):
    """Killed inside a step, as soon as one of its records is in the journal."""
    run_dir = folder / f"killed-{ranks}-{ranks_after}"
    kills = 0
    for step in steps_of_kill:
        job = subprocess.Popen(runs.command(config, run_dir, ranks, "--set", "workers=1"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.time() + 120
        while job.poll() is None and time.time() < end:
            kept = [r for r in runs.journal_file.chunks(run_dir, step)] if run_dir.exists() else []
            if kept:
                break
            time.sleep(0.002)
        if job.poll() is None:
            runs.send(signal.SIGKILL, [job.pid] if ranks == 1 else list(runs.ranks_of(job.pid).values())[:1])
            kills += 1
        job.wait(timeout=60)
    found = together(config, run_dir, ranks_after)
    check(kills == len(steps_of_kill), f"killed {kills} times in a step, on {ranks} ranks")
    check({name: one["hash"] for name, one in found.items()} ==
          {name: one["hash"] for name, one in truth.items()},
          f"then on {ranks_after} ranks: every expert has the state of its own run")
    check(runs.content_hash(run_dir) == whole, "and the run the hash of an undisturbed one")


def restored_replies_are_their_own(folder):
    """Two experts that differ in nothing but their tasks: one z, one seed, the same prompts. Killed in the
    middle of their first chunk, whose replies must come back to the right one."""
    twins = [{"name": name, "task": task(name, pattern, tokens=440), "train": {"seed": 3}}
             for name, pattern in (("as", "a.*a"), ("es", "e.*e"))]
    shared = {**SHARED, "steps": 1, "prompts_per_chunk": 4}
    truth = {}
    for twin in twins:
        config = write(folder / f"{twin['name']}.yaml", folder, task=twin["task"],
                       train={**shared, **twin["train"]})
        truth[twin["name"]] = json.loads(
            runs.run(config, folder / f"alone-{twin['name']}", 1, "--json").stdout)["hash"]
    config, run_dir = write(folder / "twins.yaml", folder, experts=twins, train=shared), folder / "twins"
    job = subprocess.Popen(runs.command(config, run_dir, 1, "--set", "workers=1"), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)

    def kept():
        return [r for path in (run_dir / "chunks").glob("step-*.journal")
                for r in runs.journal_file.records_of(path) if r.kind == runs.journal_file.REPLY]
    end = time.time() + 60
    while job.poll() is None and time.time() < end and len(kept()) < 6:
        time.sleep(0.002)
    job.kill()
    job.wait(timeout=60)
    of = {record.expert for record in kept()}
    check(of == {0, 1}, f"killed with {len(kept())} replies of both experts in the journal, and no chunk")
    done = runs.run(config, run_dir, 1, "--json")
    found = {one["name"]: one["hash"] for one in json.loads(done.stdout)["experts"]}
    check("of unfinished chunks restored" in done.stderr and found == truth,
          "they are restored, and each twin has the state of its own run")


def refused(folder, what, words, code=2, config=None, run_dir=None, sets=(), **more):
    config = config or write(folder / "refused.yaml", folder, **more)
    command = runs.command(config, run_dir or folder / "refused", 1,
                           *(word for pair in sets for word in ("--set", pair)))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    line = runs.one_line(done)
    check(done.returncode == code and all(word in line for word in words),
          f"{what}: code {done.returncode}, {line!r}")


def errors(config, folder, run_dir):
    first, second, third = EXPERTS
    refused(folder, "two of one name", ("two experts have the name 'vowels'", "refused.yaml:"),
            experts=[first, dict(second, name="vowels")])
    refused(folder, "no folder's name", ("experts.0.name must be letters", "a/b"),
            experts=[dict(first, name="a/b"), second])
    refused(folder, "no name", ("experts.1.name is missing",),
            experts=[first, {k: v for k, v in second.items() if k != "name"}])
    refused(folder, "merged", ("train.form merged", "2 experts", "set train.form to activation"),
            experts=EXPERTS[:2], train={**SHARED, "form": "merged"})
    refused(folder, "a form of its own", ("expert 'few' has a train.form of its own",),
            experts=[first, dict(second, train={**second["train"], "form": "merged"})])
    refused(folder, "evolution strategies", ("train.method es trains one expert",), experts=EXPERTS[:2],
            train={**SHARED, "method": "es"})
    refused(folder, "an unknown key", ("unknown key 'lerning_rate'", "did you mean 'learning_rate'"),
            experts=[first, dict(second, train={"lerning_rate": 1})])
    refused(folder, "an unknown key beside them", ("unknown key 'tusk'", "did you mean 'task'"),
            experts=[dict(first, tusk=1), second])
    refused(folder, "train's key in the wrong place", ("unknown key 'seed'", "train.seed"),
            experts=[dict(first, seed=1), second])
    refused(folder, "no task", ("experts.1.task is missing", "'few'"),
            experts=[first, {k: v for k, v in second.items() if k != "task"}])
    refused(folder, "no list", ("experts must be a list",), experts={"a": first})
    refused(folder, "a chunk that does not divide", ("train.prompts_per_chunk (2) must divide",),
            experts=[first, dict(second, train={"prompts_per_step": 5})])
    refused(folder, "an override of nobody", ("there is no expert 'x'", "vowels, few, spaces"),
            config=config, sets=["experts.x.train.seed=1"])
    refused(folder, "an unknown override", ("unknown key 'train.sed'", "train.seed"), config=config,
            sets=["experts.few.train.sed=1"])
    for what, experts in (("removed", EXPERTS[:2]), ("added", EXPERTS + [dict(first, name="new")]),
                          ("reordered", [second, first, third])):
        refused(folder, f"an expert {what}", ("has the experts vowels, few, spaces",
                                              "the same names in the same order"),
                run_dir=run_dir, experts=experts)
    refused(folder, "a run of several as one", ("has the experts vowels, few, spaces", "one expert"),
            run_dir=run_dir, task=first["task"])
    refused(folder, "another seed in a run that goes on", ("expert 'few'", "train.seed: 8 now, 7 in the run"),
            config=config, run_dir=run_dir, sets=["experts.few.train.seed=8"])
    refused(folder, "one that the others have left behind", ("expert 'few' ended after 2 steps",
                                                             "gone on to 5"),
            config=config, run_dir=run_dir, sets=["experts.few.train.steps=9"])
    done = runs.svfleet("train", "--fork", run_dir, "--set", f"run_dir={folder}/child")
    check(done.returncode == 2 and "--fork is for runs of one expert" in runs.one_line(done),
          f"fork: {runs.one_line(done)!r}")


def one_is_a_run_of_its_own(folder, truth):
    config = write(folder / "one.yaml", folder, experts=[dict(EXPERTS[2])])
    runs.run(config, folder / "one", 1)
    check(runs.content_hash(folder / "one") == truth["spaces"]["hash"] and
          (folder / "one/experts/final.safetensors").exists(), "a list of one is that expert's own run")


def readers(config, run_dir, whole):
    status = json.loads(runs.svfleet("status", run_dir, "--json").stdout)
    check(status["finished"] and status["state"] == "finished", "status says that it is finished")
    check([e["name"] for e in status["experts"]] == ["spaces"] and
          status["experts"][0]["best_validation"]["expert"] == "spaces",
          "and of whom there are validations, with the best")
    check({e["expert"] for e in status["last_steps"]} == {"vowels", "spaces", "few"} or
          {e["expert"] for e in status["last_steps"]} >= {"spaces"}, "the last steps name their experts")
    check("spaces" in runs.svfleet("status", run_dir).stdout, "so do its words")
    remark = " ".join(line[2:] for line in runs.svfleet("config", config).stdout.splitlines()
                      if line.startswith("# "))
    # Of each, twice prompts, samples and the longest reply.
    tokens = 2 * (4 * 4 * 24 + 4 * 6 * 16 + 6 * 4 * 24)
    check("3 experts, in the activation form" in remark and f"at most {tokens} tokens" in remark and
          "merged" not in remark, f"config counts the tokens of all experts: {tokens}")
    done = runs.svfleet("verify", config, "--set", f"run_dir={run_dir}", "--json")
    report = json.loads(done.stdout)
    check(done.returncode == 0 and report["experts"]["read"] == 4 and not report["foreign"],
          f"verify reads all of its experts: {report['experts']}")
    best = run_dir / "experts/spaces/best.safetensors"
    kept = best.read_bytes()
    runs.flip(best, -3)
    check(runs.svfleet("verify", config, "--set", f"run_dir={run_dir}").returncode not in (0, 2),
          "and finds damage in one")
    best.unlink()
    again = runs.run(config, run_dir, 1)
    check(best.read_bytes() == kept and runs.content_hash(run_dir) == whole,
          "a best expert that is gone is made again, from its checkpoint")
    check("already finished" in again.stdout, f"a finished run stays: {again.stdout.strip()!r}")
    shown = runs.svfleet("config", run_dir)
    check(shown.returncode == 0 and shown.stdout.count("    name: ") >= 3 and
          runs.run(str(run_dir), run_dir, 1).returncode == 0, "it goes on by its folder, as printed")


def one_copy_of_the_weights(folder):
    """On the real model, where it is and is decomposed: at its peak, what three experts need more than one is
    a small part of the weights."""
    model = runs.SOURCE / "models/SmolLM2-135M-Instruct"
    if not Path(f"{model}.factors").is_dir():
        return print("skipped: no decomposed model in models/")
    common = {"model": {"path": str(model)}, "svd": {"targets": ["mlp"], "layers": "10..14"}, "workers": 1,
              "train": {"form": "activation", "steps": 1, "prompts_per_step": 2, "samples_per_prompt": 2}}
    short = {"file": f"{DATA}/max3.yaml", "max_new_tokens": 8}
    three = [{"name": f"e{seed}", "train": {"seed": seed}} for seed in range(3)]
    peak = {}
    for count, more in ((1, {}), (3, {"experts": three})):
        config = write(folder / f"memory-{count}.yaml", folder, task=short, **common, **more)
        job = subprocess.Popen(runs.command(config, folder / f"memory-{count}", 1), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        _, status, used = os.wait4(job.pid, 0)
        check(status == 0, f"a step of {count} on the real model")
        peak[count] = used.ru_maxrss * 1024
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    more = peak[3] - peak[1]
    check(more < weights / 2, f"three experts need {more / 2**20:.0f} MiB more than one, of weights of "
          f"{weights / 2**20:.0f} MiB")


def main():
    folder = runs.work_folder()
    truth = {expert["name"]: alone(folder, expert) for expert in EXPERTS}
    check(len({one["hash"] for one in truth.values()}) == 3 and
          all(one["steps"][2][2] > 0 for one in truth.values()), "three runs of their own, which learn")
    config = write(folder / "together.yaml", folder, experts=EXPERTS)
    whole = equal_in_every_way(config, folder, truth)
    controls(folder, truth)
    killed(config, folder, truth, whole, 1, 1, (0, 1, 3))
    killed(config, folder, truth, whole, 2, 1, (1,))
    killed(config, folder, truth, whole, 1, 2, (0, 2))
    restored_replies_are_their_own(folder)
    one_is_a_run_of_its_own(folder, truth)
    errors(config, folder, folder / "together-1-1-2")
    readers(config, folder / "together-1-1-2", whole)
    one_copy_of_the_weights(folder)
    shutil.rmtree(folder)
    print("all passed")


if __name__ == "__main__":
    main()
