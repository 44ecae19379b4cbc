"""Two passes: mixtures found on shots, random pools searched likewise, a new z on the same shots; routing."""
import make_study_tasks as made
import yaml
from studying.experts import classifier, expert
from studying.files import write_random, write_uniform
from studying.lab import put, shown
from studying.plan import ROOT
from study_tasks import keyed

TRAIN = "{}/train.jsonl"


def shots(lab, task, count, seed):
    """`count` items of the task's train split, keyed by task and seed; the first ones of more are those of fewer."""
    path = lab.out / "shots" / f"{task}-{count}-{seed}.jsonl"

    def work(to):
        lines = (made.FOLDER / TRAIN.format(task)).read_text(encoding="utf-8").splitlines()
        chosen = sorted(range(len(lines)), key=lambda line: keyed("shots", task, seed, line))[:count]
        to.write_text("".join(lines[i] + "\n" for i in chosen), encoding="utf-8")
    return lab.make(path, work)


def members(lab, seed):
    """[(label, task, file)] of the seed's experts, in the order of the set."""
    return [(one["label"], one["tasks"][0], expert(lab, one["tasks"][0], seed)) for one in lab.plan.set["experts"]]


def write_set(lab, name, files, seed, with_classifier=False):
    """An expert set like the study's with these files; for the strategy of that name with a classifier."""
    listed = [{**one, "file": str(ROOT / file)} for one, file in zip(lab.plan.set["experts"], files)]
    text = {"experts": listed, "question": lab.plan.set["question"]}
    if with_classifier:
        text["classifier"] = str(ROOT / classifier(lab, seed))
    path = lab.out / "sets" / f"{name}.yaml"
    if not lab.dry:
        put(path, yaml.safe_dump(text, sort_keys=False).encode())
    return shown(path)


def expert_set(lab, seed):
    return write_set(lab, f"experts-{seed}", [file for _, _, file in members(lab, seed)], seed, True)


def random_pool(lab, seed):
    """As many random z, each with an expert's norm in every matrix, drawn anew for each seed."""
    files = [lab.make(lab.out / "pools" / str(seed) / f"{label}.safetensors",
                      lambda to, file=file, label=label: write_random(to, ROOT / file, "pool", seed, label))
             for label, _, file in members(lab, seed)]
    return write_set(lab, f"random-{seed}", files, seed)


def uniform(lab, seed):
    return lab.make(lab.out / "mixtures" / f"uniform-{seed}.safetensors",
                    lambda to: write_uniform(to, [ROOT / file for _, _, file in members(lab, seed)]))


def search(lab, name, task, set_file, count, seed, budget):
    """(report, the mixture's file) of the few-shot search."""
    out = lab.out / "mixtures" / f"{name.replace('/', '-')}.safetensors"
    report = lab.adapt(name, task, set_file, "--strategy", "few_shot", "--shots", shots(lab, task, count, seed), "--budget",
                       budget, changes=[f"evaluate.seed={seed}"], out=out)
    return report["adaptation"], shown(out)


def few_shot(lab, task, seed):
    return search(lab, f"searches/few_shot-{task}-{seed}", task, expert_set(lab, seed), lab.plan.hypotheses["shots"], seed,
                  lab.plan["budget"])


def random_search(lab, task, seed):
    return search(lab, f"searches/random-{task}-{seed}", task, random_pool(lab, seed), lab.plan.hypotheses["shots"], seed,
                  lab.plan["budget"])


def new_z(lab, task, seed):
    """A z of its own trained on the same shots, until it has sampled as many tokens as the search wrote."""
    plan, budget = lab.plan, few_shot(lab, task, seed)[0]["first_pass"]["tokens_written"]
    return lab.train_for(f"searches/new_z-{task}-{seed}", [
        f"task={plan.task(task)}", f"train.seed={seed}", "train.validate_every=0",
        f"task.train={shots(lab, task, plan.hypotheses['shots'], seed)}"], budget)["expert"]


def all_searches(lab):
    for seed in lab.plan.seeds:
        uniform(lab, seed)
        for task in lab.plan["unseen"]:
            few_shot(lab, task, seed)
            random_search(lab, task, seed)
            new_z(lab, task, seed)


def merit(one):
    """Of an expert alone on the search's shots; equal scores by log-likelihood."""
    return one["alone"]["score"], one["alone"]["log_likelihood"]


def best_on_shots(lab, task, seed):
    """The label of the one expert that is best on the search's shots."""
    return max(few_shot(lab, task, seed)[0]["search"]["experts"], key=merit)["label"]


def largest_share(lab, task, seed):
    """Hard top-1: the expert with the largest share of the mixture, the base where none has any."""
    experts = few_shot(lab, task, seed)[0]["search"]["experts"]
    first = max(experts, key=lambda one: (one["share"], *merit(one)))
    return first["label"] if first["share"] or lab.dry else "base"


def validation(lab):
    for seed in lab.plan.seeds:
        lab.measure(f"validation/{seed}", lab.plan["unseen"], {label: file for label, _, file in members(lab, seed)},
                    lab.plan["validation_items"])


def oracle(lab, task, seed):
    """The expert that is best on the validation items of the task itself: no method could know that."""
    report = lab.kept(f"validation/{seed}") or {"results": []}
    scores = {one["name"]: by["accuracy"] for one in report["results"] if one["name"] != "base"
              for by in one["by_task"] if by["task"] == task}
    if not scores and not lab.dry:
        raise SystemExit(f"study: internal error: no validation of the experts of seed {seed}")
    return max(scores, key=scores.get) if scores else lab.plan.set["experts"][0]["label"]


def routing(lab):
    tasks = lab.plan["own"] + lab.plan["unseen"]
    for seed in lab.plan.seeds:
        for strategy in ("prompt", "classifier"):
            if strategy == "classifier" or seed == lab.plan.seeds[0]:  # the base asks the same whatever the seed
                lab.adapt(f"routing/{strategy}-{seed}", tasks, expert_set(lab, seed), "--strategy", strategy,
                          items=lab.plan["routing_items"])


def shot_counts(lab):
    what = lab.plan["shots"]
    for seed in what["seeds"]:
        for count in what["sizes"]:
            _, mixture = search(lab, f"shots/search-{count}-{seed}", what["task"], expert_set(lab, seed), count, seed, what["budget"])
            lab.measure(f"shots/{count}-{seed}", [what["task"]], {"few_shot": mixture}, lab.plan["validation_items"])
