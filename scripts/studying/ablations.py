"""Which matrices, layers and components; copies of the model with noise; tasks that cannot be learnt."""
import shutil

from studying.experts import expert
from studying.files import change_of, write_noisy_model
from studying.lab import shown
from studying.plan import ROOT, read
from studying.rivals import run, validated


def model(lab):
    given = [one.split("=", 1)[1] for one in lab.plan.settings if one.startswith("model.path=")]
    return given[0] if given else read(ROOT / lab.plan["config"])["model"]["path"]


def ablations(lab):
    what, rate = lab.plan["ablations"], lab.plan["rivals"]["cores"][0]["rate"]
    lab.decompose("ablations/decompose_all", "svd.targets=[all]")
    for kind in ("where", "layers", "components"):
        for row in what[kind]:
            own = [one for one in row["set"] if one.startswith("train.learning_rate=")]
            core = {"set": [one for one in row["set"] if one not in own]}
            for seed in what["seeds"]:
                name = f"ablations/{kind}-{row['name'].replace(' ', '_').replace(',', '')}-{seed}"
                rates = float(own[0].split("=")[1]) if own else rate
                trained = run(lab, name, core, rates, seed)["expert"]
                validated(lab, f"{name}-validation", trained, core)
                if kind == "components":
                    lab.once(f"{name}-change", lambda: {"change": change_of(ROOT / trained, ROOT / model(lab))})


def noisy(lab, noise):
    """The folder of the copy; its factor store lies beside it."""
    folder = lab.out / "copies" / f"{noise:g}"
    if not folder.exists() and not lab.dry:
        temporary = folder.with_name(f".tmp-{folder.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        write_noisy_model(temporary, ROOT / model(lab), noise)
        temporary.rename(folder)
    return folder


def copies(lab):
    """The expert carried over by matrix and order of singular values, beside itself shuffled and reversed."""
    what = lab.plan["copies"]
    trained = expert(lab, what["task"], what["seed"])
    lab.measure("copies/0", [what["task"]], {"transferred": trained}, what["items"])
    for noise in what["noise"]:
        folder, policies = noisy(lab, noise), {}
        there = lab.on(f"model.path={shown(folder)}", f"svd.store={shown(folder)}.factors")
        there.decompose(f"copies/decompose-{noise:g}")
        for control in ("", "shuffled", "reversed"):
            out = lab.out / "mixtures" / f"copy-{noise:g}{control and '-' + control}.safetensors"
            policies[control or "transferred"] = there.make(out, lambda to, c=control: there.run(
                "transfer", there.config, to, "--quiet", "--expert", trained, *(["--control", c] if c else [])))
        there.measure(f"copies/{noise:g}", [what["task"]], policies, what["items"])


def nulls(lab):
    """Two steps at a time, until all are done or no group of replies has had a signal for too long."""
    what = lab.plan["nulls"]
    for file in what["runs"]:
        name, config = file.rsplit("/", 1)[1].removesuffix(".yaml"), read(ROOT / file)
        task = config["task"]["file"] if isinstance(config["task"], dict) else config["task"]
        data = (ROOT / task).parent / read(ROOT / task)["train"]
        if not data.exists():
            lab.once(f"nulls/{name}", lambda: {"missing": shown(data), "see": task})
            continue
        for steps in range(2, what["steps"] + 1, 2):
            found = lab.train(f"nulls/{name}-{steps}", [], steps, config=file, run=f"nulls/{name}",
                              replies=config["train"]["prompts_per_step"] * config["train"]["samples_per_prompt"])
            if steps >= what["patience"] and not any(found["cost"]["signal"]):
                break
        lab.measure(f"nulls/{name}-validation", None, {"expert": found["expert"]}, what["items"], config=file)
