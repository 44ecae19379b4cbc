// Times the real engine on a model, a part at a time, and prints one JSON object; scripts/bench
// says what is compared with what.
//
//   bench_engine FOLDER PART [KEY=VALUE]... [--json]
//
//   prompts    tokens of questions: questions=FILE.jsonl count=64
//   generate   replies: requests=FILE threads=2 workers=1 runs=1 temperature=0
//   gradient   of given replies: replies=FILE store=FOLDER [dz=FILE] and the keys of an expert
//   merge      W' of all targets, from another W': store=FOLDER and the keys of an expert
//   experts    decoding steps of rows of several experts, and of the base and one merged:
//   experts=32
//              components=0 (that each moves; 0: all) rows=32 steps=16 runs=3 (0: only what is
//              counted) store=FOLDER and the keys of an expert
//   head       draw and gradient at several numbers of rows
//   decompose  matrices of FOLDER, or of a safetensors file: workers=2 [only=.mlp.] [q=FILE]
//   attention  beside libtorch's fused one: rows=16 keys=96 tokens=128 runs=20
//   roofs      bandwidth and products: threads=2 seconds=0.1; FOLDER is not read
//
// Of an expert: z = 1 + scale sin(1 + i), scale=0.1; targets=mlp, dtype=bfloat16, form=merged.
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <list>
#include <map>
#include <numeric>

#include "comm/clock.h"
#include "comm/error.h"
#include "svd/store.h"
#include "tests/worker/model/bench_attention_tax.h"
#include "tests/worker/model/bench_roofs.h"
#include "tests/worker/model/bench_threads.h"
#include "worker/kernels/probe.h"
#include "worker/model/generate.h"
#include "worker/model/gradient.h"
#include "worker/model/read_weight.h"
#include "worker/tokenizer/chat_template.h"

namespace svfleet {
namespace {

using nlohmann::json;

class Options {
 public:
  void add(const std::string& word) {
    const size_t at = word.find('=');
    if (at == std::string::npos) throw user_error("bench_engine: KEY=VALUE, not '", word, "'");
    given_[word.substr(0, at)] = word.substr(at + 1);
  }
  std::string text(const std::string& key, const std::string& otherwise = "") const {
    const auto it = given_.find(key);
    return it == given_.end() ? otherwise : it->second;
  }
  double number(const std::string& key, double otherwise) const {
    const std::string given = text(key);
    return given.empty() ? otherwise : std::stod(given);
  }
  int whole(const std::string& key, int otherwise) const { return int(number(key, otherwise)); }
  at::ScalarType type() const {
    return text("dtype", "bfloat16") == "float32" ? at::kFloat : at::kBFloat16;
  }

