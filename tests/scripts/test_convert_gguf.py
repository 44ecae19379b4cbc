"""scripts/convert_gguf.py on a GGUF file made here, in which every number says where it belongs."""
import json
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter, dequantize

CONVERT = Path(__file__).resolve().parents[2] / "scripts" / "convert_gguf.py"
HEADS, KV_HEADS, HEAD_DIM, HIDDEN, FFN, LAYERS = 4, 2, 4, 8, 12, 2
TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "a", "b", "ab"]


def interleaved(weight, heads):
    """GGUF's row order: row i and row i + half of a head stand side by side."""
    half, rows = HEAD_DIM // 2, []
    for head in range(heads):
        for i in range(half):
            rows += [weight[head * HEAD_DIM + i], weight[head * HEAD_DIM + half + i]]
    return np.array(rows)


def make_gguf(path, architecture="llama", extra=None):
    """Writes a model; returns its tensors under their Hugging Face names."""
    writer = GGUFWriter(path, architecture)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(128)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{{ messages }}")
    random, tensors = np.random.default_rng(0), {}

    def add(gguf_name, name, *shape, stored=lambda w: w):
        # Few mantissa bits: exact in bfloat16.
        tensors[name] = np.round(random.uniform(-8, 8, shape) * 8).astype(np.float32) / 8
        writer.add_tensor(gguf_name, stored(tensors[name]))

    add("token_embd.weight", "model.embed_tokens.weight", len(TOKENS), HIDDEN)
    add("output_norm.weight", "model.norm.weight", HIDDEN)
    for i in range(LAYERS):
        block, layer = f"blk.{i}.", f"model.layers.{i}."
        add(block + "attn_norm.weight", layer + "input_layernorm.weight", HIDDEN)
        add(block + "attn_q.weight", layer + "self_attn.q_proj.weight", HEADS * HEAD_DIM, HIDDEN,
            stored=lambda w: interleaved(w, HEADS))
        add(block + "attn_k.weight", layer + "self_attn.k_proj.weight", KV_HEADS * HEAD_DIM, HIDDEN,
            stored=lambda w: interleaved(w, KV_HEADS))
        add(block + "attn_v.weight", layer + "self_attn.v_proj.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        add(block + "attn_output.weight", layer + "self_attn.o_proj.weight", HIDDEN, HEADS * HEAD_DIM)
        add(block + "ffn_norm.weight", layer + "post_attention_layernorm.weight", HIDDEN)
        add(block + "ffn_gate.weight", layer + "mlp.gate_proj.weight", FFN, HIDDEN)
        add(block + "ffn_up.weight", layer + "mlp.up_proj.weight", FFN, HIDDEN)
        add(block + "ffn_down.weight", layer + "mlp.down_proj.weight", HIDDEN, FFN)
    if extra:
        add(extra, "extra", 2, 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def read_bfloat16(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body, tensors = json.loads(data[8 : 8 + length]), data[8 + length :], {}
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["dtype"] == "BF16"
            begin, end = entry["data_offsets"]
            bits = np.frombuffer(body[begin:end], "<u2").astype(np.uint32) << 16
            tensors[name] = bits.view(np.float32).reshape(entry["shape"])
    return tensors


class ConvertGguf(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        self.source, self.out = self.folder / "model.gguf", self.folder / "out"

    def convert(self):
        return subprocess.run([sys.executable, CONVERT, self.source, self.out], capture_output=True, text=True)

    def test_every_tensor_arrives_under_its_name_in_its_order(self):
        expected = make_gguf(self.source)
        self.assertEqual(self.convert().returncode, 0)
        got = read_bfloat16(self.out / "model.safetensors")
        self.assertEqual(got.keys(), expected.keys())
        for name in expected:
            np.testing.assert_array_equal(got[name], expected[name], name)
        # A control: the order does matter for this q.
        q = expected["model.layers.0.self_attn.q_proj.weight"]
        self.assertFalse(np.array_equal(interleaved(q, HEADS), q))

    def test_there_and_back_nothing_is_lost(self):
        make_gguf(self.source)
        self.convert()
        back = self.folder / "back.gguf"

        def to_gguf(folder):
            return subprocess.run([sys.executable, CONVERT.with_name("to_gguf.py"), self.source, folder, back],
                                  capture_output=True, text=True)

        self.assertEqual(to_gguf(self.out).stderr, "")
        before, after = GGUFReader(self.source), GGUFReader(back)
        self.assertEqual([t.name for t in before.tensors], [t.name for t in after.tensors])
        for one, other in zip(before.tensors, after.tensors):
            np.testing.assert_array_equal(dequantize(one.data, one.tensor_type),
                                          dequantize(other.data, other.tensor_type), one.name)
        for name, field in before.fields.items():
            if not name.startswith("GGUF.") and name != "general.file_type":
                self.assertEqual(field.contents(), after.fields[name].contents(), name)
        back.unlink()
        done = to_gguf(self.folder)  # control: a folder without those tensors
        self.assertIn("has no tensor", done.stderr)
        self.assertFalse(back.exists())

    def test_config_and_tokenizer(self):
        make_gguf(self.source)
        self.convert()
        config = json.loads((self.out / "config.json").read_text())
        self.assertEqual([config[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads",
                                              "num_key_value_heads", "head_dim", "rms_norm_eps", "eos_token_id")],
                         [HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, 1e-5, 2])
        self.assertTrue(config["tie_word_embeddings"])
        tokenizer = json.loads((self.out / "tokenizer.json").read_text())
        self.assertEqual(tokenizer["model"]["vocab"], {t: i for i, t in enumerate(TOKENS)})
        self.assertEqual(tokenizer["model"]["merges"], [["a", "b"]])
        self.assertEqual([t["content"] for t in tokenizer["added_tokens"]], TOKENS[:3])

    def test_rounds_to_nearest_even(self):
        sys.path.insert(0, str(CONVERT.parent))
        sys.dont_write_bytecode = True
        from convert_gguf import to_bfloat16
        # 1 + 2^-8 lies half-way between 1 and 1 + 2^-7; 1 + 3 * 2^-8 between that and 1 + 2^-6.
        values = np.float32([1, 1 + 2**-8, 1 + 2**-8 + 2**-20, 1 + 3 * 2**-8, -2])
        self.assertEqual(to_bfloat16(values).tolist(), [0x3F80, 0x3F80, 0x3F81, 0x3F82, 0xC000])

    def test_what_it_does_not_know_is_refused_and_leaves_nothing(self):
        for arguments, word in ((dict(architecture="gemma"), "gemma"), (dict(extra="blk.0.odd.weight"), "odd")):
            make_gguf(self.source, **arguments)
            result = self.convert()
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(word, result.stderr)
            self.assertEqual(result.stderr.count("\n"), 1, result.stderr)
            self.assertEqual([p.name for p in self.folder.iterdir()], ["model.gguf"])


if __name__ == "__main__":
    unittest.main()
