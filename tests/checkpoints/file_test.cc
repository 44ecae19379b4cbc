#include "checkpoints/file.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <thread>

#include "checkpoints/process.h"
#include "tests/checkpoints/crash_disk.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

TEST(File, WriteReadListRemove) {
  const Scratch scratch;
  const std::string bytes("a\0b\n", 4);
  write_file_atomic(scratch / "x", "old");
  write_file_atomic(scratch / "x", bytes);
  EXPECT_EQ(read_file(scratch / "x"), bytes);
  write_file_atomic(scratch / "empty", "");
  EXPECT_EQ(read_file(scratch / "empty"), "");
  EXPECT_THAT(list_folder(scratch.path()), ElementsAre("empty", "x"));
  EXPECT_TRUE(list_folder(scratch / "missing").empty());
  EXPECT_TRUE(file_exists(scratch / "x"));
  remove_file(scratch / "x");
  remove_file(scratch / "x");
  EXPECT_FALSE(file_exists(scratch / "x"));
  EXPECT_FALSE(file_exists(scratch / "empty/below"));
  make_folder(scratch / "a/b/c");
  make_folder(scratch / "a/b/c");
  make_folder(scratch / "a/b/d/");
  EXPECT_THAT(list_folder(scratch / "a/b"), ElementsAre("c", "d"));
  EXPECT_GT(free_bytes(scratch.path()), 0u);
}

TEST(File, ErrorsNameTheFileAndTheCure) {
  const Scratch scratch;
  expect_error(kExitUser, {scratch / "no", "no such file"}, [&] { read_file(scratch / "no"); });
  expect_error(kExitUser, {"folder"}, [&] { read_file(scratch.path()); });
  expect_error(kExitUser, {scratch / "no/x", "does not exist"},
               [&] { write_file_atomic(scratch / "no/x", "a"); });
  write_file_atomic(scratch / "f", "a");
  expect_error(kExitUser, {"a file has that name"}, [&] { make_folder(scratch / "f"); });
  expect_error(kExitUser, {"a file has that name"}, [&] { make_folder(scratch / "f/g"); });
  expect_error(kExitUser, {"not a folder"}, [&] { list_folder(scratch / "f"); });
  if (geteuid() != 0) {
    chmod(scratch.path().c_str(), 0555);
    expect_error(kExitUser, {"Permission denied", "writable"},
                 [&] { write_file_atomic(scratch / "x", "a"); });
    chmod(scratch.path().c_str(), 0755);
  }
}

// The error of `call` at its first system call but for those that are let through.
Error error_of(CrashDisk& disk, int failure, int let_through, const std::function<void()>& call) {
  disk.failure = failure;
  disk.fail_at = disk.calls + 1 + let_through;
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error";
  return Error(kExitInternal, "");
}

TEST(File, BelowAFolderOfTheRunTheDiskOfThisNodeIsToBlame) {
  const Scratch scratch;
  make_folder(scratch / "run");
  CrashDisk disk(scratch.path());
  const auto write = [&] { write_file_atomic(scratch / "run/x", "a"); };
  for (const int failure : {EROFS, EACCES, EPERM, ENOENT, ENOTDIR}) {
    const Error before = error_of(disk, failure, 0, write);
    EXPECT_EQ(before.code(), kExitUser) << before.what();
    const WriteGuard guard(scratch / "run", [] {});
    const Error after = error_of(disk, failure, 0, write);
    EXPECT_EQ(after.code(), kExitDisk) << after.what();
    EXPECT_TRUE(after.of_node());
    EXPECT_THAT(after.what(), testing::HasSubstr("on host " + host_name()));
    const Error line = error_of(disk, failure, 0, [&] { append_line(scratch / "run/log", "a"); });
    EXPECT_EQ(line.code(), kExitDisk) << line.what();
    const Error elsewhere =  // the control: not the run's
        error_of(disk, failure, 0, [&] { write_file_atomic(scratch / "other", "a"); });
    EXPECT_EQ(elsewhere.code(), kExitUser);
  }
  const WriteGuard guard(scratch / "run", [] {});
  EXPECT_TRUE(error_of(disk, EIO, 1, write).of_node());
  const Error full = error_of(disk, ENOSPC, 1, write);  // for all nodes alike
  EXPECT_EQ(full.code(), kExitDisk);
  EXPECT_FALSE(full.of_node());
}

TEST(File, AFolderThatIsOutOfSightIsNotMadeAnew) {
  const Scratch scratch;
  const std::string run = scratch / "disk/run";
  const WriteGuard guard(run, [] { throw Error(kExitDisk, "out of sight"); });
  expect_error(kExitDisk, {"out of sight"}, [&] { make_folder(run + "/chunks"); });
  EXPECT_FALSE(file_exists(scratch / "disk"));
}

TEST(File, RelativePaths) {
  const Scratch scratch;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch.path());
  make_folder("here/there");
  write_file_atomic("x", "1");
  write_file_atomic("here/there/y", "2");
  EXPECT_EQ(read_file("x") + read_file("here/there/y"), "12");
  std::filesystem::current_path(before);
}

