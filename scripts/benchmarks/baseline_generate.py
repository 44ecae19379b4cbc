"""Greedy replies by transformers, all requests as one batch, no end but their length:
baseline_generate.py MODEL REQUESTS.json THREADS RUNS DTYPE. Prints what bench_engine's `generate` does."""
import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM, StoppingCriteria

model_folder, requests_file, threads, runs, dtype = sys.argv[1:]
torch.set_num_threads(int(threads))
with open(requests_file, encoding="utf-8") as file:
    requests = json.load(file)
model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=getattr(torch, dtype)).eval()
model.generation_config.eos_token_id = None
width, count = max(len(r["tokens"]) for r in requests), requests[0]["max_new_tokens"]
ids = torch.zeros(len(requests), width, dtype=torch.long)
mask = torch.zeros_like(ids)
for row, request in enumerate(requests):  # padding is on the left
    n = len(request["tokens"])
    ids[row, width - n :], mask[row, width - n :] = torch.tensor(request["tokens"]), 1


class Clock(StoppingCriteria):
    def __init__(self):
        self.times = []

    def __call__(self, input_ids, scores, **_):
        self.times.append(time.monotonic())
        return torch.zeros(len(input_ids), dtype=torch.bool)


found = {"runs": []}
for run in range(int(runs) + 1):  # the first warms up
    clock, begin = Clock(), time.monotonic()
    with torch.no_grad():
        tokens = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, pad_token_id=0,
                                max_new_tokens=count if run else 4, stopping_criteria=[clock])
    if run:
        made = tokens[:, width:]
        found["replies"] = made.tolist()
        found["runs"].append({"seconds": clock.times[-1] - begin, "tokens": made.numel(),
                              "after_first_s": clock.times[-1] - clock.times[0],
                              "tokens_after_first": made.numel() - len(requests)})
print(json.dumps(found))
