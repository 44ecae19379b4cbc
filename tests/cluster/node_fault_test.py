#!/usr/bin/env python3
"""A node's own fault on a real Slurm of three nodes: the ranks start again on the other two, in the same
allocation, and end with the undisturbed hash. With too few nodes left the job is requeued without it."""
import json
import os
import re
import time
from pathlib import Path

import slurm  # finds runs
import runs
from runs import check
from slurm import box, fields, output, wait_until

STEPS = 60
# From the fault to the first new chunk; an idle machine takes 3 s of it.
GENEROUS_S = float(os.environ.get("SVFLEET_GENEROUS_S", "60"))


def submit(config, run_dir, *words):
    done = box("run", runs.SVFLEET, "submit", config, "--set", f"run_dir={run_dir}",
               "--cpus-per-task", "2", "--partition", "low", "--time", "20", "--json", *words)
    check(done.returncode == 0, f"submitted: {(done.stdout + done.stderr).strip()}")
    return json.loads(done.stdout)["jobs"][0]


def running(run_dir):
    wait_until(lambda: (runs.newest_step(run_dir) or 0) >= 2, 180, "step 2")


def in_the_allocation(config, run_dir, expected, fail, mend, said, node="n2"):
    """`fail` makes something go wrong on `node` of a job on three nodes that computes."""
    job = submit(config, run_dir, "--nodes", "3")
    running(run_dir)
    began = time.time()
    fail()
    first = wait_until(lambda: [r for r in runs.ledger(run_dir, "first_chunk") if r["time"] > began],
                       300, "a chunk of another start")[0]["time"]
    mend()
    starts, ends = runs.ledger(run_dir, "start"), runs.ledger(run_dir, "end")
    known = fields(job)
    check(re.search(said, ends[0]["reason"]) and ends[0]["hosts"] == [node],
          f"the end of the first start names {node}: {ends[0]['reason']}")
    check([(s["job"], s["restarts"], s.get("start")) for s in starts] == [(job, 0, 0), (job, 0, 1)]
          and known["Restarts"] == "0", f"the same job {job}, restarts {known['Restarts']}")
    check(sorted(starts[1]["hosts"]) == sorted({"n1", "n2", "n3"} - {node}),
          f"on {starts[1]['hosts']}")
    check(first - began < GENEROUS_S, f"first new chunk {first - began:.1f} s after the fault")
    wait_until(lambda: fields(job)["JobState"] not in ("RUNNING", "COMPLETING"), 300, "the end")
    check(fields(job)["JobState"] == "COMPLETED" and "starting again on 2 nodes" in output(run_dir),
          "completed, and its output tells of the second start")
    check(runs.content_hash(run_dir) == expected, f"with the undisturbed hash {expected}")


def faults(folder, config, expected):
    fault = Path(os.environ["SVFLEET_TEST_FAULT"])

    def told(kind, node):
        return lambda: fault.write_text(f"{kind} {node}")

    in_the_allocation(config, folder / "gpu", expected, told("ecc", "n2"), fault.unlink,
                      r"^rank \d \(host n2\), step \d+, chunk \d+: the GPU fails: CUDA error: "
                      r"uncorrectable ECC")
    # The node of the job script itself.
    in_the_allocation(config, folder / "first", expected, told("ecc", "n1"), fault.unlink,
                      r"^rank 0 \(host n1\), step \d+, chunk \d+: the GPU fails", node="n1")
    in_the_allocation(config, folder / "state", expected, told("state", "n3"), fault.unlink,
                      r"^rank 2 \(host n3\) has another training state after step \d+ than most",
                      node="n3")
    disk = folder / "disk"
    chunks = disk / "chunks"

    def read_only():
        # Busy while a chunk is being written there.
        done = box("on", "n2", "timeout", "20", "sh", "-c", f"mount --bind {chunks} {chunks} && "
                   f"until mount -o remount,ro,bind {chunks} {chunks} 2> /dev/null; do sleep 0.02; done")
        check(done.returncode == 0, "the journal is read-only on n2 " + done.stderr.strip())

    if os.geteuid() == 0:
        in_the_allocation(config, disk, expected, read_only, lambda: None,
                          r"^rank \d \(host n2\): cannot write '.*Read-only file system on host n2")
        box("on", "n2", "umount", str(chunks))


def too_few_left(folder, config, expected):
    """A job on one node: requeued, and started on another one."""
    fault, run_dir = Path(os.environ["SVFLEET_TEST_FAULT"]), folder / "alone_on_a_node"
    job = submit(config, run_dir, "--nodes", "1")
    running(run_dir)
    node = fields(job)["NodeList"]
    fault.write_text(f"ecc {node}")
    wait_until(lambda: len(runs.ledger(run_dir, "start")) == 2, 180, "the second start")
    known = fields(job)
    check(known["Restarts"] == "1" and known["ExcNodeList"] == node and known["NodeList"] != node,
          f"a job on {node} alone was requeued, and runs on {known['NodeList']}")
    fault.unlink()
    # Requeued for another reason after that start elsewhere: the node is welcome again.
    box("run", "scancel", "--signal=USR1", job)
    wait_until(lambda: len(runs.ledger(run_dir, "start")) == 3, 180, "the third start")
    check(fields(job)["ExcNodeList"] == "(null)", "and then every node will do again")
    wait_until(lambda: fields(job)["JobState"] not in ("RUNNING", "COMPLETING"), 300, "the end")
    check(runs.content_hash(run_dir) == expected, "it ends with the undisturbed hash")


def main():
    with slurm.shared_folder() as folder:
        os.environ["SVFLEET_TEST_FAULT"] = str(folder / "fault")
        with slurm.nodes(3):
            config = slurm.own_copies(folder, steps=STEPS, tokens=48)
            alone = folder / "alone"
            runs.run(config, alone, 1)
            expected = runs.content_hash(alone)
            faults(folder, config, expected)
            too_few_left(folder, config, expected)


main()
