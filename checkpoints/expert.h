// An expert file: z of every adapted matrix (F32, named by the Hugging Face weight name) and where
// it came from, as safetensors with metadata.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace svfleet {

struct Expert {
  std::map<std::string, std::vector<float>> z;  // weight name -> [r]
  // format=svfleet-expert, version, z_hash, model_hash, store_hash, parametrisation, task, step,
  // scores ...
  std::map<std::string, std::string> metadata;
};

void save_expert(const std::string& path, const Expert& expert);
// Error(kExitUser) when it is not an expert file, kExitDisk when damaged: where the metadata has a
// z_hash, z must have it too.
Expert load_expert(const std::string& path);
// Hash of z only (names and bits): what a rollout carries to prove which policy made it.
std::string z_hash(const Expert& expert);

}  // namespace svfleet
