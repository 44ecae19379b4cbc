"""What the study says before it runs: baselines of routing, and how small a difference it can find."""
import json
import math
import random
import re
import subprocess
import sys
import unittest
from pathlib import Path

import yaml

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import study_base as base  # noqa: E402
import study_power as power  # noqa: E402
import study_routing as routing  # noqa: E402

STUDY = ROOT / "examples" / "study"
PAGE = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")


def printed(script, *options):
    words = [sys.executable, ROOT / "scripts" / script, *options]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Routing(unittest.TestCase):
    def test_naive_bayes_by_hand(self):
        # Textbook: P(c | "a b") from counts, one added: class x has words a a b, class y has b.
        model = routing.NaiveBayes([("a a", "x"), ("b", "x"), ("b", "y")])
        self.assertAlmostEqual(model.log_probability("a b", "x"), math.log(2 * (3 / 5) * (2 / 5)))
        self.assertAlmostEqual(model.log_probability("a b", "y"), math.log(1 * (1 / 3) * (2 / 3)))
        self.assertEqual(model.label("a b"), "x")
        self.assertEqual(model.label("b b b"), "y")  # 2 (2/5)^3 = 0.128 < (2/3)^3 = 0.296

    def test_accuracy_majority_and_words(self):
        self.assertEqual(routing.accuracy({("x", "x"): 3, ("x", "y"): 1}), 0.75)
        self.assertEqual(routing.majority([("", "x"), ("", "x"), ("", "y")]), 2 / 3)
        self.assertEqual(routing.words("What is 17 + 4?"), ["what", "is", "0", "+", "0", "?"])

    def test_a_label_that_means_nothing_is_not_learned(self):
        coin = random.Random(1)
        shuffled = [(text, coin.choice("xy")) for text, _ in routing.read(routing.made.FOLDER, ["max3"], "train")]
        model = routing.NaiveBayes(shuffled[:1000])
        self.assertLess(routing.accuracy(routing.confusion(model, shuffled[1000:])), 0.6)

    def test_the_page_says_what_the_script_prints(self):
        for line in printed("study_routing.py").splitlines():
            self.assertIn(line, PAGE)


def exact_mcnemar(a, b):
    n = a + b
    return min(1, 2 * sum(math.comb(n, k) for k in range(min(a, b) + 1)) / 2**n)


class Power(unittest.TestCase):
    def test_closed_form(self):
        # (1.959964 + 0.841621) sqrt(0.1 / 1000), and 2.575829 with five tests
        self.assertAlmostEqual(power.smallest(0.1, 1000), 0.028016, 5)
        self.assertAlmostEqual(power.smallest(0.1, 1000, tests=5), 0.034175, 5)
        self.assertAlmostEqual(power.smallest(0.0, 1000, sd=0.03, seeds=9), 2.801585 * 0.01, 6)
        self.assertAlmostEqual(power.design_effect(4, 0.3), 1.9)

    def test_simulated_power_is_what_was_asked_for(self):
        """An exact McNemar test finds that difference in about 80 of 100 drawn tables, half of it less often."""
        coin = random.Random(3)

        def found(difference, disagree=0.2, n=1000, draws=300):
            hits = 0
            for _ in range(draws):
                discordant = sum(coin.random() < disagree for _ in range(n))
                better = sum(coin.random() < (1 + difference / disagree) / 2 for _ in range(discordant))
                hits += exact_mcnemar(better, discordant - better) <= power.ALPHA
            return hits / draws
        smallest = power.smallest(0.2, 1000)
        self.assertAlmostEqual(found(smallest), 0.8, delta=0.08)
        self.assertLess(found(smallest / 2), 0.5)


