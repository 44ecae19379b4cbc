// The added tokens of a tokenizer.json, special or not: found in the text before anything else.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "worker/tokenizer/bpe.h"
#include "worker/tokenizer/normalize.h"

namespace svfleet {

class AddedTokens {
 public:
  // A part of the input: an added token (id >= 0), or normalised text between them.
  struct Part {
    int id = -1;
    std::string text;
    bool at_start = false;  // the part begins where the whole input does
  };

  // `list`: added_tokens of tokenizer.json. `config`: tokenizer_config.json, an object; what
  // transformers adds from it to the list is added here too, and `more` set where there is any.
  static AddedTokens read(const JsonAt& list, const JsonAt& config, const Bpe& bpe,
                          const Normalizer& normalizer, bool* more);
  // "<s>" or {"content": "<s>", ...}
  static std::string content_of(const JsonAt& token);
  std::vector<Part> split(const std::string& text, const Normalizer& normalizer) const;
  std::optional<int> id_of(std::string_view token) const;
  const std::string* token(int id) const;
  bool is_special(std::string_view token) const;
  int highest_id() const { return by_id_.empty() ? -1 : by_id_.rbegin()->first; }

 private:
  struct Token {
    std::string content;
    bool single_word, lstrip, rstrip, normalized, special;
    bool operator==(const Token&) const = default;
  };
  // Finds the leftmost, and there the longest, of a set of texts.
  struct Trie {
    std::unordered_map<uint64_t, int> edges;  // (node, byte) to node
    std::vector<int> ids = {-1};              // by node: the token that ends there, or -1
    void insert(std::string_view text, int id);
    // The token found first at or after `from`; false where there is none.
    bool find(std::string_view text, size_t from, Span& span, int& id) const;
  };
  static Token read_token(const JsonAt& json, bool with_id);
  void add(Token token, int id, const JsonAt& json, const Bpe& bpe);
  bool add_from_config(const JsonAt& config, const Bpe& bpe);
  bool make_special(const Token& token, const JsonAt& json);
  void split_by(const Trie& trie, std::string_view text, bool at_start,
                std::vector<Part>& parts) const;

  std::map<int, Token> by_id_;
  std::map<std::string, int, std::less<>> ids_;
  std::unordered_set<std::string> special_;
  std::vector<Token> order_special_, order_plain_;
  Trie raw_, normalized_;
};

}  // namespace svfleet
