#!/usr/bin/env python3
"""The same bits on 1, 2 and 4 ranks, and after kill -9 of any rank at random moments followed by a
resume on another number of ranks."""
import os
import random
import shutil
import signal
import subprocess
import time

import runs
from runs import check

STEPS = 5
TOKENS = 160  # a step must be long enough to be hit
KILLS = int(os.environ.get("SVFLEET_KILLS", "6"))


def kill_somewhere(config, run_dir, ranks, chance):
    """Starts a run and kills one rank at a random moment after its first checkpoint. Returns where
    it was killed, or None when it finished before."""
    job = subprocess.Popen(runs.command(config, run_dir, ranks), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    before = runs.newest_step(run_dir)
    chunks_before = len(runs.journal(run_dir))
    while job.poll() is None:  # until it computes
        if runs.newest_step(run_dir) != before or len(runs.journal(run_dir)) != chunks_before:
            break
        time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.25))
    pids = runs.ranks_of(job.pid)
    victim = chance.choice(sorted(pids)) if pids else None
    if victim is None or job.poll() is not None:
        job.wait()
        return None
    os.kill(pids[victim], signal.SIGKILL)
    start = time.time()
    job.wait(timeout=60)
    where = {"rank": victim, "step": runs.newest_step(run_dir), "chunks": len(runs.journal(run_dir)),
             "seconds_to_end": time.time() - start}
    return where


def main():
    folder = runs.work_folder()
    chance = random.Random(11)
    try:
        config = runs.write_config(folder, STEPS, TOKENS)
        hashes = {}
        for ranks in (1, 2, 4):
            run_dir = folder / f"run{ranks}"
            runs.run(config, run_dir, ranks)
            hashes[ranks] = runs.content_hash(run_dir)
            if ranks > 1:
                worked = [0] * ranks
                for record in runs.log_steps(run_dir).values():
                    worked = [a + b for a, b in zip(worked, record["chunks_by_rank"])]
                check(all(worked), f"{ranks} ranks: chunks computed by rank {worked}")
        check(len(set(hashes.values())) == 1, f"1, 2 and 4 ranks end with hash {hashes[1]}")
        experts = {runs.content_hash(folder / f"run{n}/experts/final.safetensors") for n in hashes}
        check(len(experts) == 1, f"and with the same expert {experts}")

        one = folder / "one_worker"
        runs.run(config, one, 1, "--set", "workers=1")
        three = folder / "three_workers"
        runs.run(config, three, 1, "--set", "workers=3")
        check(runs.content_hash(one) == runs.content_hash(three) == hashes[1],
              "one worker or three give the same hash")

        # Controls: what must not have the same hash.
        start = folder / "run1_start"
        runs.run(config, start, 1, "--set", "train.steps=1")
        check(runs.content_hash(start) != hashes[1], "after one step the hash is another")
        seed = folder / "seed"
        runs.run(config, seed, 2, "--set", "train.seed=1")
        check(runs.content_hash(seed) != hashes[1], "with another seed the hash is another")

        run_dir = folder / "killed"
        config_long = runs.write_config(folder, STEPS, TOKENS)
        inside, kills, sizes = 0, 0, [2, 4, 1, 3]
        while kills < KILLS:
            ranks = sizes[kills % len(sizes)]
            where = kill_somewhere(config_long, run_dir, ranks, chance)
            if where is None:  # it finished: undo the run and go on killing
                check(runs.content_hash(run_dir) == hashes[1], "a killed run ends with the same hash")
                shutil.rmtree(run_dir)
                continue
            kills += 1
            inside += 0 < where["chunks"] < 8
            print(f"killed rank {where['rank']} of {ranks} in step {where['step']} with "
                  f"{where['chunks']} of 8 chunks finished; the job ended after "
                  f"{where['seconds_to_end']:.1f} s", flush=True)
        check(inside > 0, f"{inside} of {kills} kills were inside a step")
        runs.run(config_long, run_dir, 3)
        check(runs.content_hash(run_dir) == hashes[1],
              f"{kills} kills and resumes on 1 to 4 ranks: the same hash")
        positions = [r["position"] for _, r in sorted(runs.log_steps(run_dir).items())]
        check(positions == [8 * (i + 1) for i in range(STEPS)], f"prompts consumed: {positions}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
