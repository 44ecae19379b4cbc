#!/usr/bin/env python3
"""Converts a GGUF file of a Llama-architecture model with a SmolLM tokenizer into a Hugging Face
folder (bfloat16). Needs numpy and gguf only.

  scripts/convert_gguf.py MODEL.gguf FOLDER

FOLDER appears under its name only when it is complete.
"""
import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
    from gguf import GGUFReader, dequantize
except ImportError:
    python = Path(__file__).resolve().parents[1] / ".venv/bin/python"
    if Path(sys.executable) == python or not os.access(python, os.X_OK):
        sys.exit(f"{Path(sys.argv[0]).stem}: needs numpy and gguf; run scripts/setup")
    os.execv(python, [str(python), *sys.argv])

TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
BLOCK_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SPECIAL = 3  # GGUF's token type for control tokens


def hugging_face_name(name):
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    block, layer, kind, suffix = (name.split(".") + [""] * 4)[:4]
    if name.count(".") != 3 or block != "blk" or suffix != "weight" or kind not in BLOCK_NAMES:
        sys.exit(f"convert_gguf: tensor '{name}' is not one of a Llama model")
    return f"model.layers.{layer}.{BLOCK_NAMES[kind]}.weight"


def rotary_halves(weight, heads):
    """Rows of q and k from GGUF's order to Hugging Face's.

    A head's rows rotate in pairs. GGUF has the two rows of a pair side by side (0, 1), (2, 3), ...;
    Hugging Face has all first rows, then all second rows.
    """
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(0, 2, 1, 3).reshape(rows, columns)


def to_bfloat16(weight):
    """Bit patterns, rounded to nearest, ties to even."""
    bits = weight.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_tensors(reader, heads, kv_heads, path):
    """Writes model.safetensors, tensors in the order of their names; returns the names."""
    by_name = {hugging_face_name(t.name): t for t in reader.tensors}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(by_name):
        shape = [int(n) for n in reversed(by_name[name].shape)]
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(by_name):
            tensor = by_name[name]
            weight = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            weight = weight.reshape(header[name]["shape"])
            if ".q_proj." in name or ".k_proj." in name:
                weight = rotary_halves(weight, heads if ".q_proj." in name else kv_heads)
            file.write(to_bfloat16(np.ascontiguousarray(weight)).tobytes())
    return by_name.keys()


def tokenizer_json(meta):
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": token} | flags for i, token in enumerate(tokens) if types[i] == SPECIAL
        ],
        "normalizer": None,
        # GGUF only names the pre-tokenizer; "smollm" is each digit alone, then GPT-2's rule.
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                byte_level | {"add_prefix_space": False},
            ],
        },
        "post_processor": None,
        "decoder": byte_level | {"add_prefix_space": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in meta["tokenizer.ggml.merges"]],
        },
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def convert(source, folder):
    reader = GGUFReader(source)
    meta = {key: field.contents() for key, field in reader.fields.items()}
    if meta["general.architecture"] != "llama" or meta["tokenizer.ggml.pre"] != "smollm":
        sys.exit(f"convert_gguf: {source} has architecture '{meta['general.architecture']}' and "
                 f"tokenizer '{meta['tokenizer.ggml.pre']}'; only llama with smollm is supported")
    llama = {key.removeprefix("llama."): value for key, value in meta.items() if key.startswith("llama.")}
    heads, kv_heads = llama["attention.head_count"], llama["attention.head_count_kv"]
    names = write_tensors(reader, heads, kv_heads, folder / "model.safetensors")

    tokens = meta["tokenizer.ggml.tokens"]
    ids = {f"{kind}_token_id": meta[f"tokenizer.ggml.{key}_token_id"]
           for kind, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}
    write_json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": len(tokens),
        "hidden_size": llama["embedding_length"],
        "intermediate_size": llama["feed_forward_length"],
        "num_hidden_layers": llama["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": llama["rope.dimension_count"],
        "max_position_embeddings": llama["context_length"],
        "rms_norm_eps": float(f"{llama['attention.layer_norm_rms_epsilon']:.6g}"),  # stored as float32
        "rope_theta": float(llama["rope.freq_base"]),
        "rope_scaling": None,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "lm_head.weight" not in names,
        "torch_dtype": "bfloat16",
    } | ids)
    write_json(folder / "generation_config.json", ids)
    write_json(folder / "tokenizer.json", tokenizer_json(meta))
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "GPT2Tokenizer",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": llama["context_length"],
        "chat_template": meta["tokenizer.chat_template"],
        "unk_token": tokens[meta["tokenizer.ggml.unknown_token_id"]],
    } | {key.removesuffix("_id"): tokens[i] for key, i in ids.items()})


def sync(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def main():
    if len(sys.argv) != 3 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    source, folder = sys.argv[1], Path(sys.argv[2])
    if folder.exists():
        sys.exit(f"convert_gguf: {folder} exists; remove it first")
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        convert(source, temporary)
        for path in [*temporary.iterdir(), temporary]:
            sync(path)
        temporary.chmod(0o755)
        temporary.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    main()
