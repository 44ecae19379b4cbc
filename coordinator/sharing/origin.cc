#include "coordinator/sharing/origin.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoints/file.h"

namespace svfleet {
namespace {

using nlohmann::json;

std::string last_part(std::string* path) {
  const size_t slash = path->rfind('/');
  const std::string part = path->substr(slash == path->npos ? 0 : slash + 1);
  path->resize(slash == path->npos ? 0 : slash);
  return part;
}

bool is_revision(const std::string& text) {
  return text.size() == 40 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// OWNER/NAME, and no path.
bool is_hub_name(const std::string& text) {
  return std::count(text.begin(), text.end(), '/') == 1 && text.front() != '/' &&
         text.front() != '.' && text.back() != '/';
}

}  // namespace

Origin origin_of(const std::string& model_folder) {
  std::string above = resolved_path(model_folder);
  const std::string folder = last_part(&above), snapshots = last_part(&above);
  std::string cached = last_part(&above);
  Origin origin{folder, ""};
  constexpr char kCached[] = "models--";
  if (snapshots == "snapshots" && cached.starts_with(kCached)) {
    cached.erase(0, sizeof kCached - 1);
    const size_t dashes = cached.find("--");
    if (dashes != cached.npos) cached.replace(dashes, 2, "/");
    return {cached, is_revision(folder) ? folder : ""};
  }
  const json config = json::parse(read_file(model_folder + "/config.json"), nullptr, false);
  const json name = config.is_object() ? config.value("_name_or_path", json()) : json();
  if (name.is_string() && is_hub_name(name)) origin.name = name;
  const std::string note = model_folder + "/.cache/huggingface/download/config.json.metadata";
  if (file_exists(note)) {
    const std::string text = read_file(note), line = text.substr(0, text.find('\n'));
    if (is_revision(line)) origin.revision = line;
  }
  return origin;
}

}  // namespace svfleet
