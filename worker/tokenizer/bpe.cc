#include "worker/tokenizer/bpe.h"

#include <queue>

#include "comm/error.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {

Bpe Bpe::read(const JsonAt& model) {
  if (model.has("type") && model.type() != "BPE")
    model.refuse("the model type '" + model.type() + "' is not supported");
  model.only({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
              "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (model.has("dropout") && model.at("dropout").value != 0)
    model.refuse("'dropout' is not supported");
  for (const auto* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (model.has(key) && !model.text(key).empty())
      model.refuse(std::string("'") + key + "' is not supported");
  Bpe bpe;
  bpe.where_ = model.where;
  bpe.has_unknown_ = model.has("unk_token");
  if (bpe.has_unknown_) bpe.unknown_ = model.text("unk_token");
  bpe.fuse_unknown_ = model.flag("fuse_unk", false);
  bpe.byte_fallback_ = model.flag("byte_fallback", false);
  bpe.ignore_merges_ = model.flag("ignore_merges", false);
  bpe.read_vocabulary(model.at("vocab"));
  bpe.read_merges(model.at("merges"));
  return bpe;
}

void Bpe::read_vocabulary(const JsonAt& vocab) {
  if (vocab.object().empty()) vocab.refuse("is empty");
  ids_.reserve(vocab.value.size());
  for (const auto& [token, number] : vocab.value.items()) {
    const int id = JsonAt{number, vocab.where + "['" + token + "']"}.as_id();
    const auto& entry = *ids_.emplace(token, id).first;
    if (static_cast<size_t>(id) >= tokens_.size()) tokens_.resize(static_cast<size_t>(id) + 1);
    if (tokens_[id])
      vocab.refuse("'" + *tokens_[id] + "' and '" + token + "' have the same id " +
                   std::to_string(id));
    tokens_[id] = &entry.first;
  }
}

void Bpe::read_merges(const JsonAt& merges) {
  const size_t count = merges.array_size();
  merges_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    std::string left, right;
    const Json& value = merges.value[i];
    const auto bad = [&](const std::string& what) { merges.at(i).refuse(what); };
    if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
      left = value[0].get_ref<const std::string&>();
      right = value[1].get_ref<const std::string&>();
    } else if (value.is_string()) {
      const auto& line = value.get_ref<const std::string&>();
      const size_t space = line.find(' ');
      if (space == std::string::npos || line.find(' ', space + 1) != std::string::npos)
        bad("should be two tokens with one space between");
      left = line.substr(0, space);
      right = line.substr(space + 1);
    } else {
      bad("should be \"left right\" or [\"left\", \"right\"]");
    }
    const auto l = id_of(left), r = id_of(right), merged = id_of(left + right);
    if (!l || !r || !merged)
      bad("merges '" + left + "' and '" + right +
          "', which are not in the vocabulary together with '" + left + right + "'");
    merges_[pair_key(*l, *r)] = {static_cast<int>(i), *merged};
  }
}

std::optional<int> Bpe::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Bpe::token(int id) const {
  return id >= 0 && id <= highest_id() ? tokens_[id] : nullptr;
}

void Bpe::encode(std::string_view word, std::vector<int>& ids) const {
  if (word.empty()) return;
  if (ignore_merges_) {
    if (const auto id = id_of(word)) {
      ids.push_back(*id);
      return;
    }
  }
  auto symbols = characters(word);
  merge(symbols);
  ids.insert(ids.end(), symbols.begin(), symbols.end());
}

std::vector<int> Bpe::characters(std::string_view word) const {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::vector<int> symbols;
  symbols.reserve(word.size());
  // The unknown token is held back, so that those that follow each other can be one. The library
  // that defines the format keeps it held back over a byte fallback; so do we.
  bool unknown_held = false;
  int unknown = 0;
  for (size_t at = 0; at < word.size();) {
    const size_t begin = at;
    next_char(word, at);
    const auto character = word.substr(begin, at - begin);
    if (const auto id = id_of(character)) {
      if (unknown_held) symbols.push_back(unknown);
      unknown_held = false;
      symbols.push_back(*id);
      continue;
    }
    if (byte_fallback_) {
      std::vector<int> bytes;
      for (const unsigned char byte : character) {
        const char name[] = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
        if (const auto id = id_of({name, sizeof name})) bytes.push_back(*id);
      }
      if (bytes.size() == character.size()) {
        symbols.insert(symbols.end(), bytes.begin(), bytes.end());
        continue;
      }
    }
    if (!has_unknown_) continue;
    const auto id = id_of(unknown_);
    if (!id)
      throw user_error(where_, ": '", character, "' is not in the vocabulary, and neither is the ",
                       "unk_token '", unknown_, "'; repair or replace the file");
    if (unknown_held && !fuse_unknown_) symbols.push_back(unknown);
    unknown_held = true;
    unknown = *id;
  }
  if (unknown_held) symbols.push_back(unknown);
  return symbols;
}

// The lowest rank first, among equals the leftmost, as the format's library does it: symbols in a
// doubly linked list, candidate pairs in a heap, outdated candidates skipped when they come up.
void Bpe::merge(std::vector<int>& symbols) const {
  struct Candidate {
    int rank, at, id;
    bool operator<(const Candidate& other) const {  // std::priority_queue pops the largest
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const int count = static_cast<int>(symbols.size());
  std::vector<int> next(count), previous(count);
  std::vector<bool> gone(count, false);
  std::vector<Candidate> start;
  const auto lookup = [&](int left, int right) -> const Merged* {
    const auto found = merges_.find(pair_key(symbols[left], symbols[right]));
    return found == merges_.end() ? nullptr : &found->second;
  };
  for (int i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? i + 1 : -1;
    previous[i] = i - 1;
    if (next[i] < 0) continue;
    if (const auto* merged = lookup(i, next[i])) start.push_back({merged->rank, i, merged->id});
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>{}, std::move(start));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const int right = gone[best.at] ? -1 : next[best.at];
    if (right < 0) continue;
    const auto* current = lookup(best.at, right);
    if (!current || current->id != best.id) continue;
    symbols[best.at] = best.id;
    gone[right] = true;
    next[best.at] = next[right];
    if (next[right] >= 0) previous[next[right]] = best.at;
    if (const int before = previous[best.at]; before >= 0)
      if (const auto* merged = lookup(before, best.at))
        queue.push({merged->rank, before, merged->id});
    if (const int after = next[best.at]; after >= 0)
      if (const auto* merged = lookup(best.at, after))
        queue.push({merged->rank, best.at, merged->id});
  }
  int kept = 0;
  for (int i = 0; i < count; ++i)
    if (!gone[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

}  // namespace svfleet
