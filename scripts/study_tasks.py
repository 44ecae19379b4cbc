"""The nine tasks of the study: which items there are, and how each may be asked.

An item is what is asked (three numbers, a word, a sentence of a review), whatever the wording. A
*cluster* is a set of items so alike that an interval must not count them twice: the same numbers in
another order, the same word asked for in another wording, all reviews with the same adjective. A
cluster lies in one split, and the same in all tasks: numbers that max3 is trained on are never tested
in min3. Random choices are hashes of their names, so that they are the same in every Python.
"""
import hashlib
from itertools import count

from study_words import BLAME, NAMES, NOUNS, PRAISE, THINGS


def keyed(*names):
    """A whole number drawn by the names alone."""
    text = "|".join(map(str, ("svfleet study", *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def shuffled(things, *names):
    return sorted(things, key=lambda thing: keyed(*names, thing))


# Shares of the clusters, in tenths: numbers, of which there are plenty, and words.
NUMBER_SPLITS = ["test"] * 3 + ["validation"] + ["train"] * 6
WORD_SHARES = {"test": 0.4, "validation": 0.1, "train": 0.5}


def split_of_numbers(cluster):
    return NUMBER_SPLITS[keyed("split", cluster) % 10]


def split_words(*lists):
    """{word: split}; each list (a letter's words, a polarity's adjectives) is divided in the same shares."""
    found = {}
    for words in lists:
        order = shuffled(words, "split")
        test = round(WORD_SHARES["test"] * len(order))
        validation = test + max(1, round(WORD_SHARES["validation"] * len(order)))
        for place, word in enumerate(order):
            found[word] = "test" if place < test else "validation" if place < validation else "train"
    return found


NOUN_SPLITS = split_words(*([n for n in NOUNS if n[0] == letter] for letter in sorted({n[0] for n in NOUNS})))
ADJECTIVE_SPLITS = split_words(PRAISE, BLAME)


def item(question, answer, cluster):
    return {"question": question, "answer": str(answer), "cluster": cluster}


def numbers_cluster(numbers):
    return " ".join(map(str, sorted(numbers)))


def different_numbers(size, *names):
    numbers = []
    for turn in count():
        number = 10 + keyed(*names, turn) % 90
        if number not in numbers:
            numbers.append(number)
        if len(numbers) == size:
            return numbers


# A task is a function (split, how many) -> items: as many clusters as there are, none with more than
# one item before each has one.

def one_of_a_list(name, size, best, wordings):
    """The largest or smallest of `size` different two-digit numbers."""
    def items(split, wanted):
        found = {}
        for draw in count():
            if len(found) == wanted:
                return list(found.values())
            numbers = different_numbers(size, name, draw)
            cluster = numbers_cluster(numbers)
            if cluster in found or split_of_numbers(cluster) != split:
                continue
            question = wordings[len(found) % len(wordings)].format(", ".join(map(str, numbers)))
            found[cluster] = item(question, best(numbers), cluster)
    return items


def rounds(clusters, wanted, name):
    """{cluster: its items}: one item of each cluster, then a second one of each, ..., as many as wanted."""
    orders = {cluster: shuffled(range(len(items)), name, cluster) for cluster, items in clusters.items()}
    chosen = []
    for turn in range(max(map(len, clusters.values()))):
        for cluster in shuffled(clusters, name, "turn", turn):
            if len(chosen) < wanted and turn < len(orders[cluster]):
                chosen.append(clusters[cluster][orders[cluster][turn]])
    return shuffled_items(chosen, name)


def shuffled_items(items, name):
    return sorted(items, key=lambda i: keyed(name, "place", i["question"]))


def arithmetic(name, pairs, answer, wordings):
    def items(split, wanted):
        clusters = {}
        for a, b in pairs:
            cluster = numbers_cluster((a, b))
            if split_of_numbers(cluster) == split:
                asked = clusters.setdefault(cluster, [])
                asked.extend(item(w.format(a=a, b=b), answer(a, b), cluster) for w in wordings)
        return rounds(clusters, wanted, name)
    return items


def first_letter(wordings):
    def items(split, wanted):
        clusters = {noun: [item(w.format(noun), noun[0], noun) for w in wordings]
                    for noun in NOUNS if NOUN_SPLITS[noun] == split}
        return rounds(clusters, wanted, "first_letter")
    return items


def article(word):
    return "an" if word[0] in "aeiou" else "a"


def sentiment(name, sentences, wordings, praise_is):
    """Reviews with one adjective each; praise and blame in turn, so that no answer is the likelier."""
    opposite = {"positive": "negative", "negative": "positive"}[praise_is]

    def reviews(adjective, answer):
        """Every sentence and thing with this adjective, in a random order; a wording for each."""
        found = []
        for sentence in sentences:
            for thing in THINGS:
                speaker = NAMES[keyed(name, adjective, thing, sentence) % len(NAMES)]
                text = sentence.format(a=adjective, an=article(adjective), t=thing, name=speaker)
                wording = wordings[keyed(name, "wording", text) % len(wordings)]
                found.append(item(wording.format(text), answer, adjective))
        return found

    def items(split, wanted):
        halves = []
        for words, answer in ((PRAISE, praise_is), (BLAME, opposite)):
            chosen = {a: reviews(a, answer) for a in words if ADJECTIVE_SPLITS[a] == split}
            halves.append(rounds(chosen, wanted // 2, f"{name} {answer}"))
        return [one for pair in zip(*halves) for one in pair]
    return items
