// Hugging Face safetensors: read by memory map, written in one checked piece.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

// kOther: whole numbers, truth values and types of quantised weights, which nothing here computes
// with.
enum class TensorType { kF32, kBF16, kF16, kF64, kOther };

struct TensorView {
  std::string name;
  TensorType type;
  std::string dtype;  // as the file calls it: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  const std::byte* data;  // inside the map; any alignment
  size_t bytes;
};

// One or several files of a model folder: model.safetensors, or what model.safetensors.index.json
// names, or a single .safetensors file. Lengths are checked against headers when opened: a short or
// inconsistent file is an Error(kExitDisk), a missing one, a Git LFS pointer or an
// unknown type Error(kExitUser). Views live as long as this object. Thread-safe once made. Errors
// name file and tensor.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::string& folder);  // or file
  ~SafetensorsFolder();
  SafetensorsFolder(SafetensorsFolder&&) noexcept;
  // Another name for rows [first, first + rows) of the tensor `of`, for has, at and tensor_hash;
  // `rows` -1: for all of it. Error(kExitUser) where it has fewer. Before others use this object.
  void also_call(const std::string& name, const std::string& of, int64_t first = 0,
                 int64_t rows = -1);
  const std::vector<std::string>& names() const;  // those in the files, sorted
  bool has(const std::string& name) const;
  const TensorView& at(const std::string& name) const;  // Error(kExitUser) naming the tensor
  // Hash of the tensor's type, shape and bytes.
  std::string tensor_hash(const std::string& name) const;
  // Lets the system have the memory of what was read; reading it again is slower once.
  void forget_pages() const;
  // Hash of headers, sizes and modification times: cheap, for noticing a changed model.
  std::string quick_fingerprint() const;
  // Hash over all tensors' content; reads everything.
  std::string content_hash() const;

  // The files, by name, each with all of its tensors in their places.
  struct File {
    std::string name;  // without the folder
    const std::map<std::string, std::string>& metadata;
    const std::vector<TensorView>& tensors;
  };
  std::vector<File> files() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A small single file (an expert), read into memory.
struct SafetensorsData {
  std::map<std::string, std::string> metadata;
  std::map<std::string, std::pair<std::vector<int64_t>, std::vector<float>>> tensors;  // F32
};
SafetensorsData read_safetensors(const std::string& path);
std::map<std::string, std::string> read_safetensors_metadata(const std::string& path);
std::string safetensors_bytes(const SafetensorsData& data);  // what such a file holds
void write_safetensors(const std::string& path, const SafetensorsData& data);

}  // namespace svfleet
