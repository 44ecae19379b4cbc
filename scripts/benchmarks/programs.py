"""The programs that are measured: where they are, how they are run, and turns between them."""
import json
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
VENV = SOURCE / ".bench-venv"
PACKAGES = ("torch==2.11.0", "transformers==4.57.6", "gguf==0.18.0", "h5py==3.15.1",
            "xllamacpp==2026.10.11549", "peft==0.17.1", "accelerate==1.12.0", "xxhash==3.6.0")
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


class Failed(Exception):
    """Something of ours did not do what it should."""


class Skipped(Exception):
    """A baseline cannot be had here; says why."""


class Bench:
    """What all parts share: programs, the model, a folder to work in, and how long to measure."""

    def __init__(self, options):
        self.model, self.svfleet = Path(options.model).resolve(), options.svfleet
        self.engine, self.quick = options.engine, options.quick
        self.rounds = 1 if options.quick else options.rounds
        self.folder = SOURCE / ("runs/bench-quick" if options.quick else "runs/bench")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.first_version = options.first_version
        self.roofs = None  # of scripts/benchmarks/roof.py, when measured

    def say(self, text):
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def engine_part(self, part, place=None, **keys):
        command = [self.engine, str(place or self.model), part, "--json"]
        return run_json(command + [f"{key}={value}" for key, value in keys.items()])

    def baseline(self, script, *arguments):
        """A script beside this one, in the baselines' own Python environment."""
        python = VENV / "bin/python"
        if not python.exists():
            raise Skipped(f"no Python environment {VENV.name}: {self.venv_problem}")
        path = Path(__file__).with_name(script)
        return run_json([python, path, *arguments], problem=Skipped)

    def store(self):
        """A factor store of the model's MLPs, decomposed when it is not there."""
        store = self.folder / "factors"
        run([self.svfleet, "decompose", SOURCE / "examples/quickstart.yaml", "--quiet",
             "--set", f"model.path={self.model}", "--set", f"svd.store={store}"])
        return store

    def make_venv(self):
        """Installs what baselines need, once; where that fails, they are skipped with the reason."""
        self.venv_problem = ""
        want = " ".join(PACKAGES)
        done = VENV / "complete"
        if done.exists() and done.read_text() == want:
            return
        self.say(f"making {VENV.name}: {want} (2.5 GB to download)")
        for command in ([sys.executable, "-m", "venv", str(VENV)],
                        [str(VENV / "bin/python"), "-m", "pip", "install", "--quiet",
                         "--disable-pip-version-check", *PACKAGES]):
            found = subprocess.run(command, capture_output=True, text=True)
            if found.returncode:
                self.venv_problem = last_line(found.stderr)
                return self.say(f"baselines will be missing: {self.venv_problem}")
        done.write_text(want)


def last_line(text):
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def run(command, problem=Failed, cwd=SOURCE):
    """What it prints, and its seconds."""
    command = [str(word) for word in command]
    begin = time.monotonic()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate()
    seconds = time.monotonic() - begin
    if process.returncode:
        raise problem(f"{Path(command[0]).name} {Path(command[1]).name} ended with code "
                      f"{process.returncode}: {last_line(err)}")
    return out, seconds


def run_json(command, problem=Failed):
    return json.loads(run(command, problem)[0].strip().splitlines()[-1])


def peak_memory(command):
    """Runs it; the largest memory it held, and of it what no file backs (looked at every 20 ms), in
    bytes."""
    anonymous = 0
    with open(os.devnull, "wb") as nowhere:
        process = subprocess.Popen([str(word) for word in command], cwd=SOURCE, stdout=nowhere, stderr=nowhere)
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            found = re.search(r"^RssAnon:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text(), re.M)
            anonymous = max(anonymous, int(found.group(1)) * 1024 if found else 0)
            time.sleep(0.02)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{Path(command[0]).name} {command[1]} ended with code {process.returncode}")
    return usage.ru_maxrss * 1024, anonymous


def baseline_type():
    """What PyTorch's users would compute in here: without instructions for bfloat16 its products take several times
    as long as those of float32."""
    return "bfloat16" if re.search(r"\b(avx512_bf16|amx_bf16)\b", Path("/proc/cpuinfo").read_text()) else "float32"


class Contender:
    """One way to do something. `measure(setting)` gives the seconds of one or several runs, and
    anything to look at; of several settings, the one that is faster the first time stays, or, with `look`, the one
    for which that gives fewer seconds."""

    def __init__(self, name, measure, settings=(None,), look=None):
        self.name, self.settings, self._look = name, settings, look
        self.seconds, self.found, self.skipped = [], None, ""
        self._measure, self.setting = measure, settings[0] if len(settings) == 1 else None
        self._chosen = len(settings) == 1

    def turn(self):
        if self.skipped:
            return
        try:
            if not self._chosen and self._look:
                self.setting, self._chosen = min(self.settings, key=self._look), True
            if self._chosen:
                seconds, self.found = self._measure(self.setting)
                self.seconds += seconds
                return
            tried = [(self._measure(setting), setting) for setting in self.settings]
            (seconds, self.found), self.setting = min(tried, key=lambda one: statistics.median(one[0][0]))
            self.seconds += seconds
            self._chosen = True
        except Skipped as reason:
            self.skipped = str(reason)

    @property
    def median(self):
        return statistics.median(self.seconds) if self.seconds else None


def alternate(bench, contenders, rounds=None):
    """All of them in turn, again and again: what else the machine does meets each alike."""
    rounds = rounds or bench.rounds
    for turn in range(rounds):
        for contender in contenders:
            bench.say(f"{contender.name}, round {turn + 1} of {rounds}")
            contender.turn()
            if contender.skipped:
                bench.say(f"{contender.name} is skipped: {contender.skipped}")
    return contenders


def cosine(a, b):
    ab, aa, bb = (sum(x * y for x, y in zip(*pair)) for pair in ((a, b), (a, a), (b, b)))
    return ab / (aa * bb) ** 0.5 if aa * bb > 0 else 0.0


def log_steps(run_dir):
    """The steps of a run, the last record of each."""
    steps = {}
    for line in (run_dir / "log.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "step":
            steps[record["step"]] = record
    return [steps[step] for step in sorted(steps)]


def questions(count, file="train.jsonl"):
    lines = (SOURCE / "examples/tasks/max3" / file).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:count]]


def processor():
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    return f"{found.group(1) if found else 'unknown processor'}, {os.cpu_count()} cores"
