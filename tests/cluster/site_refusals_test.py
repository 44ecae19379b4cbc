#!/usr/bin/env python3
"""What a site or a user asks for beyond submit's own words: refused before the queue where it would break
a run, each with one clear line; else it stands in the script that --dry-run prints. Stand-ins answer for
Slurm's commands."""
import shutil
import subprocess
import tempfile
from pathlib import Path

import slurm  # finds runs
import runs
from runs import check
from stand_ins import stand_ins, submit


def refused(environment, folder, config, default):
    def file(name, text):
        (folder / name).write_text(text)
        return str(folder / name)

    lines = default.splitlines()
    run_dir_line = 1 + next(n for n, line in enumerate(lines) if "@RUN_DIR@" in line)
    sbatch = default.index("# @SBATCH@")
    wrong = [  # what is given, and what the line must say
        *([[f"--sbatch={text}"], f"--sbatch '{text}' is refused: --{name}"] for text, name in [
            ("--array=1-3", "array"), ("-a 1-3", "array"), ("--signal=9", "signal"),
            ("--requeue", "requeue"), ("no-requeue", "no-requeue"), ("--open-mode=truncate", "open-mode"),
            ("-o x", "output"), ("--dependency=singleton", "dependency"), ("-d singleton", "dependency"),
            ("--no-kill", "no-kill"), ("-k", "no-kill"), ("-N3", "nodes")]),
        (["--sbatch=--account"], "--sbatch '--account' has no value; give it as --account=VALUE"),
        (["--sbatch=--arr=1-3"], "could take it for --array"),
        (["--sbatch", "gres=gpu:1"], "--gres gpu:1"),  # checked as submit's own is
        (["--sbatch", "partition=old"], "is DOWN"),
        (["--partition", "low", "--sbatch=-p old"], "says otherwise than submit's own --partition"),
        (["--mpi", "pm ix"], "--mpi 'pm ix' is no type"),
        (["--mpi", "pmi7"], "--mpi 'pmi7' is not known here; srun says: MPI plugin types are... none pmix"),
        (["--prelude", str(folder / "gone.sh")], "gone.sh"),
        (["--prelude", str(folder)], str(folder)),
        (["--prelude", file("if.sh", "if true\n")], "if.sh: bash cannot read it: line 2: syntax error"),
        (["--prelude", file("sb.sh", "true\n#SBATCH -p x\n")], "sb.sh:2: '#SBATCH -p x' would be passed"),
        (["--template", str(folder / "gone.sh")], "gone.sh"),
        (["--template", file("a.sh", default.replace("@PROGRAM@", "program"))],
         "a.sh: @PROGRAM@ is missing"),
        (["--template", file("b.sh", default.replace("@RUN_DIR@", "@RUNDIR@"))],
         f"b.sh:{run_dir_line}: @RUNDIR@ is no place of a job template"),
        (["--template", file("c.sh", default.replace("# @SBATCH@", "umask 027\n# @SBATCH@"))],
         "c.sh:3: '# @SBATCH@' stands below a command"),
        (["--template", file("d.sh", default[:sbatch] + "#SBATCH --array=1-2\n" + default[sbatch:])],
         "d.sh:2: '--array=1-2' is refused: --array"),
        (["--template", file("e.sh", default[:sbatch] + "#SBATCH --partition=old\n" + default[sbatch:])],
         "is DOWN"),
        (["--template", file("f.sh", default.replace("@MPI@", "--mpi=pmi2")), "--mpi", "pmix"],
         "f.sh: @MPI@ is missing"),
        (["--template", file("g.sh", default.replace("# @PRELUDE@\n", "")), "--prelude",
          file("ok.sh", "true\n")], "g.sh: the line '# @PRELUDE@' is missing"),
        (["--template", file("h.sh", default + "fi\n")], "h.sh: bash cannot read it: line"),
    ]
    for words, expected in wrong:
        done = submit(environment, config, *words)
        line = done.stderr.rstrip("\n")
        check(done.returncode == 2 and expected in line and "\n" not in line and not done.stdout,
              f"{words}: code {done.returncode}, {line} {done.stdout}")
    check(not (folder / "sbatch.log").exists(), "sbatch was called for none of them")


def accepted(environment, folder, config, default):
    (folder / "good.sh").write_text("module load x")
    words = ["--prelude", str(folder / "good.sh"), "--sbatch=--reservation=spring", "--sbatch", "qos=high",
             "--sbatch=--mail-type=END,FAIL", "--mpi", "none"]
    done = submit(environment, config, *words, "--dry-run")
    lines = done.stdout.splitlines()
    wanted = ["#SBATCH --reservation=spring", "#SBATCH --qos=high", "#SBATCH --mail-type=END,FAIL",
              "module load x"]
    check(done.returncode == 0 and all(line in lines for line in wanted) and "srun --mpi=none" in done.stdout,
          "a dry run shows what was asked for " + done.stderr)
    check("@" not in done.stdout.replace("[@]", "").replace('"$@"', "").replace("USR1@60", ""), "and no place is left")

    site = folder / "site.sh"
    site.write_text(default.replace("# @SBATCH@", "#SBATCH --account=physics\n# @SBATCH@") + "# ours\n")
    for way in (["--template", str(site)], []):  # the second: as a site sets it for everybody
        done = submit({**environment, **({} if way else {"SVFLEET_TEMPLATE": str(site)})}, config, *way,
                      "--dry-run")
        check(done.returncode == 0 and done.stdout.endswith("# ours\n")
              and done.stdout.count("#SBATCH --account=physics\n") == 2, f"{way}: {done.stderr}")

    # sbatch would let the environment override what was asked for.
    said = {"SBATCH_RESERVATION": "winter", "SBATCH_EXPORT": "ALL"}
    done = submit({**environment, **said}, config, "--sbatch=--reservation=spring",
                  "--set", f"run_dir={folder}/reserved")
    passed = (folder / "sbatch.env").read_text()
    check(done.returncode == 0 and "SBATCH_RESERVATION" not in passed and "SBATCH_EXPORT=ALL" in passed,
          "what was asked for is not overridden by the environment, the rest reaches sbatch")


def main():
    folder = Path(tempfile.mkdtemp(prefix="svfleet-site-", dir="/var/tmp"))
    try:
        environment = stand_ins(folder)
        srun = folder / "bin" / "srun"
        srun.write_text("#!/bin/sh\necho 'MPI plugin types are...' >&2; echo none >&2; echo pmix >&2\n")
        srun.chmod(0o755)
        config = slurm.own_copies(folder)
        done = subprocess.run([runs.SVFLEET, "submit", "--print-template"], capture_output=True, text=True)
        check(done.returncode == 0 and done.stdout == (runs.SOURCE / "cluster/job.sh").read_text(),
              "--print-template prints cluster/job.sh " + done.stderr)
        refused(environment, folder, config, done.stdout)
        accepted(environment, folder, config, done.stdout)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
