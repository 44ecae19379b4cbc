#!/usr/bin/env python3
"""Writes the data of the study: examples/study/tasks/TASK/{train,validation,test}.jsonl.

  scripts/make_study_tasks.py [--out DIR]

Python's standard library only; the same files on every machine. No item of one split stands in
another, nor one of its cluster (see study_tasks.py), also across tasks of the same kind.
"""
import argparse
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
import study_tasks as tasks  # noqa: E402

FOLDER = Path(__file__).resolve().parent.parent / "examples" / "study" / "tasks"
COUNTS = {"train": 2000, "validation": 200, "test": 1000}

LIST_WORDINGS = [
    "Which number is the {}: {{}}?",
    "What is the {} of these numbers: {{}}?",
    "Find the {} number in this list: {{}}.",
    "Numbers: {{}}. Which one is the {}?",
]
LARGEST = [w.format("largest") for w in LIST_WORDINGS]
SMALLEST = [w.format("smallest") for w in LIST_WORDINGS]
ARITHMETIC_WORDINGS = ["What is {{a}} {0} {{b}}?", "How much is {{a}} {1} {{b}}?", "Compute {{a}} {0} {{b}}.",
                       "What is {{a}} {1} {{b}}?"]
ADD = [w.format("+", "plus") for w in ARITHMETIC_WORDINGS]
SUBTRACT = [w.format("-", "minus") for w in ARITHMETIC_WORDINGS]
MULTIPLY = [w.format("*", "times") for w in ARITHMETIC_WORDINGS]
LETTER = [
    "What is the first letter of the word '{}'?",
    "Which letter does the word '{}' start with?",
    "Name the first letter of '{}'.",
    "The word is '{}'. What is its first letter?",
    "With which letter does '{}' begin?",
    "Give the first letter of the word '{}'.",
]
REVIEW = [
    'Is this review positive or negative? "{}"',
    'Review: "{}" Is it positive or negative?',
    'Classify this review as positive or negative: "{}"',
    'Is this review negative or positive? "{}"',
]
SAID = ["The {t} was {a}.", "What {an} {a} {t}!", "I found the {t} {a}.", "{name} said that the {t} was {a}."]
DENIED = ["The {t} was not {a}.", "It was not {an} {a} {t}.", "I did not find the {t} {a}.",
          "{name} did not think that the {t} was {a}."]


# Operands: the small ones, with which this model is sometimes right, and enough of them for the counts.
SUMS = [(a, b) for a in range(2, 33) for b in range(2, 33)]
DIFFERENCES = [(a, b) for a in range(3, 46) for b in range(2, 31) if a > b]
PRODUCTS = sorted({pair for a in range(2, 48) for b in range(2, 13) for pair in ((a, b), (b, a))})


# Four tasks that experts are trained on, then five that none has seen.
TASKS = {
    "max3": tasks.one_of_a_list("max3", 3, max, LARGEST),
    "addition": tasks.arithmetic("addition", SUMS, lambda a, b: a + b, ADD),
    "sentiment": tasks.sentiment("sentiment", SAID, REVIEW, praise_is="positive"),
    "first_letter": tasks.first_letter(LETTER),
    "max5": tasks.one_of_a_list("max5", 5, max, LARGEST),
    "subtraction": tasks.arithmetic("subtraction", DIFFERENCES, lambda a, b: a - b, SUBTRACT),
    "multiplication": tasks.arithmetic("multiplication", PRODUCTS, lambda a, b: a * b, MULTIPLY),
    "negative_sentiment": tasks.sentiment("negative_sentiment", DENIED, REVIEW, praise_is="negative"),
    "min3": tasks.one_of_a_list("min3", 3, min, SMALLEST),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to, instead of the example's")
    out = parser.parse_args().out
    print("| task | train | validation | test | clusters |\n|---|---|---|---|---|")
    for task, items in TASKS.items():
        (out / task).mkdir(parents=True, exist_ok=True)
        splits = {split: items(split, wanted) for split, wanted in COUNTS.items()}
        for split, found in splits.items():
            text = "".join(json.dumps(one) + "\n" for one in found)
            (out / task / f"{split}.jsonl").write_text(text, encoding="utf-8", newline="\n")
        clusters = " / ".join(str(len({one["cluster"] for one in found})) for found in splits.values())
        print(f"| {task} | {' | '.join(str(len(found)) for found in splits.values())} | {clusters} |")


if __name__ == "__main__":
    main()
