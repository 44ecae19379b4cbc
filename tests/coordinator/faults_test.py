#!/usr/bin/env python3
"""What may go wrong while a run computes, and what it then must do: gradients that are not finite,
signals, chunks of another policy, factors that vanish, a decomposition that is killed."""
import ctypes
import ctypes.util
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check, journal_file


def svfleet(arguments, ranks=1):
    launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
    return subprocess.run(launcher + [runs.SVFLEET, *map(str, arguments)], capture_output=True,
                          text=True, timeout=300)


def ours(done):
    return [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]


def exit_report(run_dir):
    return json.loads((run_dir / "exit.json").read_text())


def steps_of(run_dir):
    return [record for _, record in sorted(runs.log_steps(run_dir).items())]


# A model that answers "~" with NaN.

def poisoned(folder, source):
    """The embedding of '~' is NaN, so any text that holds it has gradients that are NaN. The model
    itself never says '~': the first entry of the residual stream is positive everywhere and enters
    the logit of '~' alone, with a large negative weight."""
    model = folder / "poisoned"
    shutil.copytree(source, model)
    poison = json.loads((model / "tokenizer.json").read_text())["model"]["vocab"]["~"]
    for path in sorted(model.glob("*.safetensors")):
        raw = path.read_bytes()
        start = 8 + struct.unpack("<Q", raw[:8])[0]
        data = bytearray(raw)
        for name, tensor in json.loads(raw[8:start]).items():
            if name == "__metadata__":
                continue
            begin, end = (start + offset for offset in tensor["data_offsets"])
            values = list(struct.unpack(f"<{(end - begin) // 4}f", data[begin:end]))
            width = tensor["shape"][-1]
            if name == "model.norm.weight":
                values[0] = 1.0
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                values[:width] = [0.0] * width  # nothing is added to the first entry
            if name == "model.embed_tokens.weight":
                values[::width] = [1.0] * tensor["shape"][0]
                values[poison * width:(poison + 1) * width] = [float("nan")] * width
            if name == "lm_head.weight":
                values[::width] = [0.0] * tensor["shape"][0]
                values[poison * width:(poison + 1) * width] = [-1000.0] + [0.0] * (width - 1)
            data[begin:end] = struct.pack(f"<{len(values)}f", *values)
        path.write_bytes(data)
    return model


