// A tokenizer.json; what it loads must work.
#include "worker/tokenizer/tokenizer.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace svfleet;
  fuzz_file("tokenizer.json", data, size);
  return survives([&] {
    const Tokenizer tokenizer = Tokenizer::load(fuzz_folder());
    for (const char* text :
         {"", "Hello  42 \xc3\xa9\xe4\xb8\xad <s></s>'s\n\n \t x<|eot_id|>", "\xff\xf0\x9f"}) {
      const auto ids = tokenizer.encode(text, true);
      tokenizer.decode(ids, false);
    }
    StreamDecoder stream(tokenizer);
    for (int id = -1; id < 40; ++id) stream.push(id);
    stream.finish();
  });
}
