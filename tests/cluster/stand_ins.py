"""Stand-ins for Slurm's commands, for submissions without a Slurm. sbatch notes that it was called."""
import os
import subprocess

import slurm  # finds runs
import runs

PARTITIONS = (
    "PartitionName=low Default=YES MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 "
    "MaxCPUsPerNode=UNLIMITED State=UP TotalNodes=4\n"
    "PartitionName=old Default=NO MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 State=DOWN "
    "TotalNodes=4\n")
NODES = "low|4|2|1000|(null)\nold|4|2|1000|(null)\n"


def stand_ins(folder):
    programs = {"scontrol": f"cat <<'E'\n{PARTITIONS}E", "sinfo": f"cat <<'E'\n{NODES}E",
                "squeue": "echo RUNNING",
                "sbatch": f"""env > {folder}/sbatch.env; echo called >> {folder}/sbatch.log
n=$(wc -l < {folder}/sbatch.log)
[ "$n" -le "${{ALLOWED:-9}}" ] || {{ echo 'sbatch: error: job limit' >&2; exit 1; }}
echo "$((16 + n));cluster\""""}
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, body in programs.items():
        (bin_folder / name).write_text("#!/bin/sh\n" + body + "\n")
        (bin_folder / name).chmod(0o755)
    return {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"}


def submit(environment, config, *more, program=None, cwd=None):
    return subprocess.run([program or runs.SVFLEET, "submit", config, *more], capture_output=True,
                          text=True, env=environment, timeout=60, cwd=cwd)
