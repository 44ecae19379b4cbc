// The frozen base and what belongs to it, opened and checked on every rank: model, tokenizer, chat
// template. Its factors: factors.h.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoints/expert.h"
#include "checkpoints/run_checkpoint.h"
#include "coordinator/base/prompts.h"
#include "coordinator/config/config.h"
#include "coordinator/crew/crew.h"
#include "rl/task.h"
#include "worker/model/generate.h"
#include "worker/model/model.h"
#include "worker/tokenizer/chat_template.h"
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {

struct Base {
  std::unique_ptr<Model> model;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<ChatTemplate> chat;                // none when no task uses it
  std::string model_hash;                            // content of all tensors
  std::map<std::string, std::string> factor_hashes;  // by weight name; empty before load_factors
  std::string store_hash;                            // of all of these
  std::string weights_hash;                          // of the weights in memory, when loaded
};

at::ScalarType type_of(const std::string& name);  // "float32" or "bfloat16"

// Collective. Reads the model folder; all ranks must find the same one.
Base open_base(const Config& config, Crew& crew);

std::vector<MatrixSlot> slots(const Model& model);
// z of all targets, as an expert without metadata.
Expert as_expert(const Model& model, const std::vector<float>& z);
// The flat z of an expert file; matrices that it does not adapt get 1. Error(kExitUser) when it
// was made for another base model or other factors, or adapts a matrix that is not a target here.
std::vector<float> flat_z(const Base& base, const Expert& expert, const std::string& path);

// The tokens that the model sees for an item.
Prompt make_prompt(const Base& base, const TaskSpec& spec, const Item& item, int64_t key);

}  // namespace svfleet
