"""Runs of the tiny model for the tests that start, kill and resume whole jobs."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
sys.path.append(str(SOURCE / "scripts"))
import journal_file  # noqa: E402

SVFLEET = os.environ.get("SVFLEET", str(SOURCE / "build" / "svfleet"))
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]

CONFIG = """
model: {{path: {model}, dtype: float32}}
run_dir: {folder}/run
svd: {{store: {folder}/store, targets: [all]}}
task:
  name: vowels
  train: {source}/examples/tasks/max3/train.jsonl
  validation: {source}/examples/tasks/max3/validation.jsonl
  test: {source}/examples/tasks/max3/test.jsonl
  rewards: [{{kind: regex, pattern: "[aeiou].*[aeiou]", match_only: true}}]
  max_new_tokens: {tokens}
  truncated: score
train:
  steps: {steps}
  prompts_per_step: 8
  samples_per_prompt: 4
  prompts_per_chunk: 1
  learning_rate: 0.01
timeout_s: 60
"""


def check(condition, message):
    if not condition:
        sys.exit("FAILED: " + message)
    print("ok: " + message, flush=True)


def work_folder():
    """A new folder that other users can enter."""
    folder = Path(tempfile.mkdtemp(prefix="svfleet-test-"))
    folder.chmod(0o777)
    return folder


def copy_program(to):
    """The program in another place, beside the links by which it finds its libraries."""
    to = Path(shutil.copy2(SVFLEET, to))
    for name in ("lib", "nvidia"):
        link, there = to.parent / name, Path(SVFLEET).parent / name
        if there.exists() and not link.exists():
            link.symlink_to(there.resolve())
    return to


def flip(path, at):
    """One bit, as a bad disk does it: size and times stay. at < 0 counts from the end."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(bytes(data))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def write_config(folder, steps=5, tokens=24, model="tiny_llama3"):
    path = Path(folder) / "run.yaml"
    path.write_text(CONFIG.format(model=SOURCE / "tests/data/models" / model, folder=folder,
                                  source=SOURCE, steps=steps, tokens=tokens))
    return str(path)


def command(config, run_dir, ranks, *more):
    launcher = [] if ranks == 1 else MPIRUN + ["-n", str(ranks)]
    return launcher + [SVFLEET, "train", config, "--set", f"run_dir={run_dir}", "--quiet", *more]


def run(config, run_dir, ranks, *more):
    done = subprocess.run(command(config, run_dir, ranks, *more), capture_output=True, text=True,
                          timeout=300)
    if done.returncode:
        sys.exit(f"train on {ranks} ranks ended with {done.returncode}:\n{done.stderr}")
    return done


def svfleet(*arguments, ranks=1, cwd=None):
    launcher = [] if ranks == 1 else MPIRUN + ["-n", str(ranks)]
    return subprocess.run(launcher + [SVFLEET, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, cwd=cwd)


def one_line(done):
    """The one line of an error; empty when there are more or none."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]
    return lines[0] if len(lines) == 1 else ""


def content_hash(path):
    return subprocess.run([SVFLEET, "hash", str(path)], capture_output=True, text=True,
                          check=True).stdout.strip()


def log_steps(run_dir):
    """The last record of each step."""
    steps = {}
    for line in (Path(run_dir) / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step":
            steps[record["step"]] = record
    return steps


def ledger(run_dir, kind):
    """Its records of a kind; none while there is no ledger."""
    try:
        lines = (Path(run_dir) / "ledger.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def mount(*options):
    """Whether it worked: only root can."""
    return subprocess.run(["mount", *options], capture_output=True).returncode == 0


def newest_step(run_dir):
    files = sorted((Path(run_dir) / "checkpoints").glob("step-*.h5"))
    return int(files[-1].stem.split("-")[1]) if files else None


def journal(run_dir):
    """Finished chunks of the unfinished step, as records of the journal."""
    return journal_file.unfinished(run_dir)


def send(number, pids):
    """A signal to those that are still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def stops_at_pieces(pid):
    """Whether it has come so far that signals set a flag: only then is SIGUSR1 caught."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt")).split()[1], 16)
    return bool(caught >> (signal.SIGUSR1 - 1) & 1)


def ranks_of(launcher):
    """Process ids of the svfleet processes below `launcher`, by rank."""
    parents, found = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
            parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
        except OSError:
            pass
    for pid in parents:
        up = pid
        while up in parents and up != launcher:
            up = parents[up]
        if up != launcher:
            continue
        try:
            if Path(os.readlink(f"/proc/{pid}/exe")).name != Path(SVFLEET).name:
                continue
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = 0
        for variable in environment:
            if variable.startswith(b"OMPI_COMM_WORLD_RANK="):
                rank = int(variable.split(b"=")[1])
        found[rank] = pid
    return found


def kill_all_below(launcher):
    for pid in ranks_of(launcher.pid).values():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    launcher.kill()
    launcher.wait()
