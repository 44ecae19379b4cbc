"""scripts/study: every kind of block on a toy, stopped and gone on; its tests and tables against known answers."""
import fcntl
import gzip
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from xml.etree import ElementTree

import numpy as np

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from studying import claims, files, inference, searches, tables  # noqa: E402
from studying.blocks import BLOCKS  # noqa: E402
from studying.plan import read  # noqa: E402

ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def study(*words):
    return subprocess.run([ROOT / "scripts" / "study", *map(str, words)], capture_output=True, text=True, env=ENVIRONMENT)


class Inference(unittest.TestCase):
    def test_sign_flips_are_those_of_all_signs(self):
        """Five clusters have 32 sign patterns; p is the share of those that reach the sum, counted here one by one."""
        differences = [[1, 1, 0, 1, -1, 1, 1], [1, 0, 0, 1, -1, 1, 1]]
        sums, counts = inference.sums_by_cluster(differences, list("aabcdee"))
        np.testing.assert_array_equal(counts, [2, 1, 1, 1, 2])
        means = sums.mean(axis=0)
        signs = itertools.product([-1, 1], repeat=5)
        exact = np.mean([abs(np.dot(s, means)) >= abs(means.sum()) - 1e-9 for s in signs])
        self.assertAlmostEqual(inference.flip_p(sums, 20000), exact, delta=0.01)

    def test_no_difference_and_a_large_one(self):
        coin = np.random.default_rng(0)
        null = [inference.flip_p(inference.sums_by_cluster([coin.choice([-1, 0, 1], 60)], range(60))[0], 200) for _ in range(150)]
        self.assertLess(abs(np.mean(np.array(null) < 0.05) - 0.05), 0.05)  # 150 draws: +- 0.036
        self.assertLess(inference.flip_p(np.ones((3, 20)), 5000), 0.001)
        self.assertEqual(inference.flip_p(np.zeros((3, 20)), 50), 1.0)

    def test_clusters_count_once(self):
        """The control: 16 equal items of each of 8 clusters look certain when they are taken for 128 clusters."""
        values = np.repeat([1, 1, 1, 1, 1, -1, 1, -1], 16)
        right, _ = inference.sums_by_cluster([values], np.repeat(range(8), 16))
        wrong, _ = inference.sums_by_cluster([values], range(128))
        self.assertGreater(inference.flip_p(right, 4000), 0.1)
        self.assertLess(inference.flip_p(wrong, 4000), 0.001)

    def test_bootstrap_covers(self):
        """A 95 % interval over seeds and clusters holds the truth about that often; over items alone it would not."""
        coin, held = np.random.default_rng(1), 0
        for _ in range(100):
            by_cluster = coin.normal(0.1, 0.3, (1, 40)) + coin.normal(0, 0.1, (5, 1))
            low, high = inference.bootstrap_interval(by_cluster, np.ones(40, int), 200)
            held += low <= 0.1 <= high
        self.assertGreaterEqual(held, 86)

    def test_holm_by_hand(self):
        np.testing.assert_allclose(inference.holm([0.01, 0.04, 0.03, 0.5]), [0.04, 0.09, 0.09, 0.5])
        self.assertEqual(inference.holm([0.9, 0.8]), [1.0, 1.0])

    def test_verdicts(self):
        self.assertEqual(inference.verdict(0.1, 0.02, 0.2, 0.01), "better")
        self.assertEqual(inference.verdict(-0.1, -0.2, -0.02, 0.01), "worse")
        self.assertEqual(inference.verdict(0.1, 0.02, 0.2, 0.06), "not distinguishable")
        self.assertEqual(inference.verdict(0.1, -0.02, 0.2, 0.01), "not distinguishable")


