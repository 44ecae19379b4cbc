"""The paper's claims beside what was found: the answer that a reader looks for first.

Each contrast is a difference in accuracy with its 95 % interval, bootstrapped over seeds and clusters of items; all are
exploratory but that of the hypotheses, whose verdicts are Holm's. The rule that makes a verdict of them is decide()."""
import re
from statistics import fmean

from studying.inference import bootstrap_interval, sums_by_cluster, verdicts
from studying.markdown import table


def answers(kept, name, policy, task=None):
    """{(task, item): (right, cluster)} of a policy; {} where it was not measured."""
    return {(one["task"], one["item"]): (float(one["replies"][policy]["right"]), one["cluster"] or str(one["item"]))
            for one in kept.items(name) if policy in one["replies"] and task in (None, one["task"])}


def contrast(pairs, resamples):
    """pairs: (answers, answers) of each seed. (mean, low, high) of the first less the second on what both answered."""
    pairs = [(a, b) for a, b in pairs if a and b]
    shared = sorted(set.intersection(*({*a} & {*b} for a, b in pairs))) if pairs else []
    if not shared:
        return None
    rows = [[a[one][0] - b[one][0] for one in shared] for a, b in pairs]
    sums, counts = sums_by_cluster(rows, [f"{one[0]} {pairs[0][0][one][1]}" for one in shared])
    return fmean(map(fmean, rows)), *bootstrap_interval(sums, counts, resamples // 5)


def decide(found):
    """found: (mean, low, high) of each task."""
    return in_words(sum(low > 0 for _, low, _ in found), sum(high < 0 for _, _, high in found), len(found))


def in_words(better, worse, tasks):
    """How many of the tasks are better and worse beyond doubt."""
    if better and not worse:
        return "holds" if 2 * better > tasks else f"holds on {better} of {tasks}"
    if worse and not better:
        return "does not hold" if 2 * worse > tasks else f"the opposite on {worse} of {tasks}"
    return f"holds on {better}, the opposite on {worse} of {tasks}" if better else "cannot be told from noise"


def summary(rows):
    """Lines of the claims by what became of them."""
    kinds = [("Hold", lambda v: v == "holds"), ("Hold on some tasks", lambda v: v.startswith("holds on")),
             ("Cannot be told from noise", lambda v: v.startswith("cannot")),
             ("Do not hold", lambda v: v.startswith(("does not", "the opposite")))]
    lines = []
    for kind, of_kind in kinds:
        verdicts = [(claim, said_of_it.strip("*")) for claim, _, _, said_of_it in rows]
        ones = [claim + (f" ({verdict.removeprefix('holds ')})." if " on " in verdict else ".")
                for claim, verdict in verdicts if of_kind(verdict)]
        if ones:
            lines.append(f"- **{kind}**: " + " ".join(ones))
    return lines


def said(found, tasks):
    return "; ".join(f"{task} {one[0]:+.2f} ({one[1]:+.2f} to {one[2]:+.2f})" for task, one in zip(tasks, found))


class Claims:
    def __init__(self, kept, plan):
        self.kept, self.resamples, self.rows = kept, plan["resamples"], []
        self.unseen = [one["task"] for one in plan["primary"]]

    def add(self, claim, paper, by_task):
        """by_task: {task: pairs}."""
        found = {task: one for task, pairs in by_task.items() if (one := contrast(pairs, self.resamples))}
        if found:
            self.rows.append([claim, paper, said(found.values(), found), f"**{decide(list(found.values()))}**"])

    def own(self, claim, paper, other):
        """Experts on what they were trained on, less the base or a control: `other`(policy)."""
        by_task = {}
        for name in self.kept.names("controls"):
            task = name.split("/")[1]
            policies = [p for p in self.kept.accuracies(name) if re.fullmatch(rf"{task}-\d+", p)]
            by_task[task] = [(answers(self.kept, name, p), answers(self.kept, name, other(p))) for p in policies]
        self.add(claim, paper, by_task)

    def on_test(self, claim, paper, policies):
        """policies(task): pairs of names in sealed/all-TASK."""
        read = lambda task, policy: answers(self.kept, f"sealed/all-{task}", policy)
        self.add(claim, paper, {task: [(read(task, a), read(task, b)) for a, b in policies(task)] for task in self.unseen})

    def routed(self, claim, paper, first, second):
        """Two of prompt, classifier, few_shot and base, on the items of the routed."""
        def read(who, seed, task):
            if who == "few_shot":
                return answers(self.kept, f"sealed/all-{task}", f"few_shot {seed}", task)
            name = f"sealed/{'prompt' if who == 'base' else who}-{seed}"
            policies = [p for p in self.kept.accuracies(name) if (p == who if who == "base" else who in p)]
            return answers(self.kept, name, policies[0], task) if policies else {}
        seeds = sorted(name.rsplit("-", 1)[1] for name in self.kept.names("sealed") if re.search(r"/prompt-\d+$", name))
        self.add(claim, paper, {task: [(read(first, s, task), read(second, s, task)) for s in seeds] for task in self.unseen})

    def runs(self, claim, paper, first, second):
        """Two kinds of runs on the rivals' task: patterns of results' names whose only group is the seed."""
        found = []
        for pattern in (first, second):
            block = pattern.split("/")[0]
            found.append({m[1]: name for name in self.kept.names(block) if (m := re.fullmatch(pattern + "-validation", name))})
        pairs = []
        for seed in sorted({*found[0]} & {*found[1]}):
            of = [answers(self.kept, one[seed], "expert") for one in found]
            task = next(iter(of[0]))[0] if of[0] else None
            pairs.append(tuple({key: value for key, value in one.items() if key[0] == task} for one in of))
        self.add(claim, paper, {"own task": pairs})


def hypotheses(claims, tested, plan):
    if not tested:
        return
    _, words = verdicts(tested, plan["verdict"]["p_at_most"])
    better, worse = words.count("better"), words.count("worse")
    found = said([(one["mean"], one["low"], one["high"]) for one in tested], [one["task"] for one in tested])
    claims.rows.append(["The few-shot mixture beats the best single expert (the hypotheses)",
                        "implied, not measured", found,
                        f"**{in_words(better, worse, len(words))}**"])


def section(kept, tested, plan, chosen):
    """tested: what tables.test_of gave; chosen(method, task): {seed: policy in sealed/all-TASK}."""
    claims = Claims(kept, plan)
    claims.own("Scales of singular values, trained by reinforcement learning, improve the task", "-1 to +7 points, three models",
               lambda policy: "base")
    claims.own("It is these scales that do it: shuffled, they do less", "not tried", lambda policy: f"{policy} shuffled")
    less = lambda second: lambda task: [(f"few_shot {seed}", policy) for seed, policy in chosen(second, task).items()]
    claims.on_test("The few-shot mixture beats the base on unseen tasks", "+0.4 to +4 points", less("base"))
    hypotheses(claims, tested, plan)
    claims.on_test("The few-shot mixture beats equal shares of all experts", "+1.0 (MATH)", less("uniform"))
    claims.on_test("Experts must be trained: the same search over random z does worse", "not tried", less("random_pool"))
    claims.on_test("Searching a mixture beats training a new z on the shots", "+0.4 to +1.5 over (IA)3", less("new_z"))
    claims.routed("The prompt strategy beats the base", "-1.2 to +1.2", "prompt", "base")
    claims.routed("The classifier expert beats the base", "-1.4 to +3.1", "classifier", "base")
    claims.routed("The classifier expert beats the prompt strategy", "in 2 of 6", "classifier", "prompt")
    claims.routed("The few-shot mixture beats the classifier expert", "in 6 of 6", "few_shot", "classifier")
    for name, words in (("svf", "SVF of the MLPs learns more than LoRA of rank 16"),
                        ("svf_all", "SVF of all linears learns more than LoRA of rank 16")):
        claims.runs(f"{words}, at equal replies, each at its best rate", "-1 to +12 points", rf"rivals/{name}-(\d+)", r"rivals/lora_16-(\d+)")
    claims.runs("SVF by policy gradient beats SVF by next tokens", "+16 points", r"rivals/svf-(\d+)", r"two_by_two/svf-(\d+)")
    claims.runs("LoRA by policy gradient does worse than by next tokens", "-19 points", r"two_by_two/lora_16-(\d+)", r"rivals/lora_16-(\d+)")
    claims.runs("MLPs are worth more than attention", "+2.4 points", r"ablations/where-MLP-(\d+)", r"ablations/where-attention-(\d+)")
    claims.runs("MLPs and attention together beat MLPs", "+0.6 points", r"ablations/where-both-(\d+)", r"ablations/where-MLP-(\d+)")
    if not claims.rows:
        return []
    return ["### The paper's claims, and what this study found", "", "On SmolLM2-135M-Instruct and these tasks:", "", *summary(claims.rows), "",
            "Differences in accuracy, with 95 % intervals "
            "over seeds and clusters of items; a claim holds where the interval is above zero on more than half of the tasks and below "
            "on none, and on some where it is above zero there. All but the hypotheses' are exploratory and not corrected for their number. The paper's figures are points of "
            "its own models and tasks, without intervals.", "",
            *table(["claim", "the paper", "found here", "so it"], claims.rows)]
