"""What a chaos run reports: one table row per kind of fault, and the totals."""
import statistics


def median_and_worst(seconds):
    if not seconds:
        return "", ""
    return f"{statistics.median(seconds):.1f}", f"{max(seconds):.1f}"


def totals(faults, rounds):
    seconds = [fault["seconds"] for fault in faults]
    undisturbed = sum(r["undisturbed_s"] for r in rounds)
    life = sum(r["life_s"] for r in rounds)
    return {
        "faults": len(faults),
        "kinds": len({fault["kind"] for fault in faults}),
        "survived": sum(not fault["refused"] for fault in faults),
        "refused": sum(fault["refused"] for fault in faults),
        "requeued": sum(fault["requeued"] for fault in faults),
        "median_s": round(statistics.median(seconds), 1) if seconds else None,
        "worst_s": round(max(seconds), 1) if seconds else None,
        "rounds": len(rounds),
        "undisturbed_s": round(undisturbed, 1),
        "life_s": round(life, 1),
        "goodput": round(undisturbed / life, 3) if life else None,
        "hashes_equal": all(r["hash"] == r["undisturbed_hash"] for r in rounds),
        "experts_equal": all(r["expert"] == r["undisturbed_expert"] for r in rounds),
        "steps_compared": sum(r["steps"] for r in rounds),
        "prompts_dropped": sum(r["dropped"] for r in rounds),
        "prompts_repeated": sum(r["repeated"] for r in rounds),
    }


def table(faults, kinds, sums):
    """Markdown."""
    lines = ["| fault | number | survived | refused | restarted | median s | worst s | "
             "lasted s | what it said, for example |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, kind in kinds.items():
        of_kind = [fault for fault in faults if fault["kind"] == name]
        if not of_kind:
            continue
        median, worst = median_and_worst([fault["seconds"] for fault in of_kind])
        lasted, _ = median_and_worst([fault["lasted_s"] for fault in of_kind])
        said = next((fault["said"] for fault in of_kind if fault["said"]), "")
        refused = sum(fault["refused"] for fault in of_kind)
        requeued = sum(fault["requeued"] for fault in of_kind)
        lines.append(f"| `{name}`: {kind.about} | {len(of_kind)} | {len(of_kind) - refused} | "
                     f"{refused} | {requeued} | {median} | {worst} | {lasted} | "
                     f"{short(said).replace('|', '/')} |")
    yes = {True: "yes", False: "NO"}
    lines += [
        "",
        f"- {sums['faults']} faults of {sums['kinds']} kinds in {sums['rounds']} run{'s' * (sums['rounds'] > 1)}: "
        f"{sums['survived']} survived, {sums['refused']} refused with the right message and "
        "submitted again.",
        f"- From the fault to the first new chunk or checkpoint: {sums['median_s']} s in the median, "
        f"{sums['worst_s']} s at worst.",
        f"- Run and expert hashes equal those of the undisturbed runs: "
        f"{yes[sums['hashes_equal'] and sums['experts_equal']]}.",
        f"- Prompts dropped / repeated in {sums['steps_compared']} steps: "
        f"{sums['prompts_dropped']} / {sums['prompts_repeated']}.",
        f"- Goodput under a fault every {sums['life_s'] / max(1, sums['faults']):.0f} s: "
        f"{sums['undisturbed_s']:.0f} s of undisturbed training in {sums['life_s']:.0f} s from "
        f"submission to end, {100 * sums['goodput']:.0f} %.",
    ]
    return "\n".join(lines) + "\n"


def short(text, most=150):
    return text if len(text) <= most else text[:most - 3] + "..."
