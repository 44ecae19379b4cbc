#!/usr/bin/env python3
"""Makes tests/data/models/families: a tiny random model of each family as transformers saves it, and
the numbers that transformers computes for it.

  pip install torch==2.11.0 transformers==4.57.6
  scripts/make_family_fixtures.py models     # config.json, model.safetensors, expected.json
  pip install transformers==5.24.0
  scripts/make_family_fixtures.py configs    # config_5.json: the same folder saved by version 5;
                                             # gemma3_5: gemma3 under version 5's own names

Weights are stored in bfloat16 and everything is computed in float32 with eager attention, longer
than any window and than any original context. Each expected.json has
  weights    the folder that has model.safetensors
  max_length what model.max_length must be, 0 for nothing
  logits     ids; positions; the logits at those positions, whole vocabulary
  greedy     ids; 64 greedy tokens; gaps between the two best logits at each
"""
import argparse
import copy
import json
import shutil
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig

OUT = Path(__file__).resolve().parent.parent / "tests" / "data" / "models" / "families"
VOCAB, LENGTH, NEW_TOKENS, END = 320, 72, 64, 319
LONGROPE = dict(type="longrope", short_factor=[1.0, 1.1], long_factor=[1.5, 6.0])


def specs():
    """model_type, what is set beside the common sizes, and max_length."""
    base = dict(vocab_size=VOCAB, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
                tie_word_embeddings=False, eos_token_id=END, bos_token_id=0, pad_token_id=0)
    gemma = dict(num_hidden_layers=3, hidden_size=48, head_dim=8, sliding_window=8, tie_word_embeddings=True,
                 query_pre_attn_scalar=24)
    kinds = ["sliding_attention", "sliding_attention", "full_attention"]
    gemma3 = dict(gemma, layer_types=kinds, rope_theta=1e6, rope_local_base_freq=100.0,
                  rope_scaling=dict(rope_type="linear", factor=8.0))
    llama = dict(attention_bias=False, num_key_value_heads=4)
    yarn = dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=32)
    return {
        # heads x head_dim above hidden
        "qwen3": ("qwen3", dict(base, head_dim=16), 0),
        "qwen3_window": ("qwen3", dict(base, head_dim=16, use_sliding_window=True, sliding_window=8,
                                       max_window_layers=1), 0),
        # below it
        "gemma3_text": ("gemma3_text", dict(base, **gemma3), 0),
        "gemma3": ("gemma3", dict(base, **gemma3), 0),
        "gemma2": ("gemma2", dict(base, **gemma, layer_types=kinds, attn_logit_softcapping=5.0,
                                  final_logit_softcapping=6.0), 0),
        # equal to it, square k and v
        "smollm3": ("smollm3", dict(base, num_hidden_layers=3, num_key_value_heads=4, no_rope_layers=[1, 0, 1]), 0),
        "mistral_window": ("mistral", dict(base, head_dim=8, sliding_window=8), 0),
        "olmo2": ("olmo2", dict(base), 0),
        "granite": ("granite", dict(base, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                                    embedding_multiplier=6.0, logits_scaling=0.25, residual_multiplier=0.4,
                                    attention_multiplier=0.7), 0),
        "phi3": ("phi3", dict(base, head_dim=8, partial_rotary_factor=0.5, max_position_embeddings=256,
                              original_max_position_embeddings=32, rope_scaling=LONGROPE), 256),
        "phi3_short": ("phi3", dict(base, head_dim=8, partial_rotary_factor=0.5, max_position_embeddings=256,
                                    original_max_position_embeddings=160, rope_scaling=LONGROPE), 0),
        "llama": ("llama", dict(base, **llama), 0),
        "llama_linear": ("llama", dict(base, **llama, rope_scaling=dict(rope_type="linear", factor=4.0)), 0),
        "llama_yarn": ("llama", dict(base, **llama, rope_scaling=yarn), 0),
        "llama_dynamic": ("llama", dict(base, **llama | dict(max_position_embeddings=32),
                                        rope_scaling=dict(rope_type="dynamic", factor=4.0)), LENGTH),
    }


# Folders that have their weights from another.
SHARED = {"qwen3_window": "qwen3", "phi3_short": "phi3", "llama_linear": "llama", "llama_yarn": "llama",
          "llama_dynamic": "llama"}