def not_finite(folder, base_config):
    model = poisoned(folder, runs.SOURCE / "tests/data/models/tiny_llama3")
    items = (runs.SOURCE / "examples/tasks/max3/train.jsonl").read_text().splitlines(True)[:16]
    items[9] = items[9].replace("Which", "~ Which")
    data = folder / "poisoned.jsonl"
    data.write_text("".join(items))
    text = Path(base_config).read_text()
    text = text.replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), str(model))
    text = text.replace(str(runs.SOURCE / "examples/tasks/max3/train.jsonl"), str(data))
    text = text.replace(f"{folder}/store", f"{folder}/poisoned_store")
    config = folder / "poisoned.yaml"
    config.write_text(text)

    hashes = set()
    for ranks in (1, 2):
        run_dir = folder / f"nan{ranks}"
        runs.run(str(config), run_dir, ranks, "--set", "train.steps=6")
        hashes.add(runs.content_hash(run_dir))
    steps = steps_of(run_dir)
    bad = [i for i, record in enumerate(steps) if not record["finite"]]
    # Two steps see all items once, so one of each two is bad.
    check(len(bad) == 3 and [i // 2 for i in bad] == [0, 1, 2],
          f"steps {[i + 1 for i in bad]} of 6 had gradients that are not finite")
    check(steps[-1]["nonfinite_total"] == 3 and steps[-1]["updates"] == 3,
          "they are counted, and the others trained")
    check(bad[0] > 0, "the first step was good")
    for i in bad:
        check(steps[i]["z_hash"] == steps[i - 1]["z_hash"], f"step {i + 1} left z as it was")
    check(len({record["z_hash"] for record in steps}) >= 3, "the other steps moved z")
    check(len(hashes) == 1, "on 1 and 2 ranks with the same hash")
    log = (run_dir / "svfleet.log").read_text()
    check(log.count("gradient is not finite: step skipped") == 3, "each is a line of the log")

    # The first bad step ends the run; what was good is intact and can be gone on from.
    run_dir = folder / "nan_stops"
    arguments = ["train", config, "--quiet", "--set", f"run_dir={run_dir}", "--set",
                 "train.steps=6"]
    done = svfleet(arguments + ["--set", "train.max_nonfinite_steps=1"], 2)
    check(done.returncode == 76 and len(ours(done)) == 1 and "not finite in 1 step in a row" in ours(done)[0],
          "max_nonfinite_steps ends it with code 76: " + ours(done)[0])
    report = exit_report(run_dir)
    check(report["code"] == 76 and "not finite" in report["reason"], "exit.json says so")
    last = steps_of(run_dir)[-1]
    check(last["step"] == bad[0] + 1 and last["z_hash"] == steps[bad[0] - 1]["z_hash"],
          f"after step {bad[0] + 1}, with z of the good step before it")
    last = runs.content_hash(run_dir / "experts/last.safetensors")
    check(last == steps[bad[0] - 1]["z_hash"], "which is in experts/last.safetensors")
    runs.run(str(config), run_dir, 1, "--set", "train.steps=6")
    check({runs.content_hash(run_dir)} == hashes, "gone on from there: the same hash as undisturbed")

    # Every step is bad: three in a row, by default.
    data.write_text("".join(item.replace("Which", "~ Which") for item in items))
    run_dir = folder / "nan_always"
    arguments = ["train", config, "--quiet", "--set", f"run_dir={run_dir}", "--set",
                 "train.steps=6"]
    for ranks in (1, 2):
        done = svfleet(arguments, ranks)
        check(done.returncode == 76 and len(ours(done)) == 1 and
              "not finite in 3 steps in a row" in ours(done)[0], "three in a row: code 76")
        check(runs.newest_step(run_dir) == 3, "after step 3")
        start = runs.content_hash(run_dir / "checkpoints/step-000003.h5")
        check(len({record["z_hash"] for record in steps_of(run_dir)}) == 1, "z is what it was")
        if ranks == 1:
            first = start
        shutil.rmtree(run_dir)
    check(start == first, "with the same state on 1 and 2 ranks")


# Signals.

def stopped_by(what, config, run_dir, ranks, send, expected, code):
    """Starts a run and sends a signal when it has finished a step."""
    before = runs.newest_step(run_dir) or 0
    job = subprocess.Popen(runs.command(config, run_dir, ranks), stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, text=True)
    while job.poll() is None and (runs.newest_step(run_dir) or 0) <= before:
        time.sleep(0.005)
    send(job)
    _, errors = job.communicate(timeout=60)
    where = f"{what}, {ranks} ranks"
    check(code is None or job.returncode == code, f"{where}: code {job.returncode}")
    if ranks > 1 and code is None and not (run_dir / "exit.json").exists():
        print(f"   (mpirun killed it before it could stop; its code was {job.returncode})")
        return
    report = exit_report(run_dir)
    check(report["code"] == 75 and expected in report["reason"],
          f"{where}: exit.json says '{report['reason']}', code 75, step {report['step']}")
    check(report["step"] == runs.newest_step(run_dir), "and the step of the newest checkpoint")
    check("svfleet: " not in errors, "which is no error")
    log = (run_dir / "svfleet.log").read_text()
    check("start again to go on" in log, "the log says how to go on")


def signals(folder):
    steps = 200  # long enough for mpirun to pass a signal on
    (folder / "long").mkdir()
    config = runs.write_config(folder / "long", steps)
    run_dir = folder / "long/undisturbed"
    runs.run(config, run_dir, 1)
    expected_hash = runs.content_hash(run_dir)
    to_job = lambda number: lambda job: job.send_signal(number)

    def to_rank(rank, number):
        return lambda job: os.kill(runs.ranks_of(job.pid)[rank], number)

    cases = [("SIGTERM", 1, to_job(signal.SIGTERM), "SIGTERM", 75),
             ("SIGINT", 1, to_job(signal.SIGINT), "SIGINT", 75),
             ("SIGUSR1 to mpirun", 2, to_job(signal.SIGUSR1), "SIGUSR1", 75),
             # mpirun passes these on, kills what has not ended a second later, and has its own code.
             ("SIGTERM to mpirun", 2, to_job(signal.SIGTERM), "stopped by", None),
             ("SIGINT to mpirun", 2, to_job(signal.SIGINT), "stopped by", None),
             ("SIGTERM to rank 1", 2, to_rank(1, signal.SIGTERM), "another rank", 75)]
    run_dir = folder / "signalled"
    stops = 0
    for what, ranks, send, expected, code in cases:
        stopped_by(what, config, run_dir, ranks, send, expected, code)
        stops += 1
        if runs.newest_step(run_dir) > steps * 2 / 3:  # too near the end to be stopped again
            runs.run(config, run_dir, 1)
            check(runs.content_hash(run_dir) == expected_hash,
                  f"after {stops} stops: resumed to the same hash")
            shutil.rmtree(run_dir)
            stops = 0
    if run_dir.exists():
        runs.run(config, run_dir, 3)
        check(runs.content_hash(run_dir) == expected_hash,
              f"after {stops} stops: resumed to the same hash")
        check(exit_report(run_dir)["reason"] == "finished", "exit.json says finished")


# The journal.

def xxh3(data):
    xxhash = ctypes.CDLL(ctypes.util.find_library("xxhash") or "libxxhash.so.0")
    xxhash.XXH3_64bits.restype = ctypes.c_uint64
    xxhash.XXH3_64bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return xxhash.XXH3_64bits(data, len(data))


def reseal(chunk, change):
    """Changes a record and makes its checksums right again: docs/formats.md."""
    data = bytearray(chunk.path.read_bytes())
    header = journal_file.HEADER.size
    record = bytearray(change(bytes(data[chunk.at:chunk.end])))
    record[header - 16:header - 8] = struct.pack("<Q", xxh3(bytes(record[header:])))
    record[header - 8:header] = struct.pack("<Q", xxh3(bytes(record[:header - 8])))
    data[chunk.at:chunk.end] = record
    chunk.path.write_bytes(bytes(data))


def gradient_of(chunk):
    """Where its gradient is in its record; None in a chunk without a signal."""
    with open(chunk.path, "rb") as file:
        file.seek(chunk.payload)
        count, *_ = struct.unpack("<6Q", file.read(48))
        values = struct.unpack(f"<{count}f", file.read(4 * count))
    begin = journal_file.HEADER.size + 48
    return (begin, begin + 4 * count) if any(values) else None


def killed_inside_a_step(config, run_dir, steps):
    """A run killed when a step beyond the first has some of its chunks, by kill -9."""
    for _ in range(50):
        shutil.rmtree(run_dir, ignore_errors=True)
        job = subprocess.Popen(runs.command(config, run_dir, 1, "--set", "workers=1"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None:
            if (runs.newest_step(run_dir) or 0) > 0 and 3 <= len(runs.journal(run_dir)) <= 6:
                break
        job.kill()
        job.wait()
        if (3 <= len(runs.journal(run_dir)) <= 7 and 0 < runs.newest_step(run_dir) < steps and
                any(map(gradient_of, runs.journal(run_dir)))):
            return
    sys.exit("FAILED: no run could be killed inside a step")


def journal(folder, config, expected_hash, steps):
    killed = folder / "killed"
    killed_inside_a_step(config, killed, steps)
    step, count = runs.newest_step(killed), len(runs.journal(killed))
    z = runs.log_steps(killed)[step]["z_hash"].encode()
    print(f"killed in step {step} with chunks {runs.journal(killed)}", flush=True)

    def resumed(name, change, ranks=2):
        run_dir = folder / name
        shutil.copytree(killed, run_dir)
        chunks = runs.journal(run_dir)
        change(chunks)
        runs.run(config, run_dir, ranks)
        log = (run_dir / "svfleet.log").read_text()
        found = re.search(rf"step {step}: (\d+) finished chunks restored", log)
        names = [f"at byte {chunk.at} (step {chunk.step}, chunk {chunk.chunk})" for chunk in chunks]
        refused = [i for i, name in enumerate(names) if f"{chunks[i].path.name}', record {name}" in log]
        return runs.content_hash(run_dir), int(found.group(1)) if found else 0, log, run_dir, refused

    result, used, _, run_dir, _ = resumed("restored", lambda chunks: None)
    check(used == count and result == expected_hash,
          f"all {used} finished chunks are used, and the hash is that of an undisturbed run")
    record = steps_of(run_dir)[step]
    check(record["restored_chunks"] == used and sum(record["chunks_by_rank"]) == 8 - used,
          "each of the 8 chunks counts once: restored, or computed by a rank")

    def other_policy(chunks):
        def change(data):
            assert data.count(z) == 1
            return data.replace(z, bytes(reversed(z)))
        reseal(chunks[1], change)

    result, used, log, _, refused = resumed("stale", other_policy)
    check(used == count - 1 and refused == [1] and "belongs to the policy" in log,
          "a chunk of another policy is refused by name")
    check(result == expected_hash, "and the hash is that of an undisturbed run")

    def one_bit(chunks):
        data = bytearray(chunks[0].path.read_bytes())
        data[(chunks[0].payload + chunks[0].end) // 2] ^= 16
        chunks[0].path.write_bytes(data)

    result, used, log, _, refused = resumed("flipped", one_bit, 1)
    check(used == count - 1 and refused == [0] and "checksum is wrong" in log,
          "a chunk with one flipped bit is refused by name")
    check(result == expected_hash, "and the hash is that of an undisturbed run")

    def other_run(chunks):
        run_id = json.loads((killed / "run.json").read_text())["run_id"].encode()
        reseal(chunks[2], lambda data: data.replace(run_id, bytes(reversed(run_id))))

    result, used, log, _, refused = resumed("foreign", other_run)
    check(used == count - 1 and refused == [2] and "belongs to run" in log and result == expected_hash,
          "a chunk of another run is refused by name, and the hash is the same")

    # Control: a restored chunk does count. Its gradient made another one, rightly sealed, another
    # hash follows.
    def other_gradient(chunks):
        chunk = next(chunk for chunk in chunks if gradient_of(chunk))
        begin, end = gradient_of(chunk)

        def change(data):
            values = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
            values = [-value for value in values]
            return data[:begin] + struct.pack(f"<{len(values)}f", *values) + data[end:]
        reseal(chunk, change)

    result, used, _, _, _ = resumed("control", other_gradient)
    check(used == count and result != expected_hash,
          "control: with another gradient in a restored chunk the hash is another")


# The factor store.

def factor_files(store):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns)
            for path in store.glob("*.h5")}


def kill_with_factors(job, ranks, folder, wanted):
    """Kills the last rank of `job` when `folder` has `wanted` factors. A tiny matrix takes less time
    than a look at /proc: the ranks are found before, and run in slices of half a millisecond."""
    victims = {}
    while job.poll() is None and len(victims) < ranks:
        victims = runs.ranks_of(job.pid)

    while job.poll() is None and victims:
        runs.send(signal.SIGSTOP, victims.values())
        enough = len(list(folder.glob("*.h5"))) >= wanted
        if enough:
            runs.send(signal.SIGKILL, [victims[max(victims)]])
        runs.send(signal.SIGCONT, victims.values())
        if enough:
            return
        time.sleep(0.0005)


def factors(folder, config, expected_hash):
    store = folder / "store"
    before = factor_files(store)
    store_hash = runs.content_hash(store)
    lost = sorted(before)[3]
    (store / lost).unlink()
    run_dir = folder / "lost_factor"
    runs.run(config, run_dir, 2)
    after = factor_files(store)
    check(after[lost][0] == before[lost][0] and after[lost][1] != before[lost][1],
          "a factor that was removed is made again, with the same bytes")
    check(all(after[name] == before[name] for name in before if name != lost) and
          len(after) == len(before), "and no other file is touched")
    check(runs.content_hash(run_dir) == expected_hash, "and training gives the same hash")

    for ranks in (1, 2):
        killed_with = []
        for turn in range(60):
            new = folder / f"store{ranks}"
            arguments = ["decompose", config, "--quiet", "--set", f"svd.store={new}", "--set",
                         "workers=1"]
            launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
            job = subprocess.Popen(launcher + [runs.SVFLEET, *arguments],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            kill_with_factors(job, ranks, new, len(factor_files(new)) + 1 + turn % 4)
            job.wait(timeout=60)
            runs.kill_all_below(job)
            part = factor_files(new)
            if 0 < len(part) < len(before):
                killed_with.append(len(part))
            if len(killed_with) == 2 or (killed_with and len(part) == len(before)):
                break
            if len(part) == len(before):  # too late
                shutil.rmtree(new)
        check(killed_with, f"decompose on {ranks} ranks killed with {killed_with} of {len(before)} "
              "matrices finished")
        if len(part) == len(before):
            (new / sorted(part)[0]).unlink()
            part.pop(sorted(part)[0])
        done = svfleet(arguments + ["--json"], 3 - ranks)
        result = json.loads(done.stdout)
        after = factor_files(new)
        check(result["made_now"] == len(before) - len(part) and len(after) == len(before),
              f"continued: {result['made_now']} more")
        check(all(after[name] == part[name] for name in part), "finished ones are not touched")
        check(runs.content_hash(new) == store_hash and
              all(after[name][0] == before[name][0] for name in before),
              "the store is the undisturbed one, byte for byte")
        check(not [name for name in os.listdir(new) if ".tmp-" in name], "nothing is left over")


def finished(config, run_dir):
    def files():
        return {path.relative_to(run_dir): (path.stat().st_size, path.stat().st_mtime_ns)
                for path in run_dir.rglob("*") if path.is_file()}

    before = files()
    for ranks in (1, 2):
        done = runs.run(config, run_dir, ranks)
        check("already finished" in done.stdout, f"a finished run says so on {ranks} ranks")
        check(files() == before, "and no file of it changes")


# A rank that fails alone.

def one_rank_alone(folder, config, expected, steps):
    """The journal is read-only for rank 1 only, as on a node with a bad mount."""
    run_dir = folder / "one_rank"
    killed_inside_a_step(config, run_dir, steps)
    chunks = run_dir / "chunks"
    mount = f"mount --bind {chunks} {chunks} && mount -o remount,ro,bind {chunks} {chunks}"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        print("skipped: a rank that fails alone (nothing can be mounted here)", flush=True)
        return
    words = runs.command(config, run_dir, 1)
    done = subprocess.run([*runs.MPIRUN, "-n", "1", *words, ":", "-n", "1", "unshare", "-m", "sh",
                           "-c", mount + ' && exec "$@"', "sh", *words],
                          capture_output=True, text=True, timeout=120)
    report = exit_report(run_dir)
    check(done.returncode == 74 and report["code"] == 74 and "Read-only" in report["reason"] and
          "/chunks/" in report["reason"] and report["reason"].startswith("rank 1 (host ") and
          report["hosts"] == [os.uname().nodename],
          f"a rank whose disk fails alone leaves its reason: {report['reason']}")
    runs.run(config, run_dir, 2)
    check(runs.content_hash(run_dir) == expected and exit_report(run_dir)["code"] == 0,
          "resumed to the undisturbed hash, and its report is gone")


def main():
    folder = runs.work_folder()
    try:
        steps = 10
        config = runs.write_config(folder, steps)
        run_dir = folder / "undisturbed"
        runs.run(config, run_dir, 1)
        expected = runs.content_hash(run_dir)
        finished(config, run_dir)
        not_finite(folder, config)
        signals(folder)
        journal(folder, config, expected, steps)
        factors(folder, config, expected)
        one_rank_alone(folder, config, expected, steps)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
