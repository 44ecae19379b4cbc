"""scripts/quickstart with a stand-in for the program: what it calls, what it keeps, what it redoes."""
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import compare  # noqa: E402
from test_plot_run import made_up_run  # noqa: E402

# Writes down how it was called. `train` copies a finished run, `hash` prints a hash of the bytes.
SVFLEET = """#!/bin/bash
echo "$1" >> calls
run=$(sed 's/.*run_dir=\\([^ ]*\\).*/\\1/' <<< "$*")
case $1 in
  train) [ -e $run/log.jsonl ] && echo "already finished" || { mkdir -p $run; cp -r finished/. $run; } ;;
  hash) sha256sum < "$2" ;;
  evaluate)
    case $* in *--expert*) ;; *) exec cat base.json ;; esac
    [ ! -e fail ] || { echo "{"; exit 3; }
    cat answer.json ;;
esac
"""
ANSWER = {
    "split": "test", "n": 1000,
    "results": [
        {"name": "base", "right": 433, "n": 1000, "accuracy": 0.433, "low": 0.4026, "high": 0.4639,
         "score": 0.433, "ended": 0.88, "mean_tokens": 13.25, "by_task": [{"task": "max3"}]},
        {"name": "runs/quickstart/experts/final.safetensors", "right": 978, "n": 1000, "accuracy": 0.978,
         "low": 0.967, "high": 0.9854, "score": 0.978, "ended": 1.0, "mean_tokens": 12.0,
         "by_task": [{"task": "max3"}], "p_value": 1.5e-160, "only_base": 3, "only_expert": 548},
    ],
}

BASE = {"split": "validation", "n": 200, "results": [
    {"name": "base", "right": 80, "n": 200, "accuracy": 0.4, "low": 0.3346, "high": 0.4692, "ended": 0.885,
     "mean_tokens": 13.5}]}


class Quickstart(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.tree = Path(temporary.name)
        for folder in ("scripts", "build", "examples/tasks", "finished"):
            (self.tree / folder).mkdir(parents=True)
        for name in ("quickstart", "plot_run", "plot_run.py", "compare.py"):
            shutil.copy(ROOT / "scripts" / name, self.tree / "scripts")
        (self.tree / ".venv").symlink_to(ROOT / ".venv")
        for name, text in (("build/svfleet", SVFLEET), ("scripts/setup", "#!/bin/bash\n"),
                           ("scripts/fetch_model", "#!/bin/bash\n")):
            (self.tree / name).write_text(text)
            (self.tree / name).chmod(0o755)
        (self.tree / "examples" / "quickstart.yaml").write_text("train:\n  steps: 48\n")
        (self.tree / "examples" / "tasks" / "max3").mkdir()
        (self.tree / "examples" / "tasks" / "max3.yaml").write_text("name: max3\n")
        for split in ("train", "validation", "test"):
            (self.tree / "examples" / "tasks" / "max3" / f"{split}.jsonl").write_text("{}\n")
        (self.tree / "base.json").write_text(json.dumps(BASE))
        (self.tree / "answer.json").write_text(json.dumps(ANSWER))
        made_up_run(self.tree / "finished")
        self.run_folder = self.tree / "runs" / "quickstart"

    def quickstart(self):
        (self.tree / "calls").write_text("")
        result = subprocess.run([self.tree / "scripts" / "quickstart"], capture_output=True, text=True)
        return result, (self.tree / "calls").read_text().split()

    def files(self):
        return {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in self.run_folder.rglob("*") if p.is_file()}

    def test_goes_all_the_way_and_then_changes_nothing(self):
        result, calls = self.quickstart()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(calls, ["decompose", "evaluate", "train", "hash", "evaluate"])
        before_training, after = result.stdout.split("== 5/7 train")
        self.assertRegex(before_training, r"200 items of the validation split\n.*\n"
                                          r"base +80/200 +0\.400 +0\.335 to 0\.469 +- +88\.5% +13\.5\n")
        self.assertRegex(after, r"base +433/1000 +0\.433 +0\.403 to 0\.464 +0\.433 +88\.0% +13\.2\n"
                                r"quickstart/final +978/1000 +0\.978 +0\.967 to 0\.985 +0\.978 +100\.0% +12\.0"
                                r" +548 : 3 +1\.5e-160\n")
        for picture in ("curves.png", "z.png"):
            self.assertTrue((self.run_folder / picture).exists())
            self.assertIn(f"runs/quickstart/{picture}", result.stdout.split("== done")[1])
        before = self.files()
        again, calls = self.quickstart()
        self.assertEqual(calls, ["decompose", "train", "hash"])
        self.assertEqual(before, self.files())
        self.assertEqual(again.stdout.split("== done")[1].split("\n", 1)[1],
                         result.stdout.split("== done")[1].split("\n", 1)[1])

    def test_another_expert_is_evaluated_anew(self):
        self.quickstart()
        expert = self.run_folder / "experts" / "final.safetensors"
        data = bytearray(expert.read_bytes())
        data[-1] ^= 1
        expert.write_bytes(data)
        _, calls = self.quickstart()
        self.assertIn("evaluate", calls)

    def test_changed_data_are_evaluated_anew(self):
        self.quickstart()
        with open(self.tree / "examples" / "tasks" / "max3" / "test.jsonl", "a") as items:
            items.write("{}\n")
        _, calls = self.quickstart()
        self.assertEqual(calls.count("evaluate"), 2)

    def test_an_evaluation_that_fails_is_not_kept(self):
        (self.tree / "fail").touch()
        result, _ = self.quickstart()
        self.assertEqual(result.returncode, 3)
        self.assertFalse((self.run_folder / "evaluation.json").exists())
        (self.tree / "fail").unlink()
        result, calls = self.quickstart()
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("evaluate", calls)


class Compare(unittest.TestCase):
    def test_names(self):
        for name, expected in (("base", "base"), ("runs/a/experts/best.safetensors", "a/best"),
                               ("runs/a/experts/best.safetensors shuffled", "a/best shuffled"),
                               ("/x/mine.safetensors mirrored", "mine mirrored"),
                               ("experts/best.safetensors", "best")):
            self.assertEqual(compare.short(name), expected)

    def test_columns_hold_whatever_the_names(self):
        long = "runs/" + 30 * "n" + "/experts/final.safetensors"
        tasks = [{**ANSWER["results"][0], "task": task} for task in ("max3", "first_letter")]
        answer = {**ANSWER, "results": [{**ANSWER["results"][0], "by_task": tasks},
                                        {**ANSWER["results"][1], "name": long, "p_value": 0.5}]}
        lines = compare.table(answer).split("\n")
        self.assertEqual(lines[0], "1000 items of the test split")
        for header, cell in (("accuracy", "0.433"), ("95 % interval", "0.403 to 0.464"), ("tokens", "13.2")):
            for line in lines[2:5]:
                self.assertEqual(line.index(cell) + len(cell), lines[1].index(header) + len(header), line)
        self.assertEqual([line.split()[0] for line in lines[2:]], ["base", "max3", "first_letter", 30 * "n" + "/final"])
        self.assertTrue(lines[-1].endswith("0.5  not distinguishable from base"))

    def test_equal_names_are_written_out(self):
        results = [{**ANSWER["results"][1], "name": f"{run}/x/experts/final.safetensors"} for run in "ab"]
        table = compare.table({**ANSWER, "results": results})
        self.assertIn("\na/x/experts/final.safetensors ", table)


if __name__ == "__main__":
    unittest.main()
