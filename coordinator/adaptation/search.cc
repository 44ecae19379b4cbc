#include "coordinator/adaptation/search.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "comm/clock.h"
#include "comm/error.h"
#include "coordinator/training/policy.h"
#include "worker/model/gradient.h"

namespace svfleet {
namespace {

using nlohmann::json;

// Below what any reply is worth: of a mixture whose logits are not finite.
constexpr double kBroken = -1, kBrokenTie = -1e9;

// Of the mixture with these shares; its experts are the table's entries from 1 on.
int add(ExpertTable& table, const Shares& shares) {
  std::vector<ExpertTable::Part> parts;
  for (size_t k = 0; k < shares.size(); ++k)
    if (shares[k] != 0) parts.push_back({int(k) + 1, shares[k]});
  return parts.empty() ? kBaseEntry : table.add_mixture(parts);
}

ExpertTable table_of(const Base& base, const std::vector<std::vector<float>>& experts) {
  ExpertTable table(*base.basis);
  for (const std::vector<float>& z : experts) table.add(z);
  return table;
}

// What candidates are worth, measured once each.
class Measured {
 public:
  Measured(const Base& base, Crew& crew, const std::vector<std::vector<float>>& experts,
           const Task& shots, const EvaluationOptions& options)
      : base_(base),
        crew_(crew),
        experts_(table_of(base, experts)),
        shots_(shots),
        options_(options) {
    const Architecture& architecture = base.weights->architecture();
    for (const Item& shot : shots.items) {
      prompts_.push_back(make_prompt(base, shots.spec, shot, int64_t(prompts_.size())));
      const Prompt& prompt = prompts_.back();
      const int end =
          answer_end(architecture, *base.tokenizer, base.chat.get(), shots.spec, prompt);
      answers_.push_back(answer_tokens(*base.tokenizer, shot, end));
      std::string problem = length_problem(architecture, prompt);
      if (problem.empty()) problem = length_problem(architecture, prompt, answers_.back().size());
      if (!problem.empty()) throw user_error(shots.spec.train, ":", shot.index + 1, ": ", problem);
    }
  }

  // Collective. False when a stop was asked for.
  bool look_at(const std::vector<Shares>& candidates, int generation) {
    std::vector<Shares> fresh;
    std::vector<int> entries;
    ExpertTable table = experts_;
    for (const Shares& shares : candidates)
      if (known_.try_emplace(shares).second) {
        fresh.push_back(shares);
        entries.push_back(add(table, shares));
      }
    if (fresh.empty()) return true;
    const Adapter adapter(Apply::kActivation, &table, nullptr);
    const int64_t k = int64_t(prompts_.size());
    const auto parts =
        crew_.collect({"search", "few-shot generation " + std::to_string(generation + 1), "replies",
                       int64_t(fresh.size()) * k, options_.batch},
                      [&](int64_t first, int64_t last) {
                        std::vector<std::pair<size_t, int>> rows;  // shot, entry
                        for (int64_t i = first; i < last; ++i)
                          rows.emplace_back(size_t(i % k), entries[size_t(i / k)]);
                        return worth(adapter, rows).dump();
                      });
    if (!parts) return false;
    take(*parts, fresh);
    return true;
  }
  const Fitness& of(const Shares& shares) const { return known_.at(shares); }
  int64_t count() const { return int64_t(known_.size()); }
  int64_t read() const { return read_; }
  int64_t written() const { return written_; }

 private:
  // [score, log-likelihood of the answer, tokens read, written] of each row.
  json worth(const Adapter& adapter, const std::vector<std::pair<size_t, int>>& rows) const {
    std::vector<Prompt> prompts;
    std::vector<ReplyGroup> answers;
    for (const auto& [shot, entry] : rows) {
      prompts.push_back(prompts_[shot]);
      prompts.back().entry = entry;
      answers.push_back({&prompts_[shot].tokens, {{&answers_[shot]}}, entry});
    }
    const int samples = int(options_.samples);
    const std::vector<Rollout> replies =
        generate(*base_.weights, *base_.tokenizer, adapter, prompts, samples, options_.sampling);
    const ReplyLogProbs given = reply_log_probs(*base_.weights, adapter, answers, 1);
    json out = json::array();
    for (size_t r = 0; r < rows.size(); ++r) {
      const size_t shot = rows[r].first;
      double score = 0;
      int64_t written = 0;
      bool finite = true;
      for (int s = 0; s < samples; ++s) {
        const Rollout& reply = replies[r * size_t(samples) + size_t(s)];
        finite = finite && reply.finite;
        written += int64_t(reply.tokens.size());
        if (stands(reply.ended, shots_.spec.truncated))
          score += score_reply(shots_.spec.rewards, shots_.spec.prefill + reply.text,
                               shots_.items[shot].gold) /
                   samples;
      }
      const std::vector<float>& log_probs = given[r][0];
      double tie = std::accumulate(log_probs.begin(), log_probs.end(), 0.0);
      finite = finite && std::isfinite(tie);
      if (!finite) score = kBroken, tie = kBrokenTie;
      out.push_back(
          {score, tie, 2 * prompts_[shot].tokens.size() + answers_[shot].size(), written});
    }
    return out;
  }

