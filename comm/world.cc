// What the launcher says, and which kind of group follows from it.
#include <cstdlib>
#include <optional>

#include "comm/error.h"
#include "comm/group.h"
#ifdef SVFLEET_HAVE_MPI
#include "comm/mpi_group.h"
#endif

namespace svfleet {
namespace {

std::optional<int> number_from(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  const long value = std::strtol(text, &end, 10);
  if (*end != '\0' || value < 0 || value > (1 << 30))
    throw user_error(
        "environment variable ", variable, "='", text,
        "' is not a rank or a number of ranks; unset it or start through mpirun or srun");
  return static_cast<int>(value);
}

bool set(const char* variable) {
  return std::getenv(variable) != nullptr;
}

// SLURM_PROCID is also set in a batch script, where it means nothing; only a step has ranks.
bool in_slurm_step() {
  return set("SLURM_STEP_ID");
}

std::optional<int> known_size() {
  if (auto size = number_from("OMPI_COMM_WORLD_SIZE")) return size;
  if (!in_slurm_step()) return std::nullopt;
  // SLURM_NTASKS can be the whole job's; the step's own number wins.
  if (auto size = number_from("SLURM_STEP_NUM_TASKS")) return size;
  return number_from("SLURM_NTASKS");
}

#ifdef SVFLEET_HAVE_MPI
constexpr char kLauncher[] =
    "srun with the --mpi of your MPI ('--mpi=pmix' for Debian's; 'srun --mpi=list' shows them)";

bool forced() {
  const char* text = std::getenv("SVFLEET_MPI");
  return text != nullptr && std::string_view(text) == "1";
}
#endif

}  // namespace

int launch_rank() {
  if (auto rank = number_from("OMPI_COMM_WORLD_RANK")) return *rank;
  if (auto rank = number_from("PMIX_RANK")) return *rank;
  if (in_slurm_step()) return number_from("SLURM_PROCID").value_or(0);
  return 0;
}

int launch_size() {
  return known_size().value_or(1);
}

int launch_local_rank() {
  if (auto rank = number_from("OMPI_COMM_WORLD_LOCAL_RANK")) return *rank;
  if (in_slurm_step()) return number_from("SLURM_LOCALID").value_or(0);
  return 0;
}

std::unique_ptr<Group> make_world(const GroupOptions& options) {
  SVFLEET_CHECK(options.timeout_s > 0, "timeout of ", options.timeout_s, " s");
#ifdef SVFLEET_HAVE_MPI
  // A PMIx launcher that does not tell the size: only MPI knows it.
  const bool unknown_size = !known_size() && set("PMIX_RANK");
  if (launch_size() > 1 || unknown_size || forced()) {
    if (in_slurm_step() && !set("OMPI_COMM_WORLD_RANK") && !set("PMIX_RANK") && !set("PMI_RANK"))
      throw user_error("srun started ", launch_size(), " ranks that cannot find each other; use ",
                       kLauncher);
    auto world = make_mpi_group(options);
    if (known_size() && world->size() != launch_size())
      throw user_error("the launcher started ", launch_size(), " ranks but MPI sees ",
                       world->size(), "; use ", kLauncher, ", or mpirun of the same MPI");
    return world;
  }
#else
  if (launch_size() > 1)
    throw user_error("started as one of ", launch_size(),
                     " ranks, but this program was built without MPI; build with -DSVFLEET_MPI=ON");
#endif
  return make_single(options);
}

}  // namespace svfleet