def config_of(kind, settings):
    if kind != "gemma3":
        return AutoConfig.for_model(kind, **settings)
    vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=28,
                  patch_size=14)
    return transformers.Gemma3Config(text_config=settings, vision_config=vision, mm_tokens_per_image=4,
                                     eos_token_id=END)


def model_of(config):
    config = copy.deepcopy(config)
    config._attn_implementation = "eager"
    kind = transformers.Gemma3ForConditionalGeneration if config.model_type == "gemma3" else None
    model = kind(config) if kind else transformers.AutoModelForCausalLM.from_config(config)
    return model.float().eval()


def random_weights(model, seed):
    """Large enough that every flag tells; norms and biases are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    config = model.config.get_text_config()
    gemma = config.model_type.startswith("gemma")
    for name, weight in sorted(model.named_parameters()):
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight"):
            value = (0 if gemma else 1) + 0.3 * noise
            if name.endswith("model.norm.weight") and config.tie_word_embeddings:
                value += 6  # so that logits are as large as elsewhere
        elif name.endswith(".bias"):
            value = 0.5 * noise
        elif "embed_tokens" in name:
            value = (0.08 if config.tie_word_embeddings else 1.0) * noise
        else:
            value = (3.0 if "lm_head" in name else 1.6) * noise / weight.shape[-1] ** 0.5
        weight.data = value.to(torch.bfloat16).float()


def numbers(values):
    return [float(f"{v:.7g}") for v in values.flatten().tolist()]


@torch.inference_mode()
def expected(name, model, max_length):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCAB - 1, (LENGTH,), generator=generator)
    positions = [0, 5, 9, 40, LENGTH - 1]
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    found = {"made_with": f"transformers {transformers.__version__}, float32, eager",
             "weights": SHARED.get(name, name), "max_length": max_length,
             "logits": {"ids": ids.tolist(), "positions": positions,
                        "logits": [numbers(logits[p]) for p in positions]}}
    if name == "llama_dynamic":  # its angles change from one length to the next
        return found
    tokens = ids[:40].tolist()
    gaps = []
    while len(gaps) < NEW_TOKENS:
        last = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
        last[END] = -torch.inf  # never at an end
        best = last.topk(2)
        tokens.append(best.indices[0].item())
        gaps.append(float(f"{(best.values[0] - best.values[1]).item():.4g}"))
    kinds = len(set(tokens[40:]))
    print(f"{name}: largest logit {logits.abs().max():.1f}, {kinds} kinds of greedy tokens, smallest gap {min(gaps)}")
    found["greedy"] = {"ids": tokens[:40], "tokens": tokens[40:], "gaps": gaps}
    return found


def write_json(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def make_models():
    for seed, (name, (kind, settings, max_length)) in enumerate(specs().items()):
        folder = OUT / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = model_of(config_of(kind, settings))
        if name in SHARED:
            first = list(specs()).index(SHARED[name])
            random_weights(model, first)
        else:
            random_weights(model, seed)
        model.config.save_pretrained(folder)
        if name not in SHARED:
            whole = copy.deepcopy(model).to(torch.bfloat16)
            whole.config.dtype = torch.bfloat16
            whole.save_pretrained(folder)
            (folder / "generation_config.json").unlink(missing_ok=True)
            (folder / "model.safetensors").chmod(0o644)
        write_json(folder / "expected.json", expected(name, model, max_length))


def make_configs():
    for name in specs():
        folder = OUT / name
        config = AutoConfig.from_pretrained(folder)
        config.save_pretrained(OUT / "tmp")
        shutil.move(OUT / "tmp" / "config.json", folder / "config_5.json")
    shutil.rmtree(OUT / "tmp")


def make_own_names():
    """Of the same model, so with the numbers of gemma3, the names that version 5's modules have."""
    source, folder = OUT / "gemma3", OUT / "gemma3_5"
    shutil.rmtree(folder, ignore_errors=True)
    model = transformers.Gemma3ForConditionalGeneration.from_pretrained(source, dtype=torch.bfloat16)
    model.save_pretrained(folder, save_original_format=False)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    shutil.copy(folder / "config.json", folder / "config_5.json")
    write_json(folder / "expected.json", json.loads((source / "expected.json").read_text()) | {"weights": "gemma3_5"})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["models", "configs"])
    if parser.parse_args().what == "models":
        make_models()
    else:
        make_configs()
        make_own_names()


if __name__ == "__main__":
    main()
