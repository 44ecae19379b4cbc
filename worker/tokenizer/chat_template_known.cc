// Written by scripts/chat_templates from tests/data/chat_templates; do not edit.
#include "worker/tokenizer/chat_template_known.h"

namespace svfleet {
namespace {

constexpr KnownTemplate kKnown[] = {
    {"19a61431199c1fe900e32a598bb047bb", "chatml"},
    {"8993d8c409af2f75c6657d623e8b5aad", "chatml"},
    {"9a6d16fc1532e17f7749ff54262ffde4", "deepseek-r1"},
    {"5811e30efb1d4a90a0bace8059324953", "gemma2"},
    {"19df38f89a06d05bd6fb144826c7b455", "gemma3"},
    {"ab96c5a9c7fa02fd7f62178b672398fa", "granite3.0"},
    {"8853d348f9fe2618da5971fec8da057a", "granite3.3"},
    {"62e7fd7b4086b49276c41ddf0f7e3d8d", "llama2"},
    {"807aab9a88fdf93f1882519f27ff24bd", "llama3"},
    {"010402556143269164cb907de075aee4", "llama3"},
    {"bb57a505911536fdf924ab00513c6b3c", "llama3.1"},
    {"47303845a34fd727afce1f45b159625c", "llama3.2"},
    {"6b16064f5431af704ed0135972a3af4d", "mistral-nemo"},
    {"551253ff8379de6aa96f1712ea9806c0", "mistral-v0.1"},
    {"40f5735fb22ecbc71f40c3b202a52f31", "mistral-v0.2"},
    {"621010087b73890e70df3932a2edacd9", "mistral-v0.2-system"},
    {"831ddecdfab35eed21a01d797d0e5f2c", "mistral-v0.3"},
    {"15140ac49cd7c90ae803f99a831fa4d8", "olmo2"},
    {"b0bbead6ac56367b78fa831060e01df3", "phi3"},
    {"73faed16575cae5c1a8d2983df04a992", "phi3.5"},
    {"3a204b0655c9bb41690735c6ad1b51a1", "phi4"},
    {"8c4abe578e701049700574b6042b6b28", "phi4-mini"},
    {"216fece2e42f26269bbbab7a7aeef58a", "qwen2"},
    {"a6f236b7d7eb7b3a2519397a356b8052", "qwen2.5"},
    {"612dc8d81c7423411dafe8aad04808c8", "qwen2.5-math"},
    {"9d5047a087de31f5f8f18e107dcab263", "qwen3"},
    {"74a12c707b23ab2682011601011db3c4", "qwen3"},
    {"72d18974649c478dc6506a07f4aa56c0", "smollm2"},
    {"0eade650c16126d5d387efab6b50502a", "smollm3-unsloth"},
    {"bc8332e5b6ac39ec4b4fb7fc38bff9b7", "zephyr"},
};

}  // namespace

std::span<const KnownTemplate> known_templates() {
  return kKnown;
}

}  // namespace svfleet
