#!/usr/bin/env python3
"""svfleet verify finds one flipped bit in whatever a run rests on, names it, and nothing else; and a
model whose bits have changed behind its files' times does not train, decompose or evaluate."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check, flip, one_line, svfleet

USER, DISK = 2, 74
KINDS = ("model", "factors", "checkpoints", "chunks", "experts")


def stopped_inside_a_step(folder, config):
    """A run with experts, checkpoints, and finished chunks of a step that is not."""
    run_dir = folder / "run"
    more = ["--set", "train.validate_every=1", "--set", "train.validation_items=2", "--set",
            "train.checkpoint_every=2"]
    for _ in range(20):  # a step may end, and its chunks be gone, before the signal arrives
        shutil.rmtree(run_dir, ignore_errors=True)
        job = subprocess.Popen(runs.command(config, run_dir, 1, *more), stderr=subprocess.PIPE, text=True)
        end = time.time() + 60
        while len(runs.journal(run_dir)) < 3 or (runs.newest_step(run_dir) or 0) < 4:
            if time.time() > end or job.poll() is not None:
                raise SystemExit("FAILED: no journal within 60 s")
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
        job.communicate()
        if len(runs.journal(run_dir)) >= 2:
            return run_dir
    raise SystemExit("FAILED: not once killed inside a step")


def verify_finds(folder, config, run_dir, model):
    def verify(ranks=1):
        return svfleet("verify", config, "--json", "--quiet", ranks=ranks)

    def counted():
        return {"model": len(json.loads((folder / "store/store.json").read_text())["tensor_hashes"]),
                "factors": len(list((folder / "store").glob("*.h5"))),
                "checkpoints": len(list((run_dir / "checkpoints").glob("step-*.h5"))),
                "chunks": len(list((run_dir / "chunks").glob("*.journal"))),
                "experts": len(list((run_dir / "experts").glob("*.safetensors")))}

    wanted = counted()
    check(min(wanted.values()) > 0, f"there is something of each kind: {wanted}")
    done = verify()
    report = json.loads(done.stdout)
    check(done.returncode == 0 and not report["problems"] and
          {kind: report[kind]["read"] for kind in KINDS} == wanted, "all of it is read, and whole")
    check(svfleet("verify", config, "--quiet", ranks=2).stdout ==
          svfleet("verify", config, "--quiet").stdout != "", "two ranks say the same")

    oldest = sorted((run_dir / "checkpoints").glob("step-*.h5"))[0]
    shard = sorted(model.glob("*.safetensors"))[-1]
    targets = {"model": shard, "factors": folder / "store/model.layers.1.mlp.up_proj.weight.h5",
               "checkpoints": oldest, "chunks": runs.journal(run_dir)[1].path,
               "experts": sorted((run_dir / "experts").glob("*.safetensors"))[0]}
    for kind, path in targets.items():
        size = path.stat().st_size
        at = size - 2 if path.suffix == ".safetensors" else size // 2
        flip(path, at)
        done = verify(2 if kind in ("factors", "chunks") else 1)
        report = json.loads(done.stdout)
        problem = report["problems"][0] if report["problems"] else ""
        # Of the model, the tensor that this byte belongs to: the last one of the file.
        named = path.name if kind != "model" else last_tensor(path)
        check(done.returncode == DISK and len(report["problems"]) == 1 and named in problem and
              {k: report[k]["damaged"] for k in KINDS} == {k: int(k == kind) for k in KINDS} and
              one_line(done), f"one bit of {kind} flipped: {problem}")
        flip(path, at)
    check(verify().returncode == 0, "all is whole again")

    log, whole = run_dir / "log.jsonl", (run_dir / "log.jsonl").read_bytes()
    with open(log, "a") as out:
        out.write('{"kind": "step", "ste\n{"kind": "event", "name": "x", "time": "y"}\n')
    done = verify()
    check(done.returncode == DISK and "log.jsonl" in json.loads(done.stdout)["problems"][0],
          "a broken line of the log is named")
    log.write_bytes(whole)


def gone_and_foreign(folder, config, run_dir):
    """The best expert that was removed is missed, and a start makes it again; what others keep beside a
    run's files is named and is nobody's damage."""
    best = run_dir / "experts/best.safetensors"
    whole = best.read_bytes()
    expert = svfleet("hash", best).stdout
    best.unlink()
    (run_dir / "experts/notes.txt").write_text("mine")
    (run_dir / "experts/model.safetensors").write_bytes(b"no expert")
    (run_dir / "chunks/README").write_text("mine")
    latin = Path(os.fsdecode(os.fsencode(run_dir) + b"/chunks/caf\xe9"))
    latin.write_text("mine")
    done = svfleet("verify", config, "--json", "--quiet")
    report = json.loads(done.stdout)
    check(done.returncode == DISK and len(report["problems"]) == 1 and
          f"'{best}' is gone: z after step" in report["problems"][0] and report["experts"]["damaged"] == 1,
          f"an expert that was removed: {report['problems']}")
    check(sorted(report["foreign"]) == [f"{run_dir}/chunks/README", f"{run_dir}/chunks/caf\ufffd", f"{run_dir}/experts/model.safetensors",
                                        f"{run_dir}/experts/notes.txt"], f"of others: {report['foreign']}")
    latin.unlink()
    check(f"'{run_dir}/chunks/README' is not svfleet's and was not read" in
          svfleet("verify", config, "--quiet").stdout, "and for people")
    step = max(int(path.stem.split("-")[1]) for path in (run_dir / "checkpoints").glob("step-*.h5"))
    # One that does not get to a better best: it is as it was.
    done = svfleet("train", config, "--quiet", "--set", f"train.steps={step}")
    check(done.returncode == 0 and f"'{best}' was gone and has been made again" in done.stderr and
          best.read_bytes() == whole, "a start makes it again, byte for byte: " + done.stderr)
    # Of a finished run too.
    best.unlink()
    final = run_dir / "experts/final.safetensors"
    done = svfleet("train", config, "--quiet", "--set", f"train.steps={step}")
    check(done.returncode == 0 and "already finished" in done.stdout and svfleet("hash", best).stdout == expert,
          "also when it was finished: " + done.stdout)
    final.unlink()
    done = svfleet("verify", config, "--json", "--quiet", "--set", f"train.steps={step}")
    check(done.returncode == DISK and f"'{final}' is gone" in json.loads(done.stdout)["problems"][0],
          "the last one of a finished run")
    check(svfleet("train", config, "--quiet", "--set", f"train.steps={step}").returncode == 0 and final.exists(),
          "which a start makes again")
    # Where its checkpoint is gone too.
    at = json.loads((run_dir / "exit.json").read_text())["best_step"]
    checkpoint = run_dir / f"checkpoints/step-{at:06d}.h5"
    best.unlink()
    if at != step:
        checkpoint.rename(folder / "aside.h5")
        done = svfleet("train", config, "--quiet", "--set", f"train.steps={step}")
        check(done.returncode == 0 and f"'{best}' is gone and cannot be made again" in done.stderr,
              "with its checkpoint gone: " + done.stderr)
        (folder / "aside.h5").rename(checkpoint)


def gone_files(config, run_dir, what):
    """What a run wrote and must still have is missed by its name, as its other files tell."""
    def problems():
        done = svfleet("verify", config, "--json", "--quiet")
        return done.returncode, json.loads(done.stdout)["problems"]

    check(problems() == (0, []), f"{what}: nothing is missed")
    newest = sorted((run_dir / "checkpoints").glob("step-*.h5"))[-1]
    for path in (newest, *(run_dir / name for name in ("log.jsonl", "z.jsonl", "rollouts.jsonl", "effective.yaml"))):
        aside = path.with_name(".aside")
        path.rename(aside)
        code, found = problems()
        aside.rename(path)
        # Of a log there is what it alone tells.
        own = [line for line in found if f"'{path}' is gone" in line]
        check(code == DISK and len(own) == 1 and found == own, f"{what}: {path.name} removed: {found}")
    newest.rename(newest.with_name(newest.name + ".suspect"))
    code, found = problems()
    newest.with_name(newest.name + ".suspect").rename(newest)
    check(not any("checkpoints/" in line and "is gone" in line for line in found),
          f"{what}: what was set aside is not gone: {found}")
    # Killed between the lines of its start and its first checkpoint.
    early = run_dir.parent / "early"
    early.mkdir()
    for name in ("run.json", "effective.yaml", "ledger.jsonl"):
        shutil.copy(run_dir / name, early)
    lines = (run_dir / "log.jsonl").read_text().splitlines(True)
    assert '"start"' in lines[0], lines[0]
    (early / "log.jsonl").write_text(lines[0])
    found = json.loads(svfleet("verify", early, "--json", "--quiet").stdout)["problems"]
    check(found == [], f"nothing is gone of a run that has not saved yet: {found}")
    shutil.rmtree(early)


def damaged_beside(folder, config, run_dir, model):
    """What the run rests on and cannot be opened is damage too; of what is no run's, the user's choice."""
    store = folder / "store/store.json"
    for path in (store, model / "config.json", model / "tokenizer.json", sorted(model.glob("*.safetensors"))[0]):
        aside = path.with_name(path.name + ".aside")
        path.rename(aside)
        done = svfleet("verify", config, "--quiet")
        beside = svfleet("verify", config, "--quiet", "--set", f"run_dir={folder}/nowhere")
        aside.rename(path)
        check(done.returncode == DISK and (path.name in done.stderr or path.name in done.stdout),
              f"{path.name} removed: code {done.returncode}: {one_line(done)}")
        if path == store:
            check(beside.returncode == USER, f"without a run: code {beside.returncode}: {one_line(beside)}")


def last_tensor(shard):
    raw = shard.read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    header.pop("__metadata__", None)
    return max(header, key=lambda name: header[name]["data_offsets"][1])


def changed_model_is_not_used(folder, config, run_dir, model):
    shard = sorted(model.glob("*.safetensors"))[-1]
    name, expert = last_tensor(shard), folder / "copy/experts/best.safetensors"
    ways = {"train": ["train", config, "--set", "run_dir=" + str(folder / "new")],
            "the run's resume": ["train", config],
            "evaluate": ["evaluate", config, "--set", "evaluate.items=2", "--expert", expert],
            "generate": ["generate", config, "hello", "--max-new-tokens", "2", "--expert", expert]}
    shutil.copytree(run_dir, folder / "copy")
    # Control: with the model as it was, all of them work.
    whole = {way: svfleet(*words, "--quiet").returncode for way, words in ways.items()}
    check(set(whole.values()) == {0}, "the model as it was is used")
    for path in ("new", "run"):
        shutil.rmtree(folder / path)
    shutil.copytree(folder / "copy", run_dir)
    flip(shard, shard.stat().st_size - 2)
    for way, words in ways.items():
        for ranks in (1, 2):
            done = svfleet(*words, "--quiet", ranks=ranks)
            line = one_line(done)
            check(done.returncode == DISK and f"tensor '{name}'" in line and "put the model's" in line,
                  f"{way} on {ranks}: {line}")
    # A matrix that is decomposed later must not come from the changed bits either.
    matrix = "model.layers.1.mlp.down_proj.weight"
    raw = shard.read_bytes()
    flip(shard, shard.stat().st_size - 2)
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    check(matrix in header, "the last file holds the matrix")
    at = 8 + int.from_bytes(raw[:8], "little") + header[matrix]["data_offsets"][0] + 2
    (folder / f"store/{matrix}.h5").unlink()
    flip(shard, at)
    done = svfleet("decompose", config, "--quiet")
    check(done.returncode == DISK and matrix in one_line(done) and
          not (folder / f"store/{matrix}.h5").exists(), "decompose: " + one_line(done))
    flip(shard, at)
    check(svfleet("decompose", config, "--quiet").returncode == 0, "and the whole one is decomposed")


def other_config(folder, config):
    path = folder / "other.yaml"
    path.write_text(config.read_text().replace(f"{folder}/run", f"{folder}/other"))
    return path


def main():
    folder = runs.work_folder()
    try:
        model = folder / "model"
        shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
        path = runs.write_config(folder, 60, tokens=12)
        text = open(path).read().replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), str(model))
        open(path, "w").write(text)
        done = svfleet("verify", path, "--quiet")
        check(done.returncode == USER and "svfleet decompose" in one_line(done),
              "nothing to compare with: " + one_line(done))
        run_dir = stopped_inside_a_step(folder, path)
        # The settings of the run that was killed, so that a resume is one.
        config = folder / "run.yaml"
        config.write_text((run_dir / "effective.yaml").read_text())
        shutil.copytree(run_dir, folder / "other")
        verify_finds(folder, config, run_dir, model)
        gone_files(config, run_dir, "a run that was killed")
        damaged_beside(folder, config, run_dir, model)
        gone_and_foreign(folder, other_config(folder, config), folder / "other")
        changed_model_is_not_used(folder, config, run_dir, model)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
