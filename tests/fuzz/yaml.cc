// A configuration.
#include "coordinator/config/config.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace svfleet;
  const std::string path = fuzz_file("run.yaml", data, size);
  return survives([&] {
    const Config config = load_config(path, {});
    // What was read can be written and read again.
    if (print_config(parse_config(print_config(config), path)) != print_config(config))
      std::abort();
  });
}