 private:
  std::map<std::string, std::string> given_;
};

json read_json(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw user_error("bench_engine: cannot read '", path, "'");
  return json::parse(in);
}

json prompts(const std::string& folder, const Options& options) {
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const ChatTemplate chat = ChatTemplate::load(folder);
  std::ifstream in(options.text("questions"));
  json all = json::array();
  std::string line;
  for (int i = options.whole("count", 64); i > 0 && std::getline(in, line); --i)
    all.push_back(tokenizer.encode(chat.render({{"user", json::parse(line).at("question")}})));
  return {{"prompts", all}};
}

// One engine's share of the requests, until all have ended.
struct Written {
  double first_s = 0, end_s = 0;  // on the steady clock: when all had a token; when all had ended
  std::vector<Rollout> rollouts;  // by request
};

Written write(const Weights& weights, const Tokenizer& tokenizer, std::vector<Prompt> prompts,
              const SamplingOptions& sampling) {
  const Adapter base;
  Engine engine(weights, tokenizer, base, sampling, int(std::max<size_t>(prompts.size(), 1)));
  Written written;
  written.rollouts.resize(prompts.size());
  for (Prompt& prompt : prompts) engine.submit({std::move(prompt)});
  while (!engine.idle()) {
    for (Engine::Finished& done : engine.step())
      written.rollouts[size_t(done.request)] = std::move(done.rollout);
    written.end_s = steady_clock_s();
    if (written.first_s == 0) written.first_s = written.end_s;
  }
  return written;
}

json generate_part(const std::string& folder, const Options& options) {
  const json requests = read_json(options.text("requests"));
  const Weights weights(folder, options.type());
  const Tokenizer tokenizer = Tokenizer::load(folder);
  SamplingOptions sampling;
  sampling.temperature = options.number("temperature", 0);
  const int workers = options.whole("workers", 1);
  json result = {{"runs", json::array()}, {"replies", json::array()}};
  for (int run = 0; run <= options.whole("runs", 1); ++run) {  // the first packs, and is not told
    std::vector<std::vector<Prompt>> shares(static_cast<size_t>(workers));
    for (size_t r = 0; r < requests.size(); ++r) {
      Prompt prompt;
      prompt.tokens = requests[r]["tokens"].get<std::vector<int>>();
      prompt.key = int64_t(r);
      prompt.max_new_tokens = requests[r]["max_new_tokens"];
      shares[r % size_t(workers)].push_back(std::move(prompt));
    }
    std::vector<Written> written(shares.size());
    const double begin = steady_clock_s();
    if (workers == 1)
      written[0] = write(weights, tokenizer, shares[0], sampling);
    else
      in_threads(workers, [&](int w) {
        written[size_t(w)] = write(weights, tokenizer, shares[size_t(w)], sampling);
      });
    if (run == 0) continue;
    double first = 0, end = 0;
    int64_t tokens = 0;
    json replies = json::array();
    for (const Written& one : written)
      first = std::max(first, one.first_s), end = std::max(end, one.end_s);
    for (size_t r = 0; r < requests.size(); ++r) {
      const auto& reply = written[r % size_t(workers)].rollouts[r / size_t(workers)].tokens;
      tokens += int64_t(reply.size());
      replies.push_back(reply);
    }
    result["runs"].push_back({{"seconds", end - begin},
                              {"after_first_s", end - first},
                              {"tokens", tokens},
                              {"tokens_after_first", tokens - int64_t(requests.size())}});
    result["replies"] = std::move(replies);
  }
  return result;
}

// A model, the bases of its targets, and an expert that is far from 1.
struct Setting {
  Weights weights;
  Basis basis;
  std::vector<float> z;
  ExpertTable table;
  Merged merged;

  Setting(const std::string& folder, const Options& options)
      : weights(folder, options.type()),
        basis(load(weights, options), weights),
        z(wave(basis, options.number("scale", 0.1))),
        table(basis) {
    table.add(z);
  }
  static std::vector<Factor> load(const Weights& weights, const Options& options) {
    const Architecture& arch = weights.architecture();
    const FactorStore store(options.text("store"));
    std::vector<Factor> factors;
    for (const Target& target :
         choose_targets({options.text("targets", "mlp")}, "all", arch.layers, arch.linear_shapes()))
      factors.push_back(store.load(target, "", 1));
    return factors;
  }
  static std::vector<float> wave(const Basis& basis, double scale) {
    std::vector<float> z(size_t(total_length(basis.targets())));
    for (size_t i = 0; i < z.size(); ++i) z[i] = float(1 + scale * std::sin(1 + double(i)));
    return z;
  }
};

// A figure of this process in bytes, as /proc/self/status has it: "VmRSS", "VmHWM".
int64_t status_bytes(const std::string& name) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(name + ":")) return std::stoll(line.substr(name.size() + 1)) * 1024;
  return 0;
}

void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << "5";
}

// Groups as a file has them; what they name stays in `tokens`.
std::vector<ReplyGroup> read_groups(const json& file, std::list<std::vector<int>>& tokens) {
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
  return groups;
}

