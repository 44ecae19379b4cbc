// Chat templates that write <|im_start|>role ... <|im_end|>: SmolLM2 and 3, Qwen2 to 3.
#include "worker/tokenizer/chat_turns.h"

namespace svfleet {
namespace {

constexpr const char* kImEnd = "<|im_end|>";
constexpr const char* kAnswer = "<|im_start|>assistant\n";

std::string turn(std::string_view role, std::string_view content) {
  return std::string("<|im_start|>").append(role).append("\n").append(content) + "<|im_end|>\n";
}

std::string chatml(const Messages& messages, const char* default_system) {
  std::string text;
  if (default_system && !has_system(messages)) text = turn("system", default_system);
  for (const auto& m : messages) text += turn(m.role, m.content);
  return text + kAnswer;
}

constexpr std::string_view kThinkEnd = "</think>";

// The message that is answered: the last of the user's that is no result of a tool.
size_t last_query(const Messages& messages) {
  for (size_t i = messages.size(); i-- > 0;)
    if (messages[i].role == "user" && !(messages[i].content.starts_with("<tool_response>") &&
                                        messages[i].content.ends_with("</tool_response>")))
      return i;
  return messages.size() - 1;
}

// Earlier answers lose their reasoning; those behind the last question keep it.
std::string qwen3(const Messages& messages, bool thinking) {
  const size_t query = last_query(messages);
  std::string text;
  for (size_t i = 0; i < messages.size(); ++i) {
    const auto& m = messages[i];
    if (m.role != "assistant") {
      text += turn(m.role, m.content);
      continue;
    }
    std::string_view content = m.content, reasoning;
    if (const size_t end = content.find(kThinkEnd); end != content.npos) {
      reasoning = without_trailing_newlines(content.substr(0, end));
      reasoning = without_leading_newlines(behind_last(reasoning, "<think>"));
      content = without_leading_newlines(behind_last(content, kThinkEnd));
    }
    const bool keeps = i > query && (i + 1 == messages.size() || !reasoning.empty());
    text += keeps ? turn("assistant",
                         "<think>\n" + std::string(without_trailing_newlines(reasoning)) +
                             "\n</think>\n\n" + std::string(without_leading_newlines(content)))
                  : turn("assistant", content);
  }
  return text + kAnswer + (thinking ? "" : "<think>\n\n</think>\n\n");
}

constexpr const char* kSmol =
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face";
constexpr const char* kSmolThinks =
    " Your role as an assistant involves thoroughly exploring questions through a systematic "
    "thinking process before providing the final precise and accurate solutions. This requires "
    "engaging in a comprehensive cycle of analysis, summarizing, exploration, reassessment, "
    "reflection, backtracking, and iteration to develop well-considered thinking process. Please "
    "structure your response into two main sections: Thought and Solution using the specified "
    "format: <think> Thought section </think> Solution section. In the Thought section, detail "
    "your reasoning process in steps. Each step should include detailed considerations such as "
    "analysing questions, summarizing relevant findings, brainstorming new ideas, verifying the "
    "accuracy of the current steps, refining any errors, and revisiting previous steps. In the "
    "Solution section, based on various attempts, explorations, and reflections from the Thought "
    "section, systematically present the final solution that you deem correct. The Solution "
    "section should be logical, accurate, and concise and detail necessary steps needed to reach "
    "the conclusion.";

std::string without(std::string text, std::string_view mark) {
  for (size_t at = 0; (at = text.find(mark, at)) != text.npos;) text.erase(at, mark.size());
  return text;
}

// Thinks unless the system message says /no_think. As Unsloth publishes it: no date, no tools.
std::string smollm3(const Messages& messages) {
  refuse_late_system(messages, "smollm3-unsloth");
  const std::string asked = has_system(messages) ? messages[0].content : "";
  const bool thinks = asked.find("/no_think") == asked.npos;
  std::string system = rstrip(without(without(asked, "/no_think"), "/think"));
  if (system.empty()) system = std::string(kSmol).append(".") + (thinks ? kSmolThinks : "");
  const std::string thought = thinks ? "" : "<think>\n\n</think>\n";
  std::string text =
      std::string("<|im_start|>system\n## Metadata\n\n") +
      "Knowledge Cutoff Date: June 2025\nReasoning Mode: " + (thinks ? "/think" : "/no_think") +
      "\n\n## Custom Instructions\n\n" + system + "\n\n<|im_end|>\n";
  for (size_t i = first_turn(messages); i < messages.size(); ++i) {
    const auto& m = messages[i];
    text += m.role == "user"
                ? turn("user", m.content)
                : turn("assistant", thought + std::string(without_leading_newlines(m.content)));
  }
  return text + kAnswer + thought;
}

constexpr const char* kQwen2 = "You are a helpful assistant.";
constexpr const char* kQwen25 =
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";
constexpr const char* kQwen25Math =
    "Please reason step by step, and put your final answer within \\boxed{}.";

constexpr ChatFamily kChatml[] = {
    {"smollm2", false, false, kImEnd, [](const auto& m, const auto&) { return chatml(m, kSmol); }},
    {"chatml", false, false, kImEnd, [](const auto& m, const auto&) { return chatml(m, nullptr); }},
    {"qwen2.5", false, false, kImEnd,
     [](const auto& m, const auto&) { return chatml(m, kQwen25); }},
    {"qwen2.5-math", false, false, kImEnd,
     [](const auto& m, const auto&) { return chatml(m, kQwen25Math); }},
    {"qwen2", false, false, kImEnd, [](const auto& m, const auto&) { return chatml(m, kQwen2); }},
    {"qwen3", false, false, kImEnd, [](const auto& m, const auto&) { return qwen3(m, true); }},
    {"qwen3-no-thinking", false, false, kImEnd,
     [](const auto& m, const auto&) { return qwen3(m, false); }},
    {"smollm3-unsloth", false, false, kImEnd,
     [](const auto& m, const auto&) { return smollm3(m); }},
};

}  // namespace

std::span<const ChatFamily> chatml_families() {
  return kChatml;
}

}  // namespace svfleet
