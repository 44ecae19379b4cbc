#!/usr/bin/env python3
"""Where the allocation is about to end, nothing is started that could not be finished: no chunk, no
matrix, no batch of a validation. The end is the allocation's own, not counted from the set-up."""
import json
import os
import shutil
import subprocess
import time

import runs
from runs import check


def train(config, run_dir, left_s, *more):
    """Code and exit.json of a run in an allocation with so many seconds left."""
    environment = dict(os.environ, SLURM_JOB_ID="4711", SLURM_RESTART_COUNT="0",
                       SLURM_JOB_END_TIME=str(int(time.time()) + left_s))
    done = subprocess.run(runs.command(config, run_dir, 1, *more), env=environment,
                          capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads((run_dir / "exit.json").read_text())


def main():
    folder = runs.work_folder()
    try:
        config = runs.write_config(folder, steps=3)
        # 30 s are kept for the end of the job.
        code, report = train(config, folder / "a", 25)
        check((code, report["reason"], report["job"]) == (75, "time limit near", "4711"),
              f"25 s left: {code}, {report['reason']}")
        check(not list((folder / "store").glob("*.h5")), "no matrix was decomposed")

        alone = folder / "alone"
        runs.run(config, alone, 1)
        expected = runs.content_hash(alone)
        run_dir = folder / "b"
        code, report = train(config, run_dir, 25)
        check((code, report["reason"]) == (75, "time limit near"), "25 s left: no chunk is started")
        check(not list((run_dir / "chunks").glob("*")), "and none is in the journal")

        validating = ["--set", "train.validate_every=1", "--set", "train.validation_items=40"]
        code, report = train(config, folder / "c", 25, *validating)
        check((code, report["reason"]) == (75, "time limit near"), "nor a validation")
        log = folder / "c/log.jsonl"
        check(not log.exists() or "validation" not in log.read_text(), "of which nothing is logged")

        code, report = train(config, run_dir, 3600)
        check((code, report["reason"]) == (0, "finished"), "with an hour left it finishes")
        check(runs.content_hash(run_dir) == expected, "with the undisturbed hash")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
