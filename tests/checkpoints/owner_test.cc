#include "checkpoints/owner.h"

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "checkpoints/file.h"
#include "checkpoints/process.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

OwnerIdentity me(const std::string& job = "", int64_t restarts = 0) {
  return {host_name(), getpid(), job, restarts, ""};
}
OwnerIdentity elsewhere(const std::string& job = "", int64_t restarts = 0) {
  return {"node7", 4711, job, restarts, ""};
}

// Leaves the file of an owner that is no longer there to release it.
void abandon(const std::string& run, const OwnerIdentity& who) {
  std::string text;
  {
    const Owner owner = Owner::take(run, who);
    text = read_file(run + "/owner.json");
  }
  write_file_atomic(run + "/owner.json", text);
}

pid_t dead_process() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status;
  waitpid(child, &status, 0);
  return child;
}

TEST(Owner, FileSaysWhoAndIsReleased) {
  const Scratch scratch;
  {
    const Owner owner = Owner::take(scratch / "run", me("17", 2));
    const auto file = nlohmann::json::parse(read_file(scratch / "run/owner.json"));
    EXPECT_EQ(file["format"], "svfleet-owner");
    EXPECT_EQ(file["version"], 1);
    EXPECT_EQ(file["host"], host_name());
    EXPECT_EQ(file["pid"], getpid());
    EXPECT_EQ(file["job"], "17");
    EXPECT_EQ(file["restarts"], 2);
    EXPECT_EQ(file["token"], owner.identity().token);
    EXPECT_EQ(file["token"].get<std::string>().size(), 32u);
    EXPECT_EQ(file["process_start"], process_start(getpid()));
    owner.verify();
  }
  EXPECT_TRUE(list_folder(scratch / "run").empty());
}

// Written by hand after docs/formats.md; every later version must read it.
TEST(Owner, ReadsVersion1) {
  const Scratch scratch;
  write_file_atomic(scratch / "owner.json", read_file(fixture("owner_v1.json")));
  expect_error(kExitUser, {"process 4711", "host node7", "job 17", "2026-01-02T03:04:05Z"},
               [&] { Owner::take(scratch.path(), me("17", 3)); });
  Owner::take(scratch.path(), me("17", 4)).verify();
}

TEST(Owner, NewerVersionIsRefused) {
  const Scratch scratch;
  auto file = nlohmann::json::parse(read_file(fixture("owner_v1.json")));
  file["version"] = 2;
  write_file_atomic(scratch / "owner.json", file.dump());
  expect_error(kExitUser, {"another version"}, [&] { Owner::take(scratch.path(), me("17", 4)); });
}

TEST(Owner, MovedOwnerReleasesOnce) {
  const Scratch scratch;
  std::unique_ptr<Owner> kept;
  {
    Owner owner = Owner::take(scratch.path(), me());
    kept = std::make_unique<Owner>(std::move(owner));
  }
  kept->verify();
  kept.reset();
  EXPECT_FALSE(file_exists(scratch / "owner.json"));
}

TEST(Owner, LiveOwnerIsNamed) {
  const Scratch scratch;
  const Owner owner = Owner::take(scratch.path(), me("17"));
  expect_error(kExitUser,
               {scratch.path(), host_name(), std::to_string(getpid()), "job 17", "owner.json"},
               [&] { Owner::take(scratch.path(), me()); });
  expect_error(kExitUser, {host_name()}, [&] { Owner::take(scratch.path(), me("17")); });
  expect_error(kExitUser, {host_name()}, [&] { Owner::take(scratch.path(), me("18", 5)); });
  owner.verify();
}

TEST(Owner, ProcessOfAnotherHostCountsAsAlive) {
  const Scratch scratch;
  abandon(scratch.path(), elsewhere());
  expect_error(kExitUser, {"node7", "4711"}, [&] { Owner::take(scratch.path(), me()); });
}

