"""A step by evolution strategies: how much of it is generating its rows, members beside each other."""
from benchmarks import step
from benchmarks.result import Result, spread

MORE = ("train.method=es", "train.form=activation", "train.population=16", "train.members_per_chunk=4",
        "train.prompts_per_step=4", "train.samples_per_prompt=2", "workers=1")


def measure(bench):
    result, store, expert = Result(), bench.store(), step.write_expert(bench)
    steps = 2 if bench.quick else 8
    seconds, found = step.trained(bench, "evolution", steps, store, expert, MORE)
    # The first step packs.
    records, seconds = found["records"][1:], seconds[1:]
    generating = [record["seconds"]["generate"] for record in records]
    tokens = [record["replies"] * record["mean_tokens"] for record in records]
    result.table("Steps by evolution strategies on the quickstart, 16 members, 32 rows in a batch",
                 ["", "seconds a step", "tokens a step"],
                 [["step", spread(seconds), spread(tokens, "", 4)], ["of it generating", spread(generating), ""]])
    share = sum(generating) / sum(seconds)
    result.want("speed of a step in terms of generating the same rows: at least 0.9", f"{share:.2f}", share >= 0.9)
    return result
