"""Greedy replies by llama.cpp, a slot for each request, no end but their length:
baseline_llama.py MODEL.gguf REQUESTS.json THREADS RUNS. Prints what bench_engine's `generate` does."""
import json
import sys
import time

import xllamacpp

gguf, requests_file, threads, runs = sys.argv[1:]
with open(requests_file, encoding="utf-8") as file:
    requests = json.load(file)
count = requests[0]["max_new_tokens"]
longest = max(len(r["tokens"]) for r in requests) + count + 8
params = xllamacpp.CommonParams()
params.model.path = gguf
params.n_parallel = len(requests)
params.n_ctx = len(requests) * longest
params.n_batch = params.n_ubatch = 2048
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
params.cache_prompt = False
params.verbosity = -1
server = xllamacpp.Server(params)


def replies(length, tokens=False):
    """Seconds, with `tokens` the replies in the order of the requests, and the server's own clock:
    milliseconds after the first token of a reply."""
    asked = {"prompt": [r["tokens"] for r in requests], "n_predict": length, "temperature": 0,
             "top_k": 1, "ignore_eos": True, "cache_prompt": False}
    begin = time.monotonic()
    given = server.handle_completions({**asked, "logprobs": 1} if tokens else asked)
    seconds, choices = time.monotonic() - begin, given["choices"]
    if len(choices) != len(requests) or any(one["finish_reason"] != "length" for one in choices):
        sys.exit("llama.cpp: not every reply has the length that was asked for")
    choices.sort(key=lambda one: one["index"])
    ids = [[t["id"] for t in one["logprobs"]["content"]] for one in choices] if tokens else None
    return seconds, ids, given["timings"]["predicted_ms"]


found = {"runs": [], "replies": replies(min(count, 16), tokens=True)[1]}  # the first warms up
for _ in range(int(runs)):
    first_s = replies(1)[0]
    seconds, _, own_ms = replies(count)
    after = own_ms / 1e3 if len(requests) == 1 else seconds - first_s
    if after <= 0:
        sys.exit("llama.cpp: replies of one token took longer than whole ones: the machine is too busy")
    found["runs"].append({"seconds": seconds, "tokens": count * len(requests), "after_first_s": after,
                          "tokens_after_first": (count - 1) * len(requests)})
print(json.dumps(found))
