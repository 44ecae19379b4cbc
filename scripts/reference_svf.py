"""The yardstick beside svfleet: the same method in plain PyTorch and transformers, one process.

  python scripts/reference_svf.py models/SmolLM2-135M-Instruct --seed 0

Full SVDs, weight gradients by autograd that are then projected on the singular directions, no
sharing of prompts, no resume. Same task files, same objective: z = 1 + p, Adam, leave-one-out
advantages, rewards of 1 and -1, a reply that does not end by itself is wrong. Prints the accuracy on
the test items before and after, and the seconds per step. Needs torch and transformers, which
scripts/setup does not install: pip install torch==2.11.0 transformers==4.57.6.
"""
import argparse
import json
import math
import random
import re
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ADAPTED = re.compile(r"\.mlp\.(gate|up|down)_proj\.weight$")
NUMBER = re.compile(r"-?\d+")


class Matrix:
    """One adapted weight W' = W + U diag(s p) Vᵀ, which is U diag(s (1 + p)) Vᵀ."""

    def __init__(self, weight):
        self.weight = weight  # the model's own parameter, holds W'
        self.original = weight.detach().float().clone()
        self.u, self.s, self.vt = torch.linalg.svd(self.original, full_matrices=False)
        self.p = torch.zeros_like(self.s)

    @torch.no_grad()
    def merge(self):
        self.weight.copy_(self.original + (self.u * (self.s * self.p)) @ self.vt)

    @torch.no_grad()
    def project(self):
        """dL/dp_i = s_i u_iᵀ (dL/dW') v_i."""
        gradient = self.weight.grad.float()
        self.p.grad = self.s * (self.u * (gradient @ self.vt.T)).sum(0)
        self.weight.grad = None


