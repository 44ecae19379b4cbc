#!/usr/bin/env python3
"""Which domain is a prompt of? What plain baselines reach: the majority class, and a bag of words.

  scripts/study_routing.py [--data DIR]

The bag of words is naive Bayes with add-one smoothing over the words of a question, digits counted as
one word, learned on the train splits of the experts' four tasks. It is measured on the validation
splits (the test splits stay sealed) of those and of the unseen tasks, whose domain is their kin's, and
on wordings that it did not see: each wording in turn is left out of its training.
"""
import argparse
import json
import math
import re
import sys
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
import make_study_tasks as made  # noqa: E402

DOMAINS = {"numbers": ["max3", "max5", "min3"], "arithmetic": ["addition", "subtraction", "multiplication"],
           "sentiment": ["sentiment", "negative_sentiment"], "letters": ["first_letter"]}
EXPERTS = ["max3", "addition", "sentiment", "first_letter"]


def words(text):
    return re.findall(r"[a-z]+|[^\sa-z]", re.sub(r"\d+", "0", text.lower()))


class NaiveBayes:
    """Counts of words by class; the class with the largest log-probability, the first of equal ones."""

    def __init__(self, examples):
        self.classes = Counter(label for _, label in examples)
        self.counts = {label: Counter() for label in self.classes}
        for text, label in examples:
            self.counts[label].update(words(text))
        self.vocabulary = len(set().union(*self.counts.values()))

    def log_probability(self, text, label):
        counts, total = self.counts[label], sum(self.counts[label].values())
        return math.log(self.classes[label]) + sum(
            math.log((counts[word] + 1) / (total + self.vocabulary)) for word in words(text))

    def label(self, text):
        return max(self.classes, key=lambda label: self.log_probability(text, label))


def read(data, tasks, split):
    """[(question, domain)] of these tasks."""
    domain = {task: name for name, members in DOMAINS.items() for task in members}
    return [(json.loads(line)["question"], domain[task]) for task in tasks
            for line in (data / task / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def frame(question):
    """The wording: what is left of a question without its numbers, its word and its review."""
    return re.sub(r"'[a-z]+'|\"[^\"]*\"|\d+(, \d+)*", "_", question)


def confusion(model, examples):
    return Counter((label, model.label(text)) for text, label in examples)


def accuracy(table):
    return sum(n for (gold, said), n in table.items() if gold == said) / sum(table.values())


def majority(examples):
    """How often the most frequent domain is right."""
    return max(Counter(label for _, label in examples).values()) / len(examples)


def left_out(train, validation):
    """Every wording judged by a model that did not see it."""
    table = Counter()
    for wording in sorted({frame(text) for text, _ in validation}):
        seen = [(text, label) for text, label in train if frame(text) != wording]
        table += confusion(NaiveBayes(seen), [e for e in validation if frame(e[0]) == wording])
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=made.FOLDER, help="folder that make_study_tasks.py wrote")
    data = parser.parse_args().data
    unseen = [task for task in made.TASKS if task not in EXPERTS]
    train = read(data, EXPERTS, "train")
    own, other = read(data, EXPERTS, "validation"), read(data, unseen, "validation")
    model = NaiveBayes(train)
    rows = [("own tasks", own, confusion(model, own)), ("unseen tasks", other, confusion(model, other)),
            ("own tasks, wording left out", own, left_out(train, own))]
    print("| prompts | n | majority class | bag of words |\n|---|---|---|---|")
    for name, examples, table in rows:
        print(f"| {name} | {len(examples)} | {majority(examples):.3f} | {accuracy(table):.3f} |")
    for name, _, table in rows:
        wrong = ", ".join(f"{gold} as {said} {n}" for (gold, said), n in sorted(table.items()) if gold != said)
        print(f"\n{name}, mistakes: {wrong or 'none'}")


if __name__ == "__main__":
    main()
