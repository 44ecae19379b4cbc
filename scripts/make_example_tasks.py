#!/usr/bin/env python3
"""Writes the data of the example tasks: examples/tasks/{max3,first_letter}/{train,validation,test}.jsonl.

Python's standard library only; the same files on every machine. No item of train stands in
validation or test, and none of validation in test.
"""
import json
import pathlib
import random

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "examples" / "tasks"
COUNTS = {"test": 1000, "validation": 200, "train": 2000}
SEEDS = {"test": 777, "validation": 4242, "train": 90210}

WORDS = """
acorn actor album alley amber angle ankle apron arrow aunt autumn axle bacon badge bakery bamboo
banner barrel basket battle beach beaver bench bicycle blanket bottle bridge broom bucket butter
cabin cactus camel candle canoe carpet castle cellar cherry chimney circle clock cloud coffee
compass copper cotton cradle crayon cricket curtain daisy dancer dentist desert diamond dinner
doctor dolphin donkey dragon drawer drum duck eagle earth echo elbow elephant engine envelope
evening eyebrow fabric falcon farmer feather fence ferry fiddle finger flute fog forest fountain
fox garden garlic gate giant ginger glove goat grain guitar hammer harbor harvest hedge helmet
honey hook horse hotel hunter icicle iguana ink insect iron island ivory jacket jaguar jar jewel
journey jungle juice kennel kettle key kitchen kite kitten knee ladder lake lamp lantern leaf
lighthouse lizard lobster locket magnet maple marble market meadow melon mirror mitten monkey
mountain muffin napkin needle nephew nest noodle nose notebook number nurse oak oasis oatmeal
office olive onion orange orchard otter oven owl paddle palace pancake parrot peach pebble pencil
pepper pigeon pillow planet plum pocket pony potato pumpkin puzzle quail quarry quarter quilt
quiver rabbit raccoon radish raft rainbow raven ribbon robin rocket rope saddle sailor salmon
sandal saucer scarf school shadow sheep shovel silver sister spider sponge squirrel stable
summer teacher teapot temple thimble thunder ticket tiger toast tower tractor trumpet tulip
tunnel turtle umbrella uncle unicorn uniform valley vanilla velvet village vinegar violin volcano
wagon walnut walrus whale wheel willow window winter wizard wolf yard yarn yeast yogurt zebra
zipper zone
""".split()


def max3(rng):
    numbers = rng.sample(range(10, 100), 3)
    asked = ", ".join(str(n) for n in numbers)
    return {
        "question": f"Which number is the largest: {asked}? Answer with only the number.",
        "answer": str(max(numbers)),
    }


def first_letter(word):
    return {
        "question": f"What is the first letter of the word '{word}'? Answer with only the letter.",
        "answer": word[0],
    }


def max3_splits():
    taken = set()
    splits = {}
    for split, count in COUNTS.items():
        rng = random.Random(SEEDS[split])
        items = []
        # The test split is the first so many draws of its seed, as they come; the others pass over
        # what is taken.
        while len(items) < count:
            item = max3(rng)
            if split == "test" or item["question"] not in taken:
                items.append(item)
                taken.add(item["question"])
        splits[split] = items
    return splits


def first_letter_splits():
    words = sorted(set(WORDS))
    random.Random(SEEDS["train"]).shuffle(words)
    ends = {"test": (0, 80), "validation": (80, 120), "train": (120, len(words))}
    return {split: [first_letter(w) for w in words[a:b]] for split, (a, b) in ends.items()}


def main():
    for task, splits in {"max3": max3_splits(), "first_letter": first_letter_splits()}.items():
        folder = FOLDER / task
        folder.mkdir(parents=True, exist_ok=True)
        for split, items in splits.items():
            text = "".join(json.dumps(item) + "\n" for item in items)
            (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
            print(f"{folder / split}.jsonl: {len(items)} items")


if __name__ == "__main__":
    main()
