// From tokens back to text: the decoder of a tokenizer.json. ByteLevel, Metaspace, Replace,
// ByteFallback, Fuse, Strip and sequences of them.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "worker/tokenizer/json.h"
#include "worker/tokenizer/pretokenize.h"

namespace svfleet {

class Decoder {
 public:
  static Decoder read(const JsonAt& json);
  // Valid UTF-8, given tokens that are.
  std::string decode(std::vector<std::string> tokens) const;

 private:
  struct ByteLevel {};
  struct ByteFallback {};
  struct Fuse {};
  struct Replace {
    Regex pattern;
    std::string by;
  };
  struct Strip {
    std::string content;  // one character
    size_t start, stop;   // how many at most
  };
  using Tokens = std::vector<std::string>;
  void add(const JsonAt& json, int depth);
  static Tokens apply(const ByteLevel& step, Tokens tokens);
  static Tokens apply(const ByteFallback& step, Tokens tokens);
  static Tokens apply(const Fuse& step, Tokens tokens);
  static Tokens apply(const Replace& step, Tokens tokens);
  static Tokens apply(const Strip& step, Tokens tokens);
  static Tokens apply(const Metaspace& step, Tokens tokens);
  bool none_ = true;
  std::vector<std::variant<ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace>> steps_;
};

}  // namespace svfleet
