// The frozen base and what belongs to it, opened and checked on every rank: model, tokenizer, chat
// template, factors.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "checkpoints/run_checkpoint.h"
#include "coordinator/config.h"
#include "coordinator/crew.h"
#include "rl/task.h"
#include "svd/store.h"
#include "worker/chat_template.h"
#include "worker/generate.h"
#include "worker/model.h"
#include "worker/tokenizer.h"

namespace svfleet {

struct Base {
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;                // none when no task uses it
  std::string model_hash;                            // content of all tensors
  std::map<std::string, std::string> factor_hashes;  // by weight name; empty before open_factors
  std::string store_hash;                            // of all of these
  std::string weights_hash;                          // of the weights in memory, when loaded
};

// What this configuration adapts of a model.
std::vector<Target> targets_of(const Config& config, const Architecture& architecture);

// Where the factors of this configuration's model are.
std::string store_folder(const Config& config);

// Collective. Reads the model folder; all ranks must find the same one.
Base open_base(const Config& config, Crew& crew);

// Collective. Decomposes what is missing in the store (shared over all ranks, with progress), then
// reads all factors and makes the matrices adaptable. Returns false when stopped by a signal.
bool open_factors(const Config& config, Crew& crew, Base& base);
// The second half alone, when nothing is missing. Error(kExitDisk) naming the tensor when one of
// the model in memory is not what `manifest` says that it was.
void load_factors(const Config& config, Crew& crew, const FactorStore::Manifest& manifest,
                  Base& base);

struct NamedCertificate {
  std::string name;
  Certificate certificate;
  bool made_now = false;
};
// Collective. Decomposes what is missing; needs the model's files, not its weights in memory.
// `manifest` is set on every rank, `certificates` (may be null) and `any_missing` on rank 0.
bool decompose_missing(const Config& config, Crew& crew, const Architecture& architecture,
                       const SafetensorsFolder& files, FactorStore::Manifest* manifest,
                       std::vector<NamedCertificate>* certificates, bool* any_missing = nullptr);

std::vector<MatrixSlot> slots(const Model& model);
// z of all targets, as an expert without metadata.
Expert as_expert(const Model& model, const std::vector<float>& z);
// The flat z of an expert file; matrices that it does not adapt get 1. Error(kExitUser) when it
// was made for another base model or other factors, or adapts a matrix that is not a target here.
std::vector<float> flat_z(const Base& base, const Expert& expert, const std::string& path);

// The tokens that the model sees for an item.
Prompt make_prompt(const Base& base, const TaskSpec& spec, const Item& item, int64_t key);

}  // namespace svfleet
