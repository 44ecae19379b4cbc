// What a start that fails leaves in RUN/exit.json beside what another rank has said. Of its own:
// what is told of an error ends the process within half a minute.
#include "coordinator/crew/ending.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <cstdlib>

#include "checkpoints/file_system.h"
#include "checkpoints/run_checkpoint.h"
#include "cluster/exit_report.h"
#include "tests/checkpoints/example_state.h"
#include "tests/checkpoints/scratch.h"
#include "tests/worker/model/fixtures.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

struct StartedRun {
  StartedRun() {
    config.model.path = tiny_folder("tiny_llama_plain");
    config.run_dir = scratch / "run";
    config.workers = 1;
    crew.emplace(config);
    folder = std::make_unique<RunFolder>(config, crew->group());
    ledger = std::make_unique<Ledger>(folder->path(), Attempt{"", 0, 1, 1, crew->hosts(), 0}, 0, 0,
                                      false);
  }
  // What is left by an error of rank 0; by itself one that no machine is to blame for.
  ExitReport after_error(const Error& error = Error(kExitRequeue, "rank 1 did not come")) {
    report_failure(std::make_exception_ptr(error), *folder, *crew, ledger.get());
    return read_exit_report(folder->path()).value_or(ExitReport{});
  }

  Scratch scratch;
  Config config;
  std::optional<Crew> crew;
  std::unique_ptr<RunFolder> folder;
  std::unique_ptr<Ledger> ledger;
};

TEST(Ending, RankZeroKeepsTheHostsThatAnotherRankHasNamed) {
  setenv("SLURM_JOB_ID", "42", 1);
  setenv("SVFLEET_START", "1", 1);
  StartedRun run;
  write_exit_report(run.folder->path(),
                    {"rank 1: no thread", kExitRequeue, "42", 0, -1, 1, {"n7"}});
  const ExitReport report = run.after_error();
  EXPECT_EQ(report.reason, "rank 1 did not come");
  EXPECT_THAT(report.hosts, ElementsAre("n7"));
  // Of another start it says nothing.
  write_exit_report(run.folder->path(),
                    {"rank 1: no thread", kExitRequeue, "42", 0, -1, 0, {"n8"}});
  EXPECT_THAT(run.after_error().hosts, testing::IsEmpty());
}

// Nobody has to restore a checkpoint that may be whole.
TEST(Ending, ACheckpointThatCannotBeReadIsTheFaultOfThisMachine) {
  class Unreadable : public FileSystem {
   public:
    Unreadable() { replace_file_system(this); }
    ~Unreadable() override { replace_file_system(nullptr); }
    int open(const std::string& path, int flags, int mode) override {
      if (path.ends_with("step-000012.h5")) return errno = EIO, -1;
      return FileSystem::open(path, flags, mode);
    }
  };
  StartedRun run;
  save_checkpoint(run.folder->path(), example_state());
  EXPECT_EQ(run.folder->newest(run.crew->group())->step, 12);  // control
  const Unreadable disk;
  try {
    run.folder->newest(run.crew->group());
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    const ExitReport report = run.after_error(error);
    EXPECT_EQ(report.code, kExitDisk);
    EXPECT_THAT(report.reason, testing::HasSubstr("step-000012.h5': Input/output error"));
    EXPECT_THAT(report.hosts, ElementsAre(run.crew->group().host()));
  }
}

}  // namespace
}  // namespace svfleet
