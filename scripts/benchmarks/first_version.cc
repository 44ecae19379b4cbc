// What scripts/bench --first-version compares with: compiled inside a copy of commit 958e902, whose
// interfaces these are.
//
//   bench_first_version MODEL generate REQUESTS.json ROWS THREADS WORKERS
//   bench_first_version MODEL gradient REPLIES.json STORE DTYPE SCALE DZ
#include <ATen/ATen.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>
#include <thread>

#include "svd/store.h"
#include "worker/generate.h"
#include "worker/gradient.h"
#include "worker/threads.h"

namespace svfleet {
namespace {

using nlohmann::json;

json read_json(const char* path) {
  std::ifstream in(path);
  return json::parse(in);
}

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Chunk by chunk, as that version samples: the next one begins when all of one's replies have
// ended.
json generate_chunks(const char* folder, char** words) {
  const json requests = read_json(words[0]);
  const size_t rows = std::stoul(words[1]);
  const int workers = std::stoi(words[3]);
  set_compute_threads(std::stoi(words[2]));
  const Model model(folder, at::kBFloat16);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  std::vector<std::vector<Prompt>> chunks;
  for (size_t r = 0; r < requests.size(); ++r) {
    if (r % rows == 0) chunks.emplace_back();
    Prompt prompt;
    prompt.tokens = requests[r]["tokens"].get<std::vector<int>>();
    prompt.key = int64_t(r);
    prompt.max_new_tokens = requests[r]["max_new_tokens"];
    chunks.back().push_back(std::move(prompt));
  }
  const auto warm = [&] {
    Prompt prompt = chunks[0][0];
    prompt.max_new_tokens = 4;
    generate(model, tokenizer, {prompt}, 1, {}, Apply::kFrozen, {});
  };
  warm();
  std::vector<std::vector<Rollout>> done(chunks.size());
  std::atomic<size_t> next = 0;
  const double begin = now_s();
  std::vector<std::thread> threads;
  for (int w = 0; w < workers; ++w)
    threads.emplace_back([&] {
      set_compute_threads_here();
      for (size_t c = next++; c < chunks.size(); c = next++)
        done[c] = generate(model, tokenizer, chunks[c], 1, {}, Apply::kFrozen, {});
    });
  for (std::thread& thread : threads) thread.join();
  const double seconds = now_s() - begin;
  json replies = json::array();
  for (const auto& chunk : done)
    for (const Rollout& rollout : chunk) replies.push_back(rollout.tokens);
  return {{"seconds", seconds}, {"replies", replies}};
}

json gradient(const char* folder, char** words) {
  const json file = read_json(words[0]);
  const double scale = std::stod(words[3]);
  set_compute_threads(2);
  Model model(folder, std::string(words[2]) == "float32" ? at::kFloat : at::kBFloat16);
  const Architecture& arch = model.architecture();
  const FactorStore store(words[1]);
  std::vector<Factor> factors;
  for (const Target& target : choose_targets({"mlp"}, "all", arch.layers, arch.linear_shapes()))
    factors.push_back(store.load(target, "", 1));
  model.attach(std::move(factors));
  std::vector<float> z(size_t(total_length(model.targets())));
  for (size_t i = 0; i < z.size(); ++i) z[i] = float(1 + scale * std::sin(1 + double(i)));
  std::list<std::vector<int>> tokens;
  std::vector<ReplyGroup> groups;
  for (const json& one : file["groups"]) {
    tokens.push_back(one["prompt"]);
    ReplyGroup& group = groups.emplace_back();
    group.prompt = &tokens.back();
    for (const json& reply : one["replies"]) {
      tokens.push_back(reply["tokens"]);
      group.replies.push_back({&tokens.back(), reply["weight"].get<double>()});
    }
  }
  const GradientResult result = z_gradient(model, groups, z, {});
  std::ofstream(words[4], std::ios::binary)
      .write(reinterpret_cast<const char*>(result.dz.data()),
             std::streamsize(result.dz.size() * sizeof(float)));
  return {{"length", result.dz.size()}};
}

}  // namespace
}  // namespace svfleet

int main(int count, char** words) {
  const std::string part = count > 2 ? words[2] : "";
  if (!(part == "generate" && count == 7) && !(part == "gradient" && count == 8)) return 2;
  try {
    const nlohmann::json found = part == "generate" ? svfleet::generate_chunks(words[1], words + 3)
                                                    : svfleet::gradient(words[1], words + 3);
    std::printf("%s\n", found.dump().c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
