// An HDF5 image behind a right checksum, as a file of ours that somebody else has written.
#include <xxhash.h>

#include <cstring>

#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_state.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace svfleet;
  std::string image(reinterpret_cast<const char*>(data), size);
  const uint32_t version[2] = {1, 0};  // docs/formats.md: the trailer
  const uint64_t length = size;
  image.append("SVFLEET\x1a", 8);
  image.append(reinterpret_cast<const char*>(version), 8);
  image.append(reinterpret_cast<const char*>(&length), 8);
  const uint64_t hash = XXH3_64bits(image.data(), image.size());
  image.append(reinterpret_cast<const char*>(&hash), 8);
  survives([&] {
    const Hdf5Reader file(image, "fuzz");
    for (const char* name : {"Q", "gradient", "p"})
      if (file.has(name))
        file.is_bfloat16(name) ? (void)file.bfloat16s(name) : (void)file.floats(name);
    if (file.has("summary")) file.text("summary");
    if (file.has("sigma")) file.doubles("sigma");
  });
  return survives([&] { decode_state(image, "fuzz"); });
}
