#include "worker/tokenizer/decode.h"

#include <charconv>

#include "worker/tokenizer/normalize.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

std::string join(const std::vector<std::string>& tokens, const char* between = "") {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) text.append(i ? between : "").append(tokens[i]);
  return text;
}

// <0x0A> gives 10, anything else -1.
int byte_of(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  int byte = 0;
  const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, byte, 16);
  return error == std::errc() && end == token.data() + 5 && token[3] != '-' ? byte : -1;
}

}  // namespace

Decoder Decoder::read(const JsonAt& json) {
  Decoder decoder;
  decoder.none_ = json.value.is_null();
  if (!decoder.none_) decoder.add(json, 0);
  return decoder;
}

void Decoder::add(const JsonAt& json, int depth) {
  const std::string type = json.type();
  if (type == "Sequence" && depth < kMaxNesting) {
    json.only({"type", "decoders"});
    const auto parts = json.at("decoders");
    for (size_t i = 0; i < parts.array_size(); ++i) add(parts.at(i), depth + 1);
  } else if (type == "ByteLevel") {
    json.only({"type", "add_prefix_space", "trim_offsets", "use_regex"});
    steps_.emplace_back(ByteLevel{});
  } else if (type == "ByteFallback") {
    json.only({"type"});
    steps_.emplace_back(ByteFallback{});
  } else if (type == "Fuse") {
    json.only({"type"});
    steps_.emplace_back(Fuse{});
  } else if (type == "Metaspace") {
    steps_.emplace_back(Metaspace::read(json));
  } else if (type == "Replace") {
    json.only({"type", "pattern", "content"});
    steps_.emplace_back(Replace{read_pattern(json.at("pattern")), json.text("content")});
  } else if (type == "Strip") {
    json.only({"type", "content", "start", "stop"});
    Strip strip{json.text("content"), static_cast<size_t>(json.number("start")),
                static_cast<size_t>(json.number("stop"))};
    size_t at = 0;
    if (!strip.content.empty()) next_char(strip.content, at);
    if (at == 0 || at != strip.content.size()) json.refuse("'content' should be one character");
    steps_.emplace_back(std::move(strip));
  } else {
    json.refuse("the decoder '" + type + "' is not supported");
  }
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  if (none_) return join(tokens, " ");
  for (const auto& step : steps_)
    tokens = std::visit([&](const auto& kind) { return apply(kind, std::move(tokens)); }, step);
  return join(tokens);
}

Decoder::Tokens Decoder::apply(const ByteLevel&, Tokens tokens) {
  std::string bytes;
  for (const auto& token : tokens) {
    std::string mapped;
    bool all = true;
    for (size_t at = 0; at < token.size() && all;) {
      const int byte = byte_of_stand_in(next_char(token, at));
      all = byte >= 0;
      mapped += static_cast<char>(byte);
    }
    bytes += all ? mapped : token;  // an added token is its own text
  }
  return {valid_utf8(bytes)};
}

Decoder::Tokens Decoder::apply(const ByteFallback&, Tokens tokens) {
  Tokens result;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    // One ill-formed byte makes every byte of the run a U+FFFD: so the format's library does it.
    if (valid_utf8(run) == run)
      result.push_back(run);
    else
      result.insert(result.end(), run.size(), "\xef\xbf\xbd");
    run.clear();
  };
  for (auto& token : tokens) {
    if (const int byte = byte_of(token); byte >= 0) {
      run += static_cast<char>(byte);
      continue;
    }
    flush();
    result.push_back(std::move(token));
  }
  flush();
  return result;
}

Decoder::Tokens Decoder::apply(const Fuse&, Tokens tokens) {
  return {join(tokens)};
}

Decoder::Tokens Decoder::apply(const Replace& step, Tokens tokens) {
  for (auto& token : tokens) token = replace_all(step.pattern, token, step.by);
  return tokens;
}

Decoder::Tokens Decoder::apply(const Strip& step, Tokens tokens) {
  const size_t width = step.content.size();
  for (auto& token : tokens) {
    size_t begin = 0, end = token.size();
    for (size_t i = 0; i < step.start && token.compare(begin, width, step.content) == 0; ++i)
      begin += width;
    for (size_t i = 0; i < step.stop && end >= begin + width &&
                       token.compare(end - width, width, step.content) == 0;
         ++i)
      end -= width;
    token = token.substr(begin, end - begin);
  }
  return tokens;
}

Decoder::Tokens Decoder::apply(const Metaspace& step, Tokens tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    const char* by = i == 0 && step.prepend != PrependScheme::kNever ? "" : " ";
    std::string text;
    for (size_t at = 0; at < tokens[i].size();) {
      const size_t begin = at;
      next_char(tokens[i], at);
      const auto character = std::string_view(tokens[i]).substr(begin, at - begin);
      text += character == step.replacement ? std::string_view(by) : character;
    }
    tokens[i] = std::move(text);
  }
  return tokens;
}

}  // namespace svfleet
