// Chat templates of the supported families, recognised by the template text in
// tokenizer_config.json (chat_template, or chat_template.jinja beside it). An unknown one is
// refused with the names of those that are known; the configuration may name one instead.
// Recognised is what has the fingerprint of a published template: the same text up to spacing,
// quotes, comments and m['role'] for m.role. A text that merely looks alike is not.
#pragma once

#include <string>
#include <vector>

#include "rl/task.h"

namespace svfleet {

class ChatTemplate {
 public:
  // `name` empty: recognise; else one of names().
  static ChatTemplate load(const std::string& folder, const std::string& name = "");
  static std::vector<std::string> names();  // smollm2, chatml, llama3, llama3.1, qwen2.5, mistral..
  // The fingerprint by which a template text is recognised.
  static std::string fingerprint(const std::string& text);
  // The text that is tokenised (with special tokens written out, bos included where the template
  // writes it), ending where the assistant's answer starts. Error(kExitUser) for an order of roles
  // that the template refuses.
  std::string render(const std::vector<Message>& messages) const;
  const std::string& name() const { return name_; }
  // The token that ends the assistant's turn, so that a reply should stop there.
  std::string turn_end() const;
  // What render() writes first of all; empty where the template writes none.
  std::string bos() const;

 private:
  std::string name_;
  std::string bos_, eos_;
};

// "Today Date" of the Llama 3.1 to 3.3 templates: their own fallback, so that a prompt is the same
// on every day. (transformers fills in the present day for 3.2 and 3.3.)
inline constexpr const char* kTodayDate = "26 Jul 2024";

}  // namespace svfleet
