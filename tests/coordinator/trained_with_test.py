#!/usr/bin/env python3
"""What changes the function of a model or its tokens after a training is noticed by every command that
uses the run or its expert, and what does not is passed over; and no other model is decomposed for an
expert or a run that is refused anyway."""
import json
import shutil
import struct

import runs
from runs import check, one_line, svfleet

USER, DISK = 2, 74


def metadata(path):
    raw = path.read_bytes()
    return json.loads(raw[8:8 + struct.unpack("<Q", raw[:8])[0]])["__metadata__"]


def without(path, keys, to):
    """The same expert without these keys, as an earlier version wrote it."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + size])
    for key in keys:
        del header["__metadata__"][key]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    to.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size:])
    return to


class Edited:
    """A file with other content, and then again as it was."""

    def __init__(self, path, old, new):
        self.path, self.before = path, path.read_text()
        assert old in self.before, old
        self.after = self.before.replace(old, new, 1)

    def __enter__(self):
        self.path.write_text(self.after)

    def __exit__(self, *_):
        self.path.write_text(self.before)


# What, file, old text, new text.
FUNCTION = [
    ("eos_token_id", "generation_config.json", "319", "318"),
    ("rope_theta", "config.json", '"rope_theta": 500000.0', '"rope_theta": 400000.0'),
    ("rms_norm_eps", "config.json", '"rms_norm_eps": 1e-05', '"rms_norm_eps": 1e-03'),
    ("the order of merges", "tokenizer.json", '["o","n"],["Ġ","l"]', '["Ġ","l"],["o","n"]'),
]


def model_files(folder, config, run_dir, model):
    expert = folder / "expert.safetensors"
    shutil.copy(run_dir / "experts/final.safetensors", expert)
    few = ["--quiet", "--set", "evaluate.items=2"]
    alone = ["--set", f"run_dir={folder}/nowhere"]  # no run there: the expert speaks for itself
    ways = {"evaluate RUN": ["evaluate", run_dir, *few],
            "evaluate CONFIG": ["evaluate", config, *few, "--expert", expert],
            "generate RUN": ["generate", run_dir, "hello", "--max-new-tokens", "2"],
            "evaluate, the expert alone": ["evaluate", config, *few, *alone, "--expert", expert],
            "generate, the expert alone": ["generate", config, *alone, "hello", "--max-new-tokens", "2",
                                           "--expert", expert],
            "train from it": ["train", config, "--quiet", "--set", f"run_dir={folder}/child", "--set",
                              f"train.init_from={expert}"]}
    for what, name, old, new in FUNCTION:
        with Edited(model / name, old, new):
            for way, words in ways.items():
                done = svfleet(*words, ranks=2 if way == "evaluate RUN" else 1)
                others = {"config.json", "generation_config.json"} - {name}
                check(done.returncode == USER and f"'{model}/{name}'" in one_line(done) and "put" in one_line(done)
                      and not any(f"{model}/{other}" in one_line(done) for other in others),
                      f"{what} changed, {way}: {one_line(done) or done.stderr[-300:]}")
            done = svfleet("verify", run_dir, "--quiet")
            check(done.returncode == DISK and f"{model}/{name}'" in done.stdout and
                  "is not what the run was trained with" in done.stdout,
                  f"{what} changed, verify: {done.stdout.splitlines()[-1:]}")
        shutil.rmtree(folder / "child", ignore_errors=True)
    # A resume names the file too, and one that was removed or is new.
    on = ["train", config, "--quiet", "--set", "train.steps=3"]
    generation = model / "generation_config.json"
    text = generation.read_text()
    with Edited(generation, "319", "318"):
        resumed = one_line(svfleet(*on))
    generation.unlink()
    removed = one_line(svfleet(*on))
    generation.write_text(text)
    for line in (resumed, removed):
        check(f"another config than before: '{generation}'" in line and f"'{model}/config.json'" not in line,
              f"generation_config.json at a resume: {line}")
    with Edited(model / "config.json", '"rms_norm_eps": 1e-05', '"rms_norm_eps": 1e-03'):
        line = one_line(svfleet(*on))
    check(f"another config than before: '{model}/config.json'" in line and "generation" not in line, line)
    with Edited(model / "tokenizer.json", '{', '{ '):
        line = one_line(svfleet("evaluate", run_dir, *few))
        check(f"'{model}/tokenizer.json' (whose bytes count, blanks too) changed" in line, line)
    with Edited(model / "config.json", '"transformers_version": "4.57.6"', '"transformers_version": "99.0"'):
        for way, words in ways.items():
            check(svfleet(*words).returncode == 0, f"what is not the function is passed over: {way}")
        check(svfleet("verify", run_dir, "--quiet").returncode == 0, "and by verify")
    # A wish: the model as it is now, without the run.
    what, name, old, new = FUNCTION[0]
    with Edited(model / name, old, new):
        check(svfleet("evaluate", config, *few, *alone).returncode == 0, "the changed model by itself")
        older = without(expert, ["config_hash", "tokenizer_hash", "chat_template_hash"],
                        folder / "older.safetensors")
        check(svfleet("evaluate", config, *few, *alone, "--expert", older).returncode == 0,
              "an expert of an earlier version, which does not say what it was trained with")
    check(runs.content_hash(expert) == runs.content_hash(older) == metadata(expert)["z_hash"],
          "an expert's hash is of its z alone")


def chat_template(folder, config, run_dir, model):
    """Another template is another prompt: refused of the run, said of an expert, allowed as a setting."""
    expert = folder / "expert.safetensors"
    few = ["--quiet", "--set", "evaluate.items=2"]
    done = svfleet("evaluate", run_dir, *few, "--set", "model.chat_template=smollm2", "--expert", expert)
    check(done.returncode == 0 and "another chat template" in done.stderr,
          f"another template by a setting is said: {done.stderr[-300:]}")
    smollm2 = (runs.SOURCE / "tests/data/chat_templates/smollm2.jinja").read_text()
    file = model / "tokenizer_config.json"
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), "chat_template": smollm2}))
    for words in (["evaluate", run_dir, *few], ["generate", run_dir, "hello", "--max-new-tokens", "2"]):
        done = svfleet(*words)
        check(done.returncode == USER and f"the chat template in '{file}'" in one_line(done),
              f"another template in the folder, {words[0]}: {one_line(done) or done.stderr[-300:]}")
    done = svfleet("evaluate", run_dir, *few, "--set", f"run_dir={folder}/nowhere", "--expert", expert)
    check(done.returncode == 0 and "another chat template" in done.stderr, "and said of the expert alone")
    file.write_text(before)


def chat_format(folder, config, run_dir, model):
    """Pieces that spell the folder's template out train the same expert, also where svfleet does not know it."""
    turns = {role: f"<|im_start|>{role}\n{{content}}<|im_end|>\n" for role in ("system", "user", "assistant")}
    pieces = [word for piece, text in {**turns, "answer": "<|im_start|>assistant\n"}.items()
              for word in ("--set", f"model.chat_format.{piece}={text}")]
    file = model / "tokenizer_config.json"
    before = file.read_text()
    file.write_text(json.dumps({**json.loads(before), "chat_template": "{{ messages }}"}))
    spelt = folder / "spelt"
    refused = svfleet("train", config, "--quiet", "--set", f"run_dir={spelt}")
    check(refused.returncode == USER and "model.chat_format" in one_line(refused),
          f"an unknown template, with the way out: {one_line(refused)[-200:]}")
    done = svfleet("train", config, "--quiet", "--set", f"run_dir={spelt}", *pieces)
    file.write_text(before)
    final = "experts/final.safetensors"
    check(done.returncode == 0 and runs.content_hash(spelt / final) == runs.content_hash(run_dir / final),
          "a template spelt out piece by piece trains the same expert")
    other = ["--set", "model.chat_format.answer=<|im_start|>assistant\n\n"]
    done = svfleet("train", config, "--quiet", "--set", f"run_dir={folder}/longer", *pieces, *other)
    check(done.returncode == 0 and
          runs.content_hash(folder / "longer" / final) != runs.content_hash(run_dir / final),
          "control: one line more is another expert")
    done = svfleet("train", config, "--quiet", "--set", f"run_dir={spelt}", *pieces, *other)
    check(done.returncode == USER and "chat_format.answer" in one_line(done),
          f"a run keeps its pieces: {one_line(done)[-200:]}")
    done = svfleet("evaluate", run_dir, "--quiet", "--set", "evaluate.items=2", *pieces,
                   "--expert", folder / "expert.safetensors")
    check(done.returncode == 0 and "another chat template" in done.stderr, "and a format is said of an expert")


