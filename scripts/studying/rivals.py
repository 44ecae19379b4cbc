"""Cores and rivals at one budget of replies; SVF and LoRA by two objectives."""


def run(lab, name, core, rate, seed, *more):
    what = lab.plan["rivals"]
    return lab.train(name, [f"task={lab.plan.task(what['task'])}", f"train.learning_rate={rate:g}", f"train.seed={seed}",
                            "train.validate_every=0", *core["set"], *more], what["steps"])


def validated(lab, name, expert, core):
    """Accuracy on the rivals' task, validation split."""
    what = lab.plan["rivals"]
    report = lab.measure(name, [what["task"]], {"expert": expert}, what["items"], changes=core["set"])
    return report["results"][1]["accuracy"]


def best_rate(lab, core):
    """Tries the rates, and one more beyond an edge that wins; of equal ones the nearest to the literature's."""
    rates, found = list(lab.plan["rivals"]["rates"]), {}
    if any("svd.targets" in one for one in core["set"]):
        lab.decompose("rivals/decompose_all", "svd.targets=[all]")

    def attempt(power):
        rate = core["rate"] * 3.0**power
        expert = run(lab, f"rivals/{core['name']}-rate{power}", core, rate, 0)["expert"]
        found[power] = validated(lab, f"rivals/{core['name']}-rate{power}-validation", expert, core)

    def best():
        return max(found, key=lambda power: (found[power], -abs(power), power))
    for power in rates:
        attempt(power)
    if len(set(found.values())) > 1 and best() in (rates[0], rates[-1]):
        attempt(rates[0] - 1 if best() == rates[0] else rates[-1] + 1)
    return core["rate"] * 3.0**best()


def seeds_of(lab, block, core, rate, seeds, *more):
    """Trains and measures the seeds on the own and all unseen tasks."""
    what = lab.plan["rivals"]
    for seed in seeds:
        name = f"{block}/{core['name']}-{seed}"
        expert = run(lab, name, core, rate, seed, *more)["expert"]
        lab.measure(f"{name}-validation", [what["task"], *lab.plan["unseen"]], {"expert": expert}, what["items"], changes=core["set"])


def all_rivals(lab):
    for core in lab.plan["rivals"]["cores"]:
        seeds_of(lab, "rivals", core, best_rate(lab, core), lab.plan["rivals"]["seeds"])


def two_by_two(lab):
    """The policy gradient's runs are those of the rivals."""
    what, cores = lab.plan["two_by_two"], {core["name"]: core for core in lab.plan["rivals"]["cores"]}
    for kind in ("svf", "lora"):
        core = cores[what[kind]]
        rate = best_rate(lab, core)
        seeds_of(lab, "rivals", core, rate, what["seeds"])
        seeds_of(lab, "two_by_two", core, rate, what["seeds"], "train.method=next_token")
