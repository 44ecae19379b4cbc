// What the base model is called where others have it: a folder's path means nothing to them.
#pragma once

#include <string>

namespace svfleet {

struct Origin {
  std::string name;      // "HuggingFaceTB/SmolLM2-135M-Instruct", else the folder's
  std::string revision;  // empty: not known
};

// From where Hugging Face's programs put a model: a cache's models--OWNER--NAME/snapshots/REVISION,
// or what a download to a folder notes below .cache; else config.json's _name_or_path.
Origin origin_of(const std::string& model_folder);

}  // namespace svfleet
