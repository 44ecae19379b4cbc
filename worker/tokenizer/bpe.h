// Byte-pair encoding of one word: vocabulary, merges, and what happens to unknown characters.
// Thread-safe once read; no cache, so nothing to lock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "worker/tokenizer/json.h"

namespace svfleet {

class Bpe {
 public:
  Bpe() = default;
  Bpe(Bpe&&) = default;
  Bpe& operator=(Bpe&&) = default;  // not copied: tokens_ points into ids_
  static Bpe read(const JsonAt& model);
  // Appends the ids of a word (valid UTF-8). O(n log n) in its length.
  void encode(std::string_view word, std::vector<int>& ids) const;
  std::optional<int> id_of(std::string_view token) const;
  const std::string* token(int id) const;  // null where there is none
  int vocabulary_size() const { return static_cast<int>(ids_.size()); }
  int highest_id() const { return static_cast<int>(tokens_.size()) - 1; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  struct Merged {
    int rank, id;
  };
  static uint64_t pair_key(int left, int right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  void read_vocabulary(const JsonAt& vocab);
  void read_merges(const JsonAt& merges);
  std::vector<int> characters(std::string_view word) const;
  void merge(std::vector<int>& symbols) const;

  std::string where_;
  std::unordered_map<std::string, int, Hash, std::equal_to<>> ids_;
  std::vector<const std::string*> tokens_;  // by id; null in gaps
  std::unordered_map<uint64_t, Merged> merges_;
  std::string unknown_;
  bool has_unknown_ = false, fuse_unknown_ = false, byte_fallback_ = false, ignore_merges_ = false;
};

}  // namespace svfleet
