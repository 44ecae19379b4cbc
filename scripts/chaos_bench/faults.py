"""The kinds of fault. Each function injects one into a job that computes, ends it where it lasts,
and returns what it did. `scene` is the Scene of scripts/chaos."""
import signal
import subprocess
import time

import journal_file
from chaos_bench import cluster, memory, run
from chaos_bench.cluster import Broken, TooLate, wait_for

KINDS = {}

REQUEUED = r"^svfleet job: to be started again .*"
# Who, where, in which operation, and in which step.
NAMES_ALL = r"^svfleet: timeout after .* s in '.+' of step \d+: .*rank \d+ \(host \w+\).*"
RESUMED = r"^.* (?:resuming after step|step \d+: \d+ finished chunks restored).*"


class Kind:
    """`said` is what the program must print, the most telling first; `restarts` whether the job cannot
    go on without a restart; `share` how often it is drawn; `slow` that the run computes for half a
    minute before the fault is over."""

    def __init__(self, inject, about, said=(REQUEUED, RESUMED), restarts=True, share=3,
                 needs_disk=False, needs_fuse=False, must_say=True, slow=False):
        self.name, self.inject, self.about = inject.__name__, inject, about
        self.said, self.restarts, self.share = said, restarts, share
        self.needs_disk, self.needs_fuse = needs_disk or needs_fuse, needs_fuse
        self.must_say, self.slow = must_say, slow


def kind(about, **more):
    def register(inject):
        KINDS[inject.__name__] = Kind(inject, about, **more)
        return inject
    return register


# Processes.

@kind("SIGKILL of a random rank", share=4)
def kill(scene):
    rank = scene.any_rank()
    scene.now()
    rank.signal(signal.SIGKILL)
    return str(rank)


@kind("SIGTERM or SIGUSR1 to a rank, or to all by scancel", share=3,
      said=(r"^svfleet job: to be started again .*stopped by .*",))
def term(scene):
    name = scene.chance.choice(["TERM", "USR1"])
    to = scene.chance.choice(["a rank", "the ranks", "the script"])
    rank = scene.any_rank()
    scene.now()
    if to == "a rank":
        rank.signal(getattr(signal, "SIG" + name))
        return f"SIG{name} to {rank}"
    scene.box.must("run", "scancel", "--signal=" + name, *(["--batch"] if to == "the script" else []),
                   scene.job.id)
    return f"SIG{name} to {to}"


@kind("SIGSTOP of a rank: it lives and does nothing", said=(NAMES_ALL,), share=4)
def hang(scene):
    rank = scene.any_rank()
    scene.now()
    rank.signal(signal.SIGSTOP)
    scene.until_said(NAMES_ALL, scene.timeout_s + 30)
    return str(rank)


@kind("a bit of a weight or of a basis flipped in the memory of a rank", share=3,
      said=(r"^svfleet: .* changed in memory .*",))
def flipped(scene):
    ranks = scene.frozen(lambda: 0 < run.where(scene.job.run_dir)[1] < run.PROMPTS)
    rank = scene.chance.choice(ranks)
    name = scene.chance.choice(sorted(scene.store.glob("*.h5"))).stem
    what = scene.chance.choice(["W", "Q"])
    model = scene.store.parent / "model"
    content = memory.tensor_bytes(model, name) if what == "W" else memory.basis_bytes(model, scene.store, name)
    scene.now()
    if not memory.flip(rank.pid, content):
        raise Broken(f"{what} of {name} is not in the memory of {rank}")
    for each in ranks:
        each.signal(signal.SIGCONT)
    scene.must_name(name)
    return f"{what} of {name} on {rank}"


# Slurm and the nodes.

@kind("an urgent job takes the nodes", share=3)
def preempt(scene):
    nodes = sorted({rank.node for rank in scene.job.ranks()})
    scene.now()
    scene.box.must("run", "sbatch", "-p", "high", f"-N{len(nodes)}", f"-n{len(nodes)}", "-w",
                   ",".join(nodes), "-o", "/dev/null", "--wrap", "sleep 3")
    scene.until_restarted()
    return ",".join(nodes)


@kind("power loss of a node in the middle of a chunk, booted again later", share=4)
def crash(scene):
    ranks = scene.frozen(lambda: 0 < run.where(scene.job.run_dir)[1] < run.PROMPTS)
    node = scene.chance.choice(ranks).node
    scene.now()
    scene.box.crash(node)
    for rank in ranks:
        rank.signal(signal.SIGCONT)
    scene.until_restarted()
    scene.box.boot(node)
    return node


@kind("an allocation that comes to its end", share=2, slow=True,
      said=(r"^svfleet job: to be started again .*stopped by .*",))
