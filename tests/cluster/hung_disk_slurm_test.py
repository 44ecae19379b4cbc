#!/usr/bin/env python3
"""The disk hangs on the node of rank 0 and of the job script, with program, factors, run folder and the
job's output all on it: the ranks end, the script decides without the disk, and the job starts on other
nodes and ends with the undisturbed hash."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import slurm  # finds runs
import runs
from runs import check
from slurm import box, fields, wait_until

# A chunk that stands still is given up after 60 s, 10 s later where rank 0 could not say it, 5 s for what
# cannot be said; after-run has 40 s to answer. The rest is for Slurm and a crowded machine.
MOST_S = 60 + 10 + 5 + 40 + 45


def mount(folder, nodes):
    """`folder` over itself by FUSE, on each node alone: pid of the server by node."""
    if not os.path.exists("/dev/fuse"):
        slurm.skip("there is no /dev/fuse")
    if not shutil.which("bindfs"):
        slurm.skip("bindfs is not installed (scripts/setup --tests installs it)")
    servers = {}
    for node in nodes:
        options = f"nonempty,allow_other,dev,suid,fsname={node}"
        subprocess.Popen([slurm.BOX, "on", node, "bindfs", "-f", "-o", options, folder, folder],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.time() + 20
        while box("on", node, "mountpoint", "-q", folder).returncode:
            if time.time() > end:
                slurm.skip("nothing can be mounted with FUSE here")
            time.sleep(0.1)
        servers[node] = next(pid for pid in processes() if f"fsname={node}".encode() in words(pid)
                             and words(pid).startswith(b"bindfs\0"))
    return servers


def processes():
    return map(int, filter(str.isdigit, os.listdir("/proc")))


def words(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def beside(pid):
    """All processes of the same node."""
    def space(one):
        try:
            return os.readlink(f"/proc/{one}/ns/pid")
        except OSError:
            return None
    return [one for one in processes() if one != pid and space(one) == space(pid)]


def hang(server):
    """Its users are stopped for a moment, so that the server has no request in its hands: who waits for
    that one cannot even be killed."""
    users = beside(server)
    runs.send(signal.SIGSTOP, users)
    time.sleep(0.5)
    runs.send(signal.SIGSTOP, [server])
    runs.send(signal.SIGCONT, users)


def main():
    with slurm.shared_folder() as shared:
        folder = shared / "disk"
        folder.mkdir(mode=0o777)
        with slurm.nodes(3):
            config = slurm.own_copies(folder, steps=60, tokens=48)
            alone = folder / "alone"
            runs.run(config, alone, 1)
            expected = runs.content_hash(alone)
            servers = mount(folder, ["n1", "n2", "n3"])
            run_dir = folder / "run"
            done = box("run", runs.SVFLEET, "submit", config, "--set", f"run_dir={run_dir}", "--nodes", "2",
                       "--cpus-per-task", "2", "--partition", "low", "--time", "20", "--json")
            check(done.returncode == 0, f"submitted: {(done.stdout + done.stderr).strip()}")
            job = json.loads(done.stdout)["jobs"][0]
            wait_until(lambda: (runs.newest_step(run_dir) or 0) >= 2, 180, "step 2")
            node = fields(job)["BatchHost"]
            hang(servers[node])
            began = time.time()
            try:
                again = wait_until(lambda: runs.ledger(run_dir, "start")[1:], 300, "another start")[0]
            finally:
                # nsenter, which has started the server, stops with it.
                runs.send(signal.SIGCONT,
                          [pid for pid in processes() if f"fsname={node}".encode() in words(pid)])
            took = again["time"] - began
            check(node not in again["hosts"] and again["job"] == job and again["restarts"] == 1,
                  f"job {job} hung on {node} and started again on {again['hosts']}")
            print(f"from the hang to the new start: {took:.1f} s", flush=True)
            check(took < MOST_S, "in time")
            wait_until(lambda: slurm.ended(job), 300, "the end")
            check(runs.content_hash(run_dir) == expected, f"the undisturbed hash {expected}")


main()
