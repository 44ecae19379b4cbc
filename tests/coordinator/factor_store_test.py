#!/usr/bin/env python3
"""One factor store and several runs: what one has published another never replaces, a store of another
storage type is refused, one that can only be read serves; and all ranks read it, each file once."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check

OTHER_KIND = {"MKL_CBWR": "COMPATIBLE"}  # of machine: part of what is compared before a resume
MATRICES = 14


def svfleet(*arguments, ranks=1, env=None, before=()):
    launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
    return subprocess.run([*before, *launcher, runs.SVFLEET, *map(str, arguments)],
                          capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})})


def ours(done):
    return [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]


def factors(store):
    return {path.name: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
            for path in store.glob("*.h5")}


def wait_for(what, condition, seconds=60):
    end = time.time() + seconds
    while not (value := condition()):
        if time.time() > end:
            sys.exit(f"FAILED: {what} did not happen within {seconds} s")
        time.sleep(0.002)
    return value


def stopped_while_decomposing(words, store):
    """A process that has published some matrices and has others still before it."""
    for _ in range(40):
        shutil.rmtree(store, ignore_errors=True)
        job = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while job.poll() is None and not list(store.glob("*.h5")):
            pass
        job.send_signal(signal.SIGSTOP)
        if job.poll() is None and 0 < len(list(store.glob("*.h5"))) < MATRICES - 1:
            return job
        job.kill()
        job.wait()
    sys.exit("FAILED: no decomposition could be stopped in its middle")


def store_hash(run_dir):
    raw = (run_dir / "experts/final.safetensors").read_bytes()
    header = json.loads(raw[8:8 + int.from_bytes(raw[:8], "little")])
    return header["__metadata__"]["store_hash"]


def raced(folder, config):
    """Another kind of machine decomposes the rest, and trains, while the first run is away."""
    store = folder / "store"
    first = stopped_while_decomposing(
        runs.command(config, folder / "first", 1, "--set", "workers=1"), store)
    published = factors(store)
    check((store / "store.json").exists(), "store.json is there before the last matrix")
    done = svfleet("train", config, "--set", f"run_dir={folder}/second", "--quiet", ranks=2,
                   env=OTHER_KIND)
    check(done.returncode == 0, f"a second run on the store of {len(published)} matrices trains: "
          + "".join(ours(done)))
    whole = factors(store)
    check(len(whole) == MATRICES and all(whole[name] == published[name] for name in published),
          "it has decomposed the others and left those")
    first.send_signal(signal.SIGCONT)
    errors = first.communicate(timeout=300)[1]
    check(first.returncode == 0, "the first one goes on" + ("" if not first.returncode else ": " + errors))
    check(factors(store) == whole, "and has replaced nothing")
    check(store_hash(folder / "first") == store_hash(folder / "second"),
          "both experts belong to these factors")
    check(sorted(path.name for path in store.iterdir()) == sorted([*whole, "store.json"]),
          "nothing else is left in the store")
    for name, env in (("first", {}), ("second", OTHER_KIND)):
        done = svfleet("train", config, "--set", f"run_dir={folder}/{name}", "--set", "train.steps=4",
                       "--quiet", env=env)
        check(done.returncode == 0, f"the {name} run can be resumed " + "".join(ours(done)))

    said = json.loads((store / "store.json").read_text())
    kinds = {said["machines"][said["made_on"][name]]["environment"].get("MKL_CBWR", "") for name in
             said["made_on"]}
    check(len(said["made_on"]) == MATRICES and kinds == {"", "COMPATIBLE"},
          "store.json tells which machine made which matrix")
    lone = folder / "lone"
    svfleet("decompose", config, "--set", f"svd.store={lone}", "--quiet")
    print("   (the two kinds of machine give", "the same" if runs.content_hash(lone) ==
          runs.content_hash(store) else "other", "bits)", flush=True)


def other_storage(folder, config):
    """Refused before anything is decomposed: a store of both would serve neither run."""
    store = folder / "begun"
    store.mkdir()
    shutil.copy(folder / "store/store.json", store)
    words = ["decompose", config, "--quiet", "--set", f"svd.store={store}", "--set",
             "svd.storage=bfloat16"]
    done = svfleet(*words, ranks=2)
    check(done.returncode == 2 and len(ours(done)) == 1 and "svd.store" in ours(done)[0] and
          not factors(store), "another svd.storage is refused: " + "".join(ours(done)))
    check(svfleet(*words[:-2]).returncode == 0 and len(factors(store)) == MATRICES,
          "and the right one is not")


def read_only(folder, config, model):
    store = folder / "store"
    mount = f"mount --bind {store} {store} && mount -o remount,ro,bind {store} {store}"
    shell = ["unshare", "-m", "sh", "-c", mount + ' && exec "$@"', "sh"]
    if subprocess.run([*shell, "true"], capture_output=True).returncode:
        print("skipped: a store that can only be read (nothing can be mounted here)", flush=True)
        return
    before = factors(store)
    for what in ("as it is", "when the times of the model's files have changed"):
        done = svfleet("train", config, "--set", f"run_dir={folder}/reader-{what[:3]}", ranks=2,
                       before=shell)
        check(done.returncode == 0, f"a store that can only be read serves {what}: "
              + "".join(ours(done)))
        for path in model.glob("*.safetensors"):
            os.utime(path)
    (store / sorted(before)[0]).rename(folder / "aside")
    done = svfleet("decompose", config, "--quiet", before=shell)
    check(done.returncode != 0 and len(ours(done)) == 1 and "Read-only" in ours(done)[0],
          "control: a matrix that is missing there is not: " + "".join(ours(done)))
    (folder / "aside").rename(store / sorted(before)[0])


def read_by_all(folder, config):
    """Two files are pipes, which hold up whoever reads them: two ranks with one worker each wait at
    both at the same time only where they share the work; and a pipe can be read once."""
    store = folder / "pipes"
    shutil.copytree(folder / "store", store)
    pipes = {path: path.read_bytes() for path in sorted(store.glob("*.h5"))[2:8:3]}
    for path in pipes:
        path.unlink()
        os.mkfifo(path)
    job = subprocess.Popen([*runs.MPIRUN, "-n", "2", runs.SVFLEET, "decompose", config, "--quiet",
                            "--json", "--set", f"svd.store={store}", "--set", "workers=1"],
                           stdout=subprocess.PIPE, text=True)

    def writer(path):
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # nobody reads it
            return None

    ends = {}

    def all_read():
        for path in pipes:
            if path not in ends and (end := writer(path)) is not None:
                ends[path] = end
        return len(ends) == len(pipes)

    try:
        wait_for("that both ranks read factors at the same time", all_read)
        print("ok: two ranks read the store at the same time", flush=True)
        for path, end in ends.items():
            os.set_blocking(end, True)
            with os.fdopen(end, "wb") as pipe:
                pipe.write(pipes[path])
        result = json.loads(job.communicate(timeout=120)[0])
        check(job.returncode == 0 and result["matrices"] == MATRICES and result["made_now"] == 0,
              "each file is read once")
    finally:
        runs.kill_all_below(job)


def renamed_model(folder, config, model):
    """Factors go by the model's path: that they are made again, hours for a big model, is said, also by
    --quiet, and how to have the old ones."""
    other = folder / "renamed"
    model.rename(other)
    moved = folder / "moved.yaml"
    moved.write_text(config.read_text().replace(f"store: {folder}/store, ", ""))
    done = svfleet("train", moved, "--quiet", "--set", f"run_dir={folder}/after", "--set", f"model.path={other}",
                   "--set", "train.steps=1")
    other.rename(model)
    check(done.returncode == 0 and f"{MATRICES} of {MATRICES} factors are missing in '{other}.factors': decomposing; "
          "set svd.store if you have them elsewhere" in done.stderr, "a model that was renamed: " + done.stderr)


def main():
    folder = runs.work_folder()
    try:
        model = folder / "model"
        shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
        config = folder / "run.yaml"
        text = Path(runs.write_config(folder, steps=3, tokens=8)).read_text()
        config.write_text(text.replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), str(model)))
        renamed_model(folder, config, model)
        raced(folder, config)
        other_storage(folder, config)
        read_by_all(folder, config)
        read_only(folder, config, model)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
