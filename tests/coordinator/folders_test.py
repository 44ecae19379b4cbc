#!/usr/bin/env python3
"""Folders and files of others are never changed; a run is where its folder is; what cannot be
printed or written is an error; an output file is whole or as it was."""
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import runs
from runs import check, flip

USER, DISK, REQUEUE = 2, 74, 75


def svfleet(*arguments, **options):
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run([runs.SVFLEET, *map(str, arguments)], **options)


def says(done, code, *parts):
    lines = [line for line in done.stderr.splitlines() if line.startswith("svfleet: ")]
    line = lines[0] if len(lines) == 1 else f"{len(lines)} lines: {done.stderr}"
    check(done.returncode == code and all(part in line for part in parts),
          f"code {done.returncode}: {line}")


def tree(folder):
    """All there is, with times: what is written again with the same content counts too."""
    return {str(path.relative_to(folder)): (path.lstat().st_mtime_ns, path.lstat().st_ino,
                                            path.read_bytes() if path.is_file() else b"")
            for path in sorted(Path(folder).rglob("*"))}


def small(folder, name, run_dir, steps=2):
    """A configuration with few items and short replies."""
    folder.mkdir(exist_ok=True)
    path = Path(runs.write_config(folder, steps, tokens=6))
    text = path.read_text().replace(f"run_dir: {folder}/run", f"run_dir: {run_dir}")
    text = text.replace(f"store: {folder}/store", f"store: {folder.parent}/store")
    path.unlink()
    (folder / name).write_text(text)
    return folder / name


def foreign_folders(folder):
    """A folder that holds something else is refused before a byte in it changes."""
    for kind, names in {"notes": ["notes.txt"], "a project": ["src/a.py", "log.txt", "x.tmp-1", "b", "c"],
                        "checkpoints of another program": ["checkpoints/checkpoint-500/model.bin"],
                        "data beside the configuration": ["my.yaml", "train.jsonl"]}.items():
        project = folder / "project"
        config = small(project, "my.yaml", project)
        for name in names:
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            if name != "my.yaml":
                (project / name).write_text("mine")
        before = tree(project)
        for ranks in (1, 2):
            launcher = [] if ranks == 1 else runs.MPIRUN + ["-n", "2"]
            done = subprocess.run(launcher + [runs.SVFLEET, "train", str(config), "--quiet"],
                                  capture_output=True, text=True, timeout=120)
            says(done, USER, "holds no run, but '", "choose another run_dir")
        check(tree(project) == before, f"{kind}: nothing was changed")
        shutil.rmtree(project)


def files_of_our_names(folder):
    """A file of one's own under a name that svfleet uses, where no run has begun, is in the way as any
    other: it would be appended to or replaced."""
    for name in ("log.jsonl", "z.jsonl", "rollouts.jsonl", "ledger.jsonl", "svfleet.log", "exit.json",
                 "alive.json", "clean.json", "stop.json", "restarts.json", "last-line", "owner.json",
                 "effective.yaml", "config.yaml", "job.sh", "bin/svfleet", "bin/program.json",
                 "experts/best.safetensors", "experts/mine.safetensors", "checkpoints/step-000001.h5",
                 "checkpoints/weights.h5", "chunks/step-000000-chunk-0000.h5",
                 "chunks/step-000000-rank-0000-0a.journal"):
        project = folder / "named"
        config = small(project, "my.yaml", project)
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("mine, without an end of line")
        before = tree(project)
        says(svfleet("train", config, "--quiet"), USER, f"holds no run, but '{name}'", "choose another run_dir")
        says(svfleet("submit", config, "--dry-run"), USER, f"holds no run, but '{name}'")
        check(tree(project) == before, f"{name}: nothing was changed")
        shutil.rmtree(project)
    project = folder / "named"
    config = small(project, "my.yaml", project)
    (project / "run.json").write_text('{"name": "jogging"}')
    (project / "log.jsonl").write_text("mine")
    before = tree(project)
    says(svfleet("train", config, "--quiet"), USER, "run.json' is not a run's description")
    check(tree(project) == before, "a run.json of something else: nothing was changed")
    shutil.rmtree(project)


