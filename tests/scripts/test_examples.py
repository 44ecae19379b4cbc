"""Every YAML file under examples/ is one that the program takes, as far as that needs no weights."""
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SVFLEET = os.environ.get("SVFLEET") or str(ROOT / "build" / "svfleet")
TINY = "model.path=tests/data/models/tiny_llama3"


def svfleet(*words):
    return subprocess.run([SVFLEET, *map(str, words)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})


def files():
    """(run files, task files) below examples/."""
    found = sorted(f.relative_to(ROOT) for f in (ROOT / "examples").rglob("*.yaml")
                   if f.name not in ("hypotheses.yaml", "experts.yaml", "plan.yaml"))
    return [f for f in found if f.parent.name != "tasks"], [f for f in found if f.parent.name == "tasks"]


class Examples(unittest.TestCase):
    def test_run_files(self):
        runs, _ = files()
        self.assertGreater(len(runs), 14)
        for file in runs:
            with self.subTest(file):
                done = svfleet("config", file)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_task_files(self):
        """All in one run file: an error names the file."""
        _, tasks = files()
        self.assertGreater(len(tasks), 14)
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run.yaml"
            listed = "".join(f"  - {{file: {task}, name: t{i}}}\n" for i, task in enumerate(tasks))
            run.write_text(f"model: {{path: m}}\nrun_dir: {folder}/run\ntask:\n{listed}")
            done = svfleet("config", run)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.count("truncated: wrong"), len(tasks))

    def test_the_studys_set_asks_what_its_classifier_learns(self):
        def prompts(*words):
            done = svfleet("config", *words)
            self.assertEqual(done.returncode, 0, done.stderr)
            return {line[line.index("Do not answer"):] for line in done.stdout.splitlines() if "is it about" in line}

        learned = prompts("examples/study/classifier.yaml")
        asked = prompts("examples/study/evaluate.yaml", "--classifier", "examples/study/experts.yaml")
        self.assertEqual(len(learned), 1)
        self.assertEqual(asked, learned)

    def test_control_a_bad_setting_is_refused(self):
        for change in ("train.kl_form=full", "train.samples_per_prompt=0", "train.learning_rat=1"):
            done = svfleet("config", "examples/paper/llama3_8b_gsm8k.yaml", "--set", "train.kl_beta=0", "--set", change)
            self.assertEqual(done.returncode, 2, change)

    def test_the_papers_penalties(self):
        for beta in ("0", "0.3"):
            done = svfleet("config", "examples/paper/mistral_7b_arc_easy.yaml", "--set", f"train.kl_beta={beta}")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, rf"(?m)^  kl_beta: {beta}$")

    def test_the_studys_data_is_read(self):
        """Items, answers that the rewards can read, and no prompt in two splits, by a model of random weights."""
        for split in ("train", "validation"):
            done = svfleet("evaluate", "examples/study/evaluate.yaml", "--set", TINY,
                           "--set", f"evaluate.split={split}", "--set", "evaluate.items=2", "--json", "--quiet")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn('"n":18', done.stdout.replace(" ", ""))
            self.assertNotIn("stand in the", done.stderr)


if __name__ == "__main__":
    unittest.main()
