// The chat templates that svfleet knows, each as a function from messages to text, in three groups
// by what they descend from. A model's own text is recognised in chat_template.h.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "rl/task.h"

namespace svfleet {

using Messages = std::vector<Message>;

// As tokenizer_config.json writes them; empty where it has none.
struct ChatTokens {
  const std::string& bos;
  const std::string& eos;
};

struct ChatFamily {
  const char* name;
  bool bos, eos;     // the template writes it
  const char* stop;  // ends a turn; null = eos
  // `messages` is not empty, its roles are system, user and assistant, its texts are UTF-8.
  // Error(kExitUser) for an order of roles that the template refuses, or drops in silence.
  std::string (*render)(const Messages& messages, const ChatTokens& tokens);
};

std::span<const ChatFamily> chatml_families();  // SmolLM, Qwen
std::span<const ChatFamily> llama_families();   // Llama, Mistral
std::span<const ChatFamily> marked_families();  // Gemma, Phi, OLMo, Zephyr, Granite, DeepSeek
std::vector<ChatFamily> chat_families();        // all of them

// The day that templates write which ask for today's: Llama 3.1's own fallback, so that a prompt
// is the same on every day. (transformers fills in the present day for most of them.)
inline constexpr const char* kTodayDate = "26 Jul 2024";
inline constexpr const char* kTodayDateLong = "July 26, 2024";

}  // namespace svfleet