def killed_before_it_began(folder):
    """What a start leaves that is killed between its first file and its last before the run."""
    run_dir = folder / "whole"
    config = small(folder / "of killed", "my.yaml", run_dir)
    runs.run(str(config), run_dir, 1)
    expected = runs.content_hash(run_dir)
    dead = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True).stdout.strip()
    owner = json.dumps({"format": "svfleet-owner", "version": 1, "host": os.uname().nodename, "pid": int(dead),
                        "job": "", "restarts": 0, "token": "t", "process_start": 1,
                        "started": "2026-01-02T03:04:05Z"}, indent=1)
    run = (run_dir / "run.json").read_text()
    mark = f"{os.uname().nodename}-{dead}-1-0"
    for what, files in {"an empty folder": {}, "the owner": {"owner.json": owner},
                        "a torn owner": {"owner.json": ""},
                        "its run.json half written": {"owner.json": owner, f"run.json.tmp-{mark}": run[:9]},
                        "run.json": {"owner.json": owner, "run.json": run},
                        "its settings half written": {"owner.json": owner, "run.json": run,
                                                      f"effective.yaml.tmp-{mark}": "x"}}.items():
        left = folder / "left"
        left.mkdir()
        for name, text in files.items():
            (left / name).write_text(text)
        done = svfleet("train", config, "--quiet", "--set", f"run_dir={left}")
        check(done.returncode == 0 and runs.content_hash(left) == expected and
              (left / "effective.yaml").exists() and not list(left.glob("*.tmp-*")),
              f"a start that left {what} can be made again: {done.stderr}")
        shutil.rmtree(left)


def own_configuration(folder):
    """CONFIG in its own run folder, by names that svfleet uses or has used too."""
    for name in ("my.yaml", "config.yaml", "effective.yaml"):
        project = folder / f"exp-{name}"
        config = small(project, name, project)
        text = config.read_text()
        check(svfleet("train", config, "--quiet").returncode == 0 and config.read_text() == text,
              f"{name} in its own run folder is left as it is")
        other = folder / f"moved-{name}"
        project.rename(other)
        before = tree(other)
        done = svfleet("train", other / name, "--quiet")
        if name == "effective.yaml":
            check("already finished" in done.stdout, "and moved, it is still that of its run")
        else:
            says(done, USER, f"{name}:3: run_dir is", str(project), str(other),
                 f"moved or copied: to go on with it give the folder itself, '{other}'")
            check(tree(other) == before, "and nothing was begun")
            text = text.replace(f"run_dir: {project}", f"run_dir: {other}")
            (other / name).write_text(text)
            check("already finished" in svfleet("train", other / name, "--quiet").stdout,
                  "put right, it goes on with it")
        check("already finished" in svfleet("train", other, "--quiet").stdout, "and by its folder")
        check(not project.exists(), "nothing came to be where it was")


def others_in_a_run(folder, config):
    """With run.json: what others keep in the folder stays, also when a killed run is taken over."""
    run_dir = folder / "shared"
    runs.run(config, run_dir, 1)
    theirs = ["train.jsonl", "notes.tmp-1-1-1", "experts/mine.tmp-1-1-1", "run.json.bak", "owner.json.bak"]
    for name in theirs:
        (run_dir / name).write_text("theirs, without an end of line")
    before = {name: seen for name, seen in tree(run_dir).items() if name in theirs}
    job = subprocess.Popen(runs.command(config, run_dir, 1, "--set", "train.steps=100"),
                           stderr=subprocess.DEVNULL)
    while (runs.newest_step(run_dir) or 0) < 4 and job.poll() is None:
        time.sleep(0.01)
    job.send_signal(signal.SIGKILL)
    job.wait()
    (run_dir / "last-line").unlink()  # so that all logs are replaced
    step = runs.newest_step(run_dir)
    runs.run(config, run_dir, 1, "--set", f"train.steps={step + 1}")
    after = tree(run_dir)
    check({name: after.get(name) for name in theirs} == before, "files of others are never touched")


