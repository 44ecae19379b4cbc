"""The tests of examples/study/hypotheses.yaml: sign flips of whole clusters, a bootstrap over seeds and clusters, Holm.

An item's difference is its mean over seeds; D[s, j] is the sum of the differences of seed s over the items of cluster j."""
import numpy as np


def sums_by_cluster(differences, clusters):
    """D (seeds x clusters) and items by cluster, from differences (seeds x items) and each item's cluster."""
    names = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    places = np.array([names[one] for one in clusters])
    sums = np.zeros((len(differences), len(names)))
    for row, difference in zip(sums, np.asarray(differences, dtype=float)):
        np.add.at(row, places, difference)
    return sums, np.bincount(places, minlength=len(names))


def generator(*key):
    return np.random.Generator(np.random.Philox(key=list(key)))


def flip_p(sums, flips, seed=0):
    """Two-sided p of no difference: signs of clusters' mean sums flipped at random; never below 1 / (flips + 1)."""
    clusters = sums.mean(axis=0)
    clusters = clusters[clusters != 0]
    if not len(clusters):
        return 1.0
    reached, total, draw = 0, abs(clusters.sum()), generator(seed, 1)
    for begin in range(0, flips, 1000):
        count = min(1000, flips - begin)
        signs = draw.integers(0, 2, (count, len(clusters))) * 2 - 1
        reached += int((abs(signs @ clusters) >= total - 1e-9).sum())
    return (reached + 1) / (flips + 1)


def bootstrap_interval(sums, counts, resamples, seed=0):
    """Percentiles 2.5 and 97.5 of the mean difference per item, seeds and clusters drawn anew with replacement."""
    seeds, clusters = sums.shape
    draw, means = generator(seed, 2), []
    for _ in range(resamples):
        chosen = draw.integers(0, seeds, seeds)
        weight = np.bincount(draw.integers(0, clusters, clusters), minlength=clusters)
        means.append((sums[chosen].mean(axis=0) @ weight) / (counts @ weight))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


# Student's t, 97.5 %, by degrees of freedom.
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def interval_over_seeds(means):
    """95 % of the mean of seeds' means, as if each seed's were known; None of one seed, or more than ten."""
    if len(means) - 1 not in T_975:
        return None
    half = T_975[len(means) - 1] * np.std(means, ddof=1) / np.sqrt(len(means))
    return float(np.mean(means) - half), float(np.mean(means) + half)


def holm(p_values):
    """Adjusted p in the order given: the k-th smallest times (n - k), never below a smaller one's, at most 1."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = highest
    return adjusted


def verdict(mean, low, high, p, limit=0.05):
    if p > limit or low <= 0 <= high:
        return "not distinguishable"
    return "better" if mean > 0 else "worse"


def verdicts(tested, limit):
    """Of hypotheses as test_of() in tables.py gives them, all together: ([p after Holm], [verdict])."""
    adjusted = holm([one["p"] for one in tested])
    return adjusted, [verdict(one["mean"], one["low"], one["high"], p, limit) for one, p in zip(tested, adjusted)]
