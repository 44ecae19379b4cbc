#include "svd/core_expert.h"

#include <algorithm>
#include <cstdio>

#include "comm/error.h"

namespace svfleet {
namespace {

// As an expert file says what its tensors are; empty: version 1.
std::string core_text(const Core& core) {
  const CoreOptions& options = core.options();
  switch (options.kind) {
    case CoreKind::kDiagonal:
      return "";
    case CoreKind::kBlock:
    case CoreKind::kTiny:  // its blocks
      return "block " + components_text(options.components);
    case CoreKind::kLora: {
      char alpha[40];
      std::snprintf(alpha, sizeof alpha, "%.17g", options.alpha);
      return "lora rank " + std::to_string(options.rank) + " alpha " + alpha;
    }
    case CoreKind::kBias:
    case CoreKind::kIa3:
      break;
  }
  return core_name(options.kind);
}

}  // namespace

CoreOptions core_of(const Expert& expert, const std::string& path) {
  CoreOptions options;
  const std::string& text = expert.core;
  if (text.empty()) return options;
  const std::string kind = text.substr(0, text.find(' '));
  if (kind == "block") {
    options.kind = CoreKind::kBlock;
    if (read_components(text.substr(std::min(text.size(), kind.size() + 1)), &options.components))
      return options;
  } else if (kind == "lora") {
    options.kind = CoreKind::kLora;
    long long rank = 0;
    if (std::sscanf(text.c_str(), "lora rank %lld alpha %lg", &rank, &options.alpha) == 2 &&
        rank > 0) {
      options.rank = rank;
      return options;
    }
  } else if (text == "bias" || text == "ia3") {
    options.kind = core_kind(text);
    return options;
  }
  throw user_error("expert '", path, "' has a core that this svfleet does not know, '", text,
                   "'; use the one that made it");
}

std::vector<ExpertTensor> tensors_of(const Core& core, size_t t) {
  const Target& target = core.targets()[t];
  const Core::Part part = core.part(t);
  const int64_t k = core.chosen(t).count, r = core.options().rank;
  switch (core.kind()) {
    case CoreKind::kBlock:
    case CoreKind::kTiny:
      return {{target.name, {k, k}, part.offset}};
    case CoreKind::kLora:
      return {{target.name + ".A", {r, target.cols}, part.offset},
              {target.name + ".B", {target.rows, r}, part.offset + r * target.cols}};
    default:
      return {{target.name, {part.length}, part.offset}};
  }
}

Expert as_expert(const Core& core, std::span<const float> z) {
  Expert expert;
  expert.core = core_text(core);
  for (size_t t = 0; t < core.targets().size(); ++t)
    for (const ExpertTensor& tensor : tensors_of(core, t)) {
      int64_t length = 1;
      for (const int64_t size : tensor.shape) length *= size;
      expert.z[tensor.name].assign(z.begin() + tensor.offset, z.begin() + tensor.offset + length);
      if (!expert.core.empty()) expert.shapes[tensor.name] = tensor.shape;
    }
  return expert;
}

}  // namespace svfleet
