"""What a folder of results holds, read for the tables."""
import gzip
import json
from statistics import fmean


class Kept:
    def __init__(self, folder):
        self.folder, self.read = folder, {}  # items by name: many tables are of the same ones

    def report(self, name):
        """What is kept under the name, or None."""
        path = self.folder / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def names(self, block):
        """Names of a block's results, in order."""
        return sorted(f"{block}/{path.stem}" for path in (self.folder / block).glob("*.json"))

    def items(self, name):
        """[{task, item, cluster, replies}] of a measurement, or []."""
        if name not in self.read:
            path = self.folder / f"{name}.jsonl.gz"
            text = gzip.decompress(path.read_bytes()).decode("utf-8") if path.exists() else ""
            self.read[name] = [json.loads(line) for line in text.split("\n")[:-1]]
        return self.read[name]

    def accuracies(self, name):
        """{policy: {task: accuracy}} from the items themselves."""
        found = {}
        for item in self.items(name):
            for policy, reply in item["replies"].items():
                found.setdefault(policy, {}).setdefault(item["task"], []).append(float(reply["right"]))
        return {policy: {task: fmean(values) for task, values in tasks.items()} for policy, tasks in found.items()}

    def block_minutes(self):
        return {folder.name: sum(self.report(name).get("took_s", 0) for name in self.names(folder.name)) / 60
                for folder in sorted(self.folder.iterdir()) if folder.is_dir()}

    def programs(self):
        """Marks of the builds of svfleet that computed, as far as results name them."""
        return sorted({str(self.report(name).get("program", "")) for folder in self.folder.iterdir() if folder.is_dir()
                       for name in self.names(folder.name)})