def moved_runs(folder, config):
    run_dir = folder / "run"
    runs.run(config, run_dir, 1)
    check((run_dir / "effective.yaml").exists() and not (run_dir / "config.yaml").exists(),
          "the effective configuration is effective.yaml")
    was = runs.content_hash(run_dir)
    for version in ("this", "the first"):
        copy = folder / f"copy of {version}"
        shutil.copytree(run_dir, copy)
        name = "effective.yaml"
        if version == "the first":  # which called it config.yaml
            name = "config.yaml"
            (copy / "effective.yaml").rename(copy / name)
            run = json.loads((copy / "run.json").read_text())
            (copy / "run.json").write_text(json.dumps({key: run[key] for key in
                                                       ("format", "version", "run_id")}))
        damaged = sorted((copy / "checkpoints").glob("*.h5"))[-1]
        flip(damaged, 3000)
        for word in (copy / name, copy, f"{copy}/"):
            done = svfleet("verify", word, "--quiet")
            check(done.returncode == DISK and str(damaged) in done.stdout,
                  f"verify {word}: the copy's damage is found")
        flip(damaged, 3000)
        check(svfleet("verify", run_dir, "--quiet").returncode == 0, "and not the original's")
        done = svfleet("train", copy / name, "--quiet", "--set", "train.steps=3")
        check(done.returncode == 0 and runs.newest_step(copy) == 3 and
              runs.content_hash(run_dir) == was, f"train {name} goes on in its own folder: {done.stderr}")
        done = svfleet("train", name, "--quiet", "--set", "train.steps=4", cwd=copy)
        check(done.returncode == 0 and runs.newest_step(copy) == 4, "also named from within")
        done = svfleet("train", "--fork", copy, "--set", f"run_dir={folder}/child of {version}",
                       "--set", "train.steps=5", "--quiet")
        check(done.returncode == 0, f"a child of it: {done.stderr}")
        for command in ("config", "decompose", "evaluate", "generate"):
            more = {"config": [], "generate": ["--max-new-tokens", "2", "hello"]}.get(
                command, ["--quiet", "--set", "evaluate.items=2"])
            done = svfleet(command, copy, *more)
            check(done.returncode == 0, f"{command} takes the folder: {done.stderr}")
        check(f'run_dir: "{copy}"' in svfleet("config", copy).stdout, "which is its run_dir")
    new = folder / "elsewhere"
    done = svfleet("train", run_dir / "effective.yaml", "--quiet", "--set", f"run_dir={new}")
    check(done.returncode == 0 and runs.content_hash(new) == was, "with --set run_dir it is a new run")
    says(svfleet("verify", folder), USER, "is a folder and holds no run")


def lost_files(folder, config):
    """A run whose run.json or effective.yaml is gone says so, and what to do."""
    run_dir, lost = folder / "run", folder / "lost"
    shutil.copytree(run_dir, lost)
    (lost / "effective.yaml").unlink()
    says(svfleet("evaluate", lost, "--quiet"), USER, f"{lost}: this run's effective.yaml is missing",
         "put it back from a copy", f"--set run_dir={lost}")
    says(svfleet("train", "--fork", lost, "--set", f"run_dir={folder}/of_lost"), USER,
         f"'{lost}' has no effective.yaml", "put it back from a copy, or give a CONFIG")
    done = svfleet("verify", config, "--quiet", "--set", f"run_dir={lost}")
    check(done.returncode == DISK and f"'{lost}/effective.yaml' is gone" in done.stdout, f"verify: {done.stdout}")
    shutil.copy(run_dir / "effective.yaml", lost)
    (lost / "run.json").unlink()
    says(svfleet("evaluate", lost, "--quiet"), USER, f"{lost}: this run's run.json is missing", "put it back from a copy")
    for words in (["train", config, "--set", f"run_dir={lost}"], ["status", lost],
                  ["submit", config, "--dry-run", "--set", f"run_dir={lost}"]):
        says(svfleet(*words), USER, f"the run in '{lost}' has lost its run.json", "put it back from a copy")
    done = svfleet("verify", config, "--quiet", "--set", f"run_dir={lost}")
    check(done.returncode == DISK and f"'{lost}/run.json' is gone" in done.stdout, f"verify: {done.stdout}")
    # An expert under another name.
    shutil.copy(run_dir / "experts/final.safetensors", lost / "mine")
    check(svfleet("hash", lost / "mine").stdout == svfleet("hash", run_dir / "experts/final.safetensors").stdout != "",
          "hash takes an expert under any name")
    says(svfleet("hash", lost / "log.jsonl"), USER, "cannot hash", "it is none of")
    says(svfleet("status", lost / "log.jsonl"), USER, f"'{lost}/log.jsonl' is a file; give the folder of a run")
    # A run that has just begun.
    shutil.copy(run_dir / "run.json", lost)
    shutil.rmtree(lost / "checkpoints")
    says(svfleet("hash", lost), USER, f"the run in '{lost}' has saved no checkpoint yet", f"svfleet status {lost}")
    (lost / "checkpoints").mkdir()
    says(svfleet("hash", lost), USER, f"the run in '{lost}' has no checkpoint", "start its training")
    shutil.rmtree(lost)


