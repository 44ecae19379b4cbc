#!/usr/bin/env python3
"""Small tokenizers of each supported kind, and what Hugging Face's `tokenizers` does with them.

  make_tokenizer_fixtures.py [--model FOLDER]  writes tests/data/tokenizers/
  make_tokenizer_fixtures.py --unicode         writes worker/tokenizer/unicode_newer.cc

Needs Python 3.11 (whose unicodedata is Unicode 14, like Debian 12's PCRE2) and tokenizers 0.22.
chat_templates.json is scripts/chat_templates' work. --model also writes smollm2_expected.json from a folder
with SmolLM2's real tokenizer.json. Everything is seeded: a second run writes the same bytes.
"""
import argparse
import collections
import json
import random
import unicodedata
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers import processors, trainers
from tokenizers.models import BPE

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/data/tokenizers"

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
          r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# GPT-4o style: categories inside classes; the possessive forms come from GPT-4's.
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"|[^\r\n\p{L}\p{N}]?+[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]++|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

# GPT-4o's own.
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

SENTENCES = """The quick brown fox jumps over the lazy dog.
Which number is the largest: 17, 93, 41? Answer with only the number.
She sold 48 clips in April and half as many in May; how many altogether?
It wasn't clear that they'd've known, but we're sure he'll say I'm right.
def add(first, second):\n    return first + second\n
for (int i = 0; i < count; ++i) { total += values[i]; }\n
{"name": "value", "list": [1, 2.5, true, null]}
Der größte Fluß fließt über Österreich; schön, daß ihr hier wart.
Où est la bibliothèque ? L'été dernier, nous étions déjà là-bas.
Быстрая коричневая лиса прыгает через ленивую собаку.
Η γρήγορη καφέ αλεπού πηδάει πάνω από τον τεμπέλη σκύλο.
敏捷的棕色狐狸跳过了懒狗。 今天天气很好。
素早い茶色の狐がのろまな犬を飛び越える。カタカナもあります。
빠른 갈색 여우가 게으른 개를 뛰어넘는다.
الثعلب البني السريع يقفز فوق الكلب الكسول.
השועל החום המהיר קופץ מעל הכלב העצלן.
तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।
Hello, world! How are you today? I am fine, thank you very much.
2 + 2 = 4, 3.14159 * 2 = 6.28318, and 1,000,000 is one million.
https://example.org/path?query=one&other=two#part
""".replace("\\n", "\n").splitlines(keepends=True)
PIECES = ["'s", "'T", "'LL", "'ve", "'ſ", "’s", " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ",
          "\u00a0", "\u3000", "\u2003", "\u200b", "\u180e", "\u0085", "\u2028", "\ufeff", "\x1c",
          "1", "12", "1234567", "३४", "٣", "Ⅷ", "½", "²", "①", "é", "e\u0301", "A\u030a", "Å",
          "가", "\u1100\u1161\u11a8", "ñ", "n\u0303", "\u0344", "q\u0307\u0323", "ﬁ", "ß", "ẞ", "ſ",
          "İ", "ı", "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "\U000323a0", "\U00010d40", "\U0001fae9",
          "\u1c89", "▁", "▁▁", "Ġ", "<", ">", "<s>", "</s>", "<|end", "|>", "##", "--", "...", "!?",
          "foo", "Bar", "BAZ", "camelCase", "snake_case", "x=1;", "(a)", "[b]", "{c}", "\\n", "\x00",
          "\x7f", "<0x0A>", "<0x41>", "<unk>", "中", "文字", "ก็", "שלום", "नि", "\ufffd", "\ue000"]
WORDS = "the number largest is of and answer only question model return value Über naïve".split()


def corpus():
    rng = random.Random(1)
    lines = list(SENTENCES) * 3
    words = [w for s in SENTENCES for w in s.split()]
    for _ in range(400):
        lines.append(" ".join(rng.choice(words) for _ in range(rng.randint(3, 12))) + "\n")
    return lines


