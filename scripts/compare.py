"""Prints what `svfleet evaluate --json` found as a table: compare.py EVALUATION.json"""
import json
import sys
from pathlib import Path


def table(evaluation):
    lines = [f"{evaluation['n']} items of the {evaluation['split']} split",
             f"{'':<12}{'right':>7}{'accuracy':>10}{'95 % interval':>18}{'ended':>8}{'tokens':>8}"]
    for result in evaluation["results"]:
        name = Path(result["name"]).stem
        interval = f"{result['low']:.3f} to {result['high']:.3f}"
        lines.append(f"{name:<12}{result['right']:>7}{result['accuracy']:>10.3f}{interval:>18}"
                     f"{result['ended']:>8.1%}{result['mean_tokens']:>8.1f}")
    for result in evaluation["results"]:
        if "p_value" in result:
            lines.append(f"{Path(result['name']).stem} against base on the same items: {result['only_expert']} "
                         f"right only with it, {result['only_base']} only without; exact McNemar p = {result['p_value']:.2g}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())))
