#include "checkpoints/before_run.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <vector>

#include "checkpoints/file.h"
#include "checkpoints/file_steps.h"
#include "checkpoints/run_names.h"

namespace svfleet {
namespace {

namespace fs = std::filesystem;

// The folders of a run that hold its results; bin is there before it.
constexpr const char* kResults[] = {"checkpoints", "chunks", "experts"};

// Of scripts/quickstart and scripts/seeds, which come before the run and are not touched by it.
constexpr const char* kOfScripts[] = {"base.json",  "base.json.key",   "base.json.tmp",
                                      "seeds.json", ".seeds.json.tmp", "random"};

// How files begin that are written before run.json, without the blanks.
constexpr std::pair<const char*, std::string_view> kHeads[] = {
    {"owner.json", "{\"format\":\"svfleet-owner\""},
    {"stop.json", "{\"format\":\"svfleet-stop\""},
    {"restarts.json", "{\"at_fault\":["},
    {"ledger.jsonl", "{\"kind\":\"submitted\","},
    {"ledger.jsonl", "{\"kind\":\"job_end\","}};
constexpr std::string_view kProgramHead = "{\"format\":\"svfleet-program\"";

// A torn file, left by a crash, has less of it.
bool file_begins(const std::string& path, std::string_view head) {
  if (is_folder(path)) return false;
  std::string text = read_file(path).substr(0, 1000);
  std::erase_if(text, [](char c) { return c == ' ' || c == '\n'; });
  return text.starts_with(head) || head.starts_with(text);
}

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {
    const std::string program = path_ + "/bin/program.json", copy = path_ + "/bin/svfleet";
    submitted_ = file_exists(program) && file_begins(program, kProgramHead);
    // Submit was killed between the two.
    if (!submitted_ && file_exists(copy) && !is_folder(copy))
      copied_ = read_file(copy) == read_file("/proc/self/exe");
  }

  std::vector<std::string> foreign(const std::string& but) const {
    const std::string left_alone = but.empty() ? "" : resolved_path(but);
    std::vector<std::string> found;
    for (const std::string& name : list_folder(path_)) {
      const std::string path = path_ + "/" + name;
      if (name == "bin" || among(name, kResults)) {
        look_into(name, left_alone, found);
      } else if (!precedes(name) && resolved_path(path) != left_alone) {
        found.push_back(name + (is_folder(path) ? "/" : ""));
      }
    }
    return found;
  }

 private:
  void look_into(const std::string& folder, const std::string& left_alone,
                 std::vector<std::string>& found) const {
    const std::string path = path_ + "/" + folder;
    const bool is_bin = folder == "bin";
    if (!is_folder(path)) return found.push_back(folder);
    const std::vector<std::string> names = list_folder(path);
    if (names.empty() && !is_bin) found.push_back(folder + "/");
    for (const std::string& name : names) {
      const std::string whole = path + "/" + name;
      if ((is_bin && of_submit(name, whole)) || resolved_path(whole) == left_alone) continue;
      found.push_back(folder + "/" + name + (is_folder(whole) ? "/" : ""));
    }
  }

  // In bin.
  bool of_submit(const std::string& name, const std::string& path) const {
    if (is_run_temporary("bin", name)) return true;
    if (!is_run_name("bin", name)) return false;
    return submitted_ || (copied_ && (name == "svfleet" || fs::is_symlink(path)));
  }

  bool precedes(const std::string& name) const {
    if (!is_run_name("", name)) return is_run_temporary("", name);
    const std::string path = path_ + "/" + name;
    if (!file_exists(path)) return true;  // a link to nothing: what is written there is the run's
    if (name == "job.sh") return submitted_;
    const bool claim =
        name.starts_with("owner.json.after-") || name.starts_with("owner.json.left-");
    for (const auto& [file, head] : kHeads)
      if ((name == file || (claim && std::string_view(file) == "owner.json")) &&
          file_begins(path, head))
        return true;
    // slurm-*.out, .nfs* (run_names.cc), seed-N: nobody's but the job's, the disk's, the script's.
    return among(name, kOfScripts) || name.starts_with("slurm-") || name.starts_with(".nfs") ||
           name.starts_with("seed-");
  }

  const std::string path_;
  bool submitted_ = false, copied_ = false;
};

}  // namespace

std::string foreign_names(const std::string& run_dir, const std::string& but) {
  const std::vector<std::string> found = Folder(run_dir).foreign(but);
  std::string names;
  for (size_t i = 0; i < std::min<size_t>(found.size(), 3); ++i)
    names += (names.empty() ? "'" : ", '") + found[i] + "'";
  if (found.size() > 3) names += " and " + std::to_string(found.size() - 3) + " more";
  return names;
}

}  // namespace svfleet