def items(folder, config, run_dir, tasks):
    few = ["--quiet", "--set", "evaluate.items=2"]
    with Edited(tasks / "train.jsonl", "largest", "greatest"):
        done = svfleet("evaluate", run_dir, *few)
        check(done.returncode == 0 and f"{tasks}/train.jsonl" in done.stderr and
              "not those that the run was trained with" in done.stderr, "evaluate says that items changed")
        done = svfleet("verify", run_dir, "--quiet")
        check(done.returncode == DISK and f"{tasks}/train.jsonl" in done.stdout, "and verify finds it")
    with Edited(tasks / "validation.jsonl", "largest", "greatest"):
        done = svfleet("verify", run_dir, "--quiet")
        check(done.returncode == DISK and f"{tasks}/validation.jsonl" in done.stdout and
              "train.jsonl" not in done.stdout, "also in the validation items")
    done = svfleet("evaluate", run_dir, *few)
    check(done.returncode == 0 and "trained with" not in done.stderr and
          svfleet("verify", run_dir, "--quiet").returncode == 0, "nothing where they are as they were")


def cheap_first(folder, config, run_dir, model):
    """Nothing is decomposed for what is refused, or already done."""
    expert, other, store = folder / "expert.safetensors", folder / "other", folder / "other_store"
    shutil.copytree(runs.SOURCE / "tests/data/models/tiny_qwen2", other)
    there = ["--set", f"model.path={other}", "--set", f"svd.store={store}"]
    ways = {"evaluate": ["evaluate", config, "--quiet", "--set", "evaluate.items=2", "--expert", expert],
            "generate": ["generate", config, "hello", "--expert", expert],
            "train.init_from": ["train", config, "--quiet", "--set", f"run_dir={folder}/new", "--set",
                                f"train.init_from={expert}"],
            "a resume": ["train", config, "--quiet", "--set", "train.steps=9"],
            "a fork": ["train", config, "--quiet", "--fork", run_dir, "--set", f"run_dir={folder}/fork",
                       "--set", "train.steps=9"]}
    for way, words in ways.items():
        done = svfleet(*words, *there)
        check(done.returncode == USER and "base model" in one_line(done) and not list(store.glob("*.h5")),
              f"{way} on another base model: {one_line(done) or done.stderr[-300:]}")
    # An expert of layers that the other model lacks.
    deep = json.loads((other / "config.json").read_text())["num_hidden_layers"]
    raw = expert.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    text = raw[8:8 + size].decode()
    far = folder / "far.safetensors"
    text = text.replace("model.layers.1.", f"model.layers.{deep + 1}.")
    header = json.loads(text)
    del header["__metadata__"]["z_hash"]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    far.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size:])
    done = svfleet("evaluate", config, "--quiet", "--expert", far, *there)
    check(done.returncode == USER and "base model" in one_line(done), f"deeper ones: {one_line(done)}")
    empty = ["--set", f"svd.store={folder}/empty_store"]
    done = svfleet("train", config, "--quiet", *empty)
    check(done.returncode == 0 and "already finished" in done.stdout and
          not list((folder / "empty_store").glob("*.h5")), "a finished run needs no factors")
    done = svfleet("train", config, "--quiet", *empty, "--set", "train.learning_rate=0.5")
    check(done.returncode == USER and "train.learning_rate" in one_line(done) and
          not list((folder / "empty_store").glob("*.h5")), "nor does one whose settings changed")


def main():
    folder = runs.work_folder()
    try:
        model, tasks = folder / "model", folder / "tasks"
        shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
        tasks.mkdir()
        for split in ("train", "validation", "test"):
            text = (runs.SOURCE / f"examples/tasks/max3/{split}.jsonl").read_text()
            (tasks / f"{split}.jsonl").write_text("".join(text.splitlines(True)[:16]))
        text = open(runs.write_config(folder, 2, tokens=12)).read()
        text = text.replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), str(model))
        text = text.replace(str(runs.SOURCE / "examples/tasks/max3"), str(tasks))
        config = folder / "run.yaml"
        config.write_text(text.replace("timeout_s", "  validate_every: 1\n  validation_items: 4\ntimeout_s"))
        run_dir = folder / "run"
        runs.run(str(config), run_dir, 1)
        model_files(folder, config, run_dir, model)
        chat_template(folder, config, run_dir, model)
        chat_format(folder, config, run_dir, model)
        items(folder, config, run_dir, tasks)
        cheap_first(folder, config, run_dir, model)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
