#!/usr/bin/env python3
"""svfleet report on run folders that are made up here: every number that it shows is one of these."""
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom
from html.parser import HTMLParser
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: needs numpy, which scripts/setup installs")
    sys.exit(77)
from experts_file import write_expert, write_raw

SOURCE = Path(__file__).resolve().parents[2]
SVFLEET = os.environ.get("SVFLEET", str(SOURCE / "build" / "svfleet"))
WEIGHT = "model.layers.{}.mlp.{}.weight"


def lines(path, *records):
    path.write_text("".join(json.dumps(one) + "\n" for one in records))


def made_up_run(folder, rate="0.005", steps=4, finish=True, scale=1.0):
    (folder / "experts").mkdir(parents=True)
    (folder / "run.json").write_text('{"format": "svfleet-run", "version": 1, "run_id": "0"}')
    (folder / "effective.yaml").write_text(f"run_dir: {folder}\ntrain:\n  steps: 4\n  learning_rate: {rate}\n"
                                           "svd: {targets: [mlp]}\n")
    records = [dict(kind="event", name="start", step=0, ranks=2)]
    for step in range(1, steps + 1):
        records.append(dict(kind="step", step=step, attempt=1, score=scale * step / 8, accuracy=step / 8, counted=10,
                            mean_tokens=7, wall_s=1.25, kl={"k3": step / 16}, gradient_norm=3))
    records.append(dict(kind="step", step=2, attempt=2, score=scale * 0.3125, accuracy=0.3125, counted=10, mean_tokens=9,
                        wall_s=1.25))
    records.append(dict(kind="evaluation", name="validation", step=steps, attempt=1, score=0.625, accuracy=0.625))
    lines(folder / "log.jsonl", *records, *([dict(kind="event", name="finish", step=steps)] if finish else []))
    z = {WEIGHT.format(layer, kind): np.float32([1.5, 0.5, 1, 1]) if (layer, kind) == (1, "up_proj") else
         np.ones(4, np.float32) for layer in (0, 1) for kind in ("up_proj", "down_proj")}
    write_expert(folder / "experts" / "final.safetensors", z)
    return folder


def made_up_run_of_two(folder):
    """Two experts of one run: `short` ends a step before `long`."""
    for name in ("short", "long"):
        (folder / "experts" / name).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": "svfleet-run", "version": 1, "run_id": "0",
                                                 "experts": ["short", "long"]}))
    (folder / "effective.yaml").write_text(
        f"run_dir: {folder}\ntrain:\n  steps: 3\n  learning_rate: 0.005\n  seed: 1\nexperts:\n"
        "  - {name: short, task: {name: vowels}, train: {steps: 2, learning_rate: 0.02}}\n"
        "  - {name: long, task: {name: digits}, train: {seed: 4}}\n")
    records = [dict(kind="event", name="start", step=0, ranks=2)]
    for step in range(1, 4):
        for name, scale in (("short", 1), ("long", 0.5)):
            if (name, step) != ("short", 3):
                records.append(dict(kind="step", expert=name, step=step, attempt=1, score=scale * step / 8, accuracy=0.5,
                                    counted=10, mean_tokens=7, wall_s=2))
    records += [dict(kind="evaluation", name="validation", expert="long", step=3, attempt=1, score=0.875),
                dict(kind="event", name="finish", expert="short", step=3)]
    lines(folder / "log.jsonl", *records)
    for name, move in (("short", 0.5), ("long", 0.25)):
        write_expert(folder / "experts" / name / "final.safetensors",
                     {WEIGHT.format(0, "up_proj"): np.float32([1 + move, 1, 1, 1])})
    return folder


def reply(right, text):
    return {"right": right, "score": float(right), "ended": True, "tokens": 3, "reply": text}


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "rect", "circle", "path", "polyline"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("rect", "circle", "path", "polyline"):
            assert self.open.pop() == tag, tag


