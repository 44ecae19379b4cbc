#include "rl/nearest.h"

#include <algorithm>

namespace svfleet {
namespace {

// Edits (insert, delete, replace, swap neighbours) between two words.
int edits_between(const std::string& a, const std::string& b) {
  std::vector<std::vector<int>> d(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = static_cast<int>(i);
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = static_cast<int>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    for (size_t j = 1; j <= b.size(); ++j) {
      d[i][j] = std::min(
          {d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string nearest(const std::string& word, const std::vector<std::string>& known) {
  if (word.size() > 100) return "";
  std::string best;
  int best_edits = std::max(2, static_cast<int>(word.size()) / 3) + 1;
  for (const auto& candidate : known) {
    const int edits = edits_between(word, candidate);
    // A word that shares no letter position is no likeness: never replace more than half of it.
    if (edits < best_edits && 2 * edits <= static_cast<int>(candidate.size())) {
      best = candidate;
      best_edits = edits;
    }
  }
  return best;
}

}  // namespace svfleet