def limit(scene):
    scene.now()
    # Slurm looks at limits every 30 s, and then warns the job.
    scene.box.must("run", "scontrol", "update", f"JobId={scene.job.id}", "EndTime=now+40")
    wait_for(lambda: not scene.job.ranks(), 90, "the stop before the end of the allocation")
    # Slurm may take a while to see that a job has ended.
    if scene.job.over() or (scene.job.run_dir / "experts/final.safetensors").exists():
        raise TooLate
    scene.box.must("run", "scontrol", "update", f"JobId={scene.job.id}", "TimeLimit=240")
    return "40 s left"


@kind("Slurm's controller and a rank killed, the controller started again", share=2)
def controller(scene):
    rank = scene.any_rank()
    scene.now()
    scene.box.kill_controller()
    rank.signal(signal.SIGKILL)
    time.sleep(scene.chance.uniform(1, 4))
    scene.box.start_controller()
    return f"{rank} killed"


@kind("a GPU's error on one node, which libtorch reports in CUDA's own words", share=3,
      said=(r"^svfleet job: to be started again .*rank \d+ \(host \w+\), step \d+, chunk \d+: the GPU "
            r"fails: .*",))
def device(scene):
    node = scene.any_rank().node
    scene.now()
    scene.break_device(node)
    try:
        scene.until_restarted()  # in the same allocation
        scene.until_computing()
    finally:
        scene.mend_device()
    # The job has a node less now: all it asked for again, so that later faults find it so.
    scene.box.must("run", "scancel", "--signal=USR1", scene.job.id)
    return node


# The network.

def both_nodes(scene):
    """The nodes of the job; where it goes on without one that was at fault, it asks for both again."""
    def nodes():
        return sorted({rank.node for rank in scene.job.ranks()})
    if len(nodes()) < 2:
        scene.box.must("run", "scancel", "--signal=USR1", scene.job.id)
        wait_for(lambda: scene.job.over() or len(nodes()) > 1, 2 * scene.timeout_s + 40, "the job on both of its nodes")
        if scene.job.over():
            raise TooLate
        scene.until_computing()
    return nodes()


@kind("the link between two nodes of the job cut", share=3)
def cut(scene):
    nodes = both_nodes(scene)
    scene.now()
    scene.box.must("cut", *nodes[:2])
    try:
        scene.until_said(r"^svfleet: (?!job).*", scene.timeout_s + 40)
    finally:
        scene.box.mend_links()
    return " and ".join(nodes[:2])


@kind("a node's cable pulled, and plugged in when the job runs elsewhere", share=3)
def link(scene):
    node = scene.any_rank().node
    scene.now()
    scene.box.must("link", node, "down")
    try:
        scene.until_restarted()
    finally:
        scene.box.plug_in(node)
    return node


@kind("20 to 40 % of a node's packets lost for some seconds", restarts=False, must_say=False)
def loss(scene):
    node, percent = scene.any_rank().node, scene.chance.randint(20, 40)
    scene.now()
    scene.box.must("loss", node, percent)
    time.sleep(scene.chance.uniform(4, 10))
    scene.box.mend_links()
    return f"{percent} % on {node}"


@kind("rank 0 and its node cut off and asleep until the job runs elsewhere: an old writer that comes "
      "back", share=2, slow=True, said=(r"^svfleet: (?:rank \d+ \(host \w+\): )?(?:timeout|the run folder) .*", RESUMED))
def stale(scene):
    rank = scene.job.ranks()[0]
    scene.now()
    rank.signal(signal.SIGSTOP)
    scene.box.must("link", rank.node, "down")
    try:
        scene.until_restarted()
        scene.until_computing()
        if not rank.alive():
            raise Broken("the old rank 0 is gone before it could come back")
        rank.signal(signal.SIGCONT)
        wait_for(lambda: not rank.alive(), 2 * scene.timeout_s + 40, "the end of the old writer")
    finally:
        rank.signal(signal.SIGCONT)
        scene.box.plug_in(rank.node)
    return str(rank)


# The disk of the run.

@kind("the run's disk filled to the last byte", needs_disk=True, share=3,
      said=(r"^svfleet: (?:rank \d+ \(host \w+\): )?disk full writing .*",))
def full(scene):
    scene.now()
    try:
        scene.until_said(r"^svfleet: .*disk full writing", 60, meanwhile=scene.disk.fill)
        scene.until_gone(meanwhile=scene.disk.fill)
    finally:
        scene.disk.free()
    return ""


@kind("all ranks killed, and the run's disk read-only when they come back", needs_disk=True, share=3,
      said=(r"^svfleet: cannot write .*Read-only file system.*",))
