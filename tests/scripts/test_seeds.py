"""scripts/seeds with a stand-in for the program: what it trains, what it concludes."""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Trains by writing a log of three steps; answers with the accuracies of accuracy.json.
SVFLEET = '''#!/usr/bin/env python3
import json, pathlib, sys
command, words = sys.argv[1], sys.argv[2:]
settings = dict(w.split("=", 1) for f, w in zip(words, words[1:]) if f == "--set")
with open("calls", "a") as calls:
    print(command, *sorted(f"{k}={v}" for k, v in settings.items()), file=calls)
if command == "config":
    task = pathlib.Path("task").read_text() if pathlib.Path("task").exists() else "task:\\n  # name\\n  name: a\\n"
    print("model:\\n  # a comment\\n  path: m\\n# where\\nrun_dir: runs/q\\n\\n" + task + "\\ntrain:\\n  # steps\\n  steps: 3\\n"
          "  # seed\\n  seed: " + settings.get("train.seed", "7") + "\\n  # what\\n  core: " + settings.get("train.core", "diagonal")
          + "\\nevaluate:\\n  seed: 99")
elif command == "train":
    run = pathlib.Path(settings["run_dir"])
    run.mkdir(parents=True)
    with open(run / "log.jsonl", "w") as log:
        for step, seconds in ((1, 50), (1, 2), (2, 4), (3, 9)):  # step 1 was done again
            print(json.dumps({"kind": "step", "step": step, "wall_s": seconds}), file=log)
    print(json.dumps({"expert": f"{run}/final", "hash": "h" + run.name, "steps": 3}))
else:
    accuracy = json.loads(pathlib.Path("accuracy.json").read_text())
    names = ["base"]
    for flag, expert in zip(words, words[1:]):
        if flag == "--expert":
            names += [expert, expert + " shuffled", expert + " mirrored"] if "--controls" in words else [expert]
    print(json.dumps({"split": "test", "n": 1000, "results": [
        {"name": n, "right": round(1000 * a), "n": 1000, "accuracy": a, "score": a, "low": a - 0.01, "high": a + 0.01, "ended": 1, "mean_tokens": 9,
         **({} if n == "base" else {"p_value": 1e-9, "only_base": 1, "only_expert": 2})}
        for n in names for a in [accuracy.get(n.replace("runs/q/", ""), 0.25)]]}))
'''


class Seeds(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        (self.folder / "svfleet").write_text(SVFLEET)
        (self.folder / "svfleet").chmod(0o755)

    def seeds(self, accuracy, *more):
        (self.folder / "accuracy.json").write_text(json.dumps(accuracy))
        return subprocess.run([sys.executable, ROOT / "scripts" / "seeds", "q.yaml", "2", *more], cwd=self.folder,
                              env={**os.environ, "SVFLEET": str(self.folder / "svfleet")}, capture_output=True, text=True)

    def test_trains_seeds_and_random_rewards_and_compares(self):
        result = self.seeds({"seed-7/final": 0.9, "seed-8/final": 0.98, "random/final": 0.0}, "--set", "model.dtype=float32")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((self.folder / "calls").read_text().splitlines(), [
            "config model.dtype=float32",
            "config model.dtype=float32 train.seed=9",
            "config model.dtype=float32 task.reward=random",
            "train model.dtype=float32 run_dir=runs/q/seed-7 train.seed=7",
            "train model.dtype=float32 run_dir=runs/q/seed-8 train.seed=8",
            "train model.dtype=float32 run_dir=runs/q/random task.reward=random",
            "evaluate model.dtype=float32", "evaluate model.dtype=float32"])
        found = json.loads((self.folder / "runs/q/seeds.json").read_text())
        self.assertEqual([s["seed"] for s in found["seeds"]], [7, 8])
        self.assertAlmostEqual(found["mean"], 0.94)
        self.assertAlmostEqual(found["sd"], 0.08 / 2**0.5)
        self.assertEqual([found["seeds"][0][key] for key in ("median_step_s", "steps_s")], [4, 15])
        self.assertEqual([c["control"] for c in found["controls"]],
                         ["seed 7 shuffled", "seed 8 shuffled", "seed 7 mirrored", "seed 8 mirrored", "random rewards"])
        self.assertRegex(result.stdout, r"mean of 2 seeds +0\.940  lowest 0\.900, standard deviation 0\.057\n")

    def test_a_control_that_is_as_good_is_told(self):
        for control in ("seed-8/final shuffled", "random/final"):
            with self.subTest(control):
                self.setUp()
                result = self.seeds({"seed-7/final": 0.9, "seed-8/final": 0.98, control: 0.885})
                self.assertEqual(result.returncode, 1)
                self.assertIn("A CONTROL IS NOT CLEARLY BELOW", result.stdout)

    def test_a_mix_gets_random_rewards_in_all_of_its_tasks(self):
        (self.folder / "task").write_text("task:\n  -\n    # name\n    name: a\n  -\n    name: b\n")
        self.assertEqual(self.seeds({"seed-7/final": 0.9, "seed-8/final": 0.98}).returncode, 0)
        calls = (self.folder / "calls").read_text().splitlines()
        self.assertIn("train run_dir=runs/q/random task.0.reward=random task.1.reward=random", calls)

    def test_another_core_is_compared_with_random_rewards_alone(self):
        result = self.seeds({"seed-7/final": 0.9, "seed-8/final": 0.98}, "--set", "train.core=lora")
        self.assertEqual(result.returncode, 0, result.stderr)
        found = json.loads((self.folder / "runs/q/seeds.json").read_text())
        self.assertEqual([c["control"] for c in found["controls"]], ["random rewards"])

    def test_several_experts_are_refused_before_training(self):
        (self.folder / "task").write_text("experts:\n  -\n    name: a\n    task:\n      name: a\n")
        result = self.seeds({})
        self.assertEqual((result.returncode, len(result.stderr.splitlines())), (2, 1), result.stderr)
        self.assertNotIn("train ", (self.folder / "calls").read_text())

    def test_a_failing_run_ends_it_with_its_code(self):
        (self.folder / "svfleet").write_text("#!/bin/bash\nexit 75\n")
        self.assertEqual(self.seeds({}).returncode, 75)


if __name__ == "__main__":
    unittest.main()
