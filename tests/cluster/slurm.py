"""A real Slurm on this machine (scripts/slurm_box) for the tests that need one."""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "coordinator"))
import runs

BOX = str(runs.SOURCE / "scripts" / "slurm_box")
SKIPPED = 77  # ctest shows it as skipped


def box(*arguments, timeout=120):
    return subprocess.run([BOX, *arguments], capture_output=True, text=True, timeout=timeout)


def fields(job):
    """All that Slurm knows of a job."""
    shown = box("run", "scontrol", "-o", "show", "job", job).stdout
    return dict(word.split("=", 1) for word in shown.split() if "=" in word)


def state(job):
    """State, restarts and exit code."""
    known = fields(job)
    return known.get("JobState"), int(known.get("Restarts", 0)), known.get("ExitCode")


def ended(job):
    return state(job)[0] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def wait_until(condition, seconds, what):
    """What the condition gives once it holds."""
    end = time.time() + seconds
    while not (value := condition()):
        if time.time() > end:
            sys.exit(f"FAILED: {what} did not happen within {seconds} s")
        time.sleep(0.1)
    return value


def output(run_dir, job="*"):
    return "".join(f.read_text() for f in sorted(Path(run_dir).glob(f"slurm-{job}.out")))


def skip(reason):
    print("skipped: " + reason)
    sys.exit(SKIPPED)


def own_copies(folder, **words):
    """A configuration in `folder` beside copies of program, model and data, and `folder` as the working
    directory: where the source tree lies, other nodes may not see it."""
    runs.SVFLEET = str(runs.copy_program(folder / "svfleet"))
    model, tasks = "tests/data/models/tiny_llama3", "examples/tasks/max3"
    shutil.copytree(runs.SOURCE / model, folder / "model")
    shutil.copytree(runs.SOURCE / tasks, folder / "tasks")
    os.chdir(folder)
    config = Path(runs.write_config(folder, **words))
    text = config.read_text().replace(str(runs.SOURCE / model), str(folder / "model"))
    config.write_text(text.replace(str(runs.SOURCE / tasks), str(folder / "tasks")))
    return str(config)


@contextlib.contextmanager
def shared_folder():
    """A new folder that all nodes see, not below /tmp; the outputs of the jobs in it when a test fails."""
    folder = Path(tempfile.mkdtemp(prefix="svfleet-submit-", dir="/var/tmp"))
    folder.chmod(0o777)
    try:
        yield folder
    except SystemExit as end:
        if end.code != SKIPPED:
            for run in folder.glob("*/slurm-*.out"):
                print(f"--- {run}\n{run.read_text()}")
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def nodes(count):
    """A Slurm of `count` nodes, or the end of the test as skipped with the reason."""
    if not shutil.which("slurmctld"):
        skip("Slurm is not installed (scripts/setup --tests installs it)")
    folder = Path(tempfile.mkdtemp(prefix="svfleet-box-"))
    folder.chmod(0o755)  # munge refuses a folder that others can write
    os.environ["SLURM_BOX"] = str(folder)
    try:
        up = box("up", str(count))
        if up.returncode:
            skip("a local Slurm cannot be started here (needs root or user namespaces): "
                 + (up.stdout + up.stderr).strip().replace("\n", " | "))
        yield
    finally:
        box("down")
        shutil.rmtree(folder, ignore_errors=True)
