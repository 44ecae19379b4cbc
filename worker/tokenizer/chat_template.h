// Chat templates of the supported families, recognised by the template text in
// tokenizer_config.json (chat_template, or chat_template.jinja beside it). An unknown one is
// refused with the names of those that are known; the configuration may name one instead, or write
// the pieces of a format down.
// Recognised is what has the fingerprint of a published template: the same text up to spacing,
// quotes, comments and m['role'] for m.role. A text that merely looks alike is not.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rl/task.h"
#include "worker/tokenizer/chat_families.h"
#include "worker/tokenizer/chat_format.h"

namespace svfleet {

class ChatTemplate {
 public:
  // `name` empty: recognise; else one of names().
  static ChatTemplate load(const std::string& folder, const std::string& name = "");
  // Error(kExitUser) for a format with a piece that is missing or not whole.
  static ChatTemplate of_format(const ChatFormat& format);
  static std::vector<std::string> names();  // smollm2, chatml, llama3, qwen3, gemma2, ...
  // The fingerprint by which a template text is recognised.
  static std::string fingerprint(const std::string& text);
  // The text that is tokenised (with special tokens written out, bos included where the template
  // writes it), ending where the assistant's answer starts. Error(kExitUser) for an order of roles
  // that the template refuses.
  std::string render(const std::vector<Message>& messages) const;
  // Of names(), or "chat_format".
  const std::string& name() const { return name_; }
  // The name, and of a format all its pieces: what render() follows, for a hash.
  std::string identity() const;
  // The token that ends the assistant's turn, so that a reply should stop there.
  std::string turn_end() const;
  // What render() writes first of all; empty where the template writes none.
  std::string bos() const;

 private:
  std::string name_;
  std::optional<ChatFamily> family_;  // none: format_ counts
  ChatFormat format_;
  std::string bos_, eos_;
};

}  // namespace svfleet
