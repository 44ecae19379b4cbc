#include "coordinator/run/stragglers.h"

#include <algorithm>
#include <cstdio>

namespace svfleet {
namespace {

constexpr double kSlow = 2, kLeastSeconds = 0.5;
constexpr double kLong = 3, kLongSeconds = 10;

std::string seconds_text(double s) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f s", s);
  return text;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

std::string Stragglers::name(int rank) const {
  std::string text = "rank " + std::to_string(rank);
  if (size_t(rank) < hosts_.size()) text += " (host " + hosts_[rank] + ")";
  return text;
}

std::vector<std::string> Stragglers::after_step(const std::vector<int>& chunks,
                                                const std::vector<double>& seconds) {
  std::vector<std::string> lines;
  slow_.resize(chunks.size(), false);
  for (size_t rank = 0; rank < chunks.size(); ++rank) {
    if (chunks[rank] == 0) continue;
    std::vector<double> others;
    for (size_t other = 0; other < chunks.size(); ++other)
      if (other != rank && chunks[other] > 0) others.push_back(seconds[other] / chunks[other]);
    if (others.empty()) continue;
    const double own = seconds[rank] / chunks[rank], theirs = median(others);
    const bool slow = own > kSlow * theirs && own > theirs + kLeastSeconds;
    if (slow && !slow_[rank])
      lines.push_back(name(int(rank)) + " is slow: " + seconds_text(own) + " a chunk, the others " +
                      seconds_text(theirs));
    slow_[rank] = slow;
  }
  return lines;
}

std::vector<std::string> Stragglers::while_out(const std::vector<Holding>& out, double longest_s) {
  if (out.empty()) return {};
  const Holding& oldest = out.front();
  if (longest_s <= 0 || oldest.seconds < std::max(kLongSeconds, kLong * longest_s)) return {};
  if (oldest.chunk == named_chunk_ && oldest.rank == named_rank_) return {};
  named_chunk_ = oldest.chunk;
  named_rank_ = oldest.rank;
  return {name(oldest.rank) + " has held chunk " + std::to_string(oldest.chunk) + " for " +
          seconds_text(oldest.seconds) + "; the longest so far took " + seconds_text(longest_s)};
}

}  // namespace svfleet
