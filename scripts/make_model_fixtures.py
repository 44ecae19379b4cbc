#!/usr/bin/env python3
"""Makes tests/data/models: tiny random models as Hugging Face folders, and the numbers that
transformers computes for them and for SmolLM2-135M-Instruct.

  pip install torch==2.11.0 transformers==4.57.6
  scripts/make_model_fixtures.py tiny                 # tests/data/models/tiny_*
  scripts/make_model_fixtures.py smollm2 MODEL_FOLDER # tests/data/models/smollm2_expected.json

The real model's weights are not committed; scripts/fetch_model makes them. Everything is computed
in float32 with eager attention. Each expected.json has
  logits    ids; positions; the logits at those positions, whole vocabulary
  greedy    messages; text (chat template applied); ids; up to 64 greedy tokens, end-of-sequence
            token included; gaps between the two best logits and log-probability at each
  logprobs  ids; continuation; log-probability of each of its tokens
and smollm2_expected.json has in each of `greedy` also the logits after the prompt for vocab_ids.
"""
import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MistralConfig, Qwen2Config

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "models"
NEW_TOKENS = 64
VOCAB = 320
END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}"
)

QUESTIONS = [
    "Which number is the largest: 17, 84, 52? Answer with only the number.",
    "Which number is the largest: 99, 10, 63? Answer with only the number.",
    "What is the capital of France?",
    "What is 7 * 8?",
    "Tom has 3 boxes with 12 pencils each and gives 5 pencils away. How many are left?",
    "Write one sentence about the sea.",
    "Name three colours.",
    "What is the first letter of the word 'window'? Answer with only the letter.",
    "Translate to French: good morning",
    "Was ist der größte Planet im Sonnensystem?",
    "¿Cuántos días tiene una semana?",
    "水は何度で凍りますか？",
    "Write a Python function that returns the sum of a list.",
    "```cpp\nfor (int i = 0; i < n; ++i) total += x[i];\n```\nWhat does this do?",
    "Which is a mammal?\nA. trout\nB. whale\nC. eagle\nD. ant\nAnswer with only the letter.",
    "Complete the sequence: 2, 4, 8, 16,",
    "Explain in one line why the sky is blue. 🌤",
    "  Two spaces first,\n\n\tthen a tab.  Repeat the last word.  ",
]
PROMPTS = [[{"role": "user", "content": q}] for q in QUESTIONS] + [
    [
        {"role": "system", "content": "You answer in upper case."},
        {"role": "user", "content": "Say hello."},
    ],
    [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello Ada."},
        {"role": "user", "content": "What is my name?"},
    ],
]
# What the tiny tokenizers are trained on.
TEXT = QUESTIONS + [
    "the number that is the largest of the three is the answer, and only the number is the answer",
    "user system assistant question answer number largest 10 11 12 20 25 50 75 90 99 100",
    "What is the answer? The answer is that there is no answer to the question in this sentence.",
]


def llama3_regex():
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def qwen2_regex():
    return llama3_regex().replace(r"\p{N}{1,3}", r"\p{N}")


