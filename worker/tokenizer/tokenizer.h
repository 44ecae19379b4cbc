// Byte-pair encoding as a Hugging Face tokenizer.json describes it: byte-level BPE (GPT-2, Llama 3,
// Qwen2.5, SmolLM2) and BPE with byte fallback (Llama 2, Mistral). Anything else in the file is
// refused by name. Thread-safe once loaded.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

class Tokenizer {
 public:
  // Reads `folder`/tokenizer.json. Error(kExitUser) names what is missing or not supported.
  static Tokenizer load(const std::string& folder);
  Tokenizer(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Special and added tokens inside the text are recognised, as transformers does. With
  // `add_special_tokens` the post-processor's bos/eos are added. Invalid UTF-8 becomes U+FFFD.
  std::vector<int> encode(std::string_view text, bool add_special_tokens = false) const;
  // Bytes that are not valid UTF-8 come out as U+FFFD.
  std::string decode(std::span<const int> ids, bool skip_special_tokens = true) const;
  std::optional<int> id_of(std::string_view token) const;
  std::string token(int id) const;  // as in the vocabulary
  bool is_special(int id) const;
  // Where tokenizer_config.json wants another bos or eos around a text than tokenizer.json puts
  // there, what differs; versions of transformers follow one or the other. Empty where they agree.
  const std::string& disagreement() const;
  int size() const;  // highest id + 1
  std::string content_hash() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Text of a growing reply, for streaming: returns what is new and complete (never half a
// character). What comes out, finish() included, is decode(ids) where that is valid text.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(int id);
  // What was held back, once no more ids come: an unfinished character as U+FFFD.
  std::string finish();

 private:
  std::string emit(const std::string& text, size_t held);
  void shorten(const std::string& all, size_t held);

  const Tokenizer& tokenizer_;
  std::vector<int> ids_;    // a window: enough of the past to decode what follows; none special
  std::string printed_;     // what of the window's text is out
  size_t printed_ids_ = 0;  // how many of the window's ids are out as a whole
  int held_ = 0;            // ids in a row that gave nothing new
};

}  // namespace svfleet
