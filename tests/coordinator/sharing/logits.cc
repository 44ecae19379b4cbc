// For the tests of exports: logits of a model folder as JSON [position][token], of the base or of
// an expert.
//
//   sharing_logits MODEL float32|bfloat16 TOKEN,TOKEN,... [STORE EXPERT merged|activation]
#include <ATen/ATen.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoints/expert.h"
#include "coordinator/config/targets.h"
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

void print(int argc, char** argv) {
  const Weights weights(argv[1], std::string(argv[2]) == "bfloat16" ? at::kBFloat16 : at::kFloat);
  const std::vector<int> tokens = tokens_of(argv[3]);
  if (argc < 7) return print_logits(weights, Adapter(), tokens);
  const Expert expert = load_expert(argv[5]);
  std::vector<Factor> factors;
  std::vector<float> z;
  for (const Target& target : targets_of(adapting({expert}, Config()), weights.architecture())) {
    factors.push_back(FactorStore(argv[4]).load(target, "", 1));
    const auto found = expert.z.find(target.name);
    const std::vector<float> one(size_t(target.length()), 1.0f);
    const std::vector<float>& of = found == expert.z.end() ? one : found->second;
    z.insert(z.end(), of.begin(), of.end());
  }
  const Basis basis(std::move(factors), weights);
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
