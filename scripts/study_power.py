#!/usr/bin/env python3
"""How small a difference the study's paired comparisons can find: examples/study/hypotheses.yaml quotes it.

  scripts/study_power.py [--items 500] [--seeds 5] [--tests 5]
  scripts/study_power.py --null          # how often the study's test errs where nothing differs but seeds

Two methods answer the same items. Where they disagree on a share d of them, their difference in
accuracy has a standard error of sqrt(effect d / items + sd^2 / seeds): `effect` (Kish) is
1 + (items a cluster - 1) correlation, sd the spread of the difference over seeds. A true difference of
(z(1 - alpha/2) + z(power)) standard errors is found with that power; with Holm's correction the
smallest of `tests` p-values must pass alpha / tests. d is taken as independent of the seed, so that more
seeds make sd's part small and leave the items' part: the items are the same for all.

--null draws studies without a true difference: each seed's is normal with standard deviation sd, a fifth of its items
disagree, no clusters, and every seed's items anew.
"""
import argparse
import os
import sys
from math import sqrt
from pathlib import Path
from statistics import NormalDist

ALPHA, POWER = 0.05, 0.8
DISAGREE = [0.05, 0.1, 0.2, 0.4]
# Items a cluster in the first 500 of the test split (weighted by items), and how alike they are: as the base's answers on
# the validation split, for want of better (docs/study.md); nobody knows that of a difference beforehand.
CLUSTERS = [("max5, min3", 1, 0.0), ("subtraction", 2.4, 0.39), ("multiplication", 4.0, 0.37),
            ("negative_sentiment", 8.2, 0.13)]
SPREADS = [0.0, 0.03]


def smallest(disagree, items, tests=1, effect=1.0, sd=0.0, seeds=5):
    z = NormalDist().inv_cdf
    return (z(1 - ALPHA / tests / 2) + z(POWER)) * sqrt(effect * disagree / items + sd**2 / seeds)


def design_effect(size, correlation):
    return 1 + (size - 1) * correlation


def null_studies(sd, items, seeds, draws=200, disagree=0.2):
    """Shares of studies in which p <= 0.05, in which the interval holds 0, and in which p <= 0.01, as in Holm's first
    step of five, and the interval leaves it out."""
    import numpy as np
    from studying.inference import bootstrap_interval, flip_p
    draw = np.random.Generator(np.random.Philox(key=[items, int(1000 * sd)]))
    found = []
    for study in range(draws):
        shift = draw.normal(0, sd, (seeds, 1)) if sd else np.zeros((seeds, 1))
        level = draw.random((seeds, items))
        sums = (level < (disagree + shift) / 2).astype(float) - (level > 1 - (disagree - shift) / 2)
        p, (low, high) = flip_p(sums, 1000, study), bootstrap_interval(sums, np.ones(items), 300, study)
        found.append((p <= ALPHA, low <= 0 <= high, p <= ALPHA / 5 and not low <= 0 <= high))
    return np.mean(found, axis=0)


def need_numpy():
    try:
        import numpy  # noqa: F401
    except ImportError:
        python = Path(__file__).resolve().parents[1] / ".venv/bin/python"
        if Path(sys.executable) == python or not os.access(python, os.X_OK):
            sys.exit("study_power: --null needs numpy; run scripts/setup")
        os.execv(python, [str(python), *sys.argv])


def print_null(items, seeds):
    print("| sd over seeds | p at most 0.05 | interval holds 0 | p at most 0.01, and interval without 0 |\n|---|---|---|---|")
    for sd in (0.0, 0.03, 0.06, 0.12):
        print(f"| {sd} | " + " | ".join(f"{share:.2f}" for share in null_studies(sd, items, seeds)) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tests", type=int, default=5)
    parser.add_argument("--null", action="store_true", help="studies in which only seeds differ")
    options = parser.parse_args()
    if options.null:
        need_numpy()
        return print_null(options.items, options.seeds)
    print(f"{options.items} items, {options.seeds} seeds, Holm over {options.tests}: "
          f"first step / last step, power {POWER}")
    print("| task | sd over seeds | " + " | ".join(f"disagree on {d:.0%}" for d in DISAGREE) + " |")
    print("|---|---|" + "---|" * len(DISAGREE))
    for name, size, correlation in CLUSTERS:
        for sd in SPREADS:
            effect = design_effect(size, correlation)
            cells = [" / ".join(f"{smallest(d, options.items, tests, effect, sd, options.seeds):.3f}"
                                for tests in (options.tests, 1)) for d in DISAGREE]
            print(f"| {name} ({size}, {correlation}) | {sd} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
