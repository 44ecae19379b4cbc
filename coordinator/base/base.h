// The frozen base and what belongs to it, opened and checked on every rank: model, tokenizer, chat
// template. Its factors: factors.h.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "checkpoints/run_state.h"
#include "coordinator/base/prompts.h"
#include "coordinator/config/config.h"
#include "coordinator/crew/crew.h"
#include "rl/task.h"
#include "worker/model/basis.h"
#include "worker/model/generate.h"
#include "worker/model/weights.h"
#include "worker/tokenizer/chat_template.h"
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {

struct Base {
  std::unique_ptr<const Weights> weights;
  std::unique_ptr<const Basis> basis;  // without targets before load_factors
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;                // none when no task uses it
  FolderHashes hashes;                               // of what lies beside the weights
  std::string model_hash;                            // content of all tensors
  std::map<std::string, std::string> factor_hashes;  // by weight name; empty before load_factors
  std::string store_hash;                            // of all of these; empty where none is read
  std::string weights_hash;                          // of the weights in memory, when loaded
};

at::ScalarType type_of(const std::string& name);  // "float32" or "bfloat16"

// Collective. Reads the model folder; all ranks must find the same one.
Base open_base(const Config& config, Crew& crew);

// All that no step may change: weights, bases and singular values.
NamedTensors frozen(const Base& base);

std::vector<MatrixSlot> slots(const Basis& basis);  // of the parameters
// What of an expert must be right before a factor of this model is made for it: Error(kExitUser)
// when it was trained on another model, or on another config.json or tokenizer.json. Warns, on rank
// 0, of another chat template.
void check_trained_on(const Config& config, const Base& base, const std::string& model_hash,
                      const Expert& expert, const std::string& path, bool leads);
// The flat z of an expert file; matrices that it does not adapt are the base's. Error(kExitUser)
// when it was made for other factors, adapts a matrix that is not a target here, or has another
// core than the basis.
std::vector<float> flat_z(const Base& base, const Expert& expert, const std::string& path);

// The tokens that the model sees for an item.
Prompt make_prompt(const Base& base, const TaskSpec& spec, const Item& item, int64_t key);

}  // namespace svfleet