json gradient_part(const std::string& folder, const Options& options) {
  std::list<std::vector<int>> tokens;
  const std::vector<ReplyGroup> groups = read_groups(read_json(options.text("replies")), tokens);
  Setting s(folder, options);
  const Apply form =
      options.text("form", "merged") == "merged" ? Apply::kMerged : Apply::kActivation;
  const auto workers = size_t(options.whole("workers", 2));
  const auto together = [&](int64_t count, const auto& work) {
    side_by_side(int(workers), count, work);
  };
  if (form == Apply::kMerged) s.merged = Merged(s.weights, s.basis, s.z, Merged(), together);
  pack_for_training(s.weights, s.basis, form, false, together);
  const Adapter adapter(form, &s.table, &s.merged);
  std::vector<std::vector<ReplyGroup>> shares(workers);
  for (size_t g = 0; g < groups.size(); ++g) shares[g % workers].push_back(groups[g]);
  json runs = json::array();
  std::vector<GradientResult> results(workers);
  for (int run = 0; run < options.whole("runs", 1); ++run) {
    results.assign(workers, {});
    forget_peak();
    const int64_t before = status_bytes("VmRSS");
    Stopwatch watch;
    in_threads(int(workers), [&](int w) {
      results[size_t(w)] = z_gradient(s.weights, adapter, shares[size_t(w)], {});
    });
    runs.push_back({{"seconds", watch.lap()}, {"extra_bytes", status_bytes("VmHWM") - before}});
  }
  std::vector<double> sum(s.z.size(), 0);
  for (size_t g = 0; g < groups.size(); ++g)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += results[g % workers].dz[g / workers][i];
  if (const std::string path = options.text("dz"); !path.empty()) {
    const std::vector<float> rounded(sum.begin(), sum.end());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(rounded.data()),
               std::streamsize(rounded.size() * sizeof(float)));
  }
  return {{"runs", runs}, {"length", sum.size()}};
}

json merge_part(const std::string& folder, const Options& options) {
  Setting s(folder, options);
  const int workers = options.whole("workers", 2);
  const auto together = [&](int64_t count, const auto& work) {
    side_by_side(workers, count, work);
  };
  json runs = json::array();
  for (int run = 0; run <= options.whole("runs", 3); ++run) {
    for (float& value : s.z) value = 2 - value;  // another expert each time
    Stopwatch watch;
    s.merged = Merged(s.weights, s.basis, s.z, std::move(s.merged), together);
    if (run) runs.push_back({{"seconds", watch.lap()}});
  }
  return {{"runs", runs}, {"gain", s.merged.gain()}};
}

// A batch of so many rows that write, entry by entry in turn.
class Decoding {
 public:
  Decoding(const Setting& s, const Tokenizer& tokenizer, const Adapter& adapter, int entries,
           const Options& options)
      : rows_(options.whole("rows", 32)), engine_(s.weights, tokenizer, adapter, greedy(), rows_) {
    for (int row = 0; row < rows_; ++row) {
      Prompt prompt;
      for (int i = 0; i < 32; ++i) prompt.tokens.push_back(4 + (31 * row + 7 * i) % 200);
      prompt.key = row;
      prompt.max_new_tokens = options.whole("steps", 16) + 2;
      prompt.entry = entries == 1 ? kOnlyExpert : 1 + row % entries;
      engine_.submit({std::move(prompt)});
    }
    engine_.step();  // the prompts
  }
  double step_s() {
    Stopwatch watch;
    engine_.step();
    if (engine_.rows() != rows_)
      throw user_error("bench_engine: a reply has ended; give a model that writes no end token");
    return watch.lap();
  }

 private:
  static SamplingOptions greedy() {
    SamplingOptions sampling;
    sampling.temperature = 0;
    return sampling;
  }
  const int rows_;
  Engine engine_;
};

// What the products with Q read and multiply in a decoding step, and what those with W read.
json counted(const Setting& s, const ExpertTable& table, int64_t rows) {
  double columns = 0, read = 0, all = 0, flops = 0, weights = 0;
  const std::vector<Target>& targets = s.basis.targets();
  const double bytes = double(at::elementSize(s.weights.type()));
  for (size_t t = 0; t < targets.size(); ++t) {
    const double r = double(targets[t].length()), k = double(table.moved(t).d.size(1));
    columns += k;
    read += 2 * bytes * r * k;  // there and back
    all += 2 * bytes * r * r;
    flops += 4 * r * k * double(rows);
  }
  for (int i = 0; i < s.weights.architecture().layers; ++i)
    for (const Linear& linear : s.weights.layer(i).linears)
      weights += double(linear.weight.plain().nbytes());
  return {{"columns", columns},
          {"q_bytes", read},
          {"all_q_bytes", all},
          {"q_flops", flops},
          {"weight_bytes", weights}};
}