def make_tokenizer(family):
    """Byte-level BPE of 320 tokens, put together as the family's own tokenizer.json is."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    splits = {
        "llama3": lambda: [pre_tokenizers.Split(Regex(llama3_regex()), "isolated"), byte_level],
        "qwen2": lambda: [pre_tokenizers.Split(Regex(qwen2_regex()), "isolated"), byte_level],
        "smollm2": lambda: [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ],
    }
    tokenizer = Tokenizer(BPE(ignore_merges=family == "llama3"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits[family]())
    tokenizer.decoder = decoders.ByteLevel()
    if family == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    special = [END_OF_TEXT, IM_START, IM_END]
    first = family == "smollm2"  # special tokens before the others, or after them
    trainer = BpeTrainer(
        vocab_size=VOCAB if first else VOCAB - len(special),
        special_tokens=special if first else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    if not first:
        tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    if family == "llama3":
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{END_OF_TEXT} $A",
                special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
            ),
        ])
    assert tokenizer.get_vocab_size() == VOCAB
    return tokenizer


def tiny_models():
    common = dict(vocab_size=VOCAB, hidden_size=64, num_attention_heads=4, num_key_value_heads=2,
                  max_position_embeddings=512, attention_dropout=0.0)
    # Far below the lengths tested, and of the frequencies one is kept, one in between, six divided.
    llama3_scaling = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                          original_max_position_embeddings=64)
    return {
        "tiny_llama3": dict(
            config=LlamaConfig(**common, intermediate_size=96, num_hidden_layers=2, rope_theta=500000.0,
                               rope_scaling=llama3_scaling, rms_norm_eps=1e-5, tie_word_embeddings=False),
            tokenizer="llama3", dtype=torch.float32, shards=2, seed=6),
        "tiny_qwen2": dict(
            config=Qwen2Config(**common, intermediate_size=80, num_hidden_layers=3, rope_theta=1000000.0,
                               rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False),
            tokenizer="qwen2", dtype=torch.float32, shards=1, seed=5),
        "tiny_mistral": dict(
            config=MistralConfig(**common, intermediate_size=72, num_hidden_layers=2, head_dim=24,
                                 sliding_window=None, rope_theta=10000.0, rms_norm_eps=1e-5,
                                 tie_word_embeddings=False),
            tokenizer="smollm2", dtype=torch.float32, shards=1, seed=3),
        "tiny_llama_plain": dict(
            config=LlamaConfig(**common, intermediate_size=128, num_hidden_layers=3, rope_theta=10000.0,
                               rms_norm_eps=1e-5, tie_word_embeddings=False),
            tokenizer="smollm2", dtype=torch.bfloat16, shards=1, seed=4),
    }


def random_weights(model, seed, end_id):
    """Large enough that logits are decided by clear margins; norms and biases are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight"):
            weight.data = 1 + 0.2 * noise
        elif name.endswith(".bias"):
            weight.data = 0.5 * noise
        else:
            # Embeddings of size about one; linears that roughly keep the size of their input.
            scale = 1.0 if "embed_tokens" in name else 1.5 / weight.shape[1] ** 0.5
            if "lm_head" in name:
                scale *= 2.5
            if "embed_tokens" in name and model.config.tie_word_embeddings:
                scale *= 0.4
            weight.data = scale * noise
    # Replies should end by themselves now and then: sampled runs are of no use otherwise.
    head = model.get_output_embeddings().weight
    head.data[end_id] *= 2.0 if model.config.tie_word_embeddings else 1.3


def save_model(folder, model, spec, tokenizer):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    # One merge per line makes a needlessly long file.
    write_json(folder / "tokenizer.json", json.loads((folder / "tokenizer.json").read_text()))
    id_of = {t: tokenizer.token_to_id(t) for t in (END_OF_TEXT, IM_START, IM_END)}
    config = model.config
    config.architectures = [type(model).__name__]
    config.bos_token_id, config.pad_token_id = id_of[END_OF_TEXT], id_of[END_OF_TEXT]
    config.eos_token_id = id_of[IM_END]
    config.torch_dtype = spec["dtype"]
    config.save_pretrained(folder)
    # Llama 3 has a list of stop tokens here, not in config.json.
    stop = [id_of[END_OF_TEXT], id_of[IM_END]] if spec["tokenizer"] == "llama3" else id_of[IM_END]
    write_json(folder / "generation_config.json",
               {"bos_token_id": id_of[END_OF_TEXT], "eos_token_id": stop, "pad_token_id": id_of[END_OF_TEXT]})
    write_json(folder / "tokenizer_config.json",
               {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": END_OF_TEXT, "eos_token": IM_END,
                "pad_token": END_OF_TEXT, "model_max_length": config.max_position_embeddings,
                "clean_up_tokenization_spaces": False, "chat_template": CHATML})
    tensors = {n: w.detach().to(spec["dtype"]).contiguous() for n, w in model.named_parameters()}
    if spec["shards"] == 1:
        save(folder / "model.safetensors", tensors)
        return
    names, weight_map = sorted(tensors), {}
    for k in range(spec["shards"]):
        file = f"model-{k + 1:05}-of-{spec['shards']:05}.safetensors"
        part = names[k * len(names) // spec["shards"] : (k + 1) * len(names) // spec["shards"]]
        save(folder / file, {n: tensors[n] for n in part})
        weight_map |= {n: file for n in part}
    total = sum(w.numel() * w.element_size() for w in tensors.values())
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": total}, "weight_map": weight_map})


def save(path, tensors):
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def numbers(tensor, digits=7):
    return [float(f"{x:.{digits}g}") for x in tensor.flatten().tolist()]


def load(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@torch.inference_mode()
def greedy(model, tokenizer, messages, stop):
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens, cache, step = [], None, torch.tensor([ids])
    while len(tokens) < NEW_TOKENS and not (tokens and tokens[-1] in stop):
        out = model(step, past_key_values=cache, use_cache=True)
        cache, step = out.past_key_values, out.logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(step.item())
    # Once more in one piece, without a cache: gaps and log-probabilities come from here.
    logits = model(torch.tensor([ids + tokens]), use_cache=False).logits[0, len(ids) - 1 : -1]
    best = logits.topk(2).values
    assert logits.argmax(-1).tolist() == tokens, "cached and whole forward passes disagree"
    logprobs = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])
    return logits, {
        "messages": messages, "text": text, "ids": ids, "tokens": tokens,
        "gaps": numbers(best[:, 0] - best[:, 1], 4), "logprobs": numbers(logprobs),
    }


