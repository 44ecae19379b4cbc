#include "coordinator/commands/out_path.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoints/run_names.h"
#include "comm/error.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Whether results of evaluate are there, or nothing.
bool may_go(const std::string& path) {
  std::error_code none;
  if (!fs::is_regular_file(path, none) || fs::file_size(path, none) == 0) return true;
  std::ifstream in(path);
  std::string first;
  std::getline(in, first);
  const json record = json::parse(first, nullptr, false);
  return record.is_object() && record.contains("item") && record.contains("replies");
}

}  // namespace

void check_out(const CommandLine& line, const Config& config) {
  std::vector<std::string> read = line.experts;
  read.push_back(config.file);
  for (const TaskSpec& task : config.tasks)
    read.insert(read.end(), {task.train, task.validation, task.test, task.few_shot});
  const auto same = [](const fs::path& a, const fs::path& b) {
    std::error_code none;  // not there
    return !a.empty() && !b.empty() && fs::equivalent(a, b, none);
  };
  for (const std::string& input : read)
    if (same(line.out, input))
      throw user_error("--out '", line.out, "' is a file that svfleet reads here; choose another");
  std::error_code none;
  const fs::path out = fs::weakly_canonical(line.out, none), folder = out.parent_path();
  const auto in_run = [&](const fs::path& run, const std::string& below) {
    return fs::exists(run / "run.json", none) && is_run_name(below, out.filename());
  };
  if (same(folder, config.model.path) || in_run(folder, "") ||
      in_run(folder.parent_path(), folder.filename()))
    throw user_error("--out '", line.out, "' is a file of a run or in the model's folder; choose ",
                     "another");
  if (!may_go(line.out))
    throw user_error("--out '", line.out, "' is there already and holds no results of svfleet ",
                     "evaluate; choose another, or remove it first");
}

}  // namespace svfleet
