#!/usr/bin/env python3
"""A job needs nothing from outside: strace of its script and of all its ranks on a real Slurm shows no
connection but to loopback, to the job's nodes and to Slurm. The control connects outside."""
import json
import re
import shutil
import subprocess

import slurm  # finds runs
import runs
from runs import check
from slurm import box, ended, state, wait_until

OUTSIDE = "192.0.2.1"  # RFC 5737: nobody's
TRACE = "strace -f -qq -e trace=connect,sendto,sendmsg,sendmmsg -e signal=none -s 0 -o"
ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')


def addresses(folder, job):
    """Whom the processes of a job sent something or connected to, by file; and the number of calls."""
    found, calls = set(), 0
    for trace in folder.glob(f"trace.{job}.*"):
        text = trace.read_text()
        calls += text.count("connect(")
        found |= {(trace.name, a or b) for a, b in ADDRESS.findall(text)}
    return found, calls


def traced_job(folder, config, name, before):
    """The job's script traces itself, and each rank; `before` is what a rank does first."""
    prelude = folder / f"{name}.sh"
    ranks = folder / f"{name}-rank.sh"
    ranks.write_text(f"""#!/bin/bash
exec {TRACE} {folder}/trace.$SLURM_JOB_ID.rank$SLURM_PROCID bash -c '{before} exec "$@"' rank "$@"
""")
    ranks.chmod(0o755)
    prelude.write_text(f"""if [ -z "$TRACED" ]; then
  export TRACED=1
  {TRACE} {folder}/trace.$SLURM_JOB_ID.script bash "$0"
  exit
fi
within=({ranks})
""")
    done = box("run", runs.SVFLEET, "submit", config, "--nodes", "2", "--time", "10", "--json",
               "--prelude", str(prelude), "--set", f"run_dir={folder}/{name}")
    check(done.returncode == 0, f"submitted: {done.stdout.strip()} {done.stderr.strip()}")
    job = json.loads(done.stdout)["jobs"][0]
    wait_until(lambda: ended(job), 240, "the end of the traced job")
    check(state(job)[0] == "COMPLETED", f"the traced job: {state(job)}")
    return job


def run_tests(folder):
    config = slurm.own_copies(folder, steps=2)
    allowed = {"127.0.0.1", "::1"}
    for host in ("n1", "n2", "head"):  # the job's nodes, and where Slurm's controller is
        allowed.add(box("run", "getent", "ahostsv4", host).stdout.split()[0])

    job = traced_job(folder, config, "quiet", "")
    found, calls = addresses(folder, job)
    files = {trace.name for trace in folder.glob(f"trace.{job}.*")}
    check(len(files) == 3 and calls > 0, f"traced {sorted(files)}, {calls} calls of connect")
    others = sorted(f"{name}: {address}" for name, address in found if address not in allowed)
    check(not others, f"spoken to: {sorted({a for _, a in found})}; outside: {others}")
    check(any(name.endswith("script") for name, _ in found), "the script spoke to Slurm")

    job = traced_job(folder, config, "loud", f"(exec 3<>/dev/tcp/{OUTSIDE}/9) 2> /dev/null;")
    found, _ = addresses(folder, job)
    check(OUTSIDE in {address for _, address in found}, "the control: an outside address is seen")


def main():
    if not shutil.which("strace"):
        slurm.skip("strace is not installed (scripts/setup --tests installs it)")
    tried = subprocess.run(["strace", "-f", "-qq", "-e", "trace=connect", "true"],
                           capture_output=True, text=True)
    if tried.returncode:
        slurm.skip("strace is not permitted here: " + tried.stderr.strip().replace("\n", " | "))
    with slurm.shared_folder() as folder, slurm.nodes(2):
        run_tests(folder)


main()