def relative_paths(folder, config):
    """A run whose configuration has relative paths, used from elsewhere: where they lead is said."""
    project = folder / "relative"
    project.mkdir()
    (project / "model").symlink_to(runs.SOURCE / "tests/data/models/tiny_llama3")
    (project / "examples").symlink_to(runs.SOURCE / "examples")
    text = Path(config).read_text().replace(f"{runs.SOURCE}/examples/", "examples/")
    text = text.replace(str(runs.SOURCE / "tests/data/models/tiny_llama3"), "model")
    (project / "my.yaml").write_text(text)
    words = ["--quiet", "--set", "evaluate.items=2"]
    done = svfleet("train", "my.yaml", "--quiet", "--set", "run_dir=runs/a", cwd=project)
    check(done.returncode == 0 and json.loads((project / "runs/a/run.json").read_text())["directory"] ==
          str(project), "the run knows where it was begun: " + done.stderr)
    far = folder / "far away"
    shutil.copytree(project / "runs/a", far)
    for run in (project / "runs/a", far):
        for command in ("evaluate", "train", "verify"):
            says(svfleet(command, run, *words, cwd="/"), USER, f"but in '{project}'",
                 "paths are relative to the working directory; start svfleet there")
        check(svfleet("evaluate", run, *words, cwd=project).returncode == 0, "and there it works")
    says(svfleet("evaluate", "../my.yaml", *words, cwd=project / "runs"), USER, "but in '")
    run_json = far / "run.json"  # of an earlier version
    run_json.write_text(json.dumps({key: value for key, value in json.loads(run_json.read_text()).items()
                                    if key != "directory"}))
    says(svfleet("evaluate", far, *words, cwd="/"), USER, "examples/tasks/max3/test.jsonl")


def changed_settings(folder, config):
    """What differs from the run, and nothing else, with values and names."""
    run_dir = folder / "run"

    def refused_with(*settings):
        words = [word for setting in settings for word in ("--set", setting)]
        return svfleet("train", config, "--quiet", "--set", f"run_dir={run_dir}", *words)

    reward = '[{kind: regex, pattern: "[aeiou].*[aeiou]", match_only: true, weight: 3}]'
    done = refused_with(f"task.rewards={reward}")
    says(done, USER, "task.0.rewards")
    check("data" not in done.stderr.replace("settings or data", ""), "items are as they were")
    items = folder / "items.jsonl"
    lines = (runs.SOURCE / "examples/tasks/max3/train.jsonl").read_text().splitlines(True)
    items.write_text("".join(lines[:-1]))
    done = refused_with(f"task.train={items}")
    says(done, USER, f"data: task 'vowels' has other items than before in '{items}'")
    items.write_text("".join(lines))
    check(refused_with(f"task.train={items}").returncode == 0, "the same items elsewhere are the same")
    model = folder / "another tokenizer"
    shutil.copytree(runs.SOURCE / "tests/data/models/tiny_llama3", model)
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"][-1]["lstrip"] = not tokenizer["added_tokens"][-1]["lstrip"]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    done = refused_with(f"model.path={model}", f"svd.store={folder}/store")
    says(done, USER, f"model: another tokenizer than before: '{model}/tokenizer.json'")
    child = folder / "longer"
    done = svfleet("train", "--fork", f"{run_dir}@1", "--quiet", "--set", f"run_dir={child}", "--set",
                   "train.steps=3", "--set", "train.schedule=cosine")
    changed = json.loads((child / "run.json").read_text())["changed"]
    check(done.returncode == 0 and "settings.train.steps: 3 now, 2 in the parent" in changed and
          len(changed) == 2, f"a child says what it changed: {changed}")
    words = [runs.SVFLEET, "train", str(config), "--quiet", "--set", f"run_dir={run_dir}"]
    copy = runs.copy_program(folder / "another build")
    with open(copy, "ab") as program:
        program.write(b"x")
    done = subprocess.run([copy, *words[1:], "--set", "train.steps=3"], capture_output=True, text=True)
    says(done, USER, "another build of svfleet", "--allow-different-hardware")
    check("--constraint" not in done.stderr, "and no other machine is asked for")