TEST(Owner, DeadProcessIsTakenOver) {
  const Scratch scratch;
  OwnerIdentity dead = me();
  dead.pid = dead_process();
  abandon(scratch.path(), dead);
  Owner::take(scratch.path(), me()).verify();
}

TEST(Owner, RecycledPidDoesNotCountAsAlive) {
  const Scratch scratch;
  abandon(scratch.path(), me());
  auto file = nlohmann::json::parse(read_file(scratch / "owner.json"));
  expect_error(kExitUser, {host_name()}, [&] { Owner::take(scratch.path(), me()); });  // control
  file["process_start"] = file["process_start"].get<int64_t>() - 1;
  write_file_atomic(scratch / "owner.json", file.dump());
  Owner::take(scratch.path(), me()).verify();
}

TEST(Owner, ZombieIsGone) {
  const Scratch scratch;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  siginfo_t info;
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_EQ(process_start(child), 0);
  int status;
  waitpid(child, &status, 0);
}

TEST(Owner, EarlierRestartOfTheSameJobIsTakenOver) {
  const Scratch scratch;
  abandon(scratch.path(), elsewhere("17", 1));
  expect_error(kExitUser, {"job 17"}, [&] { Owner::take(scratch.path(), me("17", 1)); });
  expect_error(kExitUser, {"job 17"}, [&] { Owner::take(scratch.path(), me("17", 0)); });
  Owner::take(scratch.path(), me("17", 2)).verify();
}

TEST(Owner, EarlierStartWithinARestartIsTakenOver) {
  const Scratch scratch;
  const auto start = [](OwnerIdentity who, int64_t number) {
    who.start = number;
    return who;
  };
  abandon(scratch.path(), start(elsewhere("17", 1), 2));
  for (const auto& [restart, number] : {std::pair{1, 2}, {1, 1}, {0, 3}})
    expect_error(kExitUser, {"job 17"},
                 [&] { Owner::take(scratch.path(), start(me("17", restart), number)); });
  Owner::take(scratch.path(), start(me("17", 1), 3)).verify();
  abandon(scratch.path(), start(elsewhere("17", 1), 2));
  Owner::take(scratch.path(), start(me("17", 2), 0)).verify();
}

TEST(Owner, EndedJobIsTakenOver) {
  const Scratch scratch;
  abandon(scratch.path(), elsewhere("17"));
  expect_error(kExitUser, {"job 17"}, [&] {
    Owner::take(scratch.path(), me("18"),
                [](const std::string&, const std::string&, bool) { return false; });
  });
  Owner::take(scratch.path(), me("18"), [](const std::string& job, const std::string&, bool) {
    return job == "17";
  }).verify();
}

// Of which Slurm may say the same while it lives as when it is over.
TEST(Owner, AJobOfAnotherUserIsAskedAboutAsSuch) {
  const Scratch scratch;
  const auto hidden = [](const std::string&, const std::string&, bool ours) { return ours; };
  abandon(scratch.path(), elsewhere("17"));
  auto file = nlohmann::json::parse(read_file(scratch / "owner.json"));
  EXPECT_EQ(file["uid"], geteuid());
  file["uid"] = geteuid() + 1;
  write_file_atomic(scratch / "owner.json", file.dump());
  EXPECT_FALSE(of_this_user(look_at_owner(scratch.path())->who));
  expect_error(kExitUser, {"job 17"}, [&] { Owner::take(scratch.path(), me("18"), hidden); });
  file.erase("uid");  // by a version that did not note it
  write_file_atomic(scratch / "owner.json", file.dump());
  Owner::take(scratch.path(), me("18"), hidden).verify();
}

