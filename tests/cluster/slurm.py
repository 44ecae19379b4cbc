"""A real Slurm on this machine (scripts/slurm_box) for the tests that need one."""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "coordinator"))
import runs

BOX = str(runs.SOURCE / "scripts" / "slurm_box")
SKIPPED = 77  # ctest shows it as skipped


def box(*arguments, timeout=120):
    return subprocess.run([BOX, *arguments], capture_output=True, text=True, timeout=timeout)


def skip(reason):
    print("skipped: " + reason)
    sys.exit(SKIPPED)


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