def read_only(folder, config):
    """A finished run on a disk that cannot be written is finished."""
    disk = folder / "disk"
    disk.mkdir()
    if not runs.mount("-t", "tmpfs", "-o", "size=20m", "svfleet-test", str(disk)):
        print("SKIPPED: a finished run on a read-only disk (mounting needs root)", flush=True)
        return
    try:
        shutil.copytree(folder / "run", disk / "run")
        runs.mount("-o", "remount,ro", str(disk))
        done = svfleet("train", config, "--quiet", "--set", f"run_dir={disk}/run")
        check(done.returncode == 0 and "already finished after 2 steps" in done.stdout,
              f"finished on a read-only disk: {done.stdout}{done.stderr}")
        says(svfleet("train", config, "--quiet", "--set", f"run_dir={disk}/run", "--set",
                     "train.steps=3"), USER, "cannot write", "Read-only")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def printing(folder, config):
    """What cannot be printed is an error in every command; a closed output takes no file's place."""
    run_dir, expert = folder / "run", folder / "run/experts/final.safetensors"
    quick = ["--quiet", "--set", "evaluate.items=2"]
    new = [0]

    def another():
        new[0] += 1
        return f"run_dir={folder}/printed{new[0]}"

    commands = {"--help": ["--help"], "--version": ["--version"], "config": ["config", config],
                "reference": ["config", "--reference"], "hash": ["hash", run_dir],
                "status": ["status", run_dir], "status --json": ["status", run_dir, "--json"],
                "decompose": ["decompose", config, "--quiet"],
                "evaluate": ["evaluate", config, *quick],
                "evaluate --json": ["evaluate", config, *quick, "--expert", expert, "--json"],
                "generate": ["generate", config, "--max-new-tokens", "2", "hello"],
                "verify": ["verify", run_dir, "--quiet"],
                "submit": ["submit", "--print-template"],
                "train": ["train", config, "--quiet"], "stop": ["stop", run_dir, "--take-back"]}
    for name, words in commands.items():
        if name == "train":
            words = words + ["--set", another()]
        with open("/dev/full", "w") as full:
            says(svfleet(*words, stdout=full, stderr=subprocess.PIPE, capture_output=False), DISK,
                 "cannot write to standard output", "No space left on device")
        if name == "train":
            words[-1] = another()
        # A pipe whose reader is gone.
        if name == "train":
            words[-1] = another()
        reader, writer = os.pipe()
        os.close(reader)
        says(svfleet(*words, stdout=writer, stderr=subprocess.PIPE, capture_output=False), DISK,
             "cannot write to standard output", "Broken pipe")
        os.close(writer)
        if name == "train":
            words[-1] = another()
        line = " ".join(f"'{word}'" for word in [runs.SVFLEET, *map(str, words)])
        closed = subprocess.run(f"{line} >&-", shell=True, stderr=subprocess.PIPE, text=True, timeout=120)
        check(closed.returncode == DISK, f"{name} with a closed output: {closed.stderr.strip()}")
        if name == "train":
            check(runs.content_hash(folder / f"printed{new[0]}") == runs.content_hash(run_dir) and
                  "finished" not in (folder / f"printed{new[0]}/svfleet.log").read_text(),
                  "what it would have printed is in none of its files")


