// A safetensors file of any size and any types, written tensor by tensor: no more of it than one
// piece is in memory.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// What the header says of a tensor; `dtype` as the file calls it: "BF16".
struct TensorEntry {
  std::string name, dtype;
  std::vector<int64_t> shape;
  uint64_t bytes = 0;
};

// For a file in a folder that nobody else sees yet (OutFolder): it has its own name from the
// beginning, and is whole and synced once finish() has returned.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::string path, const std::map<std::string, std::string>& metadata,
                    const std::vector<TensorEntry>& entries);
  ~SafetensorsWriter();

  // The bytes of the entries, in their order, in any pieces.
  void add(std::string_view bytes);
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace svfleet
