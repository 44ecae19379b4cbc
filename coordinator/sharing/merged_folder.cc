#include "coordinator/sharing/merged_folder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"
#include "checkpoints/out_folder.h"
#include "checkpoints/safetensors_writer.h"
#include "cluster/signals.h"
#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/sharing/core_lora.h"
#include "coordinator/sharing/model_card.h"
#include "worker/model/merged.h"
#include "worker/model/read_weight.h"

namespace svfleet {
namespace {

using nlohmann::ordered_json;

constexpr char kIndex[] = "model.safetensors.index.json";

constexpr char kMergedUse[] =
    R"(The base model with an expert merged into its weights: with a vector z, W' = U diag(σ∘z) Vᵀ for each
adapted weight W = U diag(σ) Vᵀ (Transformer², arXiv 2501.06252). It loads as any model of its kind does:

    model = transformers.AutoModelForCausalLM.from_pretrained("THIS_FOLDER", torch_dtype="auto")

In bfloat16 each W' is rounded up or down by chance in proportion, by a key of z, matrix and entry, so that
small moves arrive on average; it is the W' that svfleet itself multiplies by with `train.form: merged`.
)";

bool ends_with_any(const std::string& name, std::initializer_list<const char*> ends) {
  return std::any_of(ends.begin(), ends.end(),
                     [&](const char* end) { return name.ends_with(end); });
}

// What readers of a model need beside its weights: not those in other formats, nor the base's card.
bool is_copied(const std::string& name) {
  if (name.starts_with(".") || name == kIndex || name == "config.json") return false;
  if (name.ends_with(".index.json")) return false;
  return ends_with_any(name, {".json", ".jinja", ".txt", ".model", ".tiktoken"}) ||
         name.starts_with("LICENSE") || name.starts_with("NOTICE") ||
         name.starts_with("USE_POLICY");
}

// A checkpoint of the base's kind has no place for more biases than the base has.
void check_is_a_weight(const OpenedExpert& opened, size_t t) {
  const Target& target = opened.base.basis->targets()[t];
  const auto& kinds = linear_kinds();
  const auto kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
  const Linear& linear = opened.base.weights->layer(target.layer).linears[kind];
  const CoreKind core = opened.base.basis->core().kind();
  const bool scales_bias = core == CoreKind::kIa3 && target.kind != "down_proj";
  if (core == CoreKind::kBias || (scales_bias && linear.bias.defined()))
    throw user_error("the expert '", opened.path, "' is of core ", core_name(core),
                     ", which changes the bias of '", target.name,
                     "' too, and a merged model has weights only; export it as native");
}

// Of LoRA B alone: it multiplies A.
bool changes(const OpenedExpert& opened, size_t t) {
  if (opened.base.basis->core().kind() != CoreKind::kLora) return opened.moves(t);
  return core_lora(opened, t, std::numeric_limits<int64_t>::max()).rank() > 0;
}

class Writer {
 public:
  Writer(const OpenedExpert& opened, const OutFolder& folder)
      : opened_(opened),
        folder_(folder),
        keys_(rounding_keys(*opened.base.basis, opened.z)),
        bfloat16_(opened.base.weights->type() == at::kBFloat16) {
    found_.dtype = bfloat16_ ? "BF16" : "F32";
    const auto& targets = opened.base.basis->targets();
    for (size_t t = 0; t < targets.size(); ++t) {
      check_is_a_weight(opened, t);
      if (changes(opened, t)) moved_.push_back(t);
    }
    found_.changed = int64_t(moved_.size());
  }

  MergedFolder write() {
    for (const auto& file : opened_.base.weights->files().files()) write_file(file);
    write_index();
    write_config();
    const std::string from = opened_.config.model.path;
    for (const std::string& name : list_folder(from))
      if (is_copied(name) && !is_folder(from + "/" + name))
        folder_.write(name, read_file(from + "/" + name));
    return found_;
  }

