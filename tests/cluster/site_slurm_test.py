#!/usr/bin/env python3
"""A site's own template, launcher, container and options of sbatch on a real Slurm. The launcher and the
two container programs are stand-ins: scripts that note how they were called and start what they were
given."""
import json
import os
import shutil
import subprocess

import slurm  # finds runs
import runs
from runs import check
from slurm import box, ended, output, state, wait_until

STAND_INS = {
    # A launcher of the site's: another name for srun.
    "site-launch": 'exec srun "$@"',
    # What Apptainer would be called like; nothing is contained.
    "apptainer": '''[ "$1 $2 $OF_PRELUDE" = 'exec --nv reaches the ranks' ] || exit 9
shift 3; exec "$@"''',
    # Pyxis gives srun the option --container-image; this one only takes it away.
    "srun": '''words=()
for word; do case $word in --container-image=*) ;; *) words+=("$word") ;; esac; done
exec ''' + str(shutil.which("srun")) + ' "${words[@]}"',
}


def write_stand_ins(folder):
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, body in STAND_INS.items():
        (bin_folder / name).write_text(f'#!/bin/bash\necho "$*" >> {folder}/{name}.calls\n{body}\n')
        (bin_folder / name).chmod(0o755)
    return bin_folder


def submit(*words):
    return box("run", runs.SVFLEET, "submit", *words)


def run_tests(folder):
    config = slurm.own_copies(folder, steps=4)
    alone = folder / "alone"
    runs.run(config, alone, 1)
    expected = runs.content_hash(alone)
    bin_folder = write_stand_ins(folder)

    default = subprocess.run([runs.SVFLEET, "submit", "--print-template"], capture_output=True,
                             text=True, check=True).stdout
    site = folder / "site.sh"
    text = default.replace("\n# @SBATCH@", "\n#SBATCH --comment=\"the site's, two words\"\n# @SBATCH@")
    text = text.replace(" srun @MPI@", f" {bin_folder}/site-launch @MPI@")
    check(text != default and "site-launch" in text, "the site's template is another")
    site.write_text(text)
    prelude = folder / "prelude.sh"
    prelude.write_text(f"""set -e
PATH={bin_folder}:$PATH
export OF_PRELUDE='reaches the ranks'
srun_options=(--container-image=image.sqsh)
within=(apptainer exec --nv image.sif)
""")
    words = [config, "--nodes", "2", "--cpus-per-task", "2", "--time", "10", "--template", str(site),
             "--prelude", str(prelude), "--mpi", "pmix", "--sbatch=--licenses=lic:1",
             "--sbatch", "export=NONE", "--sbatch=-p low"]

    run_dir = folder / "site run"
    done = submit(*words, "--set", f"run_dir={run_dir}", "--json")
    check(done.returncode == 0, "submitted: " + (done.stdout + done.stderr).strip())
    job = json.loads(done.stdout)["jobs"][0]
    shown = box("run", "scontrol", "-o", "show", "job", job).stdout
    check("Licenses=lic:1" in shown and "Partition=low" in shown and "the site's, two words" in shown,
          "Slurm knows of licence, partition and comment")
    wait_until(lambda: ended(job), 180, "the end of the site's job")
    check(state(job)[0] == "COMPLETED", f"the site's job: {state(job)}")
    check(runs.content_hash(run_dir) == expected, f"the undisturbed hash {expected}")
    called = (folder / "site-launch.calls").read_text()
    check(called.startswith(f"--mpi=pmix --kill-on-bad-exit=1 --chdir={folder} --cpus-per-task=2 "
                            "--container-image=image.sqsh apptainer exec --nv image.sif "),
          "the launcher got " + called)
    called = (folder / "srun.calls").read_text()
    check("--container-image=image.sqsh" in called, "srun got the container's image")
    called = (folder / "apptainer.calls").read_text().splitlines()
    check(len(called) == 2 and all(c.startswith("exec --nv image.sif ") and " train " in c
                                   for c in called), f"each rank ran within the container: {called}")

    # The job's script is whole: the files that it was made of are needed no more.
    site.unlink()
    prelude.unlink()
    again = box("run", "sbatch", "--parsable", str(run_dir / "job.sh")).stdout.strip()
    wait_until(lambda: ended(again), 120, "the end of the script handed in again")
    check(state(again)[0] == "COMPLETED" and "finished" in output(run_dir),
          f"handed in again: {state(again)}")

    # A launcher through which the ranks cannot find each other: one line, and no restart.
    run_dir = folder / "none"
    done = submit(config, "--nodes", "2", "--time", "10", "--mpi", "none", "--json",
                  "--set", f"run_dir={run_dir}")
    job = json.loads(done.stdout)["jobs"][0]
    wait_until(lambda: ended(job), 120, "the end of a job without PMIx")
    check(state(job) == ("FAILED", 0, "2:0") and "cannot find each other" in output(run_dir),
          f"--mpi none with this MPI: {state(job)}")
    done = submit(config, "--mpi", "pmi7", "--dry-run")
    check(done.returncode == 2 and "--mpi 'pmi7' is not known here" in done.stderr,
          "a type that srun does not know: " + done.stderr.strip())
    done = submit(config, "--mpi", "default", "--dry-run")
    check("srun  --kill-on-bad-exit" in done.stdout, "no type but Slurm's own: " + done.stderr)


def main():
    os.environ["SLURM_BOX_CONF"] = "Licenses=lic:2"
    with slurm.shared_folder() as folder, slurm.nodes(2):
        run_tests(folder)


main()