def strings(count, seed, tokens):
    """Prose, code, digits, scripts, emoji, white space, added tokens, rare and random characters."""
    rng = random.Random(seed)
    result = ["", " ", "  ", "\n", "a", "'", "0", "\u0301", "\x00", "▁", "😀" * 30, "a" * 600, "ab" * 300,
              " " * 300, "\n" * 100, " \n" * 60, "7" * 301, "é" * 100, "e\u0301" * 100, "中" * 200,
              "!" * 200, "a b " * 60, "\u0301" * 30]
    result += [s.rstrip("\n") for s in SENTENCES]
    result += ["".join(rng.sample(SENTENCES, 2)) for _ in range(15)]
    result += [b + t + a for t in tokens for b, a in (("", ""), ("x", "y"), (" ", " "), ("é ", " \n z"))]
    result += [t + t for t in tokens]
    while len(result) < count:
        kind = rng.random()
        if kind < 0.55:
            pool = PIECES + WORDS + [" " + w for w in WORDS] + list(tokens)
            result.append("".join(rng.choice(pool) for _ in range(rng.randint(1, 9))))
        elif kind < 0.75:
            words = rng.choice(SENTENCES).split()
            result.append(rng.choice([" ", "  ", "\n", ", "]).join(rng.sample(words, min(len(words), 5))))
        elif kind < 0.9:
            low, high = rng.choice([(0, 0x7f), (0x80, 0x24f), (0x300, 0x36f), (0x370, 0x7ff),
                                    (0x900, 0xdff), (0x1e00, 0x206f), (0x3000, 0x30ff),
                                    (0xac00, 0xd7a3), (0x1f300, 0x1faff), (0x20000, 0x323af)])
            result.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 10))))
        else:
            chars = (rng.choice([rng.randint(0, 0xd7ff), rng.randint(0xe000, 0x10ffff)])
                     for _ in range(rng.randint(1, 6)))
            result.append("".join(map(chr, chars)))
    return result[:count]


def byte_level(vocab_size, pre, special, **model):
    tokenizer = Tokenizer(BPE(**model))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=special, show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def train_fallback(tokenizer, vocab_size, special):
    # The trainer breaks ties in the alphabet at random, so it is chosen here.
    count = collections.Counter("".join(corpus()).replace(" ", "▁"))
    alphabet = sorted(count, key=lambda c: (-count[c], c))[:150]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, show_progress=False, limit_alphabet=150, initial_alphabet=alphabet,
        special_tokens=special + [f"<0x{b:02X}>" for b in range(256)])
    tokenizer.train_from_iterator(corpus(), trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    return data


PREPEND = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
FALLBACK_DECODER = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def byte_fallback(vocab_size, special, mistral):
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if mistral:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=True)
    else:
        tokenizer.normalizer = normalizers.Sequence(PREPEND)
        tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # training only
    data = train_fallback(tokenizer, vocab_size, ["<unk>", "<s>", "</s>"])
    if mistral:
        data["pre_tokenizer"]["split"] = False
    else:
        data["pre_tokenizer"] = None
        for token in data["added_tokens"]:
            token["normalized"] = token["content"] == "</s>"
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([*FALLBACK_DECODER, decoders.Strip(" ", 1, 0)])
    tokenizer.add_tokens(special)
    bos = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", bos)])
    return tokenizer


def gemma():
    """Spaces become ▁ and none is put before; runs of blanks and lines are tokens that were added."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # training only
    data = train_fallback(tokenizer, 700, ["<pad>", "<eos>", "<bos>", "<unk>"])
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(FALLBACK_DECODER)
    tokenizer.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("\n\n", "\n\n\n", "▁▁", "▁▁▁▁", "<b>")])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos>:1 $B:1", special_tokens=[("<bos>", tokenizer.token_to_id("<bos>"))])
    return tokenizer


def phi3():
    """Llama 2's, with tokens that take the blanks behind them, and no bos."""
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(PREPEND)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # training only
    data = train_fallback(tokenizer, 650, ["<unk>", "<s>", "</s>"])
    data["pre_tokenizer"] = None
    for token in data["added_tokens"]:
        token["rstrip"] = token["content"] == "</s>"
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.decoder = decoders.Sequence([*FALLBACK_DECODER, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.add_special_tokens([AddedToken(f"<|{role}|>", rstrip=True) for role in ("system", "user", "assistant", "end")])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])
    return tokenizer


def made_of(vocab_size, pre, special, strip=(), plain=(), **options):
    """A byte-level tokenizer with tokens added behind the vocabulary, as tiktoken's are converted."""
    tokenizer = byte_level(vocab_size, pre, [], **options)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_special_tokens(list(strip))
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in plain])
    return tokenizer


def outside_removed(regex):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False)])


