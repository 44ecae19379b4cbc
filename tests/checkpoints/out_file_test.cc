// What a user names for results is whole, before and after, and what is no file stays what it is.
#include "checkpoints/out_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <thread>

#include "checkpoints/file.h"
#include "comm/error.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void refused(ExitCode code, const std::string& path, const std::string& says) {
  try {
    OutFile(path).write("new");
    FAIL() << path;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(says));
  }
}

mode_t mode_of(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 ? info.st_mode : 0;
}

TEST(OutFile, LeavesWhatWasThereUntilItIsComplete) {
  const Scratch scratch;
  const std::string path = scratch / "out.jsonl";
  write_file_atomic(path, "old");
  chmod(path.c_str(), 0640);
  {
    OutFile out(path);
    EXPECT_EQ(read_file(path), "old");
    EXPECT_THAT(list_folder(scratch.path()), ElementsAre("out.jsonl"));
  }
  EXPECT_EQ(read_file(path), "old");  // stopped before it was complete
  OutFile(path).write("new");
  EXPECT_EQ(read_file(path), "new");
  EXPECT_EQ(mode_of(path), mode_t(S_IFREG | 0640));
  {
    OutFile out(scratch / "fresh");
    EXPECT_FALSE(file_exists(scratch / "fresh"));
    out.write("new");
  }
  EXPECT_EQ(read_file(scratch / "fresh"), "new");
  EXPECT_THAT(list_folder(scratch.path()), ElementsAre("fresh", "out.jsonl"));
}

TEST(OutFile, WritesThroughLinks) {
  const Scratch scratch;
  make_folder(scratch / "far");
  write_file_atomic(scratch / "far/file", "old");
  ASSERT_EQ(symlink("far/file", (scratch / "link").c_str()), 0);
  ASSERT_EQ(symlink("link", (scratch / "link of a link").c_str()), 0);
  ASSERT_EQ(symlink("far/not yet", (scratch / "dangling").c_str()), 0);
  ASSERT_EQ(symlink("loop", (scratch / "loop").c_str()), 0);
  OutFile(scratch / "link of a link").write("new");
  OutFile(scratch / "dangling").write("made");
  EXPECT_EQ(read_file(scratch / "far/file"), "new");
  EXPECT_EQ(read_file(scratch / "far/not yet"), "made");
  for (const char* name : {"link", "link of a link", "dangling"})
    EXPECT_TRUE(S_ISLNK(mode_of(scratch / name))) << name;
  refused(kExitUser, scratch / "loop", "too many links");
}

// /dev/stdout leads to a file that this process and others have open: it is no other one
// afterwards.
TEST(OutFile, WritesToAnOpenFile) {
  const Scratch scratch;
  const int fd = open((scratch / "opened").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(write(fd, "before ", 7), 7);
  OutFile("/proc/self/fd/" + std::to_string(fd)).write("new ");
  ASSERT_EQ(write(fd, "after", 5), 5);
  close(fd);
  EXPECT_EQ(read_file(scratch / "opened"), "before new after");
}

TEST(OutFile, WritesToPipes) {
  const Scratch scratch;
  const std::string path = scratch / "pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] { read = read_file(path); });  // may come a little later
  OutFile(path).write(std::string(200'000, 'x'));
  reader.join();
  EXPECT_EQ(read.size(), 200'000u);
  EXPECT_TRUE(S_ISFIFO(mode_of(path)));
}

// Of our own making: a mistake here would take the system's.
TEST(OutFile, WritesToDevices) {
  const Scratch scratch;
  const std::string null = scratch / "null", full = scratch / "full";
  if (mknod(null.c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0 ||
      mknod(full.c_str(), S_IFCHR | 0666, makedev(1, 7)) != 0 || access(null.c_str(), W_OK) != 0)
    GTEST_SKIP() << "devices can be made by root only";
  const int fd = open(null.c_str(), O_WRONLY);
  if (fd < 0) GTEST_SKIP() << "devices are of no use on this disk";
  close(fd);
  OutFile(null).write("new");
  EXPECT_TRUE(S_ISCHR(mode_of(null)));
  refused(kExitDisk, full, "disk full writing");
  EXPECT_TRUE(S_ISCHR(mode_of(full)));
  EXPECT_THAT(list_folder(scratch.path()), ElementsAre("full", "null"));
}

TEST(OutFile, RefusesAtOnceWhatCannotBeWritten) {
  const Scratch scratch;
  refused(kExitUser, scratch.path(), "is a folder");
  refused(kExitUser, scratch / "none/out", "its folder does not exist");
  if (geteuid() == 0) return;
  write_file_atomic(scratch / "closed", "old");
  chmod((scratch / "closed").c_str(), 0400);
  refused(kExitUser, scratch / "closed", "Permission denied");
  EXPECT_EQ(read_file(scratch / "closed"), "old");
}

}  // namespace
}  // namespace svfleet
