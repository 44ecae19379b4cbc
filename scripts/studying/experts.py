"""The experts, the classifier, and the controls that are trained like them."""


def expert(lab, task, seed):
    """The file of a task's expert; trained where it is not yet."""
    return lab.train(f"experts/{task}-{seed}", [f"task={lab.plan.task(task)}", f"train.seed={seed}"],
                     lab.plan.train_steps())["expert"]


def classifier(lab, seed):
    return lab.train(f"experts/classifier-{seed}", [f"train.seed={seed}"], lab.plan.train_steps(),
                     config=lab.plan["classifier"])["expert"]


def train_all(lab):
    lab.decompose("experts/decompose")
    for seed in lab.plan.seeds:
        for task in lab.plan["own"]:
            expert(lab, task, seed)
        classifier(lab, seed)


def controls(lab):
    """On validation items: each own task's experts, shuffled and mirrored; of one task also experts that were
    trained on random rewards, and on format alone."""
    plan = lab.plan
    for task in plan["own"]:
        lab.measure(f"controls/{task}", [task], {f"{task}-{s}": expert(lab, task, s) for s in plan.seeds},
                    plan["controls"]["items"], "--controls")
    task, trained = plan["controls"]["task"], {}
    rewards = {"random": "[{kind: random}]",
               "format": "[{kind: regex, match_only: true, pattern: '" + plan["controls"]["format"] + "'}]"}
    for name, reward in rewards.items():
        for seed in plan["controls"]["seeds"]:
            found = lab.train(f"controls/{name}-{seed}", [f"task={plan.task(task)}", f"task.rewards={reward}",
                                                          f"train.seed={seed}"], plan.train_steps())
            trained[f"{name}-{seed}"] = found["expert"]
    lab.measure("controls/trained", [task], trained, plan["controls"]["items"])
