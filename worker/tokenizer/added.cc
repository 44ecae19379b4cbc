#include "worker/tokenizer/added.h"

#include <algorithm>
#include <charconv>

#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

// What Rust's \w means, for single_word.
const Regex& word_char() {
  static const Regex regex =
      Regex::from_pcre2("[\\p{Alphabetic}\\p{Nd}\\p{Pc}" + category_class("L") +
                            category_class("M") + category_class("Nd") + "\\x{200c}\\x{200d}]",
                        "single_word");
  return regex;
}

size_t char_before(std::string_view text, size_t at) {
  do --at;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  return at;
}

bool word_ends(std::string_view text) {
  return !text.empty() && word_char().matches_at_start(text.substr(char_before(text, text.size())));
}

size_t space_begin(std::string_view text) {  // of the white space at the end
  size_t begin = text.size();
  while (begin > 0) {
    const size_t before = char_before(text, begin);
    size_t at = before;
    if (!is_white_space(next_char(text, at))) break;
    begin = before;
  }
  return begin;
}

size_t space_length(std::string_view text) {  // of the white space at the beginning
  size_t end = 0;
  for (size_t at = 0; at < text.size() && is_white_space(next_char(text, at));) end = at;
  return end;
}

}  // namespace

std::string AddedTokens::content_of(const JsonAt& token) {
  return token.value.is_object() ? token.text("content") : token.as_text();
}

void AddedTokens::Trie::insert(std::string_view text, int id) {
  int node = 0;
  for (const unsigned char byte : text) {
    const auto [edge, is_new] =
        edges.try_emplace(static_cast<uint64_t>(node) << 8 | byte, static_cast<int>(ids.size()));
    if (is_new) ids.push_back(-1);
    node = edge->second;
  }
  if (ids[node] < 0) ids[node] = id;
}

bool AddedTokens::Trie::find(std::string_view text, size_t from, Span& span, int& id) const {
  if (edges.empty()) return false;
  for (size_t begin = from; begin < text.size(); ++begin) {
    id = -1;
    int node = 0;
    for (size_t at = begin; at < text.size(); ++at) {
      const auto edge =
          edges.find(static_cast<uint64_t>(node) << 8 | static_cast<unsigned char>(text[at]));
      if (edge == edges.end()) break;
      node = edge->second;
      if (ids[node] < 0) continue;
      id = ids[node];
      span = {begin, at + 1};
    }
    if (id >= 0) return true;
  }
  return false;
}

AddedTokens AddedTokens::read(const JsonAt& list, const JsonAt& config, const Bpe& bpe,
                              const Normalizer& normalizer, bool* more) {
  AddedTokens added;
  for (size_t i = 0; !list.value.is_null() && i < list.array_size(); ++i) {
    const auto json = list.at(i);
    added.add(read_token(json, true), json.number("id"), json, bpe);
  }
  *more = added.add_from_config(config, bpe);
  for (const auto* tokens : {&added.order_special_, &added.order_plain_}) {
    for (const auto& token : *tokens) {
      const std::string text = token.normalized ? normalizer.apply(token.content) : token.content;
      if (text.empty()) list.refuse("'" + token.content + "' is empty once normalised");
      (token.normalized ? added.normalized_ : added.raw_)
          .insert(text, added.ids_.at(token.content));
    }
  }
  return added;
}

AddedTokens::Token AddedTokens::read_token(const JsonAt& json, bool with_id) {
  json.only({with_id ? "id" : "__type", "content", "single_word", "lstrip", "rstrip", "normalized",
             "special"});
  const bool special = json.flag("special", false);
  return {json.text("content"),       json.flag("single_word", false),   json.flag("lstrip", false),
          json.flag("rstrip", false), json.flag("normalized", !special), special};
}

