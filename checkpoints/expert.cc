#include "checkpoints/expert.h"

#include <cmath>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/safetensors.h"
#include "comm/error.h"

namespace svfleet {
namespace {

constexpr char kExpertFormat[] = "svfleet-expert";
constexpr char kExpertVersion[] = "1";  // docs/formats.md; never renumber
constexpr char kCoreVersion[] = "2";    // of an expert with a core

// Empty when every z can be used.
std::string z_problem(const std::map<std::string, std::vector<float>>& z) {
  if (z.empty()) return "it holds no z";
  for (const auto& [name, values] : z) {
    if (values.empty()) return "z of '" + name + "' is empty";
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        return "z of '" + name + "' is not finite at entry " + std::to_string(i);
  }
  return "";
}

}  // namespace

std::string expert_bytes(const Expert& expert) {
  const std::string problem = z_problem(expert.z);
  SVFLEET_CHECK(problem.empty(), "an expert: ", problem);
  SafetensorsData data;
  data.metadata = expert.metadata;
  data.metadata["format"] = kExpertFormat;
  data.metadata["version"] = std::string(expert.core.empty() ? kExpertVersion : kCoreVersion);
  if (!expert.core.empty()) data.metadata["core"] = expert.core;
  data.metadata["z_hash"] = z_hash(expert);
  for (const auto& [name, values] : expert.z) {
    std::vector<int64_t> shape{static_cast<int64_t>(values.size())};
    if (!expert.core.empty()) shape = expert.shapes.at(name);
    data.tensors[name] = {shape, values};
  }
  return safetensors_bytes(data);
}

void save_expert(const std::string& path, const Expert& expert) {
  write_file_atomic(path, expert_bytes(expert));
}

std::string expert_file(const std::string& path) {
  const std::string inside = path + "/" + kExpertInFolder;
  return is_folder(path) && file_exists(inside) ? inside : path;
}

Expert load_expert(const std::string& given) {
  const std::string path = expert_file(given);
  if (!file_exists(path)) throw user_error("there is no expert file '", path, "'; check the path");
  // What a run has besides, and people give for it.
  const bool folder = is_folder(path);
  if (folder || path.ends_with(".h5"))
    throw user_error("'", path, "' is a ", folder ? "folder" : "checkpoint",
                     ", not an expert; give a file such as RUN/experts/best.safetensors");
  // Before the tensors: a model's may be of other types.
  if (read_safetensors_metadata(path)["format"] != kExpertFormat)
    throw user_error("'", path, "' is not an expert: its metadata has no format=", kExpertFormat);
  SafetensorsData data = read_safetensors(path);
  const std::string version = data.metadata["version"];
  if (version != kExpertVersion && version != kCoreVersion)
    throw user_error("the expert '", path, "' has version '", version, "', this svfleet reads ",
                     kExpertVersion, " and ", kCoreVersion, "; use a newer svfleet");
  Expert expert;
  if (version == kCoreVersion) {
    expert.core = data.metadata["core"];
    if (expert.core.empty())
      throw user_error("the expert '", path, "' cannot be used: its metadata does not name its ",
                       "core; use a copy of it");
  }
  for (auto& [name, tensor] : data.tensors) {
    if (!expert.core.empty())
      expert.shapes[name] = tensor.first;
    else if (tensor.first.size() != 1)
      throw user_error("the expert '", path, "' cannot be used: z of '", name,
                       "' is not a vector but has ", tensor.first.size(), " dimensions");
    expert.z[name] = std::move(tensor.second);
  }
  if (const std::string problem = z_problem(expert.z); !problem.empty())
    throw user_error("the expert '", path, "' cannot be used: ", problem);
  expert.metadata = std::move(data.metadata);
  const auto written = expert.metadata.find("z_hash");
  if (written != expert.metadata.end() && written->second != z_hash(expert))
    throw disk_error("the expert '", path, "' is damaged: its z has the hash ", z_hash(expert),
                     ", not the ", written->second, " of its metadata; use a copy of it");
  return expert;
}

std::string z_hash(const Expert& expert) {
  Hasher hasher;
  if (expert.core.empty()) {
    hasher.text("svfleet-z-1");
    for (const auto& [name, values] : expert.z) hasher.text(name).floats(values);
    return hasher.hex();
  }
  hasher.text("svfleet-z-2").text(expert.core);
  for (const auto& [name, values] : expert.z) {
    hasher.text(name);
    for (const int64_t size : expert.shapes.at(name)) hasher.number(size);
    hasher.floats(values);
  }
  return hasher.hex();
}

std::string weight_of(const std::string& tensor) {
  const bool factor = tensor.ends_with(".A") || tensor.ends_with(".B");
  return factor ? tensor.substr(0, tensor.size() - 2) : tensor;
}

}  // namespace svfleet
