// svfleet transfer: the z of one model on another of the same shapes, in order of singular values.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoints/expert.h"
#include "comm/error.h"
#include "coordinator/base/factors.h"
#include "coordinator/commands/commands.h"
#include "coordinator/commands/controls.h"
#include "coordinator/commands/experts.h"
#include "coordinator/config/targets.h"
#include "coordinator/run/json_line.h"
#include "coordinator/sharing/opened.h"
#include "coordinator/sharing/transfer.h"
#include "worker/model/model_tensors.h"

namespace svfleet {
namespace {

using nlohmann::json;

NamedZ moved_z(const Expert& expert, const std::vector<Target>& targets,
               const std::string& control) {
  std::vector<float> flat;
  for (const Target& target : targets) {
    const std::vector<float>& z = expert.z.at(target.name);
    flat.insert(flat.end(), z.begin(), z.end());
  }
  if (control == "shuffled") flat = shuffled(targets, flat);
  if (control == "reversed") flat = reversed(targets, flat);
  NamedZ moved;
  for (const Target& target : targets)
    moved[target.name].assign(flat.begin() + target.offset,
                              flat.begin() + target.offset + target.length());
  return moved;
}

// Of the model that it goes to, in place of what `expert` has of its own.
void describe(const Config& config, const Architecture& architecture, const Decomposed& decomposed,
              const std::vector<Target>& targets, Expert* expert) {
  std::map<std::string, std::string> hashes, &metadata = expert->metadata;
  const FactorStore store(store_folder(config));
  for (const Target& target : targets)
    hashes[target.name] = factor_hash(store.load(
        target, decomposed.made_from.tensor_hashes.at(target.name), config.svd.tolerance));
  const Texts texts = open_texts(config, architecture);
  const FolderHashes folder = folder_hashes(architecture, *texts.tokenizer, texts.chat.get());
  metadata["transferred_from_model"] = metadata["model_hash"];
  metadata["transferred_from_store"] = metadata["store_hash"];
  metadata["model_hash"] = decomposed.made_from.model_hash;
  metadata["store_hash"] = factors_hash(hashes);
  metadata["config_hash"] = folder.config;
  metadata["config_shape"] = folder.shape;
  metadata["tokenizer_hash"] = folder.tokenizer;
  metadata.erase("chat_template_hash");
  if (texts.chat) metadata["chat_template_hash"] = folder.chat_template;
  metadata.erase("validation_score");  // it was of another model
}

void tell(const CommandLine& line, const Expert& expert, size_t matrices) {
  const json report = {{"out", line.out},
                       {"z_hash", z_hash(expert)},
                       {"matrices", matrices},
                       {"control", line.share.control},
                       {"from_model", expert.metadata.at("transferred_from_model")},
                       {"model_hash", expert.metadata.at("model_hash")}};
  if (line.json)
    std::printf("%s\n", json_line(report).c_str());
  else
    std::printf("%zu matrices%s%s, in order of singular values, in %s\n", matrices,
                line.share.control.empty() ? "" : " ", line.share.control.c_str(),
                line.out.c_str());
}

}  // namespace

int transfer_command(const CommandLine& line, const Config& given) {
  Crew crew(given);
  const std::string& path = line.experts.front();
  const Expert expert = open_experts({path}, crew).front();
  if (!expert.core.empty())
    throw user_error("the expert '", path, "' has the core '", expert.core,
                     "', and only experts of core diagonal can be transferred");
  const Architecture architecture = read_architecture(given.model.path, given.model.max_length);
  const std::vector<Target> targets =
      fitting_targets(expert.z, architecture, path, given.model.path);
  crew.on_leader("look at OUT", [&] { check_new_file(line.out); });
  const Config config = adapting({expert}, given);
  const SafetensorsFolder files = open_tensors(config.model.path, architecture);
  crew.agree("model folder", files.quick_fingerprint());
  const auto decomposed = decompose_missing(config, crew, architecture, files, /*keep=*/true);
  if (!decomposed) return kExitRequeue;
  crew.on_leader("transfer", [&] {
    Expert moved{moved_z(expert, targets, line.share.control), expert.metadata};
    describe(config, architecture, *decomposed, targets, &moved);
    moved.metadata["transferred_from"] = z_hash(expert);
    if (!line.share.control.empty()) moved.metadata["control"] = line.share.control;
    save_new_expert(line.out, moved);
    tell(line, moved, targets.size());
  });
  return kExitFinished;
}

}  // namespace svfleet
