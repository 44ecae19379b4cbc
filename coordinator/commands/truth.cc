#include "coordinator/commands/truth.h"

#include "checkpoints/file.h"
#include "checkpoints/run_checkpoint.h"
#include "checkpoints/safetensors.h"
#include "comm/error.h"
#include "coordinator/config/reader.h"
#include "coordinator/config/targets.h"
#include "coordinator/training/plan.h"
#include "worker/model/architecture.h"

namespace svfleet {
namespace {

FactorStore::Manifest manifest_of(const Config& config, const std::vector<Target>& targets) {
  const FactorStore store(store_folder(config));
  FactorStore::Manifest manifest;
  if (!store.load_manifest(&manifest))
    throw user_error("there is no '", store.folder(), "/store.json' that says what the model was; ",
                     "run svfleet decompose");
  for (const Target& target : targets)
    if (!manifest.tensor_hashes.contains(target.name))
      throw disk_error("'", store.folder(), "/store.json' does not say what tensor '", target.name,
                       "' was; run svfleet decompose");
  return manifest;
}

// Whether a run of these very folders has begun: what is wrong with them then is damage.
bool rests_on_these(const Config& config) {
  try {
    const auto run = load_newest_checkpoint(config.run_dir).state;
    const auto of_run = run ? config_of(*run) : std::nullopt;
    return of_run && resolved_path(of_run->model.path) == resolved_path(config.model.path) &&
           resolved_path(store_folder(*of_run)) == resolved_path(store_folder(config));
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Truth open_truth(const Config& config) {
  try {
    Truth truth;
    truth.targets =
        targets_of(config, read_architecture(config.model.path, config.model.max_length));
    truth.manifest = manifest_of(config, truth.targets);
    if (!Core::is_decomposed(core_of(config).kind)) truth.targets.clear();  // no factors are read
    SafetensorsFolder(config.model.path);                                   // can it be opened?
    return truth;
  } catch (const Error& error) {
    if (error.code() == kExitUser && rests_on_these(config)) throw disk_error(error.what());
    throw;
  }
}

}  // namespace svfleet
