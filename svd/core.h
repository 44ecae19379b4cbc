// What of a model is trained: how the parameters p become the coefficients that an adapter reads,
// and dL/d(coefficients) becomes dL/dp. Plain loops in float64, rounded once to float32, in a fixed
// order, so that every rank gets the same bits. No torch.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "svd/parametrisation.h"
#include "svd/target.h"

namespace svfleet {

// With Q_k the chosen columns of Q, k of them, and C = diag(z - 1), or as it is said:
//   right: W' = W + W Q_k C Q_k^T;   left: W' = W + Q_k C Q_k^T W
enum class CoreKind {
  kDiagonal,  // SVF: a scale z for each component
  kBlock,     // any C [k, k]: LoRA-XS (arXiv 2405.17604), for on the left C = S R S^-1, S =
              // diag(sigma)
  kTiny,  // a block sum_u v_u P_u of fixed P_u and few v, of many matrices: TinyLoRA (2602.04118)
  kBias,  // y + b: a vector added to the output
  kLora,  // W + (alpha / r) B A (arXiv 2106.09685)
  kIa3,   // scales of outputs, or of down_proj's inputs (arXiv 2205.05638)
};
CoreKind core_kind(const std::string& name);  // diagonal, block, tiny, bias, lora, ia3
const char* core_name(CoreKind kind);

// Which of a matrix's components, in descending order of sigma.
struct Components {
  enum Which { kAll, kTop, kBottom } which = kAll;
  int64_t count = 0;  // of kTop and kBottom; a matrix with fewer has all of its own chosen
  bool operator==(const Components&) const = default;
};
bool read_components(const std::string& text, Components* components);  // "all", "top 64"
std::string components_text(const Components& components);

struct CoreOptions {
  CoreKind kind = CoreKind::kDiagonal;
  Parametrisation parametrisation = Parametrisation::kDirect;  // kDiagonal
  Components components = {};                                  // kDiagonal, kBlock, kTiny
  int64_t rank = 16;                                           // kLora: r ...
  double alpha = 32;                                           // ... and B A is times alpha / r
  int64_t numbers = 13;                                        // kTiny: of one v ...
  int64_t tied = 0;   // ... which so many neighbouring targets share; 0: all
  uint64_t seed = 0;  // kTiny: of P; kLora: of A
};

class Core {
 public:
  Core() = default;  // of nothing
  // sigmas[t]: [length of target t]; empty where !decomposed(), or where only sizes are asked for.
  Core(const CoreOptions& options, std::vector<Target> targets,
       std::vector<std::vector<double>> sigmas);

  const CoreOptions& options() const { return options_; }
  CoreKind kind() const { return options_.kind; }
  const std::vector<Target>& targets() const { return targets_; }
  const std::vector<std::vector<double>>& sigmas() const { return sigmas_; }
  // Whether it reads Q and sigma.
  bool decomposed() const { return is_decomposed(options_.kind); }
  static bool is_decomposed(CoreKind kind) { return kind < CoreKind::kBias; }

  // The chosen components of target t: [first, first + count).
  struct Range {
    int64_t first, count;
  };
  Range chosen(size_t t) const;

  // Coefficients: those of target t lie at [offset, offset + length) of the flat vector. Diagonal:
  // z [r]; block and tiny: C [k, k]; bias: b [m]; LoRA: A [r, n], then B [m, r]; (IA)3: scales [m],
  // of down_proj [n].
  struct Part {
    int64_t offset, length;
  };
  const Part& part(size_t t) const { return parts_[t]; }
  const std::vector<Part>& parts() const { return parts_; }
  int64_t coefficients() const;
  // What each coefficient of the base model is: 1 for scales, else 0.
  float at_rest() const;
  double scale() const { return options_.alpha / double(options_.rank); }  // kLora

  // What is trained: named places in the flat p. Tied targets have one, under their first name.
  struct Slot {
    std::string name;
    int64_t offset, length;
  };
  const std::vector<Slot>& slots() const { return slots_; }
  int64_t parameters() const {
    return slots_.empty() ? 0 : slots_.back().offset + slots_.back().length;
  }

  // p at which the adapted model is the base: 0, but for LoRA's A, which is uniform in
  // +-1/sqrt(n), keyed by seed, target, row and column.
  std::vector<float> start() const;
  std::vector<float> coefficients_of(std::span<const float> p) const;
  // dc: dL/d(coefficients). Tied parameters get the sum over their targets, in their order.
  std::vector<float> chain_to_p(std::span<const float> p, std::span<const double> dc) const;
  // p of these coefficients, for starting at an expert. A matrix of LoRA that is all 0 is as in
  // start(): the base, too, and it can learn. Error(kExitUser) where there is no p.
  std::vector<float> p_of(std::span<const float> coefficients) const;

 private:
  // What C is of R on the left: sigma_i / sigma_j; elsewhere 1. 0 where sigma_j is 0: Q_j^T W is.
  double ratio(size_t t, int64_t i, int64_t j) const;
  double random(size_t t, int64_t a, int64_t b) const;  // in +-1, keyed
  const Slot& slot_of(size_t t) const { return slots_[slot_of_[t]]; }

  CoreOptions options_;
  std::vector<Target> targets_;
  std::vector<std::vector<double>> sigmas_;
  std::vector<Part> parts_;
  std::vector<Slot> slots_;
  std::vector<size_t> slot_of_;  // by target
};

}  // namespace svfleet