def split_then_bytes(regex, **kwargs):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), "isolated", **kwargs),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def make_tokenizers():
    """Yields kind, tokenizer."""
    chat = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    llama3 = byte_level(1200, split_then_bytes(LLAMA3), [], ignore_merges=True)
    llama3.add_special_tokens(chat)
    llama3.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1",
            special_tokens=[("<|begin_of_text|>", llama3.token_to_id("<|begin_of_text|>"))])])
    # A word that merges cannot reach: ignore_merges finds it in the vocabulary.
    data = json.loads(llama3.to_str())
    data["model"]["merges"] = [m for m in data["model"]["merges"] if "".join(m) != "Ġnumber"]
    yield "llama3", Tokenizer.from_str(json.dumps(data))

    qwen = byte_level(1100, split_then_bytes(QWEN, invert=False), [])
    qwen.normalizer = normalizers.NFC()
    qwen.post_processor = processors.ByteLevel(trim_offsets=False)
    qwen.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    qwen.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("Åé", normalized=True),
                     AddedToken("e\u0301!", normalized=True)])
    yield "qwen2.5", qwen

    gpt2 = byte_level(900, pre_tokenizers.ByteLevel(add_prefix_space=False), ["<|endoftext|>"])
    gpt2.post_processor = processors.ByteLevel(trim_offsets=False)
    yield "gpt2", gpt2

    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                      pre_tokenizers.ByteLevel(add_prefix_space=False)])
    yield "smollm2", byte_level(1000, digits, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])

    # Every switch that the families do not use but the format has.
    cased = byte_level(800, pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.Split("--", "removed"),
        pre_tokenizers.Split(Regex(r"[.!?]+\s*"), "merged_with_previous"),
        pre_tokenizers.Split("_", "merged_with_next"),
        pre_tokenizers.Split(Regex(r"[a-z]\x41|\s{2,}"), "contiguous"),
        pre_tokenizers.Split(Regex(CASED), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)]), [])
    cased.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s?=\s*"), " = "), normalizers.NFC()])
    cased.add_special_tokens([AddedToken("<mask>", lstrip=True), AddedToken("<sep>", rstrip=True)])
    cased.add_tokens([AddedToken("foo", single_word=True), AddedToken("Bar", single_word=False),
                      AddedToken("<both>", lstrip=True, rstrip=True, normalized=False),
                      AddedToken("foobar", normalized=False), AddedToken("<m", normalized=False)])
    cased.post_processor = processors.TemplateProcessing(
        single="<mask> $A <sep>", pair="$A $B",
        special_tokens=[("<mask>", cased.token_to_id("<mask>")), ("<sep>", cased.token_to_id("<sep>"))])
    yield "cased", cased

    yield "llama2", byte_fallback(800, [AddedToken("<tool>", normalized=True), AddedToken("[X]")], False)
    yield "mistral", byte_fallback(900, ["[INST]", "[/INST]"], True)

    yield "gemma", gemma()
    yield "phi3", phi3()
    yield "phi4", made_of(600, outside_removed(LLAMA3), ["<|endoftext|>"], strip=[
        AddedToken(t, lstrip=True, rstrip=True) for t in ("<|im_start|>", "<|im_end|>", "<|im_sep|>")])
    yield "phi4-mini", made_of(600, split_then_bytes(O200K), ["<|endoftext|>"], strip=[
        AddedToken(t, rstrip=True) for t in ("<|user|>", "<|assistant|>", "<|end|>")])
    yield "olmo2", made_of(600, outside_removed(LLAMA3), ["<|endoftext|>", "<|pad|>"], plain=["|||IP_ADDRESS|||"])
    qwen3 = made_of(600, split_then_bytes(QWEN), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                    plain=["<think>", "</think>", "<tool_response>"])
    qwen3.normalizer = normalizers.NFC()
    yield "qwen3", qwen3
    smollm3 = made_of(600, split_then_bytes(LLAMA3), ["<|end_of_text|>", "<|im_start|>", "<|im_end|>"],
                      plain=["<think>", "</think>"], ignore_merges=True)
    data = json.loads(smollm3.to_str())
    data["model"]["merges"] = [m for m in data["model"]["merges"] if "".join(m) != "Ġnumber"]
    yield "smollm3", Tokenizer.from_str(json.dumps(data))
    granite = byte_level(600, digits, ["<|end_of_text|>", "<fim_prefix>"])
    granite.add_special_tokens(["<|start_of_role|>", "<|end_of_role|>", "<|tool_call|>"])
    yield "granite", granite


def merges_as_lines(data):
    data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return data


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def expected(tokenizer, texts, also_ids):
    """Per text: [text, ids, decoded without special tokens, decoded with them]; null = the text."""
    rows = []
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        skip, keep = (tokenizer.decode(ids, skip_special_tokens=s) for s in (True, False))
        rows.append([text, ids, None if skip == text else skip, None if keep == text else keep])
    random_ids = []
    rng = random.Random(7)
    for _ in range(also_ids):
        ids = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(rng.randint(1, 12))]
        random_ids.append([ids, tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=False)])
    text = "Hello 42"
    with_special = [text, tokenizer.encode(text).ids, tokenizer.encode("").ids]
    return {"rows": rows, "random_ids": random_ids, "with_special": with_special,
            "size": tokenizer.get_vocab_size()}