class Files(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.z = {"a": np.array([1.5, 1.0, 0.5]), "b": np.array([1.0, 1.25])}
        files.write_z(self.folder / "e", self.z, {"model_hash": "m"})

    def test_random_pools_have_the_norm_of_each_matrix_and_are_new_for_each_seed(self):
        drawn = []
        for seed in (0, 1, 0):
            files.write_random(self.folder / "r", self.folder / "e", "pool", seed)
            z, metadata = files.read_z(self.folder / "r")
            self.assertEqual(metadata["model_hash"], "m")
            for name, one in z.items():
                self.assertAlmostEqual(np.linalg.norm(one - 1), np.linalg.norm(self.z[name] - 1), places=5)
            drawn.append(z["a"])
        np.testing.assert_array_equal(drawn[0], drawn[2])
        self.assertGreater(np.abs(drawn[0] - drawn[1]).max(), 0.01)

    def test_uniform_mixture(self):
        files.write_z(self.folder / "f", {"a": np.array([1.0, 2.0, 1.0]), "b": np.array([1.0, 1.0])}, {})
        files.write_uniform(self.folder / "u", [self.folder / "e", self.folder / "f"])
        np.testing.assert_allclose(files.read_z(self.folder / "u")[0]["a"], [1.25, 1.5, 0.75])

    def test_normals(self):
        drawn = files.normals(100001, "x")
        self.assertAlmostEqual(drawn.mean(), 0, delta=0.015)
        self.assertAlmostEqual(drawn.std(), 1, delta=0.015)
        self.assertAlmostEqual((drawn**4).mean(), 3, delta=0.15)

    def test_bfloat16_is_rounded_to_nearest_even(self):
        values = np.float32([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -3.14159])
        np.testing.assert_array_equal(files.as_numbers("BF16", files.as_bytes("BF16", values)),
                                      np.float32([1.0, 1.0, 1 + 2**-6, -3.140625]))

    def test_a_noisy_copy_has_the_noise_asked_for(self):
        model = ROOT / "tests/data/models/tiny_llama3"
        files.write_noisy_model(self.folder / "copy", model, 0.01)
        for file in model.glob("*.safetensors"):
            before, after = files.read_tensors(file)[1], files.read_tensors(self.folder / "copy" / file.name)[1]
            for name, (dtype, shape, data) in before.items():
                w, moved = files.as_numbers(dtype, data), files.as_numbers(dtype, after[name][2])
                if ".layers." in name and len(shape) == 2:
                    self.assertAlmostEqual(np.linalg.norm(moved - w) / np.linalg.norm(w), 0.01, delta=0.002)
                else:
                    np.testing.assert_array_equal(w, moved)

    def test_change_of_the_weights(self):
        """|sum of sigma (z - 1) u v| by sigma alone, against the matrices themselves in float64."""
        model = ROOT / "tests/data/models/tiny_llama3"
        weights = {name: one for file in model.glob("*.safetensors") for name, one in files.read_tensors(file)[1].items()}
        name = sorted(n for n in weights if n.endswith("up_proj.weight"))[0]
        w = files.as_numbers(weights[name][0], weights[name][2]).reshape(weights[name][1]).astype(np.float64)
        u, s, v = np.linalg.svd(w, full_matrices=False)
        z = 1 + 0.1 * np.random.default_rng(0).standard_normal(len(s)).astype(np.float32)
        files.write_z(self.folder / "one", {name: z}, {})
        expected = np.linalg.norm((u * (s * (z - 1))) @ v) / np.linalg.norm(w)
        self.assertAlmostEqual(files.change_of(self.folder / "one", model), expected, places=5)


class Tables(unittest.TestCase):
    """Made-up results with a known answer."""

    def results(self, folder, gain):
        (folder / "sealed").mkdir(parents=True)
        plan, coin = read(ROOT / "examples/study/hypotheses.yaml"), random.Random(5)
        for one in plan["primary"]:
            rows = []
            for item in range(120):
                right = {f"numbers {seed}": coin.random() < 0.4 for seed in plan["seeds"]}
                search = {f"few_shot {seed}": right[f"numbers {seed}"] or coin.random() < gain for seed in plan["seeds"]}
                replies = {name: {"right": value} for name, value in {**right, **search, "base": False}.items()}
                rows.append({"task": one["task"], "item": item, "cluster": str(item // 2), "replies": replies})
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "sealed" / f"primary-{one['task']}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
        chosen = {"best_single_on_shots": {str(seed): "numbers" for seed in plan["seeds"]}}
        (folder / "sealed.json").write_text(json.dumps({
            "choices": {one["task"]: chosen for one in plan["primary"]}, "opened": "then", "hypotheses": "h" * 64,
            "committed": "c" * 40, "experts": {}}))

    def page(self, gain):
        with tempfile.TemporaryDirectory() as folder:
            self.results(Path(folder) / "results", gain)
            target = Path(folder) / "page.md"
            target.write_text(f"before\n\n{tables.BEGIN}\nof earlier\n{tables.END}\nafter\n")
            plan = {**read(ROOT / "examples/study/hypotheses.yaml"), "flips": 2000, "resamples": 200}
            tables.write(Path(folder) / "results", target, plan)
            first = target.read_text()
            tables.write(Path(folder) / "results", target, plan)
            self.assertEqual(first, target.read_text())
            self.assertTrue(first.startswith("before\n") and first.endswith("after\n") and "of earlier" not in first)
            self.assertIn("(page-differences.svg)", first)
            self.picture = (target.parent / "page-differences.svg").read_text()
            return first

    def test_a_gain_is_found_and_none_is_not(self):
        page = self.page(0.3)
        self.assertEqual(page.count("**better**"), 5)
        self.assertIn("Of 5 unseen tasks the few-shot search is better than the best single expert on 5, worse on 0", page)
        right_of_zero = self.points_right_of_zero()
        self.assertEqual(right_of_zero, [True] * 5)
        self.assertEqual(self.page(0.0).count("**not distinguishable**"), 5)  # the control
        self.assertEqual(self.points_right_of_zero(), [False] * 5)

    def points_right_of_zero(self):
        """Of each point of the picture, whether it and its whole interval lie there."""
        picture = ElementTree.fromstring(self.picture)
        of = lambda kind: picture.findall("{http://www.w3.org/2000/svg}" + kind)
        zero = next(float(one.get("x")) for one in of("text") if one.text == "0")
        level = [one for one in of("line") if one.get("y1") == one.get("y2")]
        self.assertEqual(len(level), len(of("circle")))
        return [float(point.get("cx")) > zero and float(bar.get("x1")) > zero for point, bar in zip(of("circle"), level)]


class Claims(unittest.TestCase):
    def answers(self, share, seed, items=200):
        coin = random.Random(seed)
        return {("task", item): (float(coin.random() < share), str(item // 4)) for item in range(items)}

    def test_a_contrast_is_found_and_none_is_not(self):
        gain = claims.contrast([(self.answers(0.8, s), self.answers(0.4, s + 10)) for s in range(5)], 2000)
        self.assertAlmostEqual(gain[0], 0.4, delta=0.08)
        self.assertGreater(gain[1], 0)
        none = claims.contrast([(self.answers(0.6, s), self.answers(0.6, s + 10)) for s in range(5)], 2000)
        self.assertTrue(none[1] < 0 < none[2])
        same = claims.contrast([(self.answers(0.6, s),) * 2 for s in range(5)], 2000)
        self.assertEqual(same, (0, 0, 0))

    def test_only_what_both_answered_counts(self):
        first, second = self.answers(1, 0, 100), self.answers(0, 0, 20)
        self.assertEqual(claims.contrast([(first, second)], 50)[0], 1)
        self.assertIsNone(claims.contrast([(first, {})], 50))
        self.assertIsNone(claims.contrast([], 50))

    def test_what_is_said_of_it(self):
        up, down, open_ = (0.2, 0.1, 0.3), (-0.2, -0.3, -0.1), (0.05, -0.1, 0.2)
        self.assertEqual(claims.decide([up, up, open_]), "holds")
        self.assertEqual(claims.decide([up, open_, open_]), "holds on 1 of 3")
        self.assertEqual(claims.decide([up, up, down]), "holds on 2, the opposite on 1 of 3")
        self.assertEqual(claims.decide([down, down, open_]), "does not hold")
        self.assertEqual(claims.decide([open_]), "cannot be told from noise")
        self.assertEqual(claims.decide([down, open_, open_]), "the opposite on 1 of 3")
        rows = [["A", "", "", "**holds**"], ["B", "", "", "**holds on 1, the opposite on 1 of 3**"], ["C", "", "", "**the opposite on 1 of 3**"]]
        self.assertEqual(claims.summary(rows), ["- **Hold**: A.", "- **Hold on some tasks**: B (on 1, the opposite on 1 of 3).",
                                                "- **Do not hold**: C (the opposite on 1 of 3)."])


class Page(unittest.TestCase):
    def test_it_is_made_of_what_is_kept(self):
        page = ROOT / "docs" / "study.md"
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / page.name
            copy.write_text(page.read_text())
            self.assertEqual(tables.write(ROOT / "examples/study/results", copy), 0)
            self.assertEqual(copy.read_text(), page.read_text())
            for picture in Path(folder).glob("*.svg"):
                self.assertEqual(picture.read_text(), (page.parent / picture.name).read_text())


class Rules(unittest.TestCase):
    """What a search on the shots leads to."""

    def chosen(self, experts):
        found = {"search": {"experts": [{"label": label, "share": share, "alone": {"score": score, "log_likelihood": more}}
                                        for label, share, score, more in experts]}}
        lab = SimpleNamespace(dry=False)
        with mock.patch.object(searches, "few_shot", lambda *_: (found, "")):
            return searches.best_on_shots(lab, "max5", 0), searches.largest_share(lab, "max5", 0)

    def test_best_single_and_hard_top_1(self):
        self.assertEqual(self.chosen([("a", 0.2, 0.5, -3), ("b", 0.7, 0.1, -1), ("c", 0, 0.5, -2)]), ("c", "b"))
        self.assertEqual(self.chosen([("a", 0, 0.5, -3), ("b", 0, 0.6, -1)]), ("b", "base"))  # the search found the base
        self.assertEqual(self.chosen([("a", 0.5, 0.5, -3), ("b", 0.5, 0.6, -1)]), ("b", "b"))


class Whole(unittest.TestCase):
    def test_minutes_are_said_first(self):
        done = study("--dry-run")
        self.assertEqual(done.returncode, 0, done.stderr)
        for block in BLOCKS:
            self.assertIn(f" {block.name} ", done.stdout)
        for half in (1, 2):
            said = study("--dry-run", "--half", half).stdout.splitlines()
            self.assertLessEqual(float(said[-1].split()[1]), 120, said[-1])
            self.assertTrue(all(f"half {half}" in line for line in said[:-1]))

    def test_all_blocks_on_a_toy_stopped_and_gone_on(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "study"
            begun = study("--tiny", "--out", out, "--hours", "0.001")
            self.assertEqual(begun.returncode, 75, begun.stderr)
            self.assertIn("the same command goes on", begun.stderr)
            self.a_signal(out)
            done = study("--tiny", "--out", out)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout[-2000:])
            for block in BLOCKS:
                self.assertIn(f"study: {block.name} is done", done.stdout)
            results = {path: path.read_bytes() for path in sorted((out / "results").rglob("*")) if path.is_file()}
            page = (out / "tables.md").read_text()
            for title in ("The five hypotheses", "The search against others", "All methods", "Experts in training",
                          "Experts on their own tasks", "Single experts on the unseen tasks", "Who answers what", "Cores and rivals",
                          "policy gradient and next tokens", "next token", "Number of shots", "Ablations", "perturbed copies", "Null cases"):
                self.assertIn(title, page)
            self.assertIn("0 with a signal", page)  # stopped
            for kind in ("differences", "curves"):
                self.assertIn(f"(tables-{kind}.svg)", page)
                ElementTree.parse(out / f"tables-{kind}.svg")
            self.budgets(out / "results" / "searches")
            again = study("--tiny", "--out", out)
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertEqual(results, {path: path.read_bytes() for path in results})  # nothing is done again
            self.the_seal(out)

    def a_signal(self, out):
        """Ends the study and the command that it waits for."""
        process = subprocess.Popen([ROOT / "scripts" / "study", "--tiny", "--out", out], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        while " experts/" not in process.stdout.readline():
            pass
        process.terminate()
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 75, said)
        self.assertIn("by a signal; the same command goes on", said)
        left = subprocess.run(["pgrep", "-f", str(out / "runs")], capture_output=True, text=True).stdout
        self.assertEqual(left, "")

    def budgets(self, searches):
        """A new z has sampled what its search wrote, and a step more at most."""
        names = [path.stem.removeprefix("new_z-") for path in searches.glob("new_z-*.json")]
        self.assertEqual(len(names), 10)
        for name in names:
            search, new_z = (json.loads((searches / f"{kind}-{name}.json").read_text()) for kind in ("few_shot", "new_z"))
            cost, budget = new_z["cost"], search["adaptation"]["first_pass"]["tokens_written"]
            self.assertGreaterEqual(cost["tokens"], budget)
            self.assertLess(cost["tokens"] * (1 - 1.5 / cost["steps"]), budget)  # steps differ in length

    def the_seal(self, out):
        """Other experts, choices or items than those that were read are refused; so are results of another plan."""
        note = out / "results" / "sealed.json"
        found = json.loads(note.read_text())
        self.assertEqual(len(found["hypotheses"]), 64)
        self.assertEqual(found["choices"]["max5"].keys(), {"best_single_on_shots", "top_1", "oracle"})

        def refused(word):
            done = study("--tiny", "--out", out, "--half", "1")
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"since then {word} changed", done.stderr)
            self.assertIn("not read a second time", done.stderr)

        note.write_text(json.dumps({**found, "choices": {}}))
        refused("choices")
        note.write_text(json.dumps(found))
        experts = [out / "runs/experts" / name / "experts/final.safetensors" for name in ("max3-0", "max3-1")]
        kept = experts[0].read_bytes()
        experts[0].write_bytes(experts[1].read_bytes())
        refused("experts")
        experts[0].write_bytes(kept)
        note.write_text(json.dumps({**found, "test data": {}}))
        refused("test data")
        with open(out / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = study("--tiny", "--out", out)
            self.assertEqual(done.returncode, 1)
            self.assertIn("another study is at work", done.stderr)
        (out / "plan.json").write_text('{"hash": "0"}')
        refused = study("--tiny", "--out", out)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("another plan", refused.stderr)


if __name__ == "__main__":
    unittest.main()
