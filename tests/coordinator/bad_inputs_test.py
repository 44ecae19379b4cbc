#!/usr/bin/env python3
"""Bad inputs of many kinds: each ends, alone and on several ranks, within seconds with one svfleet
line that says what is wrong, where and what to do, and with the documented exit code; and nothing
that was computed before is lost."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import runs
from runs import flip

USER, DISK = 2, 74
STEPS = 4
LOG_LINE = re.compile(r"^\d\d:\d\d:\d\d ")  # progress and messages, as spdlog writes them
SECONDS = 30  # on a crowded machine; a quiet one needs one or two

kinds = 0
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)
    print(("ok: " if condition else "FAILED: ") + message, flush=True)


def start(arguments, ranks=1):
    launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
    begin = time.time()
    done = subprocess.run(launcher + [runs.SVFLEET, *map(str, arguments)], capture_output=True,
                          text=True, timeout=120)
    done.seconds = time.time() - begin
    return done


def refused(what, arguments, code, says, ranks=(1, 2), passed_over=()):
    """`says`: parts of the one line, in order: what, where, what to do. `passed_over`: parts of the
    messages that may stand above it."""
    global kinds
    kinds += 1
    for n in ranks:
        done = start(arguments, n)
        lines = done.stderr.splitlines()
        ours = [line for line in lines if line.startswith("svfleet: ")]
        line = ours[0] if ours else ""
        problems = [] if len(ours) == 1 else [f"{len(ours)} svfleet lines"]
        if done.returncode != code:
            problems.append(f"exit code {done.returncode}, not {code}")
        at = 0
        for part in says:
            found = line.find(part, at)
            if found < 0:
                problems.append(f"no '{part}' in the line")
            at = max(at, found + len(part))
        for part in passed_over:
            if not any(LOG_LINE.match(other) and part in other for other in lines):
                problems.append(f"no message with '{part}'")
        if any(other not in ours and not LOG_LINE.match(other) for other in lines):
            problems.append("something else beside the line")
        if done.seconds > SECONDS:
            problems.append(f"{done.seconds:.0f} s")
        if problems:
            check(False, f"{what}, {n} ranks: {'; '.join(problems)}:\n{done.stdout}{done.stderr}")
    print(f"ok: {kinds:2} {what}: code {code} after {done.seconds:.1f} s: {line[9:]}", flush=True)


def resume(what, config, run_dir, expected, ranks=2, *more):
    runs.run(config, run_dir, ranks, "--set", f"train.steps={STEPS}", *more)
    check(runs.content_hash(run_dir) == expected, what + ": it goes on to the undisturbed hash")


def edit_safetensors(path, change, source=None):
    """Rewrites the header and data of a file. change(header, data) -> data"""
    raw = (source or path).read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    data = change(header, bytearray(raw[8 + size:]))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))


class Bench:
    """A model, tasks, factors, and a run of which half the steps are done."""

    def __init__(self, folder):
        self.folder = folder
        self.model = folder / "model"
        shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", self.model)
        self.tasks = folder / "tasks"
        self.tasks.mkdir()
        for split in ("train", "validation", "test"):
            text = (runs.SOURCE / f"examples/tasks/max3/{split}.jsonl").read_text()
            (self.tasks / f"{split}.jsonl").write_text("".join(text.splitlines(True)[:16]))
        text = Path(runs.write_config(folder, 2, tokens=12)).read_text()
        text = text.replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), str(self.model))
        text = text.replace(str(runs.SOURCE / "examples/tasks/max3"), str(self.tasks))
        self.config = folder / "run.yaml"
        self.config.write_text(text)
        undisturbed = folder / "undisturbed"
        runs.run(str(self.config), undisturbed, 1, "--set", f"train.steps={STEPS}")
        self.hash_end = runs.content_hash(undisturbed)
        self.run = folder / "half"
        runs.run(str(self.config), self.run, 1)
        self.hash_half = runs.content_hash(self.run)

    def train(self, *more, run=None):
        return ["train", self.config, "--quiet", "--set", f"run_dir={run or self.run}",
                "--set", f"train.steps={STEPS}", *more]

    def other_config(self, name, *replacements):
        text = self.config.read_text()
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new)
        path = self.folder / name
        path.write_text(text)
        return path

    def other_model(self, name):
        path = self.folder / name
        shutil.copytree(self.model, path)
        return path

    def other_run(self, name):
        path = self.folder / name
        shutil.copytree(self.run, path)
        return path

    def unharmed(self, what):
        check(runs.content_hash(self.run) == self.hash_half, f"{what}: the run's hash is unchanged")


def command_line(b):
    refused("unknown command", ["tarin", b.config], USER, ["tarin", "train"], (1, 2, 3))
    refused("no configuration", ["train"], USER, ["CONFIG is required", "--help"])
    refused("wrong --set", b.train("--set", "train.steps"), USER, ["--set", "key=value"])
    refused("--set of an unknown key", b.train("--set", "train.lerning_rate=1"), USER,
            ["lerning_rate", "did you mean 'train.learning_rate'"], (1, 2, 3))


def configuration(b):
    def config(what, says, *replacements):
        path = b.other_config("bad.yaml", *replacements)
        refused(what, ["train", path, "--quiet", "--set", f"run_dir={b.run}"], USER, says)

    refused("missing configuration", ["train", b.folder / "none.yaml"], USER,
            ["none.yaml", "no such file"])
    config("not YAML", ["bad.yaml:", ], ("train:\n", "train: [\n"))
    config("unknown key", ["bad.yaml:", "unknown key 'stepz'", "did you mean"],
           ("  steps: 2", "  stepz: 2"))
    config("wrong type", ["bad.yaml:", "train.steps", "whole number"],
           ("  steps: 2", "  steps: two"))
    config("out of range", ["bad.yaml:", "train.learning_rate"],
           ("learning_rate: 0.01", "learning_rate: -1"))
    config("settings that do not go together",
           ["bad.yaml:", "train.prompts_per_chunk (3) must divide train.prompts_per_step (8)"],
           ("prompts_per_chunk: 1", "prompts_per_chunk: 3"))
    config("unknown reward", ["bad.yaml:", "task.rewards.kind must be one of exact", "regexp"], ("kind: regex", "kind: regexp"))
    config("bad pattern", ["bad.yaml:", "bad regular expression", "missing terminating ]", "'[aeiou'"],
           ('"[aeiou].*[aeiou]"', '"[aeiou"'))
    config("a field in a pattern", ["bad.yaml:", "'is {answer}'", "no field is filled", r"\{answer\}"],
           ('"[aeiou].*[aeiou]"', '"is {answer}"'))
    config("a pattern with backspaces", ["bad.yaml:", "task.rewards.pattern", "U+0008 before '8'",
                                         "single quotes"], ('"[aeiou].*[aeiou]"', r'"\b8\b"'))
    config("a path with a tilde", ["bad.yaml:", "run_dir begins with '~'", "home folder"],
           ("run_dir: ", "run_dir: ~"))
    config("unknown target", ["bad.yaml:", "svd.targets must be one of mlp", "q_prj"], ("targets: [all]", "targets: [q_prj]"))
    config("a layer that the model lacks", ["svd.layers", "7", "0..1"],
           ("targets: [all]", 'targets: [all], layers: "7"'))
    b.unharmed("configuration errors")


def model_folder(b):
    def model(what, says, change, ranks=(1, 2), code=USER, command="train"):
        path = b.other_model("bad_model")
        change(path)
        # Factors of its own: what is tested here is the model's folder.
        arguments = [command, b.config, "--quiet", "--set", f"run_dir={b.folder}/bad_run", "--set",
                     f"model.path={path}", "--set", f"svd.store={b.folder}/bad_store"]
        refused(what, arguments, code, says, ranks)
        shutil.rmtree(path)
        shutil.rmtree(b.folder / "bad_run", ignore_errors=True)
        shutil.rmtree(b.folder / "bad_store", ignore_errors=True)

    def change_config(path, **fields):
        config = json.loads((path / "config.json").read_text())
        config.update(fields)
        (path / "config.json").write_text(json.dumps(config))

    shard = "model-00001-of-00002.safetensors"
    refused("missing model folder", b.train("--set", f"model.path={b.folder}/none"), USER,
            ["/none", "model.path"], (1, 2, 3))
    model("no config.json", ["bad_model", "config.json", "model.path"],
          lambda path: (path / "config.json").unlink())
    model("config.json torn", ["config.json", "not a JSON object"],
          lambda path: (path / "config.json").write_text("{"))
    model("unsupported model_type", ["config.json", "model_type 'gpt_neox'", "llama"],
          lambda path: change_config(path, model_type="gpt_neox"))
    model("unsupported rope", ["config.json", "'ntk'", "llama3"],
          lambda path: change_config(path, rope_scaling={"rope_type": "ntk"}))
    for name, field in (("null", None), ("empty", {}), ("default", {"rope_type": "default"})):
        model(f"incomplete llama3 scaling beside {name} rope_parameters",
              ["config.json", "rope_scaling of type llama3 has no original_max_position_embeddings"],
              lambda path: change_config(path, rope_parameters=field, rope_scaling={
                  "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0}), (1,))
    model("partial rotary", ["config.json", "partial_rotary_factor 0.5 is not supported"],
          lambda path: change_config(path, partial_rotary_factor=0.5))
    model("an end of sequence that no token is", ["config.json", "eos_token_id 128009", "of 320"],
          lambda path: ((path / "generation_config.json").unlink(),
                        change_config(path, eos_token_id=128009)))
    for command in ("train", "decompose"):
        model(f"layers that nothing reads in {command}",
              ["'model.layers.1.", "belongs to layer 1", "num_hidden_layers 1"],
              lambda path: change_config(path, num_hidden_layers=1), command=command)
        model(f"a head of its own under tied embeddings in {command}",
              ["'lm_head.weight' differs", "tie_word_embeddings"],
              lambda path: change_config(path, tie_word_embeddings=True), command=command)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n"
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", shard):
        model(f"a Git LFS pointer as {name}", [f"{name}' is a Git LFS pointer", "git lfs pull"],
              lambda path: (path / name).write_text(pointer), (1,))
    model("tokens of tokenizer_config.json with other ids", ["'<|im_end|>' has another id, 319"],
          lambda path: (path / "tokenizer_config.json").write_text(json.dumps(
              json.loads((path / "tokenizer_config.json").read_text()) |
              {"added_tokens_decoder": {"7": {"content": "<|im_end|>", "special": True}}})))
    model("a template of another model", ["tokenizer_config.json", "not one that svfleet knows",
                                          "chat to false"],
          lambda path: (path / "tokenizer_config.json").write_text(
              '{"chat_template": "{{ messages }}"}'), (1,))
    refused("a name of the Hub", b.train("--set", "model.path=someone/Llama-3.2-1B"), USER,
            ["'someone/Llama-3.2-1B'", "model.path", "hf download someone/Llama-3.2-1B"])
    model("no tokenizer.json", ["tokenizer.json"], lambda path: (path / "tokenizer.json").unlink())
    foreign = runs.SOURCE / "tests/data/tokenizers/llama3/tokenizer.json"
    model("tokenizer.json of another model", ["tokenizer.json has", "vocab_size 320"],
          lambda path: shutil.copy(foreign, path / "tokenizer.json"))
    model("tokenizer of an unknown kind", ["tokenizer.json", "Unigram", "BPE"],
          lambda path: (path / "tokenizer.json").write_text(
              (path / "tokenizer.json").read_text().replace('"BPE"', '"Unigram"')))
    model("truncated safetensors", [shard, "is damaged", "copy or download it again"],
          lambda path: os.truncate(path / shard, 200_000), (1, 2, 3), DISK)
    model("empty safetensors", [shard, "is damaged: it has only 0 bytes"],
          lambda path: os.truncate(path / shard, 0), (1, 2), DISK)
    model("a shard is missing", [shard, "no such file"], lambda path: (path / shard).unlink())
    model("no weights", ["bad_model", "model.safetensors"],
          lambda path: (path / "model.safetensors.index.json").unlink())
    model("wrong shapes", ["model.layers.0.mlp.", "96 x 64", "config.json makes it 128 x 64"],
          lambda path: change_config(path, intermediate_size=128))
    model("a tensor is missing", ["has no tensor 'model.layers.2."],
          lambda path: change_config(path, num_hidden_layers=3))
    model("more layers than there is memory for", ["num_hidden_layers is 100000000", "more than 10000"],
          lambda path: change_config(path, num_hidden_layers=100000000))
    model("a tensor is missing in decompose", ["has no tensor 'model.layers.2."],
          lambda path: change_config(path, num_hidden_layers=3), command="decompose")
    model("wrong shapes in decompose", ["model.layers.", "96", "config.json makes it"],
          lambda path: change_config(path, intermediate_size=128), command="decompose")
    b.unharmed("bad model folders")


def task_files(b):
    def task(what, says, change, ranks=(1, 2)):
        path = b.tasks / "train.jsonl"
        good = path.read_bytes()
        change(path)
        refused(what, b.train(), USER, says, ranks)
        path.write_bytes(good)

    def set_line(number, text):
        def change(path):
            lines = path.read_text().splitlines()
            lines[number - 1] = text
            path.write_text("\n".join(lines) + "\n")
        return change

    task("bad JSONL line", ["train.jsonl:3:", "JSON"], set_line(3, '{"question": "2, 3'), (1, 2, 3))
    task("missing field", ["train.jsonl:5:", "{question}", "the item has:"],
         set_line(5, '{"querstion": "2, 3 or 4?", "answer": "4"}'))
    task("empty task file", ["train.jsonl", "holds no items", "one JSON object per line"],
         lambda path: path.write_text("\n"))
    task("missing task file", ["train.jsonl", "no such file"], lambda path: path.unlink())
    task("empty question", ["train.jsonl:4:", "the prompt is empty"],
         set_line(4, '{"question": "", "answer": "1"}'), (1, 2, 3))
    task("a number that no double holds", ["train.jsonl:4:", "1e400", "in quotes"],
         set_line(4, '{"question": "a", "answer": 1e400}'), (1, 2, 3))
    task("LaTeX in JSON", ["train.jsonl:4:", "U+0008 before 'oxed{x}'", "two backslashes"],
         set_line(4, r'{"question": "Give \boxed{x} and \frac{1}{2} and \times", "answer": "1"}'))
    task("a prompt that is too long", ["train.jsonl:9:", "tokens", "the model's 512"],
         set_line(9, json.dumps({"question": "word " * 600, "answer": "1"})))
    task("a Git LFS pointer", ["train.jsonl' is a Git LFS pointer"],
         lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid a\n"))
    validation = b.tasks / "validation.jsonl"
    good = validation.read_bytes()
    validation.write_text(json.dumps({"question": "word " * 600, "answer": "1"}) + "\n")
    refused("a validation prompt that is too long", b.train("--set", "train.validate_every=1"), USER,
            ["validation.jsonl:1:", "tokens", "the model's 512"])
    refused("the same in evaluate", ["evaluate", b.config, "--set", "evaluate.split=validation"],
            USER, ["validation.jsonl:1:", "tokens", "the model's 512"])
    validation.write_bytes(good)
    for what, prompt, says in (
            ("a prompt in Jinja's braces", "{{ question }}", "write {question} for the field"),
            ("a prompt without a field", "Say something", "the same for all"),
            ("an unknown field", "{querstion}", "did you mean {question}?")):
        refused(what, b.train("--set", f"task.prompt={prompt}"), USER,
                ["train.jsonl", "--set task.prompt", says])
    refused("a stop text round a special token", b.train("--set", 'task.stop=["<|im_end|>!"]'), USER,
            ["'<|im_end|>!' holds the special token '<|im_end|>'", "alone"])
    refused("a stop token that is none", b.train("--set", "task.stop_tokens=<|eot|>"), USER,
            ["there is no token '<|eot|>'", "tokenizer.json"])
    refused("a prompt of generate that is too long",
            ["generate", b.config, "hello", "word " * 600], USER, ["prompt 2:", "the model's 512"])
    refused("a system message of generate that is too long, without turns",
            ["generate", b.config, "--set", "task.chat=False", "--set", "task.system=" + "word " * 600, "hello"], USER,
            ["prompt 1:", "the model's 512"])
    refused("a prompt of generate that is not UTF-8", ["generate", b.config, "hello", os.fsdecode(b"caf\xe9")], USER,
            ["prompt 2 is not valid UTF-8"])
    no_bos = b.other_model("no_bos")
    tokenizer = json.loads((no_bos / "tokenizer.json").read_text())
    tokenizer["post_processor"] = None
    (no_bos / "tokenizer.json").write_text(json.dumps(tokenizer))
    refused("an empty prompt of generate", ["generate", b.config, "--set", "task.chat=False",
                                            "--set", f"model.path={no_bos}", ""],
            USER, ["prompt 1 is empty", "write something in it"])
    shutil.rmtree(no_bos)
    no_test = b.other_config("no_test.yaml", (f"  test: {b.tasks}/test.jsonl\n", ""))
    refused("missing split", ["evaluate", no_test, "--set", "evaluate.split=test"], USER,
            ["task 'vowels' has no test split", "give its JSONL file"])
    for split in ("test", "validation"):  # the items of the others are in order
        path = b.tasks / f"{split}.jsonl"
        good = path.read_bytes()
        set_line(4, '{"question": "' + 900 * "long " + '", "answer": "4"}')(path)
        what = ["evaluate", b.config, "--quiet", "--set", f"evaluate.split={split}"]
        refused(f"too long an item of the {split} split", what, USER,
                [f"{split}.jsonl:4: the prompt has", "tokens", "more than the model's", "shorten it"])
        if split == "validation":
            refused("too long an item to validate", b.train("--set", "train.validate_every=1"), USER,
                    ["validation.jsonl:4: the prompt has", "shorten it"])
        path.write_bytes(good)
    b.unharmed("bad task files")


def run_folders(b):
    (b.folder / "file").write_text("not a folder\n")
    refused("run folder below a file", b.train(run=b.folder / "file/run"), USER,
            ["file", "a file has that name"], (1, 2, 3))
    refused("run folder that cannot be made", b.train(run="/proc/svfleet/run"), USER,
            ["/proc/svfleet"])
    (b.folder / "foreign").mkdir()
    (b.folder / "foreign/run.json").write_text("{}")
    refused("folder of something else", b.train(run=b.folder / "foreign"), USER,
            ["foreign/run.json", "not a run's description", "choose another run_dir"])

    # A live owner: this very process.
    run = b.other_run("owned")
    start_time = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
    owner = {"format": "svfleet-owner", "version": 1, "host": os.uname().nodename,
             "pid": os.getpid(), "job": "", "restarts": 0, "token": "0" * 32,
             "process_start": start_time, "started": "2026-01-01T00:00:00Z"}
    (run / "owner.json").write_text(json.dumps(owner))
    refused("a live owner", b.train(run=run), USER,
            ["owned", f"in use by process {os.getpid()}", "wait for it or stop it"], (1, 2, 3))
    check(json.loads((run / "owner.json").read_text()) == owner, "the owner is still the owner")
    check(runs.content_hash(run) == b.hash_half, "and the run unchanged")
    owner["process_start"] -= 1  # another process had this id
    (run / "owner.json").write_text(json.dumps(owner))
    resume("a dead owner is no hindrance", str(b.config), run, b.hash_end)


def fills_up(arguments, disk, ranks):
    """Others fill the disk after the run has looked at it and begun."""
    log = disk / "run/log.jsonl"
    before = log.stat().st_size
    launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", str(ranks)]
    job = subprocess.Popen(launcher + [runs.SVFLEET, *map(str, arguments)], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    while log.stat().st_size == before and job.poll() is None:
        pass
    with open(disk / "filler", "wb") as out:
        size, step = 0, 1 << 20
        while step >= 4096:
            try:
                os.posix_fallocate(out.fileno(), size, step)
                size += step
            except OSError:
                step //= 2
    _, errors = job.communicate(timeout=120)
    ours = [line for line in errors.splitlines() if line.startswith("svfleet: ")]
    check(job.returncode == DISK and len(ours) == 1 and "disk full writing" in ours[0] and
          "free space and start again" in ours[0], f"run folder that fills up, {ranks} ranks: {ours}")
    (disk / "filler").unlink()


def journal_full(b, ranks):
    """No room for one chunk, which a thread writes behind the back of those who compute."""
    run = b.folder / f"journal_full_{ranks}"
    shutil.copytree(b.run, run)
    (run / "chunks").mkdir(exist_ok=True)
    check(runs.mount("-t", "tmpfs", "-o", "size=4k,mode=777", "svfleet-test", str(run / "chunks")), "mounted")
    try:
        refused("full journal", b.train(run=run), DISK,
                ["disk full writing", f"{run}/chunks/step-", ".journal'", "free space and start again"], (ranks,))
        check(runs.content_hash(run) == b.hash_half, "a full journal: the run is unchanged")
    finally:
        subprocess.run(["umount", str(run / "chunks")], check=True)
    resume("a journal that was full", str(b.config), run, b.hash_end)


def mounted(b):
    """Full and read-only disks: small ones of memory, which only root can mount."""
    disk = b.folder / "disk"
    disk.mkdir()
    if not runs.mount("-t", "tmpfs", "-o", "size=2m,mode=777", "svfleet-test", str(disk)):
        print("SKIPPED: full and read-only run folders (mounting needs root)", flush=True)
        return
    try:
        shutil.copytree(b.run, disk / "run")
        filler = disk / "filler"
        with open(filler, "wb", buffering=0) as out:  # to the last byte
            try:
                while True:
                    out.write(bytes(1024))
            except OSError:
                pass
        refused("full run folder", b.train(run=disk / "run"), DISK,
                ["disk full writing", "free space and start again"], (1, 2, 3))
        check(runs.content_hash(disk / "run") == b.hash_half, "a full disk: the run is unchanged")
        # Room to start, but not for a step's chunks and checkpoints.
        os.truncate(filler, filler.stat().st_size - 64 * 1024)
        refused("run folder that would fill up", b.train(run=disk / "run"), DISK,
                ["the disk of the run folder is too full", "/run'", "free space and start again"])
        check(runs.content_hash(disk / "run") == b.hash_half, "and the run is unchanged")
        filler.unlink()
        resume("a disk that was full", str(b.config), disk / "run", b.hash_end)
        for ranks in (1, 2):
            shutil.rmtree(disk / "run")
            shutil.copytree(b.run, disk / "run")
            fills_up(b.train(run=disk / "run"), disk, ranks)
            resume("a disk that filled up", str(b.config), disk / "run", b.hash_end)
        for ranks in (1, 2):
            journal_full(b, ranks)
        shutil.rmtree(disk / "run")
        shutil.copytree(b.run, disk / "run")
        if runs.mount("-o", "remount,ro", str(disk)):
            refused("read-only run folder", b.train(run=disk / "run"), USER,
                    ["cannot write", "disk/run", "Read-only", "writable"], (1, 2, 3))
            runs.mount("-o", "remount,rw", str(disk))
            resume("a disk that was read-only", str(b.config), disk / "run", b.hash_end)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def factors(b):
    store = b.folder / "store"
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    name = "model.layers.1.mlp.up_proj.weight"
    other = b.other_model("other_model")

    def scale(header, data):
        at = header[name]["data_offsets"][0]
        data[at:at + 4] = struct.pack("<f", 2 * struct.unpack("<f", data[at:at + 4])[0])
        return data

    shard = json.loads((other / "model.safetensors.index.json").read_text())["weight_map"][name]
    edit_safetensors(other / shard, scale)
    refused("factor store of another model", ["decompose", b.config, "--quiet", "--set",
                                               f"model.path={other}"],
            USER, [f"factor '{name}'", "made from another tensor", "svd.store"], (1, 2, 3))
    refused("factors of another type", ["decompose", b.config, "--quiet", "--set",
                                        "svd.storage=bfloat16"],
            USER, ["is stored as float32, not bfloat16", "svd.store"])
    refused("model changed under a run", b.train("--set", f"model.path={other}", "--set",
                                                 f"svd.store={b.folder}/other_store"),
            USER, [f"the base model '{other}' has changed", "restore it"])
    after = {path.name: path.read_bytes() for path in store.iterdir()}
    check(after == before, "the factor store is unchanged")

    # Another store of the same model.
    subset = b.folder / "bf16_store"
    refused("another factor store under a run",
            b.train("--set", f"svd.store={subset}", "--set", "svd.storage=bfloat16"), USER,
            ["settings or data differ", "svd.storage", "undo the change"])

    # A damaged factor is made again, bit by bit.
    flip(store / f"{name}.h5", 5000)
    done = start(["evaluate", b.config, "--quiet", "--set", "evaluate.items=2", "--expert",
                  b.run / "experts/final.safetensors"], 2)
    check(done.returncode == 0 and "decomposing again" in done.stderr and name in done.stderr,
          "a damaged factor is named and made again")
    after = {path.name: path.read_bytes() for path in store.iterdir() if path.suffix == ".h5"}
    check(all(after[key] == before[key] for key in after), "with the same bytes")

    # Nothing more can be read of a file that only looks right: too bad for its tolerance.
    refused("certificates worse than asked for", b.train("--set", "svd.tolerance=1e-30"), USER,
            ["factor '", "predicted error", "svd.tolerance"])
    b.unharmed("bad factor stores")
    return other


def checkpoints(b):
    def newest(run):
        return sorted((run / "checkpoints").iterdir())

    run = b.other_run("damaged")
    flip(newest(run)[-1], 3000)
    done = start(b.train(run=run), 2)
    check(done.returncode == 0 and "step-000002.h5" in done.stderr and "passed over" in done.stderr,
          "a damaged newest checkpoint is named and passed over")
    check(runs.content_hash(run) == b.hash_end, "and the run goes on to the undisturbed hash")

    run = b.other_run("truncated")
    for path in newest(run):
        os.truncate(path, path.stat().st_size // 2)
    before = {path.name: path.read_bytes() for path in newest(run)}
    refused("all checkpoints damaged", b.train(run=run), DISK,
            ["checkpoint", "damaged", "run_dir"], (1, 2, 3), passed_over=["step-000002.h5"])
    check({path.name: path.read_bytes() for path in newest(run)} == before,
          "the damaged checkpoints are left for someone to look at")
    refused("hash of a run without a good checkpoint", ["hash", run], USER, ["no good checkpoint"],
            (1,))

    run = b.other_run("emptied")
    shutil.rmtree(run / "checkpoints")
    refused("checkpoints that were removed", b.train(run=run), DISK, ["checkpoint", "run_dir"])

    refused("changed learning rate", b.train("--set", "train.learning_rate=0.02"), USER,
            ["settings or data differ", "train.learning_rate", "0.02", "0.01", "undo the change",
             "--fork"],
            (1, 2, 3))
    refused("changed seed", b.train("--set", "train.seed=5"), USER, ["train.seed", "undo"])
    with open(b.tasks / "train.jsonl", "a") as out:
        out.write('{"question": "Which is largest: 2, 3 or 4?", "answer": "4"}\n')
    refused("changed data", b.train(), USER, ["settings or data differ", "data", "undo"])
    text = (b.tasks / "train.jsonl").read_text().splitlines(True)[:-1]
    (b.tasks / "train.jsonl").write_text("".join(text))
    b.unharmed("what was refused")


def experts(b, other):
    expert = b.run / "experts/final.safetensors"

    def evaluate(path, *more):
        return ["evaluate", b.config, "--quiet", "--set", "evaluate.items=2", "--expert", path,
                *more]

    refused("missing expert", evaluate(b.folder / "none.safetensors"), USER,
            ["no expert file", "none.safetensors"])
    refused("not an expert", evaluate(b.model / "model-00001-of-00002.safetensors"), USER,
            ["model-00001-of-00002.safetensors' is not an expert"], (1, 2, 3))
    refused("expert of another base model",
            evaluate(expert, "--set", f"model.path={other}", "--set",
                     f"svd.store={b.folder}/other_store"),
            USER, ["final.safetensors", "base model", "trained on"], (1, 2, 3))
    refused("expert of other factors",
            evaluate(expert, "--set", f"svd.store={b.folder}/bf16_store", "--set",
                     "svd.storage=bfloat16"),
            USER, ["final.safetensors", "factor store", "trained on"])
    bad = b.folder / "bad.safetensors"

    def shorten(header, data):
        last = max((key for key in header if key != "__metadata__"),
                   key=lambda key: header[key]["data_offsets"][1])
        begin, end = header[last]["data_offsets"]
        header[last] = {"dtype": "F32", "shape": [(end - begin) // 4 - 1],
                        "data_offsets": [begin, end - 4]}
        del header["__metadata__"]["z_hash"]  # as a program that changes z does
        return data[:-4]

    edit_safetensors(bad, shorten, expert)
    refused("expert of the wrong length", evaluate(bad), USER,
            ["bad.safetensors", "entries, the matrix needs"])
    edit_safetensors(bad, lambda header, data: data[:-4] + b"\x00\x00\xc0\x7f", expert)
    refused("expert with a NaN", evaluate(bad), USER, ["bad.safetensors", "not finite"])
    refused("expert of matrices that are not adapted",
            b.train("--set", "svd.targets=[mlp]", "--set", f"train.init_from={expert}", run=b.folder / "new_run"),
            USER, ["final.safetensors' adapts", "not among svd.targets", "widen them"])
    bad.write_bytes(expert.read_bytes())
    flip(bad, bad.stat().st_size - 4)
    refused("expert with a flipped bit", evaluate(bad), DISK, ["bad.safetensors", "is damaged"],
            (1, 2, 3))
    bad.write_bytes(expert.read_bytes()[:-100])
    refused("truncated expert", evaluate(bad), DISK, ["bad.safetensors", "is damaged"])
    refused("generate with it", ["generate", b.config, "--expert", bad, "hello"], DISK,
            ["bad.safetensors", "is damaged"])
    refused("init_from something else", b.train("--set", f"train.init_from={b.config}",
                                                 run=b.folder / "new_run"), DISK,
            ["run.yaml", "is damaged"])


def endless_turns(b):
    """A template whose end of a turn does not end a reply is said loudly, and only then."""
    model = b.other_model("endless")
    (model / "generation_config.json").write_text('{"eos_token_id": 317}')
    arguments = ["generate", b.config, "--max-new-tokens", "2", "--set", f"model.path={model}", "hi"]
    said = start(arguments).stderr
    check("ends a turn with '<|im_end|>', which does not end a reply" in said and
          "task.stop_tokens: ['<|im_end|>']" in said, f"an endless turn is said: {said}")
    for more in ("task.stop_tokens=<|im_end|>", "task.stop_tokens=319", "task.stop=<|im_end|>",
                 "task.chat=False"):
        done = start(arguments + ["--set", more])
        check(done.returncode == 0 and "ends a turn" not in done.stderr, f"not with {more}")
    done = start(["generate", b.config, "--max-new-tokens", "2", "hi"])
    check(done.returncode == 0 and "ends a turn" not in done.stderr, "nor with the model's own")
    for stop, strange in (("<|eot_id|>", True), ("</s>", True), ("<|im_end|>", False), ("</answer>", False)):
        done = start(["generate", b.config, "--max-new-tokens", "2", "hi", "--set", f"task.stop={stop}"])
        check(done.returncode == 0 and ("looks like a special token" in done.stderr) == strange,
              f"the stop text {stop}, which is {'another' if strange else 'no other'} model's token")
    shutil.rmtree(model)


def damaged_weights(b):
    model = b.other_model("nan")
    name = "lm_head.weight"

    def poison(header, data):
        begin, end = header[name]["data_offsets"]
        data[begin:end] = b"\x00\x00\xc0\x7f" * ((end - begin) // 4)
        return data

    shard = json.loads((model / "model.safetensors.index.json").read_text())["weight_map"][name]
    edit_safetensors(model / shard, poison)
    for command in (["generate", b.config, "--json", "hi"], ["evaluate", b.config, "--quiet"]):
        refused(f"{command[0]} of a model with NaN", command + ["--set", f"model.path={model}"], USER,
                ["the logits of base hold a NaN", "damaged"])
    for temperature in ("1e-40", "1e-320"):
        done = start(["generate", b.config, "--temperature", temperature, "hi"])
        check(done.returncode == 0, f"a temperature of {temperature}")
    shutil.rmtree(model)


def main():
    folder = runs.work_folder()
    try:
        b = Bench(folder)
        command_line(b)
        configuration(b)
        model_folder(b)
        task_files(b)
        run_folders(b)
        mounted(b)
        other = factors(b)
        checkpoints(b)
        experts(b, other)
        endless_turns(b)
        damaged_weights(b)
        b.unharmed("all of them")
        check(kinds >= 20, f"{kinds} kinds of bad input")
        resume("after all of them", str(b.config), b.run, b.hash_end, 3)
        if failures:
            sys.exit(f"{len(failures)} failures: " + "; ".join(f.splitlines()[0] for f in failures))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
