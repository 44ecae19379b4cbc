"""A job that computes, what a fault may do to it, and how it is seen to go on."""
import os
import re
import signal
import time
from pathlib import Path

from chaos_bench import run
from chaos_bench.cluster import Broken, TooLate, wait_for

PATIENCE_S = 240  # from a fault to the first new chunk


class Scene:
    """One running job and what a fault may do to it."""

    def __init__(self, box, disk, store, chance, timeout_s):
        self.box, self.disk, self.store = box, disk, store
        self.chance, self.timeout_s = chance, timeout_s
        self.job, self.last = None, None

    # For the faults.

    def any_rank(self):
        def look():
            ranks = self.job.ranks()
            if not ranks and self.job.over():
                raise TooLate
            return len(ranks) == self.job.nodes and ranks
        return self.chance.choice(wait_for(look, 20, "a job with all its ranks"))

    def frozen(self, good_moment):
        """All ranks stopped at a moment when good_moment() holds, which cannot pass any more."""
        for _ in range(600):
            ranks = self.job.ranks()
            for rank in ranks:
                rank.signal(signal.SIGSTOP)
            time.sleep(0.01)
            if not ranks and self.job.over():
                raise TooLate
            if len(ranks) == self.job.nodes and good_moment():
                return ranks
            for rank in ranks:
                rank.signal(signal.SIGCONT)
            time.sleep(self.chance.uniform(0.02, 0.2))
        raise Broken("the moment for the fault did not come")

    def now(self):
        """The fault comes at this moment: what the job says and does from here on belongs to it."""
        self.victims = self.job.ranks()
        self.at = run.where(self.job.run_dir)
        self.said_before, self.starts_before = len(self.job.text()), len(self.job.starts())
        self.named = self.computed = None
        self.moment = time.time()

    def break_device(self, node):
        """worker/test_fault.h"""
        Path(os.environ["SVFLEET_TEST_FAULT"]).write_text(f"ecc {node}")

    def mend_device(self):
        Path(os.environ["SVFLEET_TEST_FAULT"]).unlink()

    def must_name(self, file):
        self.named = file

    def said(self):
        return self.job.text()[self.said_before:]

    def until_said(self, pattern, seconds, meanwhile=lambda: None):
        looked = time.time()

        def look():
            nonlocal looked
            meanwhile()
            if time.time() > looked + 1:
                looked = time.time()
                if self.job.over() == "COMPLETED":
                    raise TooLate
            return re.search(pattern, self.said(), re.M)
        wait_for(look, seconds, f"a line like '{pattern}'")

    def until_restarted(self):
        def look():
            self.box.tend()
            return len(self.job.starts()) > self.starts_before
        wait_for(look, PATIENCE_S, "a restart")

    def until_gone(self, meanwhile=lambda: None):
        """Until the ranks of before are dead and the job script has decided."""
        def look():
            meanwhile()
            return (not any(rank.alive() for rank in self.victims) and
                    "svfleet job: srun ended" in self.said())
        wait_for(look, 60, "the end of the disturbed ranks")

    def until_computing(self):
        start = time.time()
        self.computed = wait_for(lambda: run.finished_after(self.job.run_dir, start), PATIENCE_S,
                                 "a new chunk")

    # For the main loop.

    def disturb(self, kind):
        """One fault, until the run computes again or is over. Returns its record."""
        what = kind.inject(self)
        self.kind, self.lasted = kind, time.time() - self.moment
        self.refused = False
        resumed = self.until_resumed(time.time())
        self.seconds = (self.computed or resumed) - self.moment
        self.last = self.record(what)
        return self.last

    def notice_late_restart(self):
        """A fault that seemed to be survived without a restart may have its effect only now."""
        if self.last and len(self.job.starts()) > self.starts_before + self.last["restarts"]:
            self.last["seconds"] = round(self.until_resumed(time.time()) - self.moment, 1)
            self.last["restarts"] = len(self.job.starts()) - self.starts_before
            self.last["requeued"] = True

    def until_resumed(self, fault_ended):
        """When the first chunk or checkpoint was finished that this fault did not stop."""
        seen, restarted, looked = self.starts_before, None, time.time()
        end = time.time() + PATIENCE_S
        while time.time() < end:
            self.box.tend()
            starts = len(self.job.starts())
            if starts > seen:
                seen, restarted = starts, time.time()
            if restarted:
                if moment := run.finished_after(self.job.run_dir, restarted):
                    return moment
            # Not restarted: all ranks have met after the fault, or its effect may be still to come.
            elif not self.kind.restarts and run.checkpoint_after(self.job.run_dir, fault_ended + 1):
                return run.finished_after(self.job.run_dir, fault_ended) or time.time()
            if time.time() > looked + 1:
                looked = time.time()
                state = self.job.over()
                if state == "COMPLETED":
                    return time.time()
                if state:
                    self.accept_refusal(state)
            time.sleep(0.05)
        raise Broken(f"no new chunk within {PATIENCE_S} s after '{self.kind.name}'")

    def accept_refusal(self, state):
        """The job stopped for a person. Right when it said the right thing; then the person, who has
        mended the cause, submits again."""
        if self.refused or not re.search(r"^svfleet job: not started again, code 2", self.said(),
                                         re.M) or not self.line():
            raise Broken(f"the job ended as {state} after '{self.kind.name}'")
        self.refused = True
        self.job.submit()

    def line(self):
        """What the program said about this fault: the first line of the most telling kind."""
        text = self.said()
        for pattern in self.kind.said:
            for match in re.finditer(pattern, text, re.M):
                if not self.named or self.named in match.group():
                    return match.group().strip()
        return ""

    def record(self, what):
        # What the ranks print comes through Slurm, a little later than what they write.
        end = time.time() + 10
        while self.kind.must_say and not self.line() and time.time() < end:
            time.sleep(0.1)
        text, line = self.said(), self.line()
        if re.search(r"internal error|code 70", text):
            raise Broken(f"an internal error after '{self.kind.name}'")
        if self.kind.must_say and not line:
            raise Broken(f"the program did not say what it must after '{self.kind.name}'"
                         + (f" (nothing names {self.named})" if self.named else ""))
        for path, name in ((self.job.run_dir, "RUN"), (self.store, "STORE")):
            line, what = line.replace(str(path), name), what.replace(str(path), name)
        line = re.sub(r"^\d\d:\d\d:\d\d ", "", line)
        return {
            "kind": self.kind.name, "what": what, "time": round(self.moment, 2),
            "step": self.at[0], "chunks": self.at[1],
            "requeued": len(self.job.starts()) > self.starts_before,
            "restarts": len(self.job.starts()) - self.starts_before,
            "refused": self.refused, "seconds": round(self.seconds, 1),
            "lasted_s": round(self.lasted, 1), "said": line,
            "errors": re.findall(r"^svfleet: (?!job).*", text, re.M)}
