#!/usr/bin/env python3
"""Two passes over a toy: experts trained to write vowels and capitals. The search finds the right one
where random experts of equal norm do not help, ends at the same mixture on any number of ranks and
after it was killed; routing says who answered what; what a user gets wrong is one line."""
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import check, content_hash, one_line, svfleet

try:
    import numpy as np
except ImportError:
    print("skipped: needs numpy, which scripts/setup installs")
    sys.exit(77)
from experts_file import read_expert, write_expert

USER, REQUEUE = 2, 75
PATTERNS = {"vowels": "^[^A-Z]*([aeiou][^A-Z]*){3}$", "capitals": "^[^aeiou]*([A-Z][^aeiou]*){2}$"}  # not both
DATA = runs.SOURCE / "examples/tasks/max3"
TOKENS = 12


class Toy:
    def __init__(self, folder):
        self.folder = folder
        self.config = runs.write_config(folder, steps=40, tokens=TOKENS)
        self.shots = folder / "shots.jsonl"
        self.shots.write_text("".join((DATA / "train.jsonl").open().readlines()[:6]))
        self.set = folder / "set.yaml"

    def settings(self, name):
        return ["--set", f"task.name={name}", "--set",
                f'task.rewards=[{{kind: regex, pattern: "{PATTERNS[name]}", match_only: true}}]']

    def train(self, name):
        runs.run(self.config, self.folder / name, 1, "--set", "train.learning_rate=0.02", *self.settings(name))
        return self.folder / name / "experts/final.safetensors"

    def run(self, command, *more, name="vowels", ranks=1):
        return svfleet(command, self.config, "--quiet", *self.settings(name), *more, ranks=ranks)

    def good(self, *arguments, **how):
        done = self.run(*arguments, "--json", **how)
        if done.returncode:
            sys.exit(f"FAILED: {arguments}: {done.returncode} {done.stderr}")
        return json.loads(done.stdout)

    def search(self, out, *more, set_file=None, **how):
        return self.good("adapt", "--experts", set_file or self.set, "--strategy", "few_shot", "--shots", self.shots,
                         "--out", out, "--set", "evaluate.items=24", *more, **how)


def random_of_equal_norm(path, out, seed):
    """Each matrix's move replaced by a random one of the same length."""
    z, metadata = read_expert(path)
    random, moved = np.random.default_rng(seed), {}
    for name, one in z.items():
        direction = random.standard_normal(len(one))
        moved[name] = (1 + direction * np.linalg.norm(one - 1) / np.linalg.norm(direction)).astype(np.float32)
    keep = {key: metadata[key] for key in ("model_hash", "store_hash", "tokenizer_hash", "config_hash") if key in metadata}
    return write_expert(out, moved, **keep)


def finds_the_right_one(toy, experts):
    share, score = {}, {}
    for name in PATTERNS:
        found = toy.search(toy.folder / f"mixed-{name}.safetensors", "--budget", "light", name=name)
        search, results = found["adaptation"]["search"], found["results"]
        share[name] = {one["label"]: one["share"] for one in search["experts"]}
        score[name] = search["mixture"]["score"]
        base, mixed = results[0], results[1]
        print(name, share[name], "shots", search["base"]["score"], score[name], "items", base["score"], mixed["score"],
              flush=True)
        other = next(label for label in PATTERNS if label != name)
        check(share[name][name] > share[name][other], f"{name}: the right expert has the larger share")
        check(mixed["score"] > base["score"] + 0.2, f"{name}: the mixture answers items that it did not see")
        check(found["adaptation"]["first_pass"]["tokens_written"] > 0 and search["candidates"] <= 32 and
              found["adaptation"]["second_pass"]["seconds"] > 0, f"{name}: what it cost stands beside it")
        alone = toy.good("evaluate", "--expert", toy.folder / f"mixed-{name}.safetensors", "--set", "evaluate.items=24",
                         name=name)["results"][1]
        check(alone["score"] == mixed["score"] and
              content_hash(toy.folder / f"mixed-{name}.safetensors") == search["z_hash"],
              f"{name}: the saved mixture is an ordinary expert with the same score")
        recipe = json.loads(read_expert(toy.folder / f"mixed-{name}.safetensors")[1]["mixture"])
        check({one["label"]: one["share"] for one in recipe["experts"]} == share[name], f"{name}: and has its recipe")
    fake = toy.folder / "random.yaml"
    fake.write_text("".join(f"- {{file: {random_of_equal_norm(path, toy.folder / f'random-{name}.safetensors', seed)}, "
                            f"label: {name}}}\n" for seed, (name, path) in enumerate(experts.items())))
    for name in PATTERNS:
        found = toy.search(toy.folder / f"random-mixed-{name}.safetensors", "--budget", "light", set_file=fake, name=name)
        reached = found["adaptation"]["search"]["mixture"]["score"]
        check(reached < score[name] - 0.2 and found["results"][1]["score"] < 0.8,
              f"control, {name}: random z of equal norm reach {reached:.2f} of {score[name]:.2f} on the shots")