class Report(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def report(self, *runs, code=0, out="page.html"):
        done = subprocess.run([SVFLEET, "report", *map(str, runs), "--out", self.folder / out], capture_output=True, text=True,
                              cwd=self.folder)
        self.assertEqual(done.returncode, code, done.stderr)
        if code:
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            return done.stderr
        self.said = done.stdout
        stem = re.sub(r"\.(html|md)$", "", out)
        return [(self.folder / (stem + ending)).read_text() for ending in (".html", ".md")]

    def test_what_differs_and_curves_and_costs(self):
        a, b = made_up_run(self.folder / "a"), made_up_run(self.folder / "b", rate="0.01", scale=0.5)
        page, table = self.report("a", "b")
        self.assertIn("| train.learning_rate | 0.005 | 0.01 |", table)
        self.assertNotIn("train.steps", table)
        # of step 2 the last attempt counts: 0.3125; tokens (7 * 3 + 9) * 10
        self.assertIn("| score, sampled in training | a | 0.125 | 0.5 | 0.125 | 0.5 |", table)
        self.assertIn("| score, sampled in training | b | 0.0625 | 0.25 | 0.0625 | 0.25 |", table)
        self.assertIn("| KL to the base, nats per reply (k3) | a | 0.0625 | 0.25 | 0.0625 | 0.25 |", table)
        self.assertIn("| a | 4 | 40 | 300 | 5 | 1 | 2 |", table)
        self.assertEqual(page.count("<polyline"), 2 * 5 + 2)  # 6 charts with two runs each
        for svg in re.findall(r"<svg.*?</svg>", page, re.S):
            xml.dom.minidom.parseString(svg)
        tags = Tags(page)
        self.assertEqual((tags.open, tags.links), ([], []))  # whole, and nothing from elsewhere

    def test_experts_of_one_run_stand_beside_each_other(self):
        run = made_up_run_of_two(self.folder / "a")
        (run / "evaluation.json").write_text(json.dumps({"split": "test", "results": [
            {"name": "base", "n": 8, "accuracy": 0.25, "low": 0.1, "high": 0.5}]}))
        made_up_run(self.folder / "b", rate="0.02")
        page, table = self.report("a", "b")
        short, long = "a/experts/short", "a/experts/long"
        # its own settings over those of the run, which stand for those that it has not
        self.assertIn(f"| setting | {short} | {long} | b |", table)
        self.assertIn("| train.learning_rate | 0.02 | 0.005 | 0.02 |", table)
        self.assertIn("| train.seed | 1 | 4 | - |", table)
        self.assertIn("| train.steps | 2 | 3 | 4 |", table)
        self.assertIn("| task.name | vowels | digits | - |", table)
        self.assertNotIn("| experts |", table)
        # its own records: none of the other's
        self.assertIn(f"| score, sampled in training | {short} | 0.125 | 0.25 | 0.125 | 0.25 |", table)
        self.assertIn(f"| score, sampled in training | {long} | 0.0625 | 0.1875 | 0.0625 | 0.1875 |", table)
        self.assertIn(f"| score in validation | {long} | 0.875 | 0.875 | 0.875 | 0.875 |", table)
        self.assertNotIn(f"| score in validation | {short} |", table)
        self.assertIn(f"| {short} | finished | experts/short/final.safetensors |", table)
        self.assertIn(f"| {long} | not finished | experts/long/final.safetensors |", table)
        self.assertIn(f"{long}: not finished: 3 of 3 steps", table)
        self.assertIn(f"| {short} | 2 | 20 | 140 | 4 | 1 | 2 |", table)
        self.assertIn(f"| {long} | 3 | 30 | 210 | 6 | 1 | 2 |", table)
        self.assertIn("the seconds beside each are those of all of them", table)
        self.assertIn(f"| {short} | diagonal | up_proj | 4 | 0.25 | 0.5 | 0 |", table)
        self.assertIn(f"| {long} | diagonal | up_proj | 4 | 0.125 | 0.25 | 0 |", table)
        self.assertIn("<h1>2 runs, 3 experts</h1>", page)
        # what is kept in the folder is of all of it, and told once
        self.assertEqual(table.count("evaluation.json"), 1)
        self.assertIn("| a | evaluation.json | test | base | all | 8 | 0.25 |", table)
        self.assertEqual((Tags(page).open, Tags(page).links), ([], []))
        # Control: a record of one expert changes the other's rows nowhere.
        with open(run / "log.jsonl", "a") as log:
            log.write(json.dumps(dict(kind="step", expert="short", step=2, attempt=2, score=0.75)) + "\n")
        _, other = self.report("a", "b")
        self.assertIn(f"| score, sampled in training | {short} | 0.125 | 0.75 | 0.125 | 0.75 |", other)
        self.assertIn(f"| score, sampled in training | {long} | 0.0625 | 0.1875 | 0.0625 | 0.1875 |", other)
        self.assertNotIn("seconds beside each", self.report("b")[1])

    def test_z_by_layer_and_component(self):
        made_up_run(self.folder / "a")
        page, table = self.report("a")
        # two of eight numbers moved by 0.5: rms 0.25; in layer 1
        self.assertIn("| a | diagonal | up_proj | 8 | 0.25 | 0.5 | 1 |", table)
        self.assertIn("| a | diagonal | down_proj | 8 | 0 | 0 | 0 |", table)
        self.assertNotIn("a, down_proj, darkest", page)  # nothing to see
        heat = re.search(r"a, up_proj, darkest 0\.5.*?</svg>", page, re.S)[0]
        self.assertEqual(re.findall(r'fill-opacity="([\d.]+)"', heat), ["0.000"] * 4 + ["1.000", "1.000", "0.000", "0.000"])

    def test_another_core_has_its_size_only(self):
        run = made_up_run(self.folder / "a")
        one = np.float32([[3, 0], [0, 4]])
        write_raw(run / "experts" / "final.safetensors", {WEIGHT.format(0, "up_proj") + ".A": ("F32", [2, 2], one.tobytes())},
                  {"format": "svfleet-expert", "version": "2", "core": "lora rank 2 alpha 32"})
        page, table = self.report("a")
        self.assertIn("| a | lora rank 2 alpha 32 | up_proj.A | 4 | 2.5 | 4 | 0 |", table)
        self.assertNotIn("darkest", page)

    def test_results_shares_confusion_and_samples(self):
        run = made_up_run(self.folder / "a")
        results = [{"name": "base", "n": 8, "accuracy": 0.25, "low": 0.1, "high": 0.5, "by_task": [{"task": "max3"}]},
                   {"name": "adapt few_shot", "n": 8, "accuracy": 0.75, "low": 0.4, "high": 0.9, "p_value": 0.125}]
        search = {"search": {"base_share": 0.25, "experts": [{"label": "numbers", "share": 0.75}]}}
        routing = {"routing": {"labels": ["numbers", "other"], "confusion": [[5, 1], [0, 2]], "accuracy": 0.875, "majority": 0.75,
                               "bag_of_words": None}}
        (run / "evaluation.json").write_text(json.dumps({"split": "test", "results": results}))
        (run / "adaptation.json").write_text(json.dumps({"split": "test", "results": results, "adaptation": search}))
        (run / "adaptation-2.json").write_text(json.dumps({"split": "test", "results": results, "adaptation": routing}))
        items = [{"task": "max3", "item": i, "prompt": f"which <{i}> | 2", "gold": "7",
                  "replies": {"base": reply(b, f"b{i}"), "x": reply(e, f"e{i}")}}
                 for i, (b, e) in enumerate([(0, 1), (1, 0), (1, 1), (0, 0), (0, 1)])]
        lines(run / "evaluation.jsonl", *items)
        lines(run / "readings.jsonl", {"kind": "reading"}, {"kind": "reading"}, {"kind": "other"})
        page, table = self.report("a")
        self.assertIn("| a | evaluation.json | test | adapt few_shot | all | 8 | 0.75 | 0.4 to 0.9 | 0.125 |", table)
        self.assertIn("| a | adaptation.json | max3 | numbers | 0.75 |", table)
        self.assertIn("| a | adaptation.json | max3 | base | 0.25 |", table)
        self.assertIn("| numbers | 5 | 1 |\n| other | 0 | 2 |", table)
        self.assertIn("2 gained and 1 lost", table)
        self.assertIn("| gained | x | max3 | which &lt;0> \\| 2 | 7 | b0 | e0 |", table)
        self.assertIn("| lost | x | max3 | which &lt;1> \\| 2 | 7 | b1 | e1 |", table)
        self.assertNotIn("e2", table)
        self.assertIn("which &lt;0&gt;", page)
        self.assertIn("read 2 times", table)

    def test_same_runs_same_bytes_and_other_numbers_others(self):
        run = made_up_run(self.folder / "a")
        first = self.report("a")
        self.assertEqual(first, self.report("a", out="again.md"))
        with open(run / "log.jsonl", "a") as log:  # the control
            log.write('{"kind":"step","step":3,"attempt":2,"score":0.9}\n')
        self.assertNotEqual(first[0], self.report("a")[0])

    def test_damage_is_told_and_the_rest_is_shown(self):
        run = made_up_run(self.folder / "a", steps=3, finish=False)
        with open(run / "log.jsonl", "a") as log:
            log.write('[1]\nnonsense\n{"kind":"step","step":4,"attempt":1,"sco')
        data = (run / "experts" / "final.safetensors").read_bytes()
        (run / "experts" / "final.safetensors").write_bytes(data[:-3])
        (run / "evaluation.json").write_text("{")
        (run / "effective.yaml").unlink()
        _, table = self.report("a")
        for words in ("log.jsonl: 2 lines are no record", "not finished: 3 of ? steps", "final.safetensors cannot be read",
                      "effective.yaml is missing", "evaluation.json is no result"):
            self.assertIn(words, table)
            self.assertIn(words, self.said)
        self.assertIn("| score, sampled in training | a | 0.125 | 0.375 |", table)

    def test_a_file_that_is_no_report_stays(self):
        made_up_run(self.folder / "a")
        for mine, out in (("README.md", "README.html"), ("page.html", "page")):
            (self.folder / mine).write_text("# Mine\n")
            self.assertIn(f"{mine}', which is no report", self.report("a", out=out, code=2))
            self.assertEqual((self.folder / mine).read_text(), "# Mine\n")
            self.assertFalse((self.folder / "README.html").exists() or (self.folder / "page.md").exists())
        (self.folder / "README.md").write_text("")  # nothing is lost
        first = self.report("a", out="README.html")
        self.assertEqual(first, self.report("a", out="README.md"))  # an earlier report is written anew

    def test_what_a_user_gets_wrong_is_one_line(self):
        made_up_run(self.folder / "a")
        (self.folder / "empty").mkdir()
        self.assertIn("no run folder", self.report("empty", code=2))
        self.assertIn("no run folder", self.report("a", "nowhere", code=2))
        self.assertIn("twice", self.report("a", "./a", code=2))
        (self.folder / "there.html").mkdir()
        self.assertIn("is a folder", self.report("a", out="there.html", code=2))


if __name__ == "__main__":
    unittest.main()