def make_fixtures():
    for seed, (kind, tokenizer) in enumerate(make_tokenizers()):
        data = json.loads(tokenizer.to_str())
        if kind in ("gpt2", "llama2"):
            data = merges_as_lines(data)
        dump(OUT / kind / "tokenizer.json", data)
        tokenizer = Tokenizer.from_file(str(OUT / kind / "tokenizer.json"))
        added = [t["content"] for t in data["added_tokens"]]
        count, also_ids = (480, 60) if seed < 7 else (400, 30)
        dump(OUT / kind / "expected.json", expected(tokenizer, strings(count, 100 + seed, added), also_ids))


def make_invalid_utf8():
    rng = random.Random(5)
    leads = [0x41, 0x80, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5, 0xff]
    rows = []
    for _ in range(400):
        data = bytes(rng.choice(leads + [rng.randrange(256), 0x82, 0x9f, 0xa0, 0x90, 0x8f])
                     for _ in range(rng.randint(1, 8)))
        rows.append([data.hex(), data.decode(errors="replace")])
    dump(OUT / "invalid_utf8.json", rows)


def make_classes():
    """Which characters the reference puts in a class, as runs [first, last] of code points."""
    rows = {}
    for name, step in [(r, pre_tokenizers.Split(Regex(r), "removed"))
                       for r in (r"\p{L}", r"\p{N}", r"\s", r"\p{M}", r"\p{P}", r"\p{S}", r"\p{Lu}",
                                 r"(?i:[sdmtrevl])", r"\d", r"[^\S\r]", r".")]:
        rows[name] = runs(c for c in every_char() if not step.pre_tokenize_str(chr(c)))
    digits = pre_tokenizers.Digits(individual_digits=True)
    rows["Digits"] = runs(c for c in every_char() if len(digits.pre_tokenize_str(f"@{chr(c)}@")) == 3)
    dump(OUT / "classes.json", rows)
    nfc, form = {}, normalizers.NFC()
    for c in every_char():
        if c < 0xac00 or c > 0xd7a3:  # Hangul is regular: samples are in the fixtures
            composed = form.normalize_str(chr(c))
            decomposed = unicodedata.normalize("NFD", chr(c))
            if composed != chr(c) or decomposed != chr(c):
                nfc[chr(c)] = [composed, decomposed, form.normalize_str(decomposed)]
    dump(OUT / "nfc.json", nfc)


def every_char():
    return (c for c in range(0x110000) if not 0xd800 <= c < 0xe000)


def runs(chars):
    found = []
    for c in chars:
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def make_unicode():
    assert unicodedata.unidata_version == "14.0.0", "run this with Python 3.11"
    unassigned = [c for c in every_char() if unicodedata.category(chr(c)) == "Cn"]
    category = {}
    for name in "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split():
        step = pre_tokenizers.Split(Regex(r"\p{%s}" % name), "removed")
        category |= {c: name for c in unassigned if not step.pre_tokenize_str(chr(c))}
    ranges = []
    for c in sorted(category):
        if ranges and ranges[-1][1] == c - 1 and ranges[-1][2] == category[c]:
            ranges[-1][1] = c
        else:
            ranges.append([c, c, category[c]])
    lines = ["   "]
    for first, last, name in ranges:
        entry = f' {{0x{first:x}, 0x{last:x}, "{name}"}},'
        if len(lines[-1]) + len(entry) > 100:
            lines.append("   ")
        lines[-1] += entry
    body = "\n".join(lines)
    (ROOT / "worker/tokenizer/unicode_newer.cc").write_text(f"""\
// Written by scripts/make_tokenizer_fixtures.py --unicode; do not edit.
#include "worker/tokenizer/unicode.h"

namespace svfleet {{
namespace {{

// clang-format off
constexpr NewerRange kNewer[] = {{
{body}
}};
// clang-format on

}}  // namespace

std::span<const NewerRange> newer_ranges() {{ return kNewer; }}

}}  // namespace svfleet
""")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, help="SmolLM2-135M-Instruct's folder")
    parser.add_argument("--unicode", action="store_true", help="write worker/tokenizer/unicode_newer.cc only")
    args = parser.parse_args()
    if args.unicode:
        return make_unicode()
    make_fixtures()
    make_invalid_utf8()
    make_classes()
    if args.model:
        tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
        added = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<file_sep>", "<jupyter_text>"]
        dump(OUT / "smollm2_expected.json", expected(tokenizer, strings(1500, 11, added), 100))


if __name__ == "__main__":
    main()