def same_everywhere(toy):
    """On 1, 2 and 4 ranks, and killed on the way."""
    hashes = []
    sampled = ["--set", "evaluate.temperature=0.7", "--set", "evaluate.batch=7", "--budget", "light"]
    for ranks in (1, 2, 4):
        out = toy.folder / f"ranks-{ranks}.safetensors"
        toy.search(out, *sampled, ranks=ranks)
        hashes.append(content_hash(out))
    check(len(set(hashes)) == 1, f"the mixture of 1, 2 and 4 ranks is the same: {hashes[0]}")
    other = toy.folder / "other-seed.safetensors"
    toy.search(other, *sampled, "--set", "evaluate.seed=9")
    check(content_hash(other) != hashes[0], "control: another seed ends elsewhere")
    out = toy.folder / "killed.safetensors"
    command = runs.MPIRUN + ["-n", "2", runs.SVFLEET, "adapt", toy.config, *toy.settings("vowels"), "--experts",
                             str(toy.set), "--strategy", "few_shot", "--shots", str(toy.shots), "--out", str(out),
                             *sampled, "--set", "evaluate.items=24"]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seen = ""
    while "generation" not in seen and (piece := job.stderr.read(1)):
        seen += piece
    pids = runs.ranks_of(job.pid)
    runs.send(signal.SIGKILL, pids.values())
    job.stderr.read()
    job.wait(timeout=60)
    check(pids and not out.exists(), "killed in its search, it leaves no mixture")
    toy.search(out, *sampled)
    check(content_hash(out) == hashes[0], "started again, it ends at the same one")


