// A folder of results is there as a whole or not at all; a large safetensors file is what was
// asked.
#include "checkpoints/out_folder.h"

#include <gmock/gmock.h>

#include "checkpoints/content_hash.h"
#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/safetensors.h"
#include "checkpoints/safetensors_writer.h"
#include "comm/error.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

void refused(const std::string& path, const std::string& says) {
  try {
    OutFolder folder(path);
    FAIL() << path;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitUser);
    EXPECT_THAT(error.what(), HasSubstr(says));
  }
}

TEST(OutFolder, IsThereAsAWholeOrNotAtAll) {
  const Scratch scratch;
  {
    OutFolder folder(scratch / "out");
    folder.write("a", "1");
    EXPECT_FALSE(file_exists(scratch / "out"));
  }
  EXPECT_THAT(list_folder(scratch.path()), IsEmpty());  // given up
  OutFolder folder(scratch / "out/");
  folder.write("a", "1");
  folder.write("b", "2");
  folder.publish();
  EXPECT_THAT(list_folder(scratch / "out"), ElementsAre("a", "b"));
  EXPECT_THAT(list_folder(scratch.path()), ElementsAre("out"));
}

TEST(OutFolder, TakesNothingAway) {
  const Scratch scratch;
  make_folder(scratch / "full");
  write_file_atomic(scratch / "full/mine", "mine");
  write_file_atomic(scratch / "file", "mine");
  refused(scratch / "full", "not empty");
  refused(scratch / "file", "is a file");
  EXPECT_EQ(list_folder(scratch.path()).size(), 2u);
  make_folder(scratch / "empty");
  OutFolder late(scratch / "empty");
  write_file_atomic(scratch / "empty/theirs", "theirs");
  EXPECT_THROW(late.publish(), Error);  // somebody was quicker
  EXPECT_THAT(list_folder(scratch / "empty"), ElementsAre("theirs"));
}

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  const Scratch scratch;
  const std::string bf16("\x80\x3f\x00\x40\x40\x40", 6), f32("\0\0\x80\x3f", 4);
  SafetensorsWriter out(scratch / "model.safetensors", {{"format", "pt"}},
                        {{"w", "BF16", {1, 3}, 6}, {"a", "F32", {1}, 4}});
  out.add(bf16.substr(0, 1));
  out.add(bf16.substr(1));
  out.add(f32);
  out.finish();
  const SafetensorsFolder back(scratch.path());
  ASSERT_EQ(back.files().size(), 1u);
  const auto file = back.files()[0];
  EXPECT_EQ(file.name, "model.safetensors");
  EXPECT_EQ(file.metadata.at("format"), "pt");
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "w");  // in the order given
  EXPECT_THAT(back.at("w").shape, ElementsAre(1, 3));
  EXPECT_EQ(back.at("w").dtype, "BF16");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(back.at("w").data), 6), bf16);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(back.at("a").data), 4), f32);
}

TEST(SafetensorsWriter, MissesWhatIsMissing) {
  const Scratch scratch;
  SafetensorsWriter out(scratch / "a", {}, {{"w", "F32", {2}, 8}});
  out.add("1234");
  EXPECT_THROW(out.finish(), Error);
}

TEST(Expert, IsReadFromAFolderOfItsOwn) {
  const Scratch scratch;
  const Expert expert{{{"a.weight", {1.f, 0.5f}}}, {}};
  save_expert(scratch / kExpertInFolder, expert);
  EXPECT_EQ(z_hash(load_expert(scratch.path())), z_hash(expert));
  EXPECT_EQ(hash_path(scratch.path()), z_hash(expert));
}

}  // namespace
}  // namespace svfleet