json experts_part(const std::string& folder, const Options& options) {
  Setting s(folder, options);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const int experts = options.whole("experts", 32);
  const int64_t moved = options.whole("components", 0);
  ExpertTable table(s.basis);
  for (int e = 0; e < experts; ++e) {
    std::vector<float> z = s.z;
    for (size_t t = 0; t < s.basis.targets().size(); ++t) {
      const Core::Part part = s.basis.core().part(t);
      for (int64_t i = 0; i < part.length; ++i) {
        float& own = z[size_t(part.offset + i)];
        own = moved == 0 || i < moved ? 1 + (own - 1) * (1 - 0.5f * float(e) / float(experts)) : 1;
      }
    }
    table.add(z);
  }
  json result = counted(s, table, options.whole("rows", 32));
  if (options.whole("runs", 3) == 0) return result;
  // W as whoever merges nothing has it: merging packs some of it turned round.
  pack_for_sampling(s.weights, Basis(), [](int64_t count, const auto& work) {
    for (int64_t i = 0; i < count; ++i) work(i);
  });
  s.merged = Merged(s.weights, s.basis, s.z);
  const Adapter base, one(Apply::kMerged, &s.table, &s.merged),
      several(Apply::kActivation, &table, nullptr);
  const char* names[] = {"base_s", "merged_s", "experts_s"};
  for (const char* name : names) result[name] = json::array();
  for (int run = 0; run <= options.whole("runs", 3); ++run) {  // the first packs, and is not told
    std::list<Decoding> all;
    all.emplace_back(s, tokenizer, base, 1, options);
    all.emplace_back(s, tokenizer, one, 1, options);
    all.emplace_back(s, tokenizer, several, experts, options);
    // Step by step in turn, so that a machine that slows down does so for all of them.
    for (int step = 0; step < options.whole("steps", 16); ++step) {
      const char** name = names;
      for (Decoding& each : all) {
        const double seconds = each.step_s();
        if (run) result[*name].push_back(seconds);
        ++name;
      }
    }
  }
  return result;
}

json head_part(const std::string& folder, const Options& options) {
  const Weights weights(folder, options.type());
  const Head& head = weights.head();
  json all = json::array();
  for (const int64_t rows : {1, 16, 32, 256}) {
    c10::NoGradGuard no_grad;
    const at::Tensor hidden = at::randn({rows, weights.architecture().hidden}).to(weights.type());
    std::vector<int64_t> each(static_cast<size_t>(rows));
    std::iota(each.begin(), each.end(), 0);
    const std::vector<double> uniforms(each.size(), 0.5);
    const TrainedTokens tokens{each, std::vector<double>(each.size(), 1),
                               std::vector<double>(each.size(), 0)};
    std::vector<double> draw, gradient;
    for (int run = 0; run <= options.whole("runs", 3); ++run) {
      Stopwatch watch;
      head.draw(hidden, each, uniforms, {});
      draw.push_back(watch.lap());
      head.gradient(hidden, {}, tokens, KlLoss::kNone, 1);
      gradient.push_back(watch.lap());
    }
    draw.erase(draw.begin()), gradient.erase(gradient.begin());  // these packed
    all.push_back({{"rows", rows}, {"draw_s", draw}, {"gradient_s", gradient}});
  }
  return {{"rows", all}};
}

Target target_of(const TensorView& view) {
  Target target;
  target.name = view.name;
  target.rows = view.shape.at(0), target.cols = view.shape.at(1);
  target.form = target.rows < target.cols ? Form::kLeft : Form::kRight;
  return target;
}