def stops(toy):
    job = subprocess.Popen([runs.SVFLEET, "adapt", toy.config, *toy.settings("vowels"), "--experts", str(toy.set),
                            "--strategy", "few_shot", "--shots", str(toy.shots)], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    while not runs.stops_at_pieces(job.pid):
        time.sleep(0.01)
    time.sleep(0.3)
    job.send_signal(signal.SIGTERM)
    out, err = job.communicate(timeout=60)
    last = [line for line in err.splitlines() if line.startswith("svfleet: ")]
    check(job.returncode == REQUEUE and len(last) == 1 and "start again" in last[0] and not out,
          f"a signal ends it: {last}")


def routes(toy, experts):
    """The confusion adds up, whoever is asked; who is nobody's is the base's."""
    answers = [tuple(one[key] for key in ("right", "score", "mean_tokens"))
               for one in toy.good("evaluate", "--experts", toy.set, "--set", "evaluate.items=24")["results"]]
    for by in ("likelihood", "calibrated", "answer"):
        one = toy.folder / f"by-{by}.yaml"
        one.write_text(toy.set.read_text() + f"question: {{by: {by}}}\n")
        found = toy.good("adapt", "--experts", one, "--strategy", "prompt", "--set", "evaluate.items=24")
        routing = found["adaptation"]["routing"]
        check(routing["labels"] == ["vowels", "capitals", "other"] and routing["n"] == 24 and
              sum(routing["confusion"][0]) == 24 and sum(map(sum, routing["confusion"])) == 24 and
              routing["accuracy"] == routing["confusion"][0][0] / 24 and routing["majority"] == 1,
              f"{by}: a confusion matrix of 24 prompts, {routing['confusion'][0]}")
        check(routing["bag_of_words"] == 1, f"{by}: with the bag of words beside it")
    # Nobody is asked: every prompt is "other".
    far = toy.folder / "other.yaml"
    far.write_text(toy.set.read_text() + "question: {by: answer, max_new_tokens: 1, prefill: 'zzz'}\n")
    found = toy.good("adapt", "--experts", far, "--strategy", "prompt", "--set", "evaluate.items=24", "--set",
                     "evaluate.temperature=1")
    if found["adaptation"]["routing"]["confusion"][0][2] == 24:
        base, adapted = found["results"]
        check(base["score"] == adapted["score"] and base["mean_tokens"] == adapted["mean_tokens"] and
              adapted["only_expert"] == adapted["only_base"] == 0, "other gives the base's own replies")
    else:
        check(False, f"a question without an answer is other: {found['adaptation']['routing']}")
    generated = toy.good("generate", "--experts", far, "--adapt", "prompt", "--temperature", "1", "some words")["results"]
    check([one["name"] for one in generated] == ["base", "adapt prompt: other"] and
          generated[0]["reply"] == generated[1]["reply"], "and so does generate --adapt")
    lines = toy.folder / "replies.jsonl"
    toy.good("evaluate", "--experts", far, "--strategy", "prompt", "--set", "evaluate.items=24", "--set",
             "evaluate.temperature=1", "--out", lines)
    replies = [json.loads(line)["replies"] for line in lines.read_text().splitlines()]
    of_experts = [name for name in replies[0] if name.endswith(".safetensors")]
    check(all(one["base"] == one["adapt prompt"] for one in replies), "reply by reply")
    check(len(of_experts) == 2 and all(any(one[name] != one["base"] for one in replies) for name in of_experts),
          "control: the experts' replies are others")
    # A classifier: the same question to an expert.
    one = toy.folder / "classified.yaml"
    one.write_text(toy.set.read_text() + f"classifier: {experts['capitals']}\n")
    done = toy.run("evaluate", "--experts", one, "--strategy", "classifier", "--set", "evaluate.items=24", ranks=2)
    check(done.returncode == 0 and "answered by" in done.stdout and "adapt classifier" in done.stdout,
          "evaluate --strategy classifier has a row and the table of who answered")
    rows = toy.good("evaluate", "--experts", one, "--strategy", "classifier", "--set", "evaluate.items=24")["results"]
    check([tuple(row[key] for key in ("right", "score", "mean_tokens")) for row in rows[:3]] == answers,
          "the rows of base and experts are what they are without it")
    generated = toy.good("generate", "--experts", toy.set, "--adapt", "few_shot", "--shots", toy.shots, "--budget",
                         "light", "some words")["results"]
    check(len(generated) == 2 and "vowels" in generated[1]["name"], f"generate with a mixture: {generated[1]['name']}")


def two_tasks(toy):
    """Each label's prompts in its own row; and the run that trains a classifier of both."""
    words = {"vowels": "Write a word like house, {question}", "capitals": "SHOUT AT {question}"}
    for name, pattern in PATTERNS.items():
        splits = "".join(f"{split}: {DATA / split}.jsonl\n" for split in ("train", "validation", "test"))
        (toy.folder / f"{name}.yaml").write_text(
            f'prompt: "{words[name]}"\nmax_new_tokens: {TOKENS}\ntruncated: score\n{splits}'
            f'rewards: [{{kind: regex, pattern: "{pattern}", match_only: true}}]\n')
    both = ["--set", "task=[" + ",".join(str(toy.folder / f"{name}.yaml") for name in PATTERNS) + "]", "--quiet"]
    done = svfleet("adapt", toy.config, *both, "--experts", toy.set, "--strategy", "prompt", "--json", "--set",
                   "evaluate.items=8")
    routing = json.loads(done.stdout)["adaptation"]["routing"]
    table = routing["confusion"]
    check([sum(row) for row in table] == [8, 8, 0] and routing["majority"] == 0.5 and
          routing["accuracy"] == (table[0][0] + table[1][1]) / 16 and routing["bag_of_words"] == 1,
          f"two tasks: {table}, a bag of words tells them apart")
    seen = json.loads(svfleet("adapt", toy.config, *both, "--experts", toy.set, "--strategy", "prompt", "--json", "--set",
                              "evaluate.items=8", "--set", "evaluate.split=train").stdout)
    check(seen["adaptation"]["routing"]["bag_of_words"] is None, "no bag of words is measured where it learned")
    done = svfleet("config", toy.config, *both[:2], "--classifier", toy.set, "--set", f"run_dir={toy.folder}/classifier",
                   "--set", "train.steps=1")
    made = toy.folder / "classifier.yaml"
    made.write_text(done.stdout)
    check(done.returncode == 0 and "What is it about" in done.stdout and "test.jsonl" not in done.stdout,
          "config --classifier makes a run of the train splits")
    done = svfleet("train", made, "--quiet")
    check(done.returncode == 0 and (toy.folder / "classifier/experts/final.safetensors").exists(),
          f"which train takes: {one_line(done)}")


def wrong(toy):
    def refused(what, says, *arguments, code=USER):
        for ranks in (1, 2):
            done = toy.run(*arguments, ranks=ranks)
            line = one_line(done)
            check(done.returncode == code and all(part in line for part in says), f"{what}: {line or done.stderr}")

    few = ["--strategy", "few_shot", "--shots"]
    refused("no set", ["nothing.yaml"], "adapt", "--experts", "nothing.yaml", "--strategy", "prompt")
    gone = toy.folder / "gone.yaml"
    gone.write_text("- nothing.safetensors\n")
    refused("an expert that is not there", ["nothing.safetensors"], "adapt", "--experts", gone, "--strategy", "prompt")
    z, metadata = read_expert(toy.folder / "vowels/experts/final.safetensors")
    strange = write_expert(toy.folder / "strange.safetensors", {k: v.astype(np.float32) for k, v in z.items()},
                           model_hash="0" * 32)
    bad = toy.folder / "bad.yaml"
    bad.write_text(f"- {strange}\n")
    refused("an expert of another model", ["strange", "was trained on base model", "use the base model"], "adapt",
            "--experts", bad, "--strategy", "prompt")
    refused("no classifier", ["has no classifier"], "adapt", "--experts", toy.set, "--strategy", "classifier")
    refused("no shots", ["give --shots FILE"], "adapt", "--experts", toy.set, "--strategy", "few_shot")
    refused("shots that are not there", ["no-shots.jsonl"], "adapt", "--experts", toy.set, *few, "no-shots.jsonl")
    empty = toy.folder / "empty.jsonl"
    empty.write_text("")
    refused("a file without shots", ["empty.jsonl", "holds no items"], "adapt", "--experts", toy.set, *few, empty)
    goldless = toy.folder / "goldless.jsonl"
    goldless.write_text('{"question": "Which of these is what?"}\n')
    refused("a shot without an answer", ["goldless.jsonl:1: the shot has no answer", "'answer'"], "adapt", "--experts",
            toy.set, *few, goldless)
    seen = toy.folder / "seen.jsonl"
    seen.write_text(toy.shots.read_text() + (DATA / "test.jsonl").open().readline())
    refused("a shot of the test split", ["seen.jsonl:7: this shot also stands in the test split", "test.jsonl:1",
                                         "take shots from the train split"], "adapt", "--experts", toy.set, *few, seen)
    refused("shots of the split that is measured", ["stands in the train split"], "adapt", "--experts", toy.set, *few,
            toy.shots, "--set", "evaluate.split=train")
    refused("an --out that is there", ["is there already"], "adapt", "--experts", toy.set, *few, toy.shots, "--out",
            toy.shots)
    begin = time.monotonic()
    refused("an --out in no folder", ["no-folder"], "adapt", "--experts", toy.set, *few, toy.shots, "--out",
            toy.folder / "no-folder/mixture.safetensors")
    check(time.monotonic() - begin < 20, "before anything is searched")
    long = toy.folder / "long.jsonl"
    long.write_text(json.dumps({"question": "Which?", "answer": "word " * 3000}) + "\n")
    refused("a shot whose answer is too long", ["long.jsonl:1: the prompt and its right answer have", "shorten them"],
            "adapt", "--experts", toy.set, *few, long)
    refused("an expert twice", ["is in", "too; leave out the option"], "evaluate", "--experts", toy.set, "--expert",
            toy.folder / "vowels/experts/final.safetensors")


def main():
    folder = runs.work_folder()
    try:
        toy = Toy(folder)
        experts = {name: toy.train(name) for name in PATTERNS}
        toy.set.write_text("experts:\n" + "".join(
            f"  - {{file: {path.relative_to(folder)}, label: {name}, about: {name}}}\n" for name, path in experts.items()))
        finds_the_right_one(toy, experts)
        same_everywhere(toy)
        stops(toy)
        routes(toy, experts)
        two_tasks(toy)
        wrong(toy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
