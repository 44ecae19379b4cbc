#include "coordinator/training/comparison.h"

#include <algorithm>
#include <map>
#include <utility>

#include "comm/error.h"
#include "rl/samples.h"

namespace svfleet {
namespace {

// Cluster of each of these items, from 0.
std::vector<int64_t> clusters_of(const std::vector<const MeasuredItem*>& items) {
  std::map<std::pair<std::string, std::string>, int64_t> known;
  std::vector<int64_t> clusters;
  int64_t next = 0;
  for (const MeasuredItem* item : items) {
    if (item->cluster.empty()) {
      clusters.push_back(next++);
      continue;
    }
    const auto [place, is_new] = known.try_emplace({item->task, item->cluster}, next);
    next += is_new;
    clusters.push_back(place->second);
  }
  return clusters;
}

// Items of a task, or all, with their replies by one policy.
struct Chosen {
  std::vector<const MeasuredItem*> items;
  std::vector<const ItemResult*> replies;  // `samples` of each item
};

Chosen choose(const Measurement& measured, size_t policy, const std::string& task) {
  const auto samples = size_t(measured.samples);
  const std::vector<ItemResult>& replies = measured.policies.at(policy).replies;
  SVFLEET_CHECK(replies.size() == measured.items.size() * samples, replies.size(), " replies to ",
                measured.items.size(), " items");
  Chosen chosen;
  for (size_t i = 0; i < measured.items.size(); ++i) {
    if (!task.empty() && measured.items[i].task != task) continue;
    chosen.items.push_back(&measured.items[i]);
    for (size_t s = 0; s < samples; ++s) chosen.replies.push_back(&replies[i * samples + s]);
  }
  return chosen;
}

std::vector<const MeasuredItem*> all_items(const Measurement& measured) {
  std::vector<const MeasuredItem*> items;
  for (const MeasuredItem& item : measured.items) items.push_back(&item);
  return items;
}

// The mean over the samples of each item.
std::vector<double> item_means(const std::vector<const ItemResult*>& replies, int64_t samples,
                               double (*value)(const ItemResult&)) {
  std::vector<double> means(replies.size() / size_t(samples), 0);
  for (size_t r = 0; r < replies.size(); ++r)
    means[r / size_t(samples)] += value(*replies[r]) / double(samples);
  return means;
}

double right_of(const ItemResult& reply) {
  return reply.right;
}
double score_of_reply(const ItemResult& reply) {
  return reply.score;
}

// The answers of one item's replies.
std::vector<AnswerVotes> votes_of(const ItemResult* const* replies, int64_t samples) {
  std::map<std::string, std::pair<int64_t, int64_t>> counts;  // how often, and how often right
  for (int64_t s = 0; s < samples; ++s) {
    if (!replies[s]->answer) continue;
    auto& [times, right] = counts[*replies[s]->answer];
    ++times;
    right += replies[s]->right;
  }
  std::vector<AnswerVotes> votes;
  for (const auto& [answer, count] : counts)
    votes.push_back({count.first, double(count.second) / double(count.first)});
  return votes;
}

// pass@k and majority@k of each item, for each k one behind the other.
std::vector<Column> columns_at_k(const std::vector<const ItemResult*>& replies, int64_t samples,
                                 const std::vector<int64_t>& ks) {
  std::vector<Column> columns(2 * ks.size());
  for (size_t r = 0; r < replies.size(); r += size_t(samples)) {
    const std::vector<AnswerVotes> votes = votes_of(&replies[r], samples);
    int64_t right = 0;
    for (int64_t s = 0; s < samples; ++s) right += replies[r + size_t(s)]->right;
    for (size_t k = 0; k < ks.size(); ++k) {
      columns[2 * k].values.push_back(pass_at_k(samples, right, ks[k]));
      columns[2 * k + 1].values.push_back(majority_at_k(votes, samples, ks[k]));
    }
  }
  return columns;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return per(sum, int64_t(values.size()));
}

// second - first.
Column gains(const std::vector<double>& first, const std::vector<double>& second) {
  Column gains{{}, -1};
  for (size_t i = 0; i < first.size(); ++i) gains.values.push_back(second[i] - first[i]);
  return gains;
}

std::vector<bool> verdicts(const std::vector<const ItemResult*>& replies) {
  std::vector<bool> verdicts;
  for (const ItemResult* reply : replies) verdicts.push_back(reply->right);
  return verdicts;
}

}  // namespace

void count(const ItemResult& reply, Tally& tally) {
  ++tally.replies;
  ++tally.counted;
  tally.right += reply.right;
  tally.ended += reply.ended;
  tally.tokens += reply.tokens;
  tally.score_sum += reply.score;
}

int64_t count_clusters(const Measurement& measured) {
  const std::vector<int64_t> clusters = clusters_of(all_items(measured));
  return clusters.empty() ? 0 : 1 + *std::max_element(clusters.begin(), clusters.end());
}

bool has_clusters(const Measurement& measured) {
  return measured.samples > 1 || count_clusters(measured) < int64_t(measured.items.size());
}

bool is_graded(const Measurement& measured) {
  for (const MeasuredPolicy& policy : measured.policies)
    for (const ItemResult& reply : policy.replies)
      if (!reply.right && reply.score > 0) return true;
  return false;
}

Figures figures_of(const Measurement& measured, size_t policy, const std::string& task) {
  const Chosen chosen = choose(measured, policy, task);
  Figures figures;
  figures.tally.task = task;
  for (const ItemResult* reply : chosen.replies) count(*reply, figures.tally);
  figures.accuracy = wilson(figures.tally.right, figures.tally.counted);
  if (!has_clusters(measured)) return figures;

  const int64_t samples = measured.samples;
  const std::vector<int64_t> ks = samples > 1 ? sample_counts(samples) : std::vector<int64_t>{};
  std::vector<Column> columns = columns_at_k(chosen.replies, samples, ks);
  columns.push_back({item_means(chosen.replies, samples, right_of)});
  const auto intervals = cluster_intervals(columns, clusters_of(chosen.items));
  figures.accuracy = intervals.back();
  for (size_t k = 0; k < ks.size(); ++k)
    figures.at_k.push_back({ks[k], mean_of(columns[2 * k].values),
                            mean_of(columns[2 * k + 1].values), intervals[2 * k],
                            intervals[2 * k + 1]});
  return figures;
}

Comparison compare_policies(const Measurement& measured, size_t first, size_t second) {
  const auto before = choose(measured, first, "").replies,
             after = choose(measured, second, "").replies;
  const int64_t samples = measured.samples;
  const auto scores_before = item_means(before, samples, score_of_reply),
             scores_after = item_means(after, samples, score_of_reply);
  Comparison result;
  if (!has_clusters(measured)) {
    const McNemar paired = mcnemar(verdicts(before), verdicts(after));
    result.first_better = paired.only_first;
    result.second_better = paired.only_second;
    result.p = paired.p;
    result.score = paired_t(scores_before, scores_after);
    result.score.low = std::max(result.score.low, -1.0);
    result.score.high = std::min(result.score.high, 1.0);
    return result;
  }
  const std::vector<int64_t> clusters = clusters_of(all_items(measured));
  const auto right_before = item_means(before, samples, right_of),
             right_after = item_means(after, samples, right_of);
  const SignFlips flips = sign_flips(right_before, right_after, clusters);
  result.first_better = flips.first_better;
  result.second_better = flips.second_better;
  result.p = flips.p;
  const std::vector<Column> both = {gains(right_before, right_after),
                                    gains(scores_before, scores_after)};
  const std::vector<Interval> intervals = cluster_intervals(both, clusters);
  result.accuracy = {mean_of(both[0].values), intervals[0].low, intervals[0].high, flips.p};
  result.score = {mean_of(both[1].values), intervals[1].low, intervals[1].high,
                  sign_flips(scores_before, scores_after, clusters).p};
  return result;
}

}  // namespace svfleet