def readonly(scene):
    # Not while they run: a disk on which a log is open cannot be made read-only.
    ranks = scene.frozen(lambda: True)
    scene.now()
    for rank in ranks:
        rank.signal(signal.SIGKILL)
    scene.disk.read_only()
    try:
        scene.until_said(r"^svfleet: .*Read-only file system", 60)
        scene.until_gone()
    finally:
        scene.disk.writable()
    return ""


@kind("the run's disk hangs: what reads or writes it waits", needs_fuse=True, share=1,
      # Who hangs in a chunk stands still; whom the others wait for does not arrive; and what was told
      # may wait, too.
      said=(r"^svfleet: (timeout after .* s in '.+' of step \d+: rank \d+ \(host \w+\) "
            r"(.*stands still|did not arrive)|log\.jsonl and ledger\.jsonl .* have not been written).*",))
def hung(scene):
    ranks = scene.frozen(lambda: True)
    scene.now()
    scene.disk.hang()
    for rank in ranks:
        rank.signal(signal.SIGCONT)
    try:
        # A minute, and five seconds for what cannot be said.
        wait_for(lambda: not any(rank.alive() for rank in ranks), 65 + scene.timeout_s + 60,
                 "the end of the ranks by themselves")
        took = time.time() - scene.moment
    finally:
        scene.disk.answer()
    return f"no rank left after {took:.0f} s"


def place_of(what):
    """(file, first byte, end) of a whole file or of one record of the journal."""
    if isinstance(what, journal_file.Record):
        return what.path, what.at, what.end
    return what, 0, what.stat().st_size


def killed_with_damage(scene, pick, damage):
    """All ranks killed, one file damaged before the job starts again, which must name that file."""
    ranks = scene.frozen(pick)
    path, begin, end = place_of(scene.chance.choice(pick()))
    scene.now()
    for rank in ranks:
        rank.signal(signal.SIGKILL)
    wait_for(lambda: not any(rank.alive() for rank in ranks), 20, "the end of the ranks")
    what = damage(scene.chance, path, begin, end)
    scene.must_name(path.name)
    return f"{what} of {path.name}"


def flip(chance, path, begin, end):
    data = bytearray(path.read_bytes())
    bit = chance.randrange(8 * begin, 8 * end)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return f"bit {bit}"


def cut_short(chance, path, begin, end):
    size = path.stat().st_size
    left = chance.randrange(begin + 1, end)  # inside of it
    with open(path, "r+b") as file:
        file.truncate(left)
    return f"{left} of {size} bytes left"


def newest_checkpoint(scene):
    # With an older one to fall back on.
    found = run.checkpoints(scene.job.run_dir)
    return found[-1:] if len(found) > 1 else []


def readable_chunks(scene):
    """Those that a restart reads first: of the step after the newest checkpoint."""
    found = run.chunks(scene.job.run_dir)
    return [chunk for chunk in found if chunk.step == found[0].step]


DAMAGED = (r"^.*(?:damaged|not finished).*",)


@kind("a bit of the newest checkpoint flipped, and all ranks killed", said=DAMAGED)
def checkpoint(scene):
    return killed_with_damage(scene, lambda: newest_checkpoint(scene), flip)


@kind("a bit of a finished chunk flipped, and all ranks killed", said=DAMAGED)
def chunk(scene):
    return killed_with_damage(scene, lambda: readable_chunks(scene), flip)


@kind("a bit of the factor store flipped, and all ranks killed", said=DAMAGED, share=2)
def factor(scene):
    return killed_with_damage(scene, lambda: sorted(scene.store.glob("*.h5")), flip)


@kind("the newest checkpoint or a chunk cut short, and all ranks killed", said=DAMAGED)
def torn(scene):
    pick = scene.chance.choice([newest_checkpoint, readable_chunks])
    return killed_with_damage(scene, lambda: pick(scene), cut_short)


@kind("all ranks killed, factors removed, and decomposed again by the job and by a second run at once",
      share=2)
def raced(scene):
    ranks = scene.frozen(lambda: True)
    gone = scene.chance.sample(sorted(scene.store.glob("*.h5")), 5)
    scene.now()
    for path in gone:
        path.unlink()
    for rank in ranks:
        rank.signal(signal.SIGKILL)
    scene.until_restarted()
    second = subprocess.Popen([cluster.SVFLEET, "decompose", str(scene.job.config), "--quiet"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    published = {}

    def all_published():
        scene.box.tend()
        for path in gone:
            if path.exists() and published.setdefault(path, path.stat().st_ino) != path.stat().st_ino:
                raise Broken(f"{path.name} was published and then replaced")
        return len(published) == len(gone) and second.poll() is not None
    wait_for(all_published, 120, "a second decomposition", pause=0.01)
    if second.returncode:
        raise Broken("the second decomposition failed: " + second.stderr.read())
    scene.until_computing()
    all_published()
    return f"{len(gone)} factors"