json decompose_part(const std::string& place, const Options& options) {
  const SafetensorsFolder files(place);
  std::vector<Target> targets;
  for (const std::string& name : files.names())
    if (files.at(name).shape.size() == 2 && name.find(options.text("only")) != std::string::npos)
      targets.push_back(target_of(files.at(name)));
  Target small;  // so that what a library loads on its first use is loaded
  small.rows = small.cols = 8;
  decompose(small, at::eye(8, at::kDouble), at::kFloat);
  std::vector<Factor> factors(targets.size());
  json runs = json::array();
  for (int run = 0; run < options.whole("runs", 1); ++run) {
    Stopwatch watch;
    side_by_side(options.whole("workers", 2), int64_t(targets.size()), [&](int64_t t) {
      c10::NoGradGuard no_grad;
      const Target& target = targets[size_t(t)];
      factors[size_t(t)] = decompose(
          target, read_weight(files, target.name, {target.rows, target.cols}, at::kDouble),
          at::kFloat);
    });
    runs.push_back({{"seconds", watch.lap()}});
  }
  json certificates = json::array();
  SafetensorsData data;
  for (const Factor& factor : factors) {
    certificates.push_back({{"name", factor.target.name},
                            {"predicted_error", factor.certificate.predicted_error},
                            {"orthogonality", factor.certificate.orthogonality},
                            {"off_diagonal", factor.certificate.off_diagonal}});
    const at::Tensor q = factor.q.contiguous();
    const float* values = q.data_ptr<float>();
    data.tensors[factor.target.name] = {q.sizes().vec(), {values, values + q.numel()}};
  }
  if (const std::string path = options.text("q"); !path.empty()) write_safetensors(path, data);
  return {{"runs", runs}, {"certificates", certificates}};
}

// With it, from how many rows on a product gives each its own bits: fewer are padded.
json attention_part(const std::string& folder, const Options& options) {
  const Weights weights(folder, options.type());
  const Architecture& arch = weights.architecture();
  json found = attention_tax(arch, options.whole("rows", 16), options.whole("keys", 96),
                             options.whole("tokens", 128), options.whole("runs", 20));
  int64_t from = 1;
  for (const WeightOrder order : {WeightOrder::kOutputs, WeightOrder::kInputs}) {
    const std::vector<bf16> matrix(size_t(arch.hidden * arch.intermediate), to_bf16(1));
    from = std::max(from, row_invariant_from(PackedMatrix(NumberType::kBf16, matrix.data(),
                                                          arch.hidden, arch.intermediate, order, 1),
                                             256));
  }
  found["rows_from"] = from;
  return found;
}

json measure(const std::string& folder, const std::string& part, const Options& options) {
  set_compute_threads(options.whole("threads", 1));
  if (part == "prompts") return prompts(folder, options);
  if (part == "generate") return generate_part(folder, options);
  if (part == "gradient") return gradient_part(folder, options);
  if (part == "merge") return merge_part(folder, options);
  if (part == "experts") return experts_part(folder, options);
  if (part == "head") return head_part(folder, options);
  if (part == "decompose") return decompose_part(folder, options);
  if (part == "attention") return attention_part(folder, options);
  if (part == "roofs") return roofs(options.whole("threads", 2), options.number("seconds", 0.1));
  throw user_error("bench_engine: no part '", part, "'");
}

}  // namespace
}  // namespace svfleet

int main(int count, char** words) {
  std::vector<std::string> plain;
  bool compact = false;
  for (int i = 1; i < count; ++i) {
    if (std::string(words[i]) == "--json")
      compact = true;
    else
      plain.emplace_back(words[i]);
  }
  if (plain.size() < 2) {
    std::fprintf(stderr, "bench_engine FOLDER PART [KEY=VALUE]... [--json]\n");
    return 2;
  }
  try {
    svfleet::Options options;
    for (size_t i = 2; i < plain.size(); ++i) options.add(plain[i]);
    std::printf("%s\n",
                svfleet::measure(plain[0], plain[1], options).dump(compact ? -1 : 2).c_str());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
