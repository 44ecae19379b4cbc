#include "checkpoints/content_hash.h"

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_checkpoint.h"
#include "checkpoints/safetensors.h"
#include "comm/error.h"

namespace svfleet {
namespace {

bool is_expert(const std::string& path) {
  return read_safetensors_metadata(path)["format"] == "svfleet-expert";
}

// Empty for a whole file that is something else.
std::string hash_checkpoint(const std::string& path) {
  const std::string image = read_file(path);
  const Hdf5Reader in(image, path);
  if (!in.has("format") || in.text("format") != "svfleet-checkpoint") return "";
  return state_hash(decode_state(image, path));
}

// "source_hash", "form", "Q" and "sigma" of every matrix; times, certificates and library versions
// do not count.
std::string hash_factor_store(const std::string& folder, const std::vector<std::string>& names) {
  Hasher hasher;
  hasher.text("svfleet-factors-1");
  for (const std::string& name : names) {
    const std::string path = folder + "/" + name;
    const Hdf5Reader in(read_file(path), path);
    hasher.text(name).text(in.text("source_hash")).text(in.text("form"));
    const std::vector<int64_t> shape = in.shape("Q");
    hasher.number(static_cast<int64_t>(shape.size()));
    for (int64_t size : shape) hasher.number(size);
    if (in.is_bfloat16("Q")) {
      const std::vector<uint16_t> q = in.bfloat16s("Q");
      hasher.text("BF16").raw(q.data(), q.size() * sizeof q[0]);
    } else {
      hasher.text("F32").floats(in.floats("Q"));
    }
    const std::vector<double> sigma = in.doubles("sigma");
    hasher.number(static_cast<int64_t>(sigma.size()))
        .raw(sigma.data(), sigma.size() * sizeof(double));
  }
  return hasher.hex();
}

// An expert under a name of its owner's, which every other command takes; else empty.
std::string hash_renamed(const std::string& path) {
  try {
    if (!is_expert(path)) return "";
  } catch (const Error&) {
    return "";
  }
  return z_hash(load_expert(path));
}

std::string hash_folder(const std::string& folder) {
  if (file_exists(folder + "/model.safetensors") ||
      file_exists(folder + "/model.safetensors.index.json"))
    return SafetensorsFolder(folder).content_hash();
  if (expert_file(folder) != folder) return z_hash(load_expert(folder));
  if (is_folder(folder + "/checkpoints")) {
    const NewestCheckpoint newest = load_newest_checkpoint(folder);
    if (newest.state) return state_hash(*newest.state);
    if (newest.damaged.empty())
      throw user_error("the run in '", folder, "' has no checkpoint: none was saved yet, or they ",
                       "were removed; start its training, or restore one");
    throw user_error("the run folder '", folder, "' has no good checkpoint: ", newest.damaged[0],
                     "; restore one from a copy, or train again in another run_dir");
  }
  if (file_exists(folder + "/run.json"))
    throw user_error("the run in '", folder,
                     "' has saved no checkpoint yet, so there is nothing to ",
                     "hash; svfleet status ", folder, " says how far it is");
  std::vector<std::string> factors;
  for (const std::string& name : list_folder(folder))
    if (name.ends_with(".h5")) factors.push_back(name);
  if (!factors.empty()) return hash_factor_store(folder, factors);
  if (file_exists(folder + "/store.json"))
    throw user_error("the factor store '", folder, "' holds no matrix yet");
  return "";
}

}  // namespace

std::string hash_path(const std::string& path) {
  if (!file_exists(path)) throw user_error("cannot hash '", path, "': there is no such file");
  std::string hash;
  if (is_folder(path))
    hash = hash_folder(path);
  else if (path.ends_with(".safetensors"))
    hash = is_expert(path) ? z_hash(load_expert(path)) : SafetensorsFolder(path).content_hash();
  else if (path.ends_with(".h5"))
    hash = hash_checkpoint(path);
  else
    hash = hash_renamed(path);
  if (hash.empty())
    throw user_error("cannot hash '", path, "': it is none of: expert or other .safetensors file, ",
                     "Hugging Face model folder, checkpoint .h5, factor store, run folder");
  return hash;
}

}  // namespace svfleet