class Base(unittest.TestCase):
    def test_the_page_has_the_table_of_the_kept_replies(self):
        table = printed("study_base.py", STUDY / "results" / "base_validation.jsonl.gz")
        self.assertIn(table, PAGE)
        for line in table.splitlines()[2:]:
            self.assertTrue(0.1 <= float(line.split("|")[2]) <= 0.8, line)

    def test_kept_replies_are_of_these_items(self):
        kept = base.text_of(STUDY / "results" / "base_validation.jsonl.gz").splitlines()
        self.assertEqual(len(kept), 1800)
        for line in kept:
            record = json.loads(line)
            lines = (STUDY / "tasks" / record["task"] / "validation.jsonl").read_text(encoding="utf-8").splitlines()
            item = json.loads(lines[record["item"]])
            self.assertTrue(record["prompt"].startswith(item["question"]), record)
            self.assertEqual(record["gold"], item["answer"])

    def test_wilson(self):
        for share, n, low, high in [(0.8, 10, 0.4902, 0.9433), (0, 20, 0, 0.1611), (0.5, 100, 0.4038, 0.5962)]:
            self.assertAlmostEqual(base.wilson(share, n)[0], low, delta=1e-4)
            self.assertAlmostEqual(base.wilson(share, n)[1], high, delta=1e-4)

    def test_correlation_of_clusters(self):
        self.assertEqual(base.correlation([[1, 1], [0, 0]]), 1)
        self.assertEqual(base.correlation([[1, 0], [1, 0]]), -1)
        self.assertEqual(base.correlation([[1], [0], [1]]), 0)
        # Shrout and Fleiss 1979, table 2: six subjects, four judges; ICC(1,1) = 0.17
        scores = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
        self.assertAlmostEqual(base.correlation(scores), 0.1657, delta=1e-4)

    def test_correlation_of_drawn_clusters(self):
        """A cluster's items agree with probability 0.3, else they are drawn anew; the control never agrees."""
        coin = random.Random(5)
        for agree in (0.3, 0.0):
            drawn = []
            for size in coin.choices([2, 5, 9], k=3000):
                common = coin.random() < 0.5
                drawn.append([float(common if coin.random() < agree**0.5 else coin.random() < 0.5) for _ in range(size)])
            self.assertAlmostEqual(base.correlation(drawn), agree, delta=0.03)


class Hypotheses(unittest.TestCase):
    def setUp(self):
        self.found = yaml.safe_load((STUDY / "hypotheses.yaml").read_text(encoding="utf-8"))

    def test_one_for_each_unseen_task(self):
        tasks = [h["task"] for h in self.found["primary"]]
        self.assertEqual(tasks, ["max5", "subtraction", "multiplication", "negative_sentiment", "min3"])
        for task in tasks:
            self.assertTrue((STUDY / "tasks" / f"{task}.yaml").exists())
        for h in self.found["primary"]:
            self.assertEqual((h["method"], h["against"]), ("few_shot", "best_single_on_shots"))
        self.assertEqual(len(self.found["seeds"]), 5)

    def test_smallest_differences_are_the_scripts(self):
        given = self.found["smallest_difference"]
        for row in given["table"]:
            effect = power.design_effect(row["items_a_cluster"], row["correlation"])
            for step, tests in (("first_step", len(self.found["primary"])), ("last_step", 1)):
                expected = power.smallest(row["disagree"], self.found["items"], tests, effect, row["sd_over_seeds"], 5)
                self.assertAlmostEqual(row[step], expected, delta=0.0005)
        self.assertEqual([row["task"] for row in given["table"]], [h["task"] for h in self.found["primary"]])
        self.assertEqual((given["alpha"], given["power"]), (power.ALPHA, power.POWER))

    def test_page_has_the_table(self):
        for line in re.findall(r"^\|.*", printed("study_power.py"), re.M):
            self.assertIn(line, PAGE)

    def test_page_has_the_table_of_studies_without_a_difference(self):
        for line in re.findall(r"^\|.*", printed("study_power.py", "--null"), re.M):
            self.assertIn(line, PAGE)


if __name__ == "__main__":
    unittest.main()