def summary(name, runs):
    gaps = np.concatenate([r["gaps"] for r in runs])
    kinds = {t for r in runs for t in r["tokens"]}
    ended = sum(len(r["tokens"]) < NEW_TOKENS for r in runs)
    print(f"{name}: {len(gaps)} greedy tokens, {len(kinds)} different, {ended} of {len(runs)} replies end, "
          f"smallest gap {gaps.min():.2g}, median {np.median(gaps):.2g}")


@torch.inference_mode()
def tiny_expected(name, folder):
    model, tokenizer = load(folder)
    stop = model.generation_config.eos_token_id
    stop = set(stop if isinstance(stop, list) else [stop])
    generator = torch.Generator().manual_seed(0)
    logits = []
    for length, positions in ((1, [0]), (2, [0, 1]), (7, [0, 3, 6]), (33, [15, 32]), (150, [40, 149])):
        ids = torch.randint(VOCAB, (length,), generator=generator)
        all_logits = model(ids[None], use_cache=False).logits[0]
        logits.append({"ids": ids.tolist(), "positions": positions,
                       "logits": [numbers(all_logits[p]) for p in positions]})
    logprobs = []
    for prompt, length in ((1, 5), (12, 1), (20, 30), (90, 12)):
        ids = torch.randint(VOCAB, (prompt + length,), generator=generator)
        table = model(ids[None], use_cache=False).logits[0].log_softmax(-1)
        picked = table[prompt - 1 : -1].gather(1, ids[prompt:, None])
        logprobs.append({"ids": ids[:prompt].tolist(), "continuation": ids[prompt:].tolist(),
                         "logprobs": numbers(picked)})
    runs = [greedy(model, tokenizer, messages, stop)[1] for messages in PROMPTS]
    summary(name, runs)
    write_json(folder / "expected.json",
               {"made_with": f"transformers {transformers.__version__}, float32, eager", "logits": logits,
                "greedy": runs, "logprobs": logprobs})
    # How a sampled run would fare: shown only.
    ids = torch.tensor([runs[0]["ids"]]).expand(256, -1)
    torch.manual_seed(0)
    out = model.generate(ids, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=24,
                         attention_mask=torch.ones_like(ids))[:, ids.shape[1] :]
    ended = torch.isin(out, torch.tensor(sorted(stop))).any(1).float().mean().item()
    print(f"  sampled at temperature 1: {ended:.0%} of replies end within 24 tokens; "
          f"folder {sum(f.stat().st_size for f in folder.iterdir()) / 1e3:.0f} kB")


def make_tiny():
    for name, spec in tiny_models().items():
        folder = OUT / name
        tokenizer = make_tokenizer(spec["tokenizer"])
        model = AutoModelForCausalLM.from_config(spec["config"])
        random_weights(model, spec["seed"], tokenizer.token_to_id(IM_END))
        save_model(folder, model, spec, tokenizer)
        tiny_expected(name, folder)


def make_smollm2(folder):
    model, tokenizer = load(folder)
    vocab_ids = sorted({(i * 193) % len(tokenizer) for i in range(256)})
    runs = []
    for messages in PROMPTS:
        logits, run = greedy(model, tokenizer, messages, {model.generation_config.eos_token_id})
        run["last_logits"] = numbers(logits[0, vocab_ids])
        run["largest_logit"] = numbers(logits[0].abs().max())[0]
        runs.append(run)
        print(repr(tokenizer.decode(run["tokens"])))
    summary("smollm2", runs)
    write_json(OUT / "smollm2_expected.json",
               {"made_with": f"transformers {transformers.__version__}, float32, eager",
                "vocab_ids": vocab_ids, "greedy": runs})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tiny", "smollm2"])
    parser.add_argument("folder", nargs="?", help="of the real model")
    arguments = parser.parse_args()
    if arguments.what == "tiny":
        make_tiny()
    elif arguments.folder:
        make_smollm2(arguments.folder)
    else:
        parser.error("smollm2 needs the model's folder")


if __name__ == "__main__":
    main()