def output_files(folder, config):
    items = folder / "lines.jsonl"
    question = "Which?\u2028One\u2029or\u0085two, and a half \"quoted\"?"
    items.write_text(json.dumps({"question": question, "answer": "4"}, ensure_ascii=False) + "\n")

    def words(*more):
        return ["evaluate", config, "--quiet", "--set", f"task.test={items}", *more]

    out = folder / "out.jsonl"
    says(svfleet(*words("--out", folder)), USER, "is a folder")
    says(svfleet(*words("--out", folder / "none/out.jsonl")), USER, "its folder does not exist")
    run = folder / "of a run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    for file in (items, Path(config), run / "log.jsonl", run / "checkpoints/step-000001.h5"):
        before = file.read_bytes() if file.exists() else None
        says(svfleet(*words("--out", file)), USER, "choose another")
        check((file.read_bytes() if file.exists() else None) == before, f"{file.name} is as it was")
    for name, text in (("task.yaml", "name: mine\n"), ("store.json", "{\"format\": 1}\n"),
                       ("mine.jsonl", "{\"question\": \"2 + 2?\"}\n")):
        file = folder / f"their {name}"
        file.write_text(text)
        says(svfleet(*words("--out", file)), USER, "holds no results of svfleet evaluate")
        check(file.read_text() == text, f"{file.name} is as it was")
    says(svfleet(*words("--out", "")), USER, "--out: no file is named")
    check(svfleet(*words("--out", out)).returncode == 0, "a new file")
    check(svfleet(*words("--out", out)).returncode == 0, "again in its place")
    lines = out.read_text().splitlines()
    check(len(lines) == 1 and json.loads(lines[0])["prompt"] == question,
          "each item is a line for every reader of lines")
    done = svfleet("generate", config, "--json", "--max-new-tokens", "2", question)
    check(len(done.stdout.splitlines()) == 1 and json.loads(done.stdout)["results"][0]["prompt"] == question,
          "also in --json")
    link = folder / "link"
    link.symlink_to("out.jsonl")
    old = json.dumps({"task": "t", "item": 0, "replies": {}}) + "\n"
    out.write_text(old)
    check(svfleet(*words("--out", link)).returncode == 0 and link.is_symlink() and
          json.loads(out.read_text())["item"] == 0, "a link stays one and its file is written")

    # Stopped before it is done: what was there is there.
    out.write_text(old)
    long = ["evaluate", config, "--quiet", "--out", out, "--set", "evaluate.items=500", "--set",
            "task.max_new_tokens=400"]
    for how, code in ((signal.SIGTERM, REQUEUE), (signal.SIGKILL, -9)):
        job = subprocess.Popen([runs.SVFLEET, *map(str, long)], stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL)
        while job.poll() is None and not runs.stops_at_pieces(job.pid):
            time.sleep(0.01)
        time.sleep(0.2)
        job.send_signal(how)
        check(job.wait() == code and out.read_text() == old, f"old results after {how.name}")
    check(not [name for name in os.listdir(folder) if name.startswith("out.jsonl.")], "nothing beside it")

    done = subprocess.run(f"'{runs.SVFLEET}' " + " ".join(f"'{word}'" for word in
                          map(str, words("--out", "/dev/stdout", "--json"))) + f" > '{folder}/both'",
                          shell=True)
    both = (folder / "both").read_text().splitlines()
    check(done.returncode == 0 and sorted("replies" in json.loads(line) for line in both) ==
          [False, True], "--out /dev/stdout goes where standard output goes")


def other_errors(folder, config):
    says(svfleet("generate", config, "hello", ""), USER, "prompt 2 is empty; write something in it")
    says(svfleet("generate", config, "-", input="\n\n"), USER, "no prompt: the lines of standard input")
    done = svfleet("evaluate", config, "--quiet", "--set", "evaluate.items=1", "--expert",
                   runs.SOURCE / "tests/data/formats/python_bf16.safetensors")
    says(done, USER, "is not an expert")
    run_dir = folder / "typed"
    shutil.copytree(folder / "run", run_dir)
    for text in ('{"run_id": 7}', '{"run_id": ["a"]}', "[]", "7", '{"run_id": "a", "parent": 7}',
                 '{"run_id": "a", "parent": {"run_dir": 7, "step": "x"}}'):
        (run_dir / "run.json").write_text(text)
        says(svfleet("train", config, "--quiet", "--set", f"run_dir={run_dir}"), USER,
             "run.json' is not a run's description", "choose another run_dir")
    store = folder / "other store"
    shutil.copytree(folder / "store", store)
    good = json.loads((store / "store.json").read_text())
    for text, code in (("{", 0), (json.dumps(dict(good, tensor_hashes={})), 0),
                       (json.dumps(dict(good, machines=7)), 0),
                       (json.dumps(dict(good, format=7)), USER), ('{"books": []}', USER),
                       (json.dumps(dict(good, version=3)), USER)):
        (store / "store.json").write_text(text)
        done = svfleet("decompose", config, "--quiet", "--set", f"svd.store={store}")
        check(done.returncode == code, f"store.json is {text[:40]}: {done.returncode} {done.stderr}")
        if code:
            check((store / "store.json").read_text() == text, "and is left as it is")
    (store / "store.json").write_text(json.dumps(dict(good, tensor_hashes={"a": "b"})))
    says(svfleet("verify", config, "--quiet", "--set", f"svd.store={store}", "--set",
                 f"run_dir={folder}/run"), DISK, "store.json' does not say", "svfleet decompose")


def main():
    folder = runs.work_folder()
    try:
        config = small(folder / "settings", "run.yaml", folder / "none")
        text = config.read_text()
        config = folder / "run.yaml"
        config.write_text(text)
        moved_runs(folder, str(config))
        foreign_folders(folder)
        files_of_our_names(folder)
        killed_before_it_began(folder)
        own_configuration(folder)
        others_in_a_run(folder, str(config))
        lost_files(folder, str(config))
        relative_paths(folder, config)
        changed_settings(folder, config)
        read_only(folder, config)
        printing(folder, config)
        output_files(folder, config)
        other_errors(folder, config)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
