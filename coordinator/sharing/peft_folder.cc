#include "coordinator/sharing/peft_folder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoints/out_folder.h"
#include "checkpoints/safetensors_writer.h"
#include "cluster/signals.h"
#include "comm/error.h"
#include "coordinator/sharing/core_lora.h"
#include "coordinator/sharing/lora.h"
#include "coordinator/sharing/model_card.h"
#include "worker/model/model_tensors.h"

namespace svfleet {
namespace {

using nlohmann::ordered_json;

constexpr char kPeftUse[] =
    R"(An expert vector (Transformer², arXiv 2501.06252) as a LoRA adapter for peft. `lora_alpha` is r for every
matrix, so that what is added to W is B·A itself.

    model = transformers.AutoModelForCausalLM.from_pretrained("BASE_MODEL")
    model = peft.PeftModel.from_pretrained(model, "THIS_FOLDER")

The factors are float32, and give the expert's change to about 1e-7 of it where it was not cut to a rank
(below). Merged into bfloat16 weights by `merge_and_unload`, small moves are rounded away: keep the adapter
beside the weights, or use svfleet's `export --format merged`.
)";

// The module of a target: its own, or the fused one that it is a slice of. In a model that can see,
// the language model's modules have the names that transformers gives them from 4.52 on, whatever
// its tensors are called in the folder.
std::string module_of(const Architecture& arch, const Target& target) {
  const std::string own = "model.layers." + std::to_string(target.layer) + ".",
                    of_layer = arch.multimodal ? "model.language_model." + own.substr(6) : own,
                    fused = fused_name(arch, target.kind),
                    name = fused.empty() ? target.name.substr(own.size()) : fused;
  return of_layer + name.substr(0, name.rfind('.'));
}

// Slices of one module as one LoRA: their ranks add. A [sum of ranks, n] has them below each other,
// B [m, sum of ranks] each in its own rows, from `first` on, and columns.
void add_slice(LoraFactors* whole, const LoraFactors& slice, int64_t first, int64_t rows) {
  if (!whole->a.defined()) {
    whole->a = at::zeros({0, slice.a.size(1)});
    whole->b = at::zeros({rows, 0});
  }
  at::Tensor b = at::zeros({rows, slice.rank()});
  b.narrow(0, first, slice.b.size(0)).copy_(slice.b);
  whole->a = at::cat({whole->a, slice.a}, 0);
  whole->b = at::cat({whole->b, b}, 1);
}

struct NamedLora {
  std::string module;  // "model.layers.0.mlp.up_proj"
  LoraFactors factors;
};

void count(const LoraFactors& lora, int64_t most, LoraLoss* loss) {
  ++loss->matrices;
  loss->truncated += lora.moved > most;
  loss->largest_rank = std::max(loss->largest_rank, lora.rank());
  loss->most_moved = std::max(loss->most_moved, lora.moved);
  loss->change.add(lora.norm2, lora.lost2);
}

std::vector<NamedLora> loras_of(const OpenedExpert& opened, int64_t most, PeftFolder* found) {
  std::vector<NamedLora> loras;
  const bool diagonal = opened.base.basis->core().kind() == CoreKind::kDiagonal;
  const Architecture& arch = opened.base.weights->architecture();
  for (size_t t = 0; t < opened.base.basis->targets().size(); ++t) {
    const Target& target = opened.base.basis->targets()[t];
    if (stop_requested()) throw Error(kExitRequeue, "the export was stopped; nothing is kept");
    if (!opened.moves(t)) continue;
    LoraFactors lora;
    if (diagonal) {
      const std::span<const float> z(opened.z.data() + target.offset, size_t(target.length()));
      lora = lora_of(stored_factor(opened, target), exact_weight(opened, target), z, most);
    } else {
      lora = core_lora(opened, t, most);
    }
    count(lora, most, &found->by_kind[target.kind]);
    count(lora, most, &found->all);
    if (lora.rank() == 0) continue;  // only components with sigma = 0 move
    const std::string module = module_of(arch, target);
    const SliceOfTensor place = slice_of(arch, target.kind);
    if (place.whole_rows == target.rows) {
      loras.push_back({module, std::move(lora)});
      continue;
    }
    if (loras.empty() || loras.back().module != module) loras.push_back({module, {}});
    add_slice(&loras.back().factors, lora, place.first_row, place.whole_rows);
    found->all.largest_rank = std::max(found->all.largest_rank, loras.back().factors.rank());
  }
  if (loras.empty())
    throw user_error("expert '", opened.path, "' changes nothing, and peft has no empty adapter; ",
                     "give an expert that has moved");
  return loras;
}

// Without the first part of the name: older versions of peft want something before it.
std::string pattern(const std::string& module) {
  return module.substr(module.find('.') + 1);
}

std::string adapter_config(const std::vector<NamedLora>& loras, const Origin& origin, int64_t r) {
  ordered_json modules = ordered_json::array(), ranks = ordered_json::object();
  for (const NamedLora& lora : loras) {
    modules.push_back(lora.module);
    if (lora.factors.rank() != r) ranks[pattern(lora.module)] = lora.factors.rank();
  }
  ordered_json config = {{"peft_type", "LORA"},
                         {"task_type", "CAUSAL_LM"},
                         {"base_model_name_or_path", origin.name},
                         {"revision", nullptr},
                         {"inference_mode", true},
                         {"r", r},
                         {"lora_alpha", r},
                         {"lora_dropout", 0.0},
                         {"bias", "none"},
                         {"fan_in_fan_out", false},
                         {"use_rslora", false},
                         {"use_dora", false},
                         {"init_lora_weights", true},
                         {"modules_to_save", nullptr},
                         {"layers_to_transform", nullptr},
                         {"layers_pattern", nullptr},
                         {"target_modules", modules},
                         {"rank_pattern", ranks},
                         {"alpha_pattern", ranks}};
  if (!origin.revision.empty()) config["revision"] = origin.revision;
  return config.dump(2) + "\n";
}

void write_factors(const std::vector<NamedLora>& loras, const OutFolder& folder) {
  std::vector<TensorEntry> entries;
  std::vector<at::Tensor> tensors;
  for (const NamedLora& lora : loras)
    for (const auto& [which, tensor] : {std::pair{"A", lora.factors.a}, {"B", lora.factors.b}}) {
      entries.push_back({"base_model.model." + lora.module + ".lora_" + which + ".weight", "F32",
                         tensor.sizes().vec(), uint64_t(tensor.nbytes())});
      tensors.push_back(tensor);
    }
  SafetensorsWriter out(folder.file("adapter_model.safetensors"), {{"format", "pt"}}, entries);
  for (const at::Tensor& tensor : tensors)
    out.add({static_cast<const char*>(tensor.data_ptr()), tensor.nbytes()});
  out.finish();
}

std::string what_is_lost(const LoraLoss& all) {
  if (all.truncated == 0)
    return "\nNothing was cut: every matrix has the rank that its expert moves.\n";
  char text[200];
  std::snprintf(text, sizeof text,
                "\n%lld of %lld matrices were cut to the best change of rank %lld: what is lost is "
                "%.3g of the change (Frobenius norm).\n",
                static_cast<long long>(all.truncated), static_cast<long long>(all.matrices),
                static_cast<long long>(all.largest_rank), all.change.share());
  return text;
}

}  // namespace

PeftFolder write_peft(const OpenedExpert& opened, const Origin& origin, int64_t most,
                      const std::string& out) {
  OutFolder folder(out);
  PeftFolder found;
  const std::vector<NamedLora> loras = loras_of(opened, most, &found);
  write_factors(loras, folder);
  folder.write("adapter_config.json", adapter_config(loras, origin, found.all.largest_rank));
  folder.write("README.md",
               model_card(opened, origin,
                          {.library = "peft",
                           .title = "An expert vector for " + origin.name + ", as a LoRA",
                           .use = kPeftUse + what_is_lost(found.all)}));
  folder.publish();
  return found;
}

}  // namespace svfleet
