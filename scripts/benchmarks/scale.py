"""Two ranks of one thread each against one; and two workers in one process."""
from benchmarks import step
from benchmarks.programs import MPIRUN, Contender, alternate, run
from benchmarks.result import Result, spread

ONE_THREAD = ("workers=1", "threads=1", "train.prompts_per_chunk=1")


def measure(bench):
    result, store, expert = Result(), bench.store(), step.write_expert(bench)
    steps = 2 if bench.quick else 8

    def ranks(count):
        launcher = [*MPIRUN, "-n", str(count)] if count > 1 else []
        return step.trained(bench, f"scale-{count}", steps, store, expert, ONE_THREAD, launcher)

    def two_workers(_):
        return step.trained(bench, "scale-workers", steps, store, expert, ("workers=2", *ONE_THREAD[1:]))

    one = Contender("one rank of one thread", lambda _: ranks(1))
    two = Contender("two ranks of one thread each", lambda _: ranks(2))
    beside = Contender("one rank with two workers of one thread", two_workers)
    all_of_them = alternate(bench, [one, two, beside])
    result.record(all_of_them)
    result.table(f"Steps of the quickstart, a prompt a chunk, {len(one.seconds)} of each", ["", "seconds a step", "times faster"],
                 [[each.name, spread(each.seconds), f"{one.median / each.median:.2f}"] for each in all_of_them])
    hashes = {run([bench.svfleet, "hash", each.found["run_dir"]])[0].strip() for each in all_of_them}
    result.verify("hashes of the three runs", f"{len(hashes)} hash", len(hashes) == 1)
    value = one.median / two.median
    result.want("two ranks of one thread against one: at least 1.85", f"{value:.2f}", value >= 1.85)
    return result
