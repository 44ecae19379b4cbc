"""The study's data: as its script writes it, disjoint by cluster, right, and not to be guessed."""
import itertools
import json
import re
import subprocess
import sys
import tempfile
import unittest
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import study_words as words  # noqa: E402

DATA = ROOT / "examples" / "study" / "tasks"
SPLITS = ("train", "validation", "test")
# Tasks that share their clusters: what one is trained on, no other is tested on.
KIN = [["max3", "min3"], ["max5"], ["addition", "subtraction", "multiplication"],
       ["sentiment", "negative_sentiment"], ["first_letter"]]
TASKS = [task for kin in KIN for task in kin]
# Items of train, validation and test; and the largest share of one answer.
COUNTS = [2000, 200, 1000]
LIMITS = {**dict.fromkeys(TASKS, 0.1), "sentiment": 0.5, "negative_sentiment": 0.5}


def read(task, split, folder=DATA):
    return [json.loads(line) for line in (folder / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def everything(task):
    return [item for split in SPLITS for item in read(task, split)]


def numbers(question):
    return [int(n) for n in re.findall(r"\d+", question)]


def shared(kin, field, data):
    """What stands in two splits of a task or of its kin."""
    found = {split: {item[field] for task in kin for item in data(task, split)} for split in SPLITS}
    return set().union(*(found[a] & found[b] for a, b in itertools.combinations(SPLITS, 2)))


# The answers, computed anew from the text alone, a review's from the two lists of adjectives. The lists
# themselves were compared once with the lexicon of VADER 3.3.2: of 160 adjectives it knows 111, all as here.
def quoted(question):
    return re.search(r'"(.*)"', question)[1]


def sign(question):
    praise, blame = words.PRAISE, words.BLAME
    review = re.findall(r"[a-z]+", quoted(question).lower())
    found = [(word in praise) - (word in blame) for word in review if word in praise or word in blame]
    return found[0] * (-1 if "not" in review else 1) if len(found) == 1 else 0


def arithmetic(question):
    a, b = numbers(question)
    if "Subtract" in question:
        return b - a
    for mark, value in ((r"\+|\bplus\b|\badd|\bAdd|\bsum\b", a + b), (r" - |\bminus\b|\btake\b", a - b),
                        (r"\*|\btimes\b|\bmultiply\b|\bproduct\b", a * b)):
        if re.search(mark, question):
            return value
    raise AssertionError(question)


def recomputed(task, question):
    if "sentiment" in task:
        return {1: "positive", -1: "negative"}.get(sign(question))
    if task == "first_letter":
        return re.search(r"'([a-z]+)'", question)[1][0]
    if task in ("max3", "max5", "min3"):
        order = sorted(numbers(question))
        return str(order[-1] if "largest" in question else order[0])
    return str(arithmetic(question))


def wrong(task, items):
    return [item for item in items if recomputed(task, item["question"]) != item["answer"]]


def frame(question):
    """The wording: a question without its numbers, its word or its review."""
    return re.sub(r"'[a-z]+'|\"[^\"]*\"|\d+(, \d+)*", "_", question)


def sentence(question):
    """The review without what was put into it."""
    put_in = {*words.PRAISE, *words.BLAME, *words.THINGS, *words.NAMES}
    review = re.findall(r"[A-Za-z]+", quoted(question).replace(" an ", " a "))
    return " ".join("_" if word in put_in else word for word in review)


def thing(question):
    return next(word for word in re.findall(r"[a-z]+", quoted(question)) if word in words.THINGS)


def share(items, guess):
    """How often a fixed guess is right."""
    return sum(guess(item["question"]) == item["answer"] for item in items) / len(items)


class Files(unittest.TestCase):
    def test_are_what_the_script_writes_and_small(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, ROOT / "scripts" / "make_study_tasks.py", "--out", folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": "7"})
            self.assertIn(done.stdout, (ROOT / "docs" / "study.md").read_text(encoding="utf-8"))
            for task in TASKS:
                for split in SPLITS:
                    name = f"{task}/{split}.jsonl"
                    self.assertEqual((DATA / name).read_bytes(), (Path(folder) / name).read_bytes(), name)
        self.assertLess(sum(f.stat().st_size for f in DATA.rglob("*.jsonl")), 3_000_000)

    def test_counts(self):
        for task in TASKS:
            counts = [len(read(task, split)) for split in SPLITS]
            with self.subTest(task, counts=counts):
                self.assertEqual(counts, COUNTS)
                questions = [item["question"] for item in everything(task)]
                self.assertEqual(len(set(questions)), len(questions))
                self.assertTrue(all(set(item) == {"question", "answer", "cluster"} for item in everything(task)))


class Splits(unittest.TestCase):
    def test_share_no_prompt_and_no_cluster(self):
        for kin in KIN:
            for field in ("question", "cluster"):
                with self.subTest(kin, field=field):
                    self.assertEqual(shared(kin, field, read), set())

    def test_control_one_test_item_in_train(self):
        def leaking(task, split):
            return read(task, split) + (read("min3", "test")[:1] if (task, split) == ("max3", "train") else [])
        self.assertEqual(shared(["max3", "min3"], "cluster", leaking), {read("min3", "test")[0]["cluster"]})

    def test_cluster_is_what_is_asked(self):
        for task in TASKS:
            for item in everything(task):
                cluster, question = item["cluster"], item["question"]
                if numbers(cluster):
                    self.assertEqual(numbers(cluster), sorted(numbers(question)), item)
                else:
                    self.assertRegex(question, rf"\b{cluster}\b")


class Answers(unittest.TestCase):
    def test_are_right(self):
        self.assertFalse(set(words.PRAISE) & set(words.BLAME))
        for task in TASKS:
            with self.subTest(task):
                self.assertEqual(wrong(task, everything(task)), [])

    def test_known_ones(self):
        for question, answer in [("What is 7 + 12?", 19), ("Subtract 3 from 29.", 26), ("What is 29 minus 3?", 26),
                                 ("What is 8 * 9?", 72), ("How much is 8 times 9?", 72)]:
            self.assertEqual(arithmetic(question), answer, question)
        self.assertEqual(sign('Is this review positive or negative? "The film was not dull."'), 1)

    def test_control_a_wrong_answer_is_seen(self):
        for task in TASKS:
            item = dict(everything(task)[0], answer="7x")
            self.assertEqual(wrong(task, [item]), [item])

    def test_articles(self):
        for task in ("sentiment", "negative_sentiment"):
            for item in everything(task):
                self.assertNotRegex(item["question"], r"(?i)\ba [aeiou]|\ban [^aeiou]")


class Guesses(unittest.TestCase):
    def test_fixed_answer(self):
        """The most frequent answer of a split is not much better than chance."""
        for task in TASKS:
            for split in SPLITS:
                items = read(task, split)
                best = max(Counter(item["answer"] for item in items).values()) / len(items)
                with self.subTest(task, split=split, best=best):
                    self.assertLessEqual(best, LIMITS[task])

    def test_a_place_in_the_list(self):
        for task, size in (("max3", 3), ("max5", 5), ("min3", 3)):
            for split in SPLITS:
                items = read(task, split)
                for place in range(size):
                    guess = share(items, lambda question: str(numbers(question)[place]))
                    with self.subTest(task, split=split, place=place, guess=guess):
                        self.assertLess(abs(guess - 1 / size), 0.1 if split == "validation" else 0.05)

    def test_a_number_of_the_question(self):
        for task in ("addition", "subtraction", "multiplication"):
            for place in (0, 1):
                self.assertLess(share(everything(task), lambda question: str(numbers(question)[place])), 0.05, task)

    def test_control_sorted_lists_are_seen(self):
        items = [{"question": ", ".join(map(str, sorted(numbers(i["question"])))), "answer": i["answer"]}
                 for i in read("max3", "test")]
        self.assertEqual(share(items, lambda question: str(numbers(question)[-1])), 1)

    def test_wording_and_frame_of_a_review_say_nothing(self):
        for task in ("sentiment", "negative_sentiment"):
            items = everything(task)
            for name, part in (("wording", frame), ("sentence", sentence), ("thing", thing)):
                answers = {}
                for item in items:
                    answers.setdefault(part(item["question"]), Counter())[item["answer"]] += 1
                right = sum(max(c.values()) for c in answers.values()) / len(items)
                with self.subTest(task, by=name, kinds=len(answers)):
                    self.assertGreater(len(answers), 3)
                    self.assertLess(right, 0.6)

    def test_every_wording_is_there(self):
        for task in TASKS:
            for split in SPLITS:
                counts = Counter(frame(item["question"]) for item in read(task, split))
                with self.subTest(task, split=split, counts=counts):
                    self.assertGreaterEqual(len(counts), 3)
                    self.assertGreater(min(counts.values()) * len(counts), 0.6 * sum(counts.values()))


if __name__ == "__main__":
    unittest.main()