TEST(File, ShortWritesAndInterruptsAreTakenUp) {
  const Scratch scratch;
  CrashDisk disk(scratch.path());
  disk.largest_write = 3;
  disk.failure = EINTR;
  disk.fail_at = 2;
  write_file_atomic(scratch / "x", "0123456789");
  EXPECT_EQ(read_file(scratch / "x"), "0123456789");
  disk.fail_at = disk.calls + 1;
  EXPECT_EQ(read_file(scratch / "x"), "0123456789");
  disk.failure = EIO;
  disk.fail_at = disk.calls + 1;
  expect_error(kExitDisk, {scratch / "x", "Input/output error"}, [&] { read_file(scratch / "x"); });
}

TEST(File, ManyThreadsWriteOneFile) {
  const Scratch scratch;
  const std::string a(50'000, 'a'), b(50'000, 'b');
  std::vector<std::thread> threads;
  for (const std::string* text : {&a, &b, &a, &b})
    threads.emplace_back([&, text] {
      for (int i = 0; i < 20; ++i) write_file_atomic(scratch / "x", *text);
    });
  for (std::thread& thread : threads) thread.join();
  const std::string end = read_file(scratch / "x");
  EXPECT_TRUE(end == a || end == b);
  EXPECT_THAT(list_folder(scratch.path()), ElementsAre("x"));
}

TEST(File, NewFileIsMadeOnce) {
  const Scratch scratch;
  bool existed = true;
  write_new_file(scratch / "x", "first", &existed);
  EXPECT_FALSE(existed);
  write_new_file(scratch / "x", "second", &existed);
  EXPECT_TRUE(existed);
  EXPECT_EQ(read_file(scratch / "x"), "first");
  EXPECT_TRUE(rename_file(scratch / "x", scratch / "y"));
  EXPECT_FALSE(rename_file(scratch / "x", scratch / "y"));
}

// What looks torn may be what another process is writing: nothing is cut.
TEST(File, AppendEndsATornLine) {
  const Scratch scratch;
  const std::string log = scratch / "log.jsonl";
  append_line(log, "one");
  append_line(log, "two");
  EXPECT_EQ(read_file(log), "one\ntwo\n");
  const std::string torn = "{\"torn\": " + std::string(10'000, 'x');
  std::ofstream(log, std::ios::app) << torn;
  append_line(log, "three");
  append_line(log, "four");
  EXPECT_EQ(read_file(log), "one\ntwo\n" + torn + "\nthree\nfour\n");
  write_file_atomic(log, "only a torn line");
  append_line(log, "first");
  EXPECT_EQ(read_file(log), "only a torn line\nfirst\n");
}

// Another process may have appended behind the half of a line.
TEST(File, AppendOnAFullDiskCutsNothing) {
  const Scratch scratch;
  const std::string log = scratch / "log.jsonl";
  CrashDisk disk(scratch.path());
  append_line(log, "one");
  disk.largest_write = 4;
  disk.failure = ENOSPC;
  disk.fail_at = disk.calls + 2;  // open, write of 4 bytes, write
  expect_error(kExitDisk, {log, "disk full"}, [&] { append_line(log, "a long line"); });
  EXPECT_EQ(read_file(log), "one\na lo");
  append_line(log, "two");
  EXPECT_EQ(read_file(log), "one\na lo\ntwo\n");
}

TEST(File, StaleTemporariesGo) {
  const Scratch scratch;
  const pid_t child = fork();
  if (child == 0) _exit(0);
  int status;
  waitpid(child, &status, 0);
  const std::string host = host_name().substr(0, 64);
  const std::string alive = std::to_string(getpid()), dead = std::to_string(child);
  const std::string start = std::to_string(process_start(getpid()));
  const std::string other = std::to_string(process_start(getpid()) + 1);
  const std::vector<std::string> names = {"a.tmp-" + host + "-" + dead + "-5-0",
                                          "b.tmp-" + host + "-" + alive + "-" + start + "-0",
                                          "c.tmp-" + host + "-" + alive + "-" + other + "-0",
                                          "d.tmp-elsewhere-1-1-0",
                                          "e.tmp-elsewhere-1-1-1",
                                          "f.tmp-odd",
                                          "g.h5"};
  for (const std::string& name : names) write_file_atomic(scratch / name, "x");
  std::filesystem::last_write_time(
      scratch / "e.tmp-elsewhere-1-1-1",
      std::filesystem::file_time_type::clock::now() - std::chrono::hours(30));
  remove_stale_temporaries(scratch.path());
  EXPECT_THAT(list_folder(scratch.path()),
              ElementsAre("b.tmp-" + host + "-" + alive + "-" + start + "-0",
                          "d.tmp-elsewhere-1-1-0", "f.tmp-odd", "g.h5"));
}

}  // namespace
}  // namespace svfleet
