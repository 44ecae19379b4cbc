#include "svd/core.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "comm/error.h"
#include "comm/random.h"

namespace svfleet {
namespace {

struct Named {
  CoreKind kind;
  const char* name;
};
constexpr Named kNames[] = {{CoreKind::kDiagonal, "diagonal"}, {CoreKind::kBlock, "block"},
                            {CoreKind::kTiny, "tiny"},         {CoreKind::kBias, "bias"},
                            {CoreKind::kLora, "lora"},         {CoreKind::kIa3, "ia3"}};

// Of the largest singular value: below it a direction is none, and what its value is, is what the
// decomposition's rounding left (the root of 1e-16).
constexpr double kNull = 1e-6;

int64_t part_length(const CoreOptions& options, const Target& target, int64_t chosen) {
  switch (options.kind) {
    case CoreKind::kDiagonal:
      return target.length();
    case CoreKind::kBlock:
    case CoreKind::kTiny:
      return chosen * chosen;
    case CoreKind::kBias:
      return target.rows;
    case CoreKind::kLora:
      return options.rank * (target.rows + target.cols);
    case CoreKind::kIa3:
      return target.kind == "down_proj" ? target.cols : target.rows;
  }
  return 0;
}

}  // namespace

CoreKind core_kind(const std::string& name) {
  for (const Named& one : kNames)
    if (one.name == name) return one.kind;
  throw user_error("train.core: must be diagonal, block, tiny, bias, lora or ia3, got '", name,
                   "'");
}

const char* core_name(CoreKind kind) {
  for (const Named& one : kNames)
    if (one.kind == kind) return one.name;
  return "";
}

bool read_components(const std::string& text, Components* components) {
  *components = {};
  if (text == "all") return true;
  for (const auto& [word, which] :
       {std::pair{"top ", Components::kTop}, std::pair{"bottom ", Components::kBottom}}) {
    if (!text.starts_with(word)) continue;
    const char *begin = text.data() + std::char_traits<char>::length(word),
               *end = text.data() + text.size();
    const auto [stop, code] = std::from_chars(begin, end, components->count);
    components->which = which;
    return code == std::errc() && stop == end && components->count > 0;
  }
  return false;
}

std::string components_text(const Components& components) {
  if (components.which == Components::kAll) return "all";
  return (components.which == Components::kTop ? "top " : "bottom ") +
         std::to_string(components.count);
}

Core::Core(const CoreOptions& options, std::vector<Target> targets,
           std::vector<std::vector<double>> sigmas)
    : options_(options), targets_(std::move(targets)), sigmas_(std::move(sigmas)) {
  int64_t offset = 0, p = 0;
  for (size_t t = 0; t < targets_.size(); ++t) {
    const int64_t length = part_length(options_, targets_[t], chosen(t).count);
    parts_.push_back({offset, length});
    offset += length;
    const bool tied = options_.kind == CoreKind::kTiny && !slots_.empty() &&
                      (options_.tied == 0 || int64_t(t) % options_.tied != 0);
    if (!tied) {
      const int64_t own = options_.kind == CoreKind::kTiny       ? options_.numbers
                          : options_.kind == CoreKind::kDiagonal ? chosen(t).count
                                                                 : length;
      slots_.push_back({targets_[t].name, p, own});
      p += own;
    }
    slot_of_.push_back(slots_.size() - 1);
  }
}

Core::Range Core::chosen(size_t t) const {
  const int64_t r = targets_[t].length();
  const Components& of = options_.components;
  if (of.which == Components::kAll) return {0, r};
  const int64_t count = std::min(of.count, r);
  return {of.which == Components::kTop ? 0 : r - count, count};
}

int64_t Core::coefficients() const {
  return parts_.empty() ? 0 : parts_.back().offset + parts_.back().length;
}

float Core::at_rest() const {
  return options_.kind == CoreKind::kDiagonal || options_.kind == CoreKind::kIa3 ? 1 : 0;
}

double Core::ratio(size_t t, int64_t i, int64_t j) const {
  if (targets_[t].form == Form::kRight) return 1;
  const std::vector<double>& sigma = sigmas_[t];
  const int64_t first = chosen(t).first;
  const double below = sigma[size_t(first + j)];
  return below > kNull * sigma.front() ? sigma[size_t(first + i)] / below : 0;
}

double Core::random(size_t t, int64_t a, int64_t b) const {
  const auto& kinds = linear_kinds();
  const Target& target = targets_[t];
  const auto kind = std::find(kinds.begin(), kinds.end(), target.kind) - kinds.begin();
  const auto place = uint64_t(target.layer) * kinds.size() + uint64_t(kind);
  return 2 * keyed_uniform(options_.seed, Stream::kInit, place, uint64_t(a), uint32_t(b)) - 1;
}

std::vector<float> Core::start() const {
  std::vector<float> p(size_t(parameters()), 0);
  if (options_.kind != CoreKind::kLora) return p;
  for (size_t t = 0; t < targets_.size(); ++t) {
    const int64_t n = targets_[t].cols;
    const double bound = 1 / std::sqrt(double(n));
    float* a = p.data() + slot_of(t).offset;
    for (int64_t j = 0; j < options_.rank; ++j)
      for (int64_t i = 0; i < n; ++i) *a++ = float(bound * random(t, j, i));
  }
  return p;
}

std::vector<float> Core::coefficients_of(std::span<const float> p) const {
  SVFLEET_CHECK(int64_t(p.size()) == parameters(), p.size(), " parameters of ", parameters());
  const bool all = options_.components.which == Components::kAll;
  if (options_.kind == CoreKind::kDiagonal && all)
    return z_of(options_.parametrisation, targets_, p, sigmas_);
  std::vector<float> c(size_t(coefficients()), at_rest());
  for (size_t t = 0; t < targets_.size(); ++t) {
    const float* own = p.data() + slot_of(t).offset;
    float* out = c.data() + parts_[t].offset;
    const auto [first, k] = chosen(t);
    switch (options_.kind) {
      case CoreKind::kDiagonal:
        for (int64_t i = 0; i < k; ++i) out[first + i] = 1.0f + own[i];
        break;
      case CoreKind::kBlock:
        for (int64_t i = 0; i < k; ++i)
          for (int64_t j = 0; j < k; ++j)
            out[i * k + j] = float(ratio(t, i, j) * double(own[i * k + j]));
        break;
      case CoreKind::kTiny:
        // The entries of P have variance 1 / k^2, so that |P| is about 1.
        for (int64_t i = 0; i < k; ++i)
          for (int64_t j = 0; j < k; ++j) {
            double sum = 0;
            for (int64_t u = 0; u < options_.numbers; ++u)
              sum += double(own[u]) * random(t, u, i * k + j);
            out[i * k + j] = float(ratio(t, i, j) * sum * std::sqrt(3.0) / double(k));
          }
        break;
      case CoreKind::kBias:
      case CoreKind::kLora:
        std::copy_n(own, parts_[t].length, out);
        break;
      case CoreKind::kIa3:
        for (int64_t i = 0; i < parts_[t].length; ++i) out[i] = 1.0f + own[i];
        break;
    }
  }
  return c;
}

std::vector<float> Core::chain_to_p(std::span<const float> p, std::span<const double> dc) const {
  SVFLEET_CHECK(int64_t(dc.size()) == coefficients(), dc.size(), " gradients of ", coefficients());
  const bool all = options_.components.which == Components::kAll;
  if (options_.kind == CoreKind::kDiagonal && all)
    return svfleet::chain_to_p(options_.parametrisation, targets_, p, dc, sigmas_);
  std::vector<double> dp(size_t(parameters()), 0);
  for (size_t t = 0; t < targets_.size(); ++t) {
    const double* in = dc.data() + parts_[t].offset;
    double* own = dp.data() + slot_of(t).offset;
    const auto [first, k] = chosen(t);
    switch (options_.kind) {
      case CoreKind::kDiagonal:
        for (int64_t i = 0; i < k; ++i) own[i] = in[first + i];
        break;
      case CoreKind::kBlock:
        for (int64_t i = 0; i < k; ++i)
          for (int64_t j = 0; j < k; ++j) own[i * k + j] = ratio(t, i, j) * in[i * k + j];
        break;
      case CoreKind::kTiny:
        for (int64_t u = 0; u < options_.numbers; ++u) {
          double sum = 0;
          for (int64_t i = 0; i < k; ++i)
            for (int64_t j = 0; j < k; ++j)
              sum += ratio(t, i, j) * in[i * k + j] * random(t, u, i * k + j);
          own[u] += sum * std::sqrt(3.0) / double(k);
        }
        break;
      case CoreKind::kBias:
      case CoreKind::kLora:
      case CoreKind::kIa3:
        std::copy_n(in, parts_[t].length, own);
        break;
    }
  }
  return {dp.begin(), dp.end()};
}

std::vector<float> Core::p_of(std::span<const float> c) const {
  SVFLEET_CHECK(int64_t(c.size()) == coefficients(), c.size(), " coefficients of ", coefficients());
  const bool all = options_.components.which == Components::kAll;
  if (options_.kind == CoreKind::kDiagonal && all)
    return svfleet::p_of(options_.parametrisation, targets_, c, sigmas_);
  if (options_.kind == CoreKind::kTiny)
    throw user_error(
        "train.init_from: an expert holds the blocks of train.core tiny and not the numbers that "
        "they are made of; start a child run with --fork, or use train.core block");
  std::vector<float> p = start();
  for (size_t t = 0; t < targets_.size(); ++t) {
    const float* in = c.data() + parts_[t].offset;
    float* own = p.data() + slot_of(t).offset;
    const auto [first, k] = chosen(t);
    if (options_.kind == CoreKind::kDiagonal) {
      for (int64_t i = 0; i < targets_[t].length(); ++i) {
        const bool here = i >= first && i < first + k;
        if (!here && in[i] != 1)
          throw user_error("train.init_from: z of ", targets_[t].name, " moves component ", i,
                           ", which is not among svd.components; widen them");
        if (here) own[i - first] = in[i] - 1.0f;
      }
    } else if (options_.kind == CoreKind::kBlock) {
      for (int64_t i = 0; i < k; ++i)
        for (int64_t j = 0; j < k; ++j) {
          const double by = ratio(t, i, j);
          own[i * k + j] = by > 0 ? float(double(in[i * k + j]) / by) : 0;
        }
    } else {
      const int64_t length = parts_[t].length;
      // A matrix that the expert leaves alone keeps its random A: of A = B = 0 both gradients are 0
      // for ever, and with B = 0 it is the base whatever A is.
      if (options_.kind == CoreKind::kLora &&
          std::all_of(in, in + length, [](float x) { return x == 0; }))
        continue;
      for (int64_t i = 0; i < length; ++i) own[i] = in[i] - at_rest();
    }
  }
  return p;
}

}  // namespace svfleet
