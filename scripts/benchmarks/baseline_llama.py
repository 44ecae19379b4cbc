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


def replies(length):
    """Seconds, and the replies in the order of the requests."""
    begin = time.monotonic()
    given = server.handle_completions(
        {"prompt": [r["tokens"] for r in requests], "n_predict": length, "temperature": 0, "top_k": 1,
         "ignore_eos": True, "cache_prompt": False, "return_tokens": True})
    seconds = time.monotonic() - begin
    given = given if isinstance(given, list) else [given]
    given.sort(key=lambda one: one.get("index", 0))
    return seconds, [one["tokens"] for one in given]


found = {"runs": []}
replies(4)
for _ in range(int(runs)):
    first_s, _ = replies(1)
    seconds, found["replies"] = replies(count)
    tokens = sum(map(len, found["replies"]))
    found["runs"].append({"seconds": seconds, "tokens": tokens, "after_first_s": seconds - first_s,
                          "tokens_after_first": tokens - len(requests)})
print(json.dumps(found))
