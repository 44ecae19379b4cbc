#include "coordinator/adaptation/confusion.h"

#include <algorithm>
#include <numeric>

#include "coordinator/training/tally.h"

namespace svfleet {
namespace {

int64_t sum(const std::vector<int64_t>& row) {
  return std::accumulate(row.begin(), row.end(), int64_t{0});
}

}  // namespace

Confusion::Confusion(std::vector<std::string> names)
    : labels(std::move(names)), counts(labels.size(), std::vector<int64_t>(labels.size())) {}

int64_t Confusion::n() const {
  int64_t all = 0;
  for (const auto& row : counts) all += sum(row);
  return all;
}

double Confusion::accuracy() const {
  int64_t right = 0;
  for (size_t i = 0; i < counts.size(); ++i) right += counts[i][i];
  return per(double(right), n());
}

double Confusion::majority() const {
  int64_t most = 0;
  for (const auto& row : counts) most = std::max(most, sum(row));
  return per(double(most), n());
}

}  // namespace svfleet