// As transformers 4 and 5: the tokens of added_tokens_decoder in the order of their ids, then the
// named special tokens that the vocabulary has. Of a token that is there already only `special`
// counts.
bool AddedTokens::add_from_config(const JsonAt& config, const Bpe& bpe) {
  bool more = false;
  std::vector<std::string> named;
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                          "cls_token", "mask_token"}) {
    if (!config.has(key)) continue;
    named.push_back(content_of(config.at(key)));
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!config.has(key) || !config.at(key).value.is_array()) continue;
    for (size_t i = 0; i < config.at(key).array_size(); ++i)
      named.push_back(content_of(config.at(key).at(i)));
  }
  std::map<int, std::string> keys;  // of added_tokens_decoder, by id
  if (config.has("added_tokens_decoder"))
    for (const auto& [key, unused] : config.at("added_tokens_decoder").object().items()) {
      int id = -1;
      const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), id);
      if (code != std::errc() || end != key.data() + key.size() || id < 0 || id > kMaxTokenId)
        config.at("added_tokens_decoder").refuse("'" + key + "' is not the id of a token");
      keys[id] = key;
    }
  for (const auto& [id, key] : keys) {
    const auto json = config.at("added_tokens_decoder").at(key.c_str());
    Token token = read_token(json, false);
    token.special =
        token.special || std::find(named.begin(), named.end(), token.content) != named.end();
    if (const auto known = id_of(token.content)) {
      if (*known != id)
        json.refuse("'" + token.content + "' has another id, " + std::to_string(*known) +
                    ", in tokenizer.json");
      more = make_special(token, json) || more;
    } else {
      add(token, id, json, bpe);
      more = true;
    }
  }
  for (const std::string& content : named) {
    const auto id = bpe.id_of(content);
    if (!id || id_of(content)) continue;
    add({content, false, false, false, false, true}, *id, config, bpe);
    more = true;
  }
  return more;
}

// A token that tokenizer.json does not call special.
bool AddedTokens::make_special(const Token& token, const JsonAt& json) {
  if (!token.special || is_special(token.content)) return false;
  if (by_id_.at(*id_of(token.content)).normalized != token.normalized)
    json.refuse("'" + token.content +
                "' is special and normalised otherwise than in tokenizer.json");
  special_.insert(token.content);
  return true;
}

void AddedTokens::add(Token token, int id, const JsonAt& json, const Bpe& bpe) {
  if (token.content.empty()) json.refuse("'content' is empty");
  // The library that defines the format does not use the id written here: it takes the vocabulary's
  // or else the next free one. Where that differs the file is damaged.
  int expected = bpe.vocabulary_size();
  if (const auto known = id_of(token.content))
    expected = *known;
  else if (const auto in_vocabulary = bpe.id_of(token.content))
    expected = *in_vocabulary;
  else if (highest_id() >= expected)
    expected = highest_id() + 1;
  if (id != expected)
    json.refuse("the added token '" + token.content + "' has id " + std::to_string(id) + " where " +
                std::to_string(expected) + " is expected");
  const auto [place, is_new] = by_id_.try_emplace(id, token);
  if (!is_new) {
    if (place->second == token) return;
    json.refuse("the added token '" + token.content + "' is there twice");
  }
  ids_.emplace(token.content, id);
  if (token.special) special_.insert(token.content);
  (token.special ? order_special_ : order_plain_).push_back(std::move(token));
}

void AddedTokens::split_by(const Trie& trie, std::string_view text, bool at_start,
                           std::vector<Part>& parts) const {
  size_t done = 0;
  const auto plain = [&](size_t end) {
    if (done < end)
      parts.push_back({-1, std::string(text.substr(done, end - done)), at_start && done == 0});
  };
  Span span;
  int id = -1;
  for (size_t from = 0; trie.find(text, from, span, id);) {
    from = span.end;
    const Token& token = by_id_.at(id);
    if (token.single_word) {
      const auto behind = text.substr(span.end);
      if (word_ends(text.substr(0, span.begin)) ||
          (!behind.empty() && word_char().matches_at_start(behind)))
        continue;
    }
    if (token.lstrip) span.begin = std::max(space_begin(text.substr(0, span.begin)), done);
    if (token.rstrip) span.end += space_length(text.substr(span.end));
    plain(span.begin);
    parts.push_back({id, "", false});
    done = span.end;
  }
  plain(text.size());
}

std::vector<AddedTokens::Part> AddedTokens::split(const std::string& text,
                                                  const Normalizer& normalizer) const {
  std::vector<Part> raw, parts;
  split_by(raw_, text, true, raw);
  for (auto& part : raw) {
    if (part.id >= 0)
      parts.push_back(std::move(part));
    else
      split_by(normalized_, normalizer.apply(std::move(part.text)), part.at_start, parts);
  }
  return parts;
}

std::optional<int> AddedTokens::id_of(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* AddedTokens::token(int id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second.content;
}

bool AddedTokens::is_special(std::string_view token) const {
  return special_.contains(std::string(token));
}

}  // namespace svfleet