class Trainer:
    def __init__(self, arguments):
        self.arguments = arguments
        self.tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
        self.model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
        self.model.requires_grad_(False)
        self.matrices = [Matrix(w) for name, w in self.model.named_parameters() if ADAPTED.search(name)]
        self.optimizer = torch.optim.Adam([m.p for m in self.matrices], lr=arguments.learning_rate)

    @torch.no_grad()
    def reply(self, items, samples):
        """Prompts and replies as one batch: (tokens, attention mask, prompt width, reply lengths, ended)."""
        texts = [self.tokenizer.apply_chat_template([{"role": "user", "content": item["question"]}],
                                                    add_generation_prompt=True, tokenize=False) for item in items]
        batch = self.tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False)
        how = dict(do_sample=True, temperature=1.0, top_k=0, top_p=1.0) if samples else dict(do_sample=False)
        tokens = self.model.generate(**batch, max_new_tokens=self.arguments.max_new_tokens,
                                     num_return_sequences=max(1, samples), **how)
        width = batch["input_ids"].shape[1]
        stops = tokens[:, width:] == self.tokenizer.eos_token_id
        ended = stops.any(1)
        lengths = torch.where(ended, stops.int().argmax(1) + 1, stops.shape[1])
        mask = batch["attention_mask"].repeat_interleave(max(1, samples), 0)
        return tokens, mask, width, lengths, ended

    def right(self, items, tokens, width, ended):
        """One bool per reply: it ends by itself, and its last number is the answer."""
        each = len(tokens) // len(items)
        texts = self.tokenizer.batch_decode(tokens[:, width:], skip_special_tokens=True)
        return torch.tensor([bool(end) and NUMBER.findall(text)[-1:] == [items[i // each]["answer"]]
                             for i, (text, end) in enumerate(zip(texts, ended))])

    def evaluate(self, items, label):
        if not items:
            return
        right = ended_count = tokens_count = 0
        for first in range(0, len(items), 32):
            part = items[first : first + 32]
            tokens, _, width, lengths, ended = self.reply(part, samples=0)
            right += int(self.right(part, tokens, width, ended).sum())
            ended_count += int(ended.sum())
            tokens_count += int(lengths.sum())
        n, share = len(items), right / len(items)
        print(f"{label}: accuracy {share:.3f} +- {math.sqrt(share * (1 - share) / n):.3f} on {n} items, "
              f"ended {ended_count / n:.1%}, {tokens_count / n:.1f} tokens", flush=True)

    def log_probs(self, tokens, mask, width, lengths):
        """log π of each sampled token, and which are real: both [replies, longest]."""
        tokens = tokens[:, : width + int(lengths.max())]
        real = torch.arange(tokens.shape[1] - width) < lengths[:, None]
        attention = torch.cat([mask, real.to(mask.dtype)], 1)
        positions = (attention.cumsum(1) - 1).clamp_min(0)
        hidden = self.model.model(input_ids=tokens, attention_mask=attention, position_ids=positions).last_hidden_state
        logits = self.model.lm_head(hidden[:, width - 1 : -1][real]).float()
        chosen = torch.log_softmax(logits, -1).gather(1, tokens[:, width:][real][:, None]).squeeze(1)
        return torch.zeros(real.shape).masked_scatter(real, chosen), real

    def step(self, items):
        samples, marks = self.arguments.samples, [time.time()]
        tokens, mask, width, lengths, ended = self.reply(items, samples)
        right = self.right(items, tokens, width, ended)
        if self.arguments.random_rewards:
            right = torch.rand(right.shape) < 0.5
        reward = (2 * right.float() - 1).view(-1, samples)
        others = (reward.sum(1, keepdim=True) - reward) / (samples - 1)
        advantage = (reward - others).flatten()
        marks.append(time.time())
        trained = advantage != 0
        if trained.any():
            for matrix in self.matrices:
                matrix.weight.requires_grad_(True)
            chosen, _ = self.log_probs(tokens[trained], mask[trained], width, lengths[trained])
            loss = -(chosen.sum(1) * advantage[trained]).sum() / len(advantage)
            loss.backward()
            for matrix in self.matrices:
                matrix.weight.requires_grad_(False)
                matrix.project()
            marks.append(time.time())
            self.optimizer.step()
            for matrix in self.matrices:
                matrix.merge()
        else:
            marks.append(time.time())
        marks.append(time.time())
        sample_s, gradient_s, update_s = (b - a for a, b in zip(marks, marks[1:]))
        count = int(lengths.sum())
        return right.float().mean().item(), ended.float().mean().item(), count, sample_s, gradient_s, update_s


def read_items(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Hugging Face folder")
    parser.add_argument("--task", type=Path, default=Path(__file__).resolve().parents[1] / "examples/tasks/max3",
                        help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--items", type=int, default=1000, help="test items; 0: no evaluation")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--prompts", type=int, default=8, help="per step")
    parser.add_argument("--samples", type=int, default=4, help="per prompt")
    parser.add_argument("--max-new-tokens", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--random-rewards", action="store_true", help="the control that must fail")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)

    start = time.time()
    trainer = Trainer(arguments)
    count = sum(len(m.p) for m in trainer.matrices)
    print(f"{len(trainer.matrices)} matrices, {count:,} numbers, loaded and decomposed in {time.time() - start:.1f} s", flush=True)
    test = read_items(arguments.task / "test.jsonl")[: arguments.items]
    train = read_items(arguments.task / "train.jsonl")
    random.Random(arguments.seed).shuffle(train)
    trainer.evaluate(test, "before")
    seconds = []
    for step in range(arguments.steps):
        first = step * arguments.prompts % (len(train) - arguments.prompts + 1)
        accuracy, ended, count, *phases = trainer.step(train[first : first + arguments.prompts])
        seconds.append(sum(phases))
        print(f"step {step + 1}: accuracy {accuracy:.2f}, ended {ended:.2f}, {count} tokens, "
              "sample {:.2f} s, gradient {:.2f} s, update {:.2f} s".format(*phases), flush=True)
    trainer.evaluate(test, "after")
    z = torch.cat([1 + m.p for m in trainer.matrices])
    print(f"z from {z.min():.3f} to {z.max():.3f}; {sum(seconds):.0f} s of steps, "
          f"mean {sum(seconds) / len(seconds):.2f} s, median {sorted(seconds)[len(seconds) // 2]:.2f} s per step")


if __name__ == "__main__":
    main()