 private:
  void write_file(const SafetensorsFolder::File& file) {
    std::vector<TensorEntry> entries;
    for (const TensorView& view : file.tensors) {
      TensorEntry& entry = entries.emplace_back(
          TensorEntry{view.name, view.dtype, view.shape, uint64_t(view.bytes)});
      if (!moved_within(view).empty()) {
        found_.dtype_changed |= view.dtype != found_.dtype;
        entry.dtype = found_.dtype;
        entry.bytes = uint64_t(view.shape[0] * view.shape[1]) * (bfloat16_ ? 2 : 4);
      }
      total_ += entry.bytes;
    }
    SafetensorsWriter out(folder_.file(file.name), file.metadata, entries);
    for (const TensorView& view : file.tensors) {
      if (stop_requested()) throw Error(kExitRequeue, "the export was stopped; nothing is kept");
      const std::vector<size_t> moved = moved_within(view);
      if (moved.empty())
        out.add({reinterpret_cast<const char*>(view.data), view.bytes});
      else
        add_merged(out, view, moved);
    }
    out.finish();
    ++found_.files;
  }

  // The changed targets that are a tensor of the files or, where it is a fused one, slices of it.
  std::vector<size_t> moved_within(const TensorView& view) const {
    std::vector<size_t> within;
    for (const size_t t : moved_) {
      const std::byte* const data = target_view(t).data;
      if (data >= view.data && data < view.data + view.bytes) within.push_back(t);
    }
    return within;
  }
  const TensorView& target_view(size_t t) const {
    return opened_.base.weights->files().at(opened_.base.basis->targets()[t].name);
  }

  void add_merged(SafetensorsWriter& out, const TensorView& view,
                  const std::vector<size_t>& moved) const {
    const auto merged = [&](size_t t) {
      return merged_weight(*opened_.base.weights, *opened_.base.basis, t, opened_.z, keys_[t])
          .sum.cpu()
          .contiguous();
    };
    at::Tensor weight;
    if (target_view(moved.front()).bytes == view.bytes) {
      weight = merged(moved.front());
    } else {
      weight = read_weight(opened_.base.weights->files(), view.name, view.shape,
                           bfloat16_ ? at::kBFloat16 : at::kFloat);
      const size_t row = view.bytes / size_t(view.shape[0]);
      for (const size_t t : moved) {
        const at::Tensor slice = merged(t);
        const int64_t first = int64_t(size_t(target_view(t).data - view.data) / row);
        weight.narrow(0, first, slice.size(0)).copy_(slice);
      }
    }
    out.add({static_cast<const char*>(weight.data_ptr()), weight.nbytes()});
  }

  // As it was, but for the total where types have changed.
  void write_index() const {
    const std::string path = opened_.config.model.path + "/" + kIndex;
    if (!file_exists(path)) return;  // one that names a single file may be all that leads to it
    std::string text = read_file(path);
    ordered_json index = ordered_json::parse(text);
    ordered_json& total = index["metadata"]["total_size"];
    if (total.is_number() && total != total_) {
      total = total_;
      text = index.dump(2) + "\n";
    }
    folder_.write(kIndex, text);
  }

  // As it was, but for the type that readers give the weights: one with fewer bits would lose
  // what z moves.
  void write_config() const {
    std::string text = read_file(opened_.config.model.path + "/config.json");
    if (found_.dtype_changed) {
      ordered_json config = ordered_json::parse(text);
      const char* name = bfloat16_ ? "bfloat16" : "float32";
      const bool is_new = config.contains("dtype");
      config[is_new ? "dtype" : "torch_dtype"] = name;
      text = config.dump(2) + "\n";
    }
    folder_.write("config.json", text);
  }

  const OpenedExpert& opened_;
  const OutFolder& folder_;
  const std::vector<uint64_t> keys_;
  const bool bfloat16_;
  std::vector<size_t> moved_;  // targets whose weights are others
  uint64_t total_ = 0;         // bytes of tensors
  MergedFolder found_;
};

}  // namespace

MergedFolder write_merged(const OpenedExpert& opened, const Origin& origin,
                          const std::string& out) {
  const double begin = steady_clock_s();
  OutFolder folder(out);
  MergedFolder found = Writer(opened, folder).write();
  folder.write("README.md", model_card(opened, origin,
                                       {.library = "transformers",
                                        .title = origin.name + " with an expert merged in",
                                        .use = kMergedUse}));
  folder.publish();
  found.seconds = steady_clock_s() - begin;
  return found;
}

}  // namespace svfleet
