"""Runs svfleet and keeps what it found. Each piece of work has a name, BLOCK/WHAT; what is kept under
RESULTS/BLOCK/WHAT.json (and, of items, WHAT.jsonl.gz) is not done again, so that a study which was stopped
anywhere goes on there. A file appears under its name when it is whole, and never changes."""
import copy
import fcntl
import gzip
import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from studying.plan import ROOT, shown

SVFLEET = os.environ.get("SVFLEET") or str(ROOT / "build" / "svfleet")
MPIRUN = ["mpirun", "-q", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]


class Stopped(Exception):
    def __init__(self, why, code):
        super().__init__(why)
        self.code = code


def put(path, data):
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)


def program():
    """A mark of the program that computes: the beginning of its SHA-256."""
    found = shutil.which(SVFLEET)
    return hashlib.sha256(Path(found).read_bytes()).hexdigest()[:16] if found else ""


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def settings(words):
    return [part for word in words for part in ("--set", word)]


def steps_of(run):
    """The steps of a run's log; of one that was done again the last attempt counts."""
    steps = {}
    for line in (run / "log.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
        record = json.loads(line)
        if record.get("kind") == "step":
            steps[record["step"]] = record
    return [steps[step] for step in sorted(steps)]


def costs(steps, replies):
    """What a run's steps sampled and took. `replies` of a step where its record does not count them."""
    counts = [step.get("counted") or replies for step in steps]
    tokens = sum((step.get("mean_tokens") or 0) * count for step, count in zip(steps, counts))
    return {"steps": len(steps), "replies": sum(counts), "tokens": round(tokens),
            "seconds": round(sum(step["wall_s"] for step in steps), 1),
            "signal": [step.get("signal_fraction") for step in steps],
            "accuracy": [step.get("accuracy") for step in steps]}


class Lab:
    dry = False

    def __init__(self, plan, out, ranks=1, hours=None):
        self.plan, self.out, self.ranks = plan, Path(os.path.abspath(out)), ranks
        self.results, self.block, self.sealed = self.out / "results", "", True
        self.until = time.monotonic() + 3600 * hours if hours is not None else math.inf
        self.config, self.extra = plan["config"], []
        self.now = SimpleNamespace(child=None, stopping=False)  # one for all labs of on()
        mark = self.out / "plan.json"
        if mark.exists() and load(mark)["hash"] != plan.hash():
            raise SystemExit(f"study: '{out}' holds results of another plan: examples/study/plan.yaml or hypotheses.yaml "
                             "have changed since; give another --out")
        put(mark, json.dumps({"hash": plan.hash()}).encode())
        self.program = program()
        self.lock = open(self.out / "lock", "w", encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SystemExit(f"study: another study is at work in '{out}'; let it end, or give another --out") from error

    def begin(self, block):
        self.block, self.sealed = block, True

    def end(self, block):
        """Says what the block took, over all starts."""
        kept = [load(f) for f in sorted((self.results / block).glob("*.json"))]
        seconds = sum(one.get("took_s", 0) for one in kept)
        print(f"study: {block} is done: {len(kept)} results, {seconds / 60:.1f} min", flush=True)

    def say(self, text):
        print(f"study: {text}", flush=True)

    def kept(self, name):
        path = self.results / f"{name}.json"
        return load(path) if path.exists() else None

    def stop(self, *_):
        """The handler of signals: the command that runs saves what it has, as after any. What is between two is short."""
        self.now.stopping = True
        if self.now.child:
            self.now.child.terminate()

    def check_time(self):
        if self.now.stopping:
            raise KeyboardInterrupt
        if time.monotonic() > self.until:
            raise Stopped("the hours are over", 75)

    def run(self, command, *words, ranks=None):
        """The JSON that the program printed. Its messages go to OUT/study.log, its last one here if it fails."""
        ranks = ranks or self.ranks
        launcher = MPIRUN + ["-n", str(ranks)] if ranks > 1 else []
        more = [] if command == "hash" else settings(self.plan.settings + self.extra)
        line = [*launcher, SVFLEET, command, *map(str, words), *more, "--json"]
        self.out.mkdir(parents=True, exist_ok=True)
        with open(self.out / "study.log", "a+", encoding="utf-8") as log:
            print("$ " + " ".join(line), file=log, flush=True)
            try:
                child = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
            except OSError as error:
                raise Stopped(f"cannot run '{line[0]}': {error.strerror}; build it, or name it in SVFLEET", 2) from error
            self.now.child = child
            if self.now.stopping:
                child.terminate()
            printed, _ = child.communicate()
            self.now.child = None
            if self.now.stopping:
                raise KeyboardInterrupt
            if child.returncode:
                log.seek(0)
                last = [one for one in log.read().splitlines() if one.strip()][-1:]
                raise Stopped(f"{command} ended with {child.returncode}: {''.join(last)}", child.returncode)
        return json.loads(printed)

    def on(self, *changes):
        """This lab with more settings for every command, such as another model."""
        other = copy.copy(self)
        other.extra = self.extra + list(changes)
        return other

    def decompose(self, name, *changes, config=None):
        return self.once(name, lambda: {"matrices": self.run("decompose", config or self.config, "--quiet",
                                                             *settings(changes))["matrices"]})

    def once(self, name, work):
        """work() -> what is to be kept, a report or (report, items), unless it is kept already."""
        if (found := self.kept(name)) is None:
            self.check_time()
            self.say(name)
            started, spent = time.monotonic(), self.out / "spent" / name.replace("/", "-")
            earlier = load(spent) if spent.exists() else 0
            seconds = lambda: round(earlier + time.monotonic() - started, 1)
            try:
                found = work()
            except BaseException:
                put(spent, json.dumps(seconds()).encode())  # of a start that was stopped
                raise
            found, items = found if isinstance(found, tuple) else (found, None)
            if items is not None:
                text = "".join(json.dumps(one, ensure_ascii=False, sort_keys=True) + "\n" for one in items)
                put(self.results / f"{name}.jsonl.gz", gzip.compress(text.encode("utf-8", "replace"), mtime=0))
            found.update(took_s=seconds(), program=self.program)
            put(self.results / f"{name}.json", (json.dumps(found, indent=1, sort_keys=True) + "\n").encode())
            spent.unlink(missing_ok=True)
        return found

    def train(self, name, changes, steps, config=None, replies=None, run=None):
        """Trains OUT/runs/NAME, or `run` there; {expert, z_hash, cost}. `changes`: settings."""
        def work():
            return self.trained(self.out / "runs" / (run or name), changes, steps, config, replies)
        found = self.once(name, work)
        return {**found, "expert": shown(self.out / found["expert"])}

    def train_for(self, name, changes, tokens):
        """The same, of as few steps as have sampled that many tokens."""
        def work():
            steps = 1
            while True:
                found = self.trained(self.out / "runs" / name, changes, steps, None, None)
                missing = tokens - found["cost"]["tokens"]
                if missing <= 0:
                    return found
                # Short of what would do at the mean so far, so that it goes over by a step at most.
                steps += max(1, int(0.8 * missing * steps / max(1, found["cost"]["tokens"])))
        found = self.once(name, work)
        return {**found, "expert": shown(self.out / found["expert"])}

    def trained(self, run, changes, steps, config, replies):
        words = [f"run_dir={shown(run)}", f"train.steps={steps}", *changes]
        report = self.run("train", config or self.config, "--quiet", *settings(words))
        found = {"settings": changes, "hash": report["hash"], "z_hash": self.hash_of(report["expert"]),
                 "expert": os.path.relpath(ROOT / report["expert"], self.out)}
        return {**found, "cost": costs(steps_of(run), replies or self.plan.replies_per_step())}

    def hash_of(self, expert):
        return self.run("hash", expert, ranks=1)["hash"] if expert else None

    def measure(self, name, tasks, policies, items, *more, split="validation", config=None, changes=(), known=None):
        """Answers of the base and of `policies` ({name: expert file}) to the first `items` of each task; the
        report with those names, and every item kept. more: other words of `svfleet evaluate`; known: names of
        the experts that these bring in, as `policies`."""
        if split == "test" and self.sealed:
            raise SystemExit("study: internal error: the test split is sealed for block " + self.block)

        def work():
            out = self.out / f"items-{name.replace('/', '-')}.jsonl"
            out.unlink(missing_ok=True)
            experts = [word for path in dict.fromkeys(policies.values()) for word in ("--expert", shown(path))]
            names = {written(path): policy for policy, path in {**policies, **(known or {})}.items()
                     for written in (shown, lambda path: str(ROOT / path))}
            words = [f"evaluate.split={split}", f"evaluate.items={items}", f"run_dir={shown(self.out / 'runs/evaluate')}",
                     *self.asked(tasks), *changes]
            report = self.run("evaluate", config or self.config, "--quiet", *experts, *more, "--out", out, *settings(words))
            rename(report, names)
            written_items = list(renamed_items(out, names))
            out.unlink()
            return report, written_items
        return self.once(name, work)

    def asked(self, tasks):
        """The setting of one task, several, or the configuration's own (None)."""
        if tasks is None:
            return []
        files = [self.plan.task(one) for one in ([tasks] if isinstance(tasks, str) else tasks)]
        return ["task=" + (files[0] if len(files) == 1 else "[" + ", ".join(files) + "]")]

    def adapt(self, name, task, set_file, *more, items=8, changes=(), out=None):
        """A first pass and its second one on validation items; the report of `svfleet adapt`."""
        def work():
            words = [*self.asked(task), "evaluate.split=validation", f"evaluate.items={items}",
                     f"run_dir={shown(self.out / 'runs/adapt')}", *changes]
            if out:
                out.parent.mkdir(parents=True, exist_ok=True)
                out.unlink(missing_ok=True)
            report = self.run("adapt", self.config, "--quiet", "--experts", set_file, *more, *(["--out", out] if out else []),
                              *settings(words))
            leave_out_paths(report)
            return report
        return self.once(name, work)

    def make(self, path, work):
        """A file of ours, such as a pool of random experts: work(temporary path)."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".tmp-{path.name}")
            work(temporary)
            os.replace(temporary, path)
        return shown(path)


def rename(report, names):
    for one in report["results"]:
        path, _, control = one["name"].partition(".safetensors ")
        one["name"] = (names.get(one["name"]) or
                       (f"{names[path + '.safetensors']} {control}" if control else one["name"]))
        one.pop("reached_by", None)
    report.pop("read_before", None)
    leave_out_paths(report)


def leave_out_paths(report):
    """Of this machine, in what a report says of a set of experts."""
    for expert in report.get("adaptation", {}).get("experts", []):
        expert.pop("file", None)
    report.get("adaptation", {}).pop("out", None)


def renamed_items(path, names):
    """What --out wrote, without prompts (the data has them) and with the policies' names."""
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        one = json.loads(line)
        replies = {}
        for policy, reply in one["replies"].items():
            stem, _, control = policy.partition(".safetensors ")
            known = names.get(policy) or (f"{names[stem + '.safetensors']} {control}" if control else policy)
            replies[known] = reply
        yield {"task": one["task"], "item": one["item"], "gold": one["gold"], "cluster": one.get("cluster"),
               "replies": replies}


class DryLab(Lab):
    """Does nothing and counts seconds; its answers are such that the blocks go on."""
    dry = True

    def __init__(self, plan):
        self.plan, self.out, self.results = plan, ROOT / "runs/dry", Path("/nonexistent")
        self.sealed, self.block, self.config, self.extra = False, "", plan["config"], []
        self.spent = {}  # seconds by name

    def seconds(self):
        return sum(self.spent.values())

    def spend(self, name, **counts):
        cost = self.plan["seconds"]
        self.spent.setdefault(name, cost["start"] + sum(cost[key] * count for key, count in counts.items()))

    def say(self, text):
        pass

    def once(self, name, work):
        return {}

    def make(self, path, work):
        return shown(path)

    def hash_of(self, expert):
        return str(expert)

    def decompose(self, name, *changes, config=None):
        self.spend(name, decompose=1)

    def train(self, name, changes, steps, config=None, replies=None, run=None):
        self.spend(name, step=steps)
        return {"expert": name, "z_hash": name, "cost": {"signal": [0.5]}}

    def train_for(self, name, changes, tokens):
        return self.train(name, changes, math.ceil(tokens / (self.plan.replies_per_step() * 12)))  # tokens of a reply, or so

    def measure(self, name, tasks, policies, items, *more, split="validation", config=None, changes=(), known=None):
        routed = len(self.plan["own"]) + 1 if "--strategy" in more else 0  # all of the set, and the chosen
        rows = 1 + routed + len(policies) * (3 if "--controls" in more else 1)
        self.spend(name, reply=items * rows * (len(tasks) if isinstance(tasks, list) else 1))
        return {"results": [{"name": one, "accuracy": 0, "by_task": []} for one in ("base", *policies)]}

    def adapt(self, name, task, set_file, *more, items=8, changes=(), out=None):
        told = dict(zip(more[::2], more[1::2]))
        mixtures = {"full": 960, "light": 32}.get(told.get("--budget"), 0)
        shots = int(told["--shots"].rsplit("-", 2)[1]) if mixtures else 0
        self.spend(name, searched_reply=mixtures * shots, reply=3 * items * (len(task) if isinstance(task, list) else 1))
        alone = [{"label": one["label"], "share": 0, "alone": {"score": 0, "log_likelihood": 0}}
                 for one in self.plan.set["experts"]]
        return {"adaptation": {"first_pass": {"tokens_written": 12 * mixtures * shots}, "search": {"experts": alone}}}
