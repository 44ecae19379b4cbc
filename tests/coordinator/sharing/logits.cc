// For the tests of exports: logits of a model folder as JSON [position][token], of the base or of
// an expert.
//
//   sharing_logits MODEL float32|bfloat16 TOKEN,TOKEN,... [STORE EXPERT merged|activation]
#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoints/expert.h"
#include "coordinator/config/targets.h"
#include "svd/core_expert.h"
#include "svd/store.h"
#include "worker/model/decoder.h"

namespace svfleet {
namespace {

std::vector<int> tokens_of(const std::string& list) {
  std::vector<int> tokens;
  std::istringstream in(list);
  for (std::string one; std::getline(in, one, ',');) tokens.push_back(std::stoi(one));
  return tokens;
}

void print_logits(const Weights& weights, const Adapter& adapter, const std::vector<int>& tokens) {
  PagePool pool(weights);
  const TreePass tree({{tokens, -1, kOnlyExpert}}, pool);
  const at::Tensor logits =
      weights.head().logits(forward(weights, adapter, tree.pass(), pool)).to(at::kDouble);
  nlohmann::json rows = nlohmann::json::array();
  for (int64_t row = 0; row < logits.size(0); ++row) {
    const double* values = logits[row].data_ptr<double>();
    rows.push_back(std::vector<double>(values, values + logits.size(1)));
  }
  std::printf("%s\n", rows.dump().c_str());
}

std::unique_ptr<const Basis> basis_of(const Expert& expert, const Weights& weights,
                                      const char* store) {
  const Config config = adapting({expert}, Config());
  const CoreOptions core = core_of(config);
  std::vector<Target> targets = targets_of(config, weights.architecture());
  if (!Core::is_decomposed(core.kind))
    return std::make_unique<Basis>(std::move(targets), weights, core);
  std::vector<Factor> factors;
  for (const Target& target : targets) factors.push_back(FactorStore(store).load(target, "", 1));
  return std::make_unique<Basis>(std::move(factors), weights, core);
}

void print(int argc, char** argv) {
  const Weights weights(argv[1], std::string(argv[2]) == "bfloat16" ? at::kBFloat16 : at::kFloat);
  const std::vector<int> tokens = tokens_of(argv[3]);
  if (argc < 7) return print_logits(weights, Adapter(), tokens);
  const Expert expert = load_expert(argv[5]);
  const std::unique_ptr<const Basis> made = basis_of(expert, weights, argv[4]);
  const Basis& basis = *made;
  std::vector<float> z = basis.at_rest();
  for (size_t t = 0; t < basis.targets().size(); ++t)
    for (const ExpertTensor& tensor : tensors_of(basis.core(), t))
      if (const auto found = expert.z.find(tensor.name); found != expert.z.end())
        std::copy(found->second.begin(), found->second.end(), z.begin() + tensor.offset);
  ExpertTable table(basis);
  table.add(z);
  const bool merge = std::string(argv[6]) == "merged";
  const Merged merged = merge ? Merged(weights, basis, z) : Merged();
  print_logits(
      weights,
      Adapter(merge ? Apply::kMerged : Apply::kActivation, &table, merge ? &merged : nullptr),
      tokens);
}

}  // namespace
}  // namespace svfleet

int main(int argc, char** argv) {
  if (argc != 4 && argc != 7) {
    std::fprintf(stderr, "sharing_logits MODEL TYPE TOKENS [STORE EXPERT FORM]\n");
    return 2;
  }
  try {
    svfleet::print(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sharing_logits: %s\n", error.what());
    return 1;
  }
  return 0;
}