  // Rank 0 has what was found; every rank gets it.
  void take(const std::vector<std::string>& parts, const std::vector<Shares>& fresh) {
    json found = json::array();  // [score, tie] of each, then tokens read and written
    if (crew_.leads()) {
      std::vector<json> rows;
      for (const std::string& part : parts)
        for (json& row : json::parse(part)) rows.push_back(std::move(row));
      const size_t k = prompts_.size();
      SVFLEET_CHECK(rows.size() == fresh.size() * k, rows.size(), " rows of ", fresh.size());
      int64_t read = 0, written = 0;
      for (size_t c = 0; c < fresh.size(); ++c) {
        double score = 0, tie = 0;
        bool broken = false;  // on any shot
        for (size_t i = 0; i < k; ++i) {
          const json& row = rows[c * k + i];
          broken = broken || row[0].get<double>() == kBroken;
          score += row[0].get<double>();
          tie += row[1].get<double>();
          read += row[2].get<int64_t>();
          written += row[3].get<int64_t>();
        }
        if (broken)
          found.push_back({kBroken, kBrokenTie});
        else
          found.push_back({score / double(k), tie / double(k)});
      }
      found.push_back({read, written});
    }
    std::string told = found.dump();
    crew_.group().broadcast(told, 0, "broadcast candidates");
    found = json::parse(told);
    for (size_t c = 0; c < fresh.size(); ++c) known_[fresh[c]] = {found[c][0], found[c][1]};
    read_ += found.back()[0].get<int64_t>();
    written_ += found.back()[1].get<int64_t>();
  }

  const Base& base_;
  Crew& crew_;
  const ExpertTable experts_;
  const Task& shots_;
  const EvaluationOptions& options_;
  std::vector<Prompt> prompts_;            // by shot
  std::vector<std::vector<int>> answers_;  // their tokens
  std::map<Shares, Fitness> known_;
  int64_t read_ = 0, written_ = 0;
};

}  // namespace

CrossEntropyOptions full_budget(int experts, double most, uint64_t seed) {
  CrossEntropyOptions options{.experts = experts, .most = most, .seed = seed};
  options.least_tie = 0.01;  // nats an answer: less is no reason to go on
  return options;
}

CrossEntropyOptions light_budget(int experts, double most, uint64_t seed) {
  CrossEntropyOptions options = full_budget(experts, most, seed);
  options.population = 8;
  options.evaluations = 32;
  return options;
}

std::optional<MixtureSearch> search_mixture(const Base& base, Crew& crew,
                                            const std::vector<std::vector<float>>& experts,
                                            const Task& shots, const CrossEntropyOptions& search,
                                            const EvaluationOptions& options) {
  Stopwatch watch;
  Measured measured(base, crew, experts, shots, options);
  CrossEntropy method(search);
  MixtureSearch result;
  while (true) {
    const std::vector<Shares> candidates = method.ask();
    if (candidates.empty()) break;
    if (!measured.look_at(candidates, method.generations())) return std::nullopt;
    if (method.generations() == 0) {
      result.base = measured.of(candidates[0]);
      if (result.base.score == kBroken)
        throw user_error("the logits of the base hold a NaN or infinity: the model is damaged");
      std::vector<Shares> alone;  // also where no candidate may have so much of one
      for (size_t e = 0; e < experts.size(); ++e) alone.emplace_back(experts.size())[e] = 1;
      if (!measured.look_at(alone, 0)) return std::nullopt;
      for (const Shares& one : alone) result.each.push_back(measured.of(one));
    }
    std::vector<Fitness> told;
    for (const Shares& shares : candidates) told.push_back(measured.of(shares));
    method.tell(told);
  }
  result.shares = method.best();
  result.mixture = method.fitness();
  result.generations = method.generations();
  result.candidates = method.evaluations();
  result.measured = measured.count();
  result.ended = method.ended();
  result.cost = {watch.lap(), measured.read(), measured.written()};
  return result;
}

std::vector<float> mixed_z(const Base& base, const std::vector<std::vector<float>>& experts,
                           const Shares& shares) {
  ExpertTable table = table_of(base, experts);
  return table.z(add(table, shares));
}

}  // namespace svfleet
