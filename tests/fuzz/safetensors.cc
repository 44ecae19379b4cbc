// A safetensors file: model, and small file.
#include "checkpoints/safetensors.h"

#include "checkpoints/expert.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace svfleet;
  const std::string path = fuzz_file("model.safetensors", data, size);
  survives([&] { SafetensorsFolder(path).content_hash(); });
  return survives([&] { load_expert(path); });
}