TEST(Owner, JobsOfAnotherClusterAreNotAskedAbout) {
  const Scratch scratch;
  const auto of = [](OwnerIdentity who, const char* cluster) {
    who.cluster = cluster;
    return who;
  };
  // As for a number that it does not know.
  const auto over = [](const std::string&, const std::string&, bool) { return true; };
  abandon(scratch.path(), of(elsewhere("17", 0), "alps"));
  for (const char* job : {"17", "18"})
    expect_error(kExitUser, {"job 17 on cluster alps"},
                 [&] { Owner::take(scratch.path(), of(me(job, 1), "jura"), over); });
  Owner::take(scratch.path(), of(me("18"), "alps"), over).verify();  // control
  abandon(scratch.path(), elsewhere("17", 0));  // by a version that did not note it
  Owner::take(scratch.path(), of(me("18"), "jura"), over).verify();
}

TEST(Owner, OldWriterFindsOutAndTouchesNothing) {
  const Scratch scratch;
  auto old = std::make_unique<Owner>(Owner::take(scratch.path(), elsewhere("17", 0)));
  old->verify();
  const Owner next = Owner::take(scratch.path(), me("17", 1));
  expect_error(kExitRequeue, {scratch.path(), std::to_string(getpid()), host_name()},
               [&] { old->verify(); });
  old.reset();  // must not release what is no longer its own
  next.verify();
  write_file_atomic(scratch / "run.json", "{}");
  remove_file(scratch / "owner.json");
  expect_error(kExitRequeue, {"nobody"}, [&] { next.verify(); });
  remove_file(scratch / "run.json");  // as where the disk is no longer mounted
  expect_error(kExitDisk, {"gone from host " + host_name()}, [&] { next.verify(); });
}

TEST(Owner, TornFileIsTakenOver) {
  const Scratch scratch;
  for (const char* torn : {"", "{\"format\": \"svfleet-owner\", \"ver", "[]"}) {
    write_file_atomic(scratch / "owner.json", torn);
    Owner::take(scratch.path(), me()).verify();
  }
}

TEST(Owner, ClaimOfADeadTakerDoesNotBlock) {
  const Scratch scratch;
  OwnerIdentity dead = me();
  dead.pid = dead_process();
  abandon(scratch.path(), dead);
  const std::string text = read_file(scratch / "owner.json");
  const std::string token = nlohmann::json::parse(text)["token"];
  write_file_atomic(scratch / ("owner.json.after-" + token), text);
  Owner::take(scratch.path(), me()).verify();
  EXPECT_TRUE(list_folder(scratch.path()).empty());
}

// Many processes want the folder of a dead owner at the same moment: one gets it.
TEST(Owner, OneOfManyTakersWins) {
  constexpr int kTakers = 8;
  for (int round = 0; round < 15; ++round) {
    const Scratch scratch;
    OwnerIdentity dead = me();
    dead.pid = dead_process();
    if (round % 3 != 0) abandon(scratch.path(), dead);  // every third round: nobody yet
    int start[2], end[2];
    ASSERT_EQ(pipe(start), 0);
    ASSERT_EQ(pipe(end), 0);
    for (int i = 0; i < kTakers; ++i) {
      if (fork() != 0) continue;
      close(start[1]);
      close(end[1]);
      char byte;
      if (read(start[0], &byte, 1) != 0) _exit(9);  // ends when the parent closes it
      int code = 9;
      try {
        const Owner owner = Owner::take(scratch.path(), me());
        if (read(end[0], &byte, 1) != 0) _exit(9);  // holds it until all others have been refused
        owner.verify();
        code = 0;
      } catch (const Error& error) {
        code = error.code() == kExitUser ? 3 : 8;
      }
      _exit(code);
    }
    close(start[0]);
    close(end[0]);
    close(start[1]);
    int wins = 0, refused = 0, others = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (wins + refused + others < kTakers) {
      int status;
      if (waitpid(-1, &status, WNOHANG) > 0) {
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        ++(code == 0 ? wins : code == 3 ? refused : others);
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      const bool late = std::chrono::steady_clock::now() > deadline;
      if ((refused == kTakers - 1 || late) && end[1] >= 0) {
        close(end[1]);
        end[1] = -1;
      }
    }
    EXPECT_EQ(wins, 1);
    EXPECT_EQ(refused, kTakers - 1);
  }
}

}  // namespace
}  // namespace svfleet
