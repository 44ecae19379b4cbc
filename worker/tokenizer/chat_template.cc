#include "worker/tokenizer/chat_template.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "checkpoints/hash.h"
#include "checkpoints/lfs_pointer.h"
#include "comm/error.h"
#include "worker/tokenizer/chat_template_canonical.h"
#include "worker/tokenizer/chat_template_known.h"
#include "worker/tokenizer/unicode.h"

namespace svfleet {
namespace {

using Json = nlohmann::json;

std::optional<ChatFamily> family_of(const std::string& name) {
  for (const ChatFamily& family : chat_families())
    if (family.name == name) return family;
  return std::nullopt;
}

std::string all_names() {
  std::string text;
  for (const std::string& name : ChatTemplate::names()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string read_if_there(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return "";
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  if (!file) throw disk_error("cannot read '", path, "'; check its permissions");
  return bytes.str();
}

Json read_config(const std::string& path) {
  const std::string bytes = read_if_there(path);
  if (bytes.empty()) return Json::object();
  refuse_lfs_pointer(path, bytes);
  try {
    auto config = Json::parse(bytes);
    if (config.is_object()) return config;
  } catch (const Json::exception&) {
  }
  throw user_error("'", path, "' is not a JSON object; get the file again");
}

// "bos_token": "<s>" or {"content": "<s>", ...}; "" where there is none.
std::string special_token(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string())
    return (*found)["content"].get<std::string>();
  return "";
}

// chat_template.jinja wins over tokenizer_config.json, as in transformers.
std::string template_text(const std::string& folder, const Json& config, std::string& where) {
  where = folder + "/chat_template.jinja";
  if (auto text = read_if_there(where); !text.empty()) return text;
  where = folder + "/tokenizer_config.json";
  const auto found = config.find("chat_template");
  if (found == config.end()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array())
    for (const auto& named : *found)
      if (named.is_object() && special_token(named, "name") == "default")
        return special_token(named, "template");
  return "";
}

}  // namespace

std::vector<ChatFamily> chat_families() {
  std::vector<ChatFamily> all;
  for (const auto group : {chatml_families(), llama_families(), marked_families()})
    all.insert(all.end(), group.begin(), group.end());
  return all;
}

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> result;
  for (const ChatFamily& family : chat_families()) result.push_back(family.name);
  return result;
}

std::string ChatTemplate::fingerprint(const std::string& text) {
  return hash_bytes(canonical_template(text));
}

ChatTemplate ChatTemplate::load(const std::string& folder, const std::string& name) {
  const Json config = read_config(folder + "/tokenizer_config.json");
  ChatTemplate result;
  result.name_ = name;
  if (name.empty()) {
    std::string where;
    const std::string text = template_text(folder, config, where);
    if (text.empty())
      throw user_error("'", folder, "' has no chat template; set model.chat_template to one of ",
                       all_names(), ", write the format down in model.chat_format, or set the ",
                       "task's chat to false");
    const std::string print = fingerprint(text);
    for (const auto& known : known_templates())
      if (known.fingerprint == print) result.name_ = known.family;
    if (result.name_.empty())
      throw user_error(
          "the chat template in '", where, "' is not one that svfleet knows; if the ",
          "model was trained with one of these, set model.chat_template to its name: ", all_names(),
          "; else write its pieces down in model.chat_format, or set ", "the task's chat to false");
  }
  result.family_ = family_of(result.name_);
  if (!result.family_)
    throw user_error("model.chat_template: there is no chat template '", name, "'; known are ",
                     all_names());
  const ChatFamily& family = *result.family_;
  result.bos_ = special_token(config, "bos_token");
  result.eos_ = special_token(config, "eos_token");
  if ((family.bos && result.bos_.empty()) || (family.eos && result.eos_.empty()))
    throw user_error("'", folder, "/tokenizer_config.json' has no ",
                     family.bos && result.bos_.empty() ? "bos_token" : "eos_token",
                     ", which the chat template '", result.name_,
                     "' writes; add it, or set model.chat_template to another");
  return result;
}

ChatTemplate ChatTemplate::of_format(const ChatFormat& format) {
  if (const std::string problem = chat_format_problem(format); !problem.empty())
    throw user_error("model.chat_format.", problem);
  ChatTemplate result;
  result.name_ = "chat_format";
  result.format_ = format;
  return result;
}

std::string ChatTemplate::identity() const {
  if (family_) return name_;
  std::string all = name_;
  for (const auto* piece : {&format_.begin, &format_.system, &format_.user, &format_.assistant,
                            &format_.answer, &format_.default_system})
    all.append(1, '\0').append(*piece);
  return all;
}

std::string ChatTemplate::turn_end() const {
  if (!family_) return svfleet::turn_end(format_);
  return family_->stop ? family_->stop : eos_;
}

std::string ChatTemplate::bos() const {
  return family_ && family_->bos ? bos_ : "";
}

std::string ChatTemplate::render(const std::vector<Message>& messages) const {
  if (messages.empty()) throw user_error("a chat without messages; the task's prompt is empty");
  std::vector<Message> valid;
  for (const auto& m : messages) {
    if (m.role != "system" && m.role != "user" && m.role != "assistant")
      throw user_error("a message has the role '", m.role,
                       "'; known are system, user and assistant");
    valid.push_back({m.role, valid_utf8(m.content)});
  }
  return family_ ? family_->render(valid, {bos_, eos_}) : svfleet::render(format_, valid);
}

}  // namespace svfleet
