// Cutting a text into the words within which byte-pair merges happen: the pre_tokenizer of a
// tokenizer.json. Split, Digits, ByteLevel, Metaspace and sequences of them.
#pragma once

#include <array>
#include <string>
#include <variant>
#include <vector>

#include "worker/tokenizer/json.h"

namespace svfleet {

// GPT-2's printable stand-ins for the 256 bytes, as UTF-8; byte_of_stand_in gives -1 for others.
const std::array<std::string, 256>& byte_stand_ins();
int byte_of_stand_in(char32_t c);

enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// The parts of a text of `length` bytes that has these matches, in order; none is empty.
std::vector<Span> split_at(const std::vector<Span>& matches, size_t length, SplitBehavior behavior,
                           bool invert);

enum class PrependScheme { kAlways, kFirst, kNever };

// What Metaspace as a pre-tokenizer and as a decoder share.
struct Metaspace {
  std::string replacement;
  PrependScheme prepend = PrependScheme::kAlways;
  bool split = true;
  static Metaspace read(const JsonAt& json);
};

class PreTokenizer {
 public:
  PreTokenizer() = default;  // one word
  static PreTokenizer read(const JsonAt& json);
  // `at_start`: the text is the beginning of the whole input (Metaspace's "first").
  std::vector<std::string> split(std::string text, bool at_start) const;

 private:
  struct Piece {
    std::string text;
    bool at_start;
  };
  struct Split {
    Regex pattern;
    SplitBehavior behavior;
    bool invert;
  };
  struct ByteLevel {
    bool add_prefix_space;
    std::vector<Regex> regex;  // none or one
  };
  void add(const JsonAt& json, int depth);
  static void cut(const Piece& piece, const std::vector<Span>& spans, std::vector<Piece>& out);
  static void apply(const Split& step, Piece piece, std::vector<Piece>& out);
  static void apply(const ByteLevel& step, Piece piece, std::vector<Piece>& out);
  static void apply(const Metaspace& step, Piece piece, std::vector<Piece>& out);
  std::vector<std::variant<Split, ByteLevel, Metaspace>> steps_;
};

}  // namespace svfleet
