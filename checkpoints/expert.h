// An expert file: z of every adapted matrix (F32, named by the Hugging Face weight name) and where
// it came from, as safetensors with metadata. Version 1 is of SVF; version 2 of other cores, whose
// tensors have shapes and may be two a matrix (docs/formats.md).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace svfleet {

struct Expert {
  std::map<std::string, std::vector<float>> z;  // version 1: weight name -> [r]; 2: tensor name
  // format=svfleet-expert, version, z_hash, model_hash, store_hash, parametrisation, task, step,
  // scores ...
  std::map<std::string, std::string> metadata;
  std::string core = {};  // version 2: kind and options; else empty
  std::map<std::string, std::vector<int64_t>> shapes = {};  // version 2: of each tensor
};

std::string expert_bytes(const Expert& expert);  // what its file holds
void save_expert(const std::string& path, const Expert& expert);
// The name of the expert in a folder of its own, as `svfleet export --format native` makes it.
inline constexpr char kExpertInFolder[] = "expert.safetensors";
// The file itself, where `path` is such a folder.
std::string expert_file(const std::string& path);
// Of a file, or of a folder that has one. Error(kExitUser) when it is not an expert, kExitDisk when
// damaged: where the metadata has a z_hash, z must have it too.
Expert load_expert(const std::string& path);
// Hash of z only (names and bits; of version 2 core and shapes too): what a rollout carries to
// prove which policy made it.
std::string z_hash(const Expert& expert);
// The adapted weight that a tensor belongs to: its name without what version 2 puts behind it.
std::string weight_of(const std::string& tensor);

}  // namespace svfleet
