#include "worker/model/roots.h"

#include <algorithm>

namespace svfleet {

std::vector<int> add_roots(const std::vector<Sequence>& sequences, Batch& batch) {
  std::vector<int> roots(sequences.size(), -1);
  std::vector<int> done;  // entries
  for (const Sequence& first : sequences) {
    if (std::find(done.begin(), done.end(), first.entry) != done.end()) continue;
    done.push_back(first.entry);
    std::vector<const std::vector<int>*> own;
    for (const Sequence& sequence : sequences)
      if (sequence.entry == first.entry) own.push_back(sequence.tokens);
    const int64_t shared = common_prefix(own);
    if (shared == 0) continue;
    for (size_t i = 0; i < sequences.size(); ++i)
      if (sequences[i].entry == first.entry) roots[i] = int(batch.segments.size());
    batch.segments.push_back({int64_t(batch.tokens.size()), shared, -1, 0, first.entry});
    batch.tokens.insert(batch.tokens.end(), first.tokens->begin(), first.tokens->begin() + shared);
  }
  return roots;
}

int add_rest(const Sequence& sequence, int root, Batch& batch) {
  const std::vector<int>& tokens = *sequence.tokens;
  const int64_t shared = root < 0 ? 0 : batch.segments[size_t(root)].length;
  batch.segments.push_back({int64_t(batch.tokens.size()), int64_t(tokens.size()) - shared, root,
                            shared, sequence.entry});
  batch.tokens.insert(batch.tokens.end(), tokens.begin() + shared, tokens.end());
  return int(batch.segments.size()) - 1;
}

int64_t common_prefix(const std::vector<const std::vector<int>*>& sequences) {
  if (sequences.size() < 2) return 0;
  int64_t length = int64_t(sequences[0]->size()) - 1;
  for (const auto* s : sequences) {
    length = std::min(length, int64_t(s->size()) - 1);
    for (int64_t i = 0; i < length; ++i)
      if ((*s)[i] != (*sequences[0])[i]) length = i;
  }
  return std::max<int64_t>(length, 0);
}

}  // namespace svfleet
