"""The machines of a chaos run: a local Slurm, and the job."""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
SVFLEET = os.environ.get("SVFLEET", str(SOURCE / "build" / "svfleet"))
# Short rounds: with Slurm's defaults a restart waits for the scheduler longer than for svfleet.
TIMES = {"KILLWAIT": "2", "GRACE": "3", "SLURMDTIMEOUT": "4"}
CONF = """\
MessageTimeout=3
TCPTimeout=1
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=100000
"""


def keep_program(folder):
    """From here on a copy is used: a program that is rebuilt meanwhile would be another one, with
    which no run goes on."""
    global SVFLEET
    build = Path(SVFLEET).parent
    SVFLEET = shutil.copy2(SVFLEET, folder / "svfleet")
    for name in ("lib", "nvidia"):  # where it looks for its libraries
        (folder / name).symlink_to((build / name).resolve())


class Broken(Exception):
    """What must not happen under any fault; ends the chaos run."""


class TooLate(Exception):
    """The run was finished before a fault could do anything."""


class Unavailable(Exception):
    """This machine cannot run the benchmark."""


def command(*words, timeout=60):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=timeout)


def must(*words, timeout=60):
    done = command(*words, timeout=timeout)
    if done.returncode:
        raise Broken(f"'{' '.join(map(str, words))}' ended with {done.returncode}: "
                     f"{(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_for(condition, seconds, what, pause=0.1):
    """The first true value of condition()."""
    end = time.time() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.time() > end:
            raise Broken(f"{what} did not happen within {seconds} s")
        time.sleep(pause)


class Box:
    """scripts/slurm_box with faults that can be undone."""

    def __init__(self, nodes):
        if not shutil.which("slurmctld"):
            raise Unavailable("Slurm is not installed (scripts/setup --tests installs it)")
        self.folder = Path(tempfile.mkdtemp(prefix="svfleet-box-"))
        self.folder.chmod(0o755)  # munge refuses a folder that others can write
        os.environ.update(TIMES, SLURM_BOX=str(self.folder),
                          SLURM_BOX_CONF=CONF)
        self.nodes = [f"n{i + 1}" for i in range(nodes)]
        self.resting, self.tended = {}, 0  # since when a node is empty, by node
        up = self("up", nodes)
        if up.returncode:
            said = (up.stdout + up.stderr).strip().replace("\n", " | ")
            self.down()
            raise Unavailable("a local Slurm cannot be started here "
                              f"(needs root or user namespaces): {said}")

    def __call__(self, *words, timeout=60):
        return command(SOURCE / "scripts/slurm_box", *words, timeout=timeout)

    def must(self, *words):
        return must(SOURCE / "scripts/slurm_box", *words)

    def crash(self, node):
        self.resting.pop(node, None)
        self.must("crash", node)

    def boot(self, node):
        self.must("boot", node)

    def plug_in(self, node):
        """The cable again. The node rests until it has ended, for a while, what it still held."""
        self.must("run", "scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=resting")
        self.must("link", node, "up")
        self.resting[node] = time.time()

    def tend(self):
        """What an administrator does, looked after once a second. Slurm 22.05 may take a minute to notice
        the end of an old step on a node that was cut off; a job that it starts there before is refused
        by the node as a duplicate, the node drained, and the job held."""
        if time.time() < self.tended + 1:
            return
        self.tended = time.time()
        for node in list(self.resting):
            if self("on", node, "pgrep", "-x", "slurmstepd").returncode != 1:
                self.resting[node] = time.time()
            elif time.time() > self.resting[node] + 20:
                self.must("run", "scontrol", "update", f"NodeName={node}", "State=RESUME")
                del self.resting[node]
        for line in self("run", "squeue", "-h", "-o", "%i %r").stdout.splitlines():
            job, reason = line.split(maxsplit=1)
            if "held" in reason:
                print(f"    (Slurm holds job {job}: {reason}; released by hand)", flush=True)
                for node in self.nodes:
                    if "Duplicate" in self("run", "sinfo", "-h", "-n", node, "-o", "%E").stdout:
                        self.resting[node] = time.time()
                self.must("run", "scontrol", "release", job)

    def mend_links(self):
        """Ends `cut` and `loss` everywhere."""
        self.must("loss", self.nodes[0], 0)

    def kill_controller(self):
        self.must("run", "bash", "-c", f"kill -9 $(cat {self.folder}/run/slurmctld.pid)")

    def start_controller(self):
        self.must("run", "slurmctld")
        wait_for(lambda: self("run", "scontrol", "ping").stdout.find("is UP") > 0, 30,
                 "the controller's return")

    def all_idle_or_busy(self):
        states = self("run", "sinfo", "-h", "-N", "-o", "%T").stdout.split()
        return bool(states) and all(s in ("idle", "allocated", "mixed") for s in states)

    def down(self, keep_logs=None):
        if keep_logs:
            shutil.copytree(self.folder / "log", keep_logs)
        self("down")
        shutil.rmtree(self.folder, ignore_errors=True)


class Rank:
    def __init__(self, pid, rank, node):
        self.pid, self.rank, self.node = pid, rank, node

    def __str__(self):
        return f"rank {self.rank} on {self.node}"

    def signal(self, number):
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def alive(self):
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False


def ranks_of(config):
    """The living ranks that train `config`: the namespaces of the nodes hide nothing from here."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            if b"train" not in words or str(config).encode() not in words:
                continue
            if Path(os.readlink(f"/proc/{entry}/exe")).name != "svfleet":  # the copy of the run
                continue
            pairs = (pair.split(b"=", 1) for pair in
                     Path(f"/proc/{entry}/environ").read_bytes().split(b"\0") if b"=" in pair)
            environment = {key.decode(): value.decode() for key, value in pairs}
            found.append(Rank(int(entry), int(environment["SLURM_PROCID"]),
                              environment["SLURMD_NODENAME"]))
        except (OSError, KeyError, ValueError):
            pass
    return sorted(found, key=lambda rank: rank.rank)


class Job:
    """`svfleet submit` on `nodes` nodes of the preemptible partition. What Slurm and the program
    print lies outside the run's disk, so that it can be read when that disk is full."""

    def __init__(self, box, config, run_dir, outputs, nodes):
        self.box, self.config, self.run_dir = box, config, Path(run_dir)
        self.outputs, self.nodes = Path(outputs), nodes
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.run_dir.chmod(0o777)
        self.outputs.mkdir(exist_ok=True)
        self.outputs.chmod(0o777)
        (self.run_dir / "svfleet.log").symlink_to(self.outputs / "svfleet.log")
        self.submit()

    def submit(self):
        shown = self.box.must("run", "scontrol", "show", "config")
        next_id = re.search(r"NEXT_JOB_ID\s*=\s*(\d+)", shown).group(1)
        link = self.run_dir / f"slurm-{next_id}.out"
        link.symlink_to(self.outputs / link.name)
        # The time limit is far away, patience endless: here it is the faults that come in a row.
        said = self.box.must("run", SVFLEET, "submit", self.config, "--nodes", self.nodes,
                             "--cpus-per-task", 2, "--partition", "low", "--time", "4:00:00",
                             "--patience", 1000, "--json")
        self.id = json.loads(said)["jobs"][0]
        if self.id != next_id:
            raise Broken(f"job {self.id} is not the expected {next_id}")

    def text(self):
        """All output so far, of all submissions and restarts."""
        files = sorted(self.outputs.glob("slurm-*.out"), key=lambda f: int(f.stem.split("-")[1]))
        return "".join(file.read_text(errors="replace") for file in files)

    def starts(self):
        """What was said at each start of the ranks: by Slurm, or again in the same allocation."""
        return re.findall(r"^svfleet job: (?:\d+, restart \d+, on \S+|starting again on \d+ nodes)",
                          self.text(), re.M)

    def state(self):
        """Slurm's word; empty when the controller does not answer."""
        shown = self.box("run", "scontrol", "-o", "show", "job", self.id).stdout
        found = re.search(r"JobState=(\S+)", shown)
        return found.group(1) if found else ""

    def over(self):
        """The state in which Slurm keeps an ended job, or empty."""
        state = self.state()
        return state if state in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL",
                                  "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE") else ""

    def ranks(self):
        return ranks_of(self.config)

    def cancel(self):
        self.box("run", "scancel", self.id)
        for rank in self.ranks():
            rank.signal(signal.SIGKILL)
