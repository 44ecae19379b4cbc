#include "checkpoints/journal.h"

#include <gmock/gmock.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "checkpoints/file_system.h"
#include "checkpoints/journal_files.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr char kFile[] = "chunks/step-000003-rank-0000-a.journal";

// One frame, for a test to put it where it does not belong.
std::string frame_of(const FinishedChunk& chunk, const std::string& token,
                     const std::string& run_id = "run", FrameKind kind = FrameKind::kChunk) {
  Frame frame;
  frame.kind = kind;
  frame.step = chunk.step;
  frame.chunk = chunk.chunk;
  frame.run_id = run_id;
  frame.z_hash = chunk.z_hash;
  frame.token = token;
  return encode_frame(frame, chunk);
}

TEST(Journal, ChunksComeBackByNumber) {
  const Scratch scratch;
  std::vector<std::string> ignored;
  EXPECT_THAT(read_journal(scratch.path(), 3, &ignored), IsEmpty());
  write_journal(scratch.path(), "a", {example_chunk(3, 10000), example_chunk(3, 0)});
  write_journal(scratch.path(), "a", {example_chunk(3, 9999), example_chunk(4, 1)}, /*rank=*/12);
  write_journal(scratch.path(), "b", {example_chunk(3, 12)});
  EXPECT_THAT(list_folder(scratch / "chunks"),
              ElementsAre("step-000003-rank-0000-a.journal", "step-000003-rank-0000-b.journal",
                          "step-000003-rank-0012-a.journal"));
  const auto chunks = read_journal(scratch.path(), 3, &ignored);
  EXPECT_THAT(numbers(chunks), ElementsAre(0, 12, 9999, 10000));
  EXPECT_THAT(chunks[1].gradient, ElementsAre(12.f, 0.5f));
  EXPECT_THAT(chunks[1].counts, ElementsAre(1, 12));
  EXPECT_THAT(chunks[1].sums, ElementsAre(0.25, testing::IsNan()));
  EXPECT_EQ(chunks[1].texts, R"([{"reply":"ab"}])");
  EXPECT_EQ(chunks[1].run_id, "run");
  EXPECT_EQ(chunks[1].step, 3);
  EXPECT_EQ(chunks[1].z_hash, "z");
  EXPECT_THAT(ignored, IsEmpty());
}

TEST(Journal, WhatOneHasWrittenOneselfIsNotReadAgain) {
  const Scratch scratch;
  write_journal(scratch.path(), "a", {example_chunk(3, 0)});
  Journal journal(scratch.path(), "run", "b", 0);
  std::vector<std::string> ignored;
  journal.add(example_chunk(3, 1));
  journal.flush();
  EXPECT_THAT(numbers(journal.read(3, "z", &ignored)), ElementsAre(0));
}

// It may be whole: what failed may have been this machine's way to it.
TEST(Journal, WhatCannotBeReadIsKept) {
  const Scratch scratch;
  class Unreadable : public FileSystem {
   public:
    Unreadable() { replace_file_system(this); }
    ~Unreadable() override { replace_file_system(nullptr); }
    int open(const std::string& path, int flags, int mode) override {
      if (path.ends_with("-a.journal")) return errno = EIO, -1;
      return FileSystem::open(path, flags, mode);
    }
  };
  write_journal(scratch.path(), "a", {example_chunk(3, 0), example_chunk(5, 1)});
  write_journal(scratch.path(), "b", {example_chunk(3, 2)});
  std::vector<std::string> ignored;
  {
    const Unreadable disk;
    Journal journal(scratch.path(), "run", "c", 0);
    EXPECT_THAT(numbers(journal.read(3, "z", &ignored)), ElementsAre(2));
    EXPECT_THAT(ignored, ElementsAre(HasSubstr("-a.journal")));
    journal.checkpointed(4);
    journal.flush();
  }
  EXPECT_THAT(list_folder(scratch / "chunks"), ElementsAre("step-000003-rank-0000-a.journal"));
  EXPECT_THAT(numbers(read_journal(scratch.path(), 5, &ignored)), ElementsAre(1));
}

// Made by another program, as docs/formats.md says; every later version must read it.
TEST(Journal, ReadsVersion2) {
  const Scratch scratch;
  make_folder(scratch / "chunks");
  const std::string path = scratch / "chunks/step-000012-rank-0000-0123abcd.journal";
  write_file_atomic(path, read_file(fixture("journal_v2.journal")));
  std::vector<std::string> ignored;
  Journal journal(scratch.path(), "run-1", "b", 0);
  const auto chunks = journal.read(12, "0a1b", &ignored);
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].chunk, 3);
  EXPECT_EQ(chunks[0].prompts, 2);
  EXPECT_EQ(chunks[0].groups, 1);
  EXPECT_THAT(chunks[0].gradient, ElementsAre(1.5f, -2.5f));
  EXPECT_THAT(chunks[0].counts, ElementsAre(7, -1));
  EXPECT_THAT(chunks[0].sums, ElementsAre(0.5));
  EXPECT_EQ(chunks[0].texts, R"(["a"])");
  EXPECT_EQ(journal.read(13, "0a1b", &ignored).size(), 1u);
  EXPECT_THAT(ignored, IsEmpty());
  EXPECT_EQ(count_chunks(scratch.path(), 12), 2);
  EXPECT_EQ(count_chunks(scratch.path(), 13), 1);
  EXPECT_NO_THROW(check_chunk_file(path));
}

TEST(Journal, KeepsReplies) {
  const Scratch scratch;
  const auto reply = [](int64_t position, int sample, const std::string& text) {
    FinishedReply made;
    made.step = 3, made.place = {position, 0, sample}, made.z_hash = "z";
    made.ended = sample % 2, made.entropy = 0.1 * sample, made.text = text;
    made.tokens = {5, 6, sample};
    made.log_probs = {-0.5f, -1.25f, -0.1f * float(sample)};
    return made;
  };
  {
    Journal journal(scratch.path(), "run", "a", 0);
    for (int sample = 0; sample < 3; ++sample) journal.add(reply(7, sample, "first"));
    journal.add(reply(7, 1, "again"));
    journal.add(reply(8, 0, ""));
    journal.add(example_chunk(3, 0));
    FinishedReply other = reply(9, 0, "");
    other.z_hash = "y";
    journal.add(other);
    journal.flush();
  }
  Journal journal(scratch.path(), "run", "b", 0);
  std::vector<std::string> ignored;
  const std::vector<FinishedReply> found = journal.read_replies(3, "z", &ignored);
  ASSERT_EQ(found.size(), 4u);
  for (int sample = 0; sample < 3; ++sample) {
    const FinishedReply &one = found[size_t(sample)], wanted = reply(7, sample, "first");
    EXPECT_EQ(one.place, (ReplyPlace{7, 0, sample}));
    EXPECT_EQ(one.step, 3);
    EXPECT_EQ(one.ended, wanted.ended);
    EXPECT_TRUE(one.finite);
    EXPECT_EQ(one.entropy, wanted.entropy);
    EXPECT_EQ(one.tokens, wanted.tokens);
    EXPECT_EQ(one.log_probs, wanted.log_probs);
    EXPECT_EQ(one.text, "first");
  }
  EXPECT_EQ(found[3].place.position, 8);
  EXPECT_THAT(ignored, testing::UnorderedElementsAre(HasSubstr("another one"),
                                                     HasSubstr("policy y, not z")));
  EXPECT_THAT(numbers(journal.read(3, "z", &ignored)), ElementsAre(0));
  EXPECT_EQ(count_replies(scratch.path(), 3), 6);
  EXPECT_EQ(count_replies(scratch.path(), 4), 0);
  EXPECT_EQ(count_chunks(scratch.path(), 3), 1);
  EXPECT_TRUE(journal.read_replies(4, "z", &ignored).empty());
}

// The same prompt and sample of two members are two replies; a record without a member, as of
// before there were any, is the same bytes as one of member 0.
TEST(Journal, KeepsTheRepliesOfAPopulation) {
  const Scratch scratch;
  const auto reply = [](int member, int sample) {
    FinishedReply made;
    made.step = 3, made.place = {7, member, sample}, made.z_hash = "z";
    made.text = std::to_string(member) + " " + std::to_string(sample);
    return made;
  };
  {
    Journal journal(scratch.path(), "run", "a", 0);
    for (const int member : {1, 0, 40000})
      for (const int sample : {1, 0}) journal.add(reply(member, sample));
    journal.flush();
  }
  Journal journal(scratch.path(), "run", "b", 0);
  std::vector<std::string> ignored;
  const std::vector<FinishedReply> found = journal.read_replies(3, "z", &ignored);
  EXPECT_THAT(ignored, IsEmpty());
  ASSERT_EQ(found.size(), 6u);
  for (size_t i = 0; i < found.size(); ++i) {
    const ReplyPlace wanted{7, std::array{0, 1, 40000}[i / 2], int(i % 2)};
    EXPECT_EQ(found[i].place, wanted);
    EXPECT_EQ(found[i].text, std::to_string(wanted.member) + " " + std::to_string(wanted.sample));
  }
  std::string bytes;
  append_payload(reply(0, 1), bytes);
  EXPECT_EQ(bytes.substr(16, 8), std::string("\1\0\0\0\0\0\0\0", 8));
}

// What an older svfleet left is of no use, since its bits are others: named, and cleared.
TEST(Journal, NamesAndClearsWhatAnOlderSvfleetLeft) {
  const Scratch scratch;
  make_folder(scratch / "chunks");
  const std::string old = scratch / "chunks/step-000012-rank-0000-0123abcd.journal";
  write_file_atomic(old, read_file(fixture("journal_v1.journal")));
  write_file_atomic(scratch / "chunks/step-000012-chunk-0003.h5", "whatever");
  std::vector<std::string> ignored;
  EXPECT_THAT(Journal(scratch.path(), "run-1", "b", 0).read(12, "0a1b", &ignored), IsEmpty());
  EXPECT_THAT(ignored, testing::UnorderedElementsAre(
                           HasSubstr("records of version 1, which this svfleet does not read"),
                           HasSubstr("chunk-0003.h5' ignored: a chunk of an older svfleet")));
  EXPECT_EQ(count_chunks(scratch.path(), 12), 0);
  EXPECT_NO_THROW(check_chunk_file(old));
  Journal journal(scratch.path(), "run-1", "b", 0);
  for (const int64_t step : {12, 13}) {
    journal.checkpointed(step);
    journal.flush();
    EXPECT_EQ(list_folder(scratch / "chunks").size(), step == 12 ? 2u : 0u);
  }
}

// Resealed: the checksum of the header is over its first 144 bytes, and stands behind them.
std::string of_version(std::string frame, uint32_t version) {
  std::memcpy(&frame[8], &version, sizeof version);
  const uint64_t hash = XXH3_64bits(frame.data(), kFrameHeader - 8);
  std::memcpy(&frame[kFrameHeader - 8], &hash, sizeof hash);
  return frame;
}

TEST(Journal, RecordsOfALaterVersionAreNamedAndNoDamage) {
  const Scratch scratch;
  make_folder(scratch / "chunks");
  write_file_atomic(scratch / kFile, of_version(frame_of(example_chunk(3, 0), "a"), 3) +
                                         frame_of(example_chunk(3, 1), "a") +
                                         of_version(frame_of(example_chunk(3, 2), "a"), 3));
  std::vector<std::string> ignored;
  EXPECT_THAT(numbers(read_journal(scratch.path(), 3, &ignored)), ElementsAre(1));
  EXPECT_THAT(ignored, ElementsAre(AllOf(HasSubstr(kFile), HasSubstr("records of version 3,"))));
  EXPECT_EQ(count_chunks(scratch.path(), 3), 1);
  EXPECT_NO_THROW(check_chunk_file(scratch / kFile));
}

TEST(Journal, WhatDoesNotFitIsNamedAndNotUsed) {
  const Scratch scratch;
  make_folder(scratch / "chunks");
  const std::string good = frame_of(example_chunk(3, 0), "a");
  write_file_atomic(
      scratch / kFile,
      good + frame_of(example_chunk(3, 1, "other z"), "a") +
          frame_of(example_chunk(3, 2), "a", "other run") +
          frame_of(example_chunk(2, 3), "a") +  // before the file's first
          frame_of(example_chunk(3, 4), "other") + good +
          frame_of(example_chunk(3, 5), "a", "run", FrameKind::kReply) +  // passed over here
          frame_of(example_chunk(3, 6), "a", "run", FrameKind(77)) +
          frame_of(example_chunk(4, 7), "a") +  // waits for its turn: no word of it
          frame_of(example_chunk(3, 8), "a"));
  write_file_atomic(scratch / "chunks/odd.h5", "");
  write_file_atomic(scratch / (std::string(kFile) + ".tmp-a-1-1-1"), "half");
  EXPECT_NO_THROW(check_chunk_file(scratch / kFile));  // all of them are whole

  Journal journal(scratch.path(), "run", "b", 0);
  std::vector<std::string> ignored;
  EXPECT_THAT(numbers(journal.read(3, "z", &ignored)), ElementsAre(0, 8));
  EXPECT_THAT(ignored,
              testing::UnorderedElementsAre(
                  HasSubstr("odd.h5"), AllOf(HasSubstr("chunk 1)"), HasSubstr("other z, not z")),
                  AllOf(HasSubstr("chunk 2)"), HasSubstr("run other run, not run")),
                  AllOf(HasSubstr("chunk 3)"), HasSubstr("step 2, not 3")),
                  AllOf(HasSubstr("chunk 4)"), HasSubstr("owner other, not a")),
                  AllOf(HasSubstr("chunk 0)"), HasSubstr("another one"))));
  for (const std::string& line : ignored) EXPECT_EQ(line.find('\n'), line.npos);
  ignored.clear();
  EXPECT_THAT(numbers(journal.read(4, "z", &ignored)), ElementsAre(7));
  EXPECT_THAT(ignored, IsEmpty());  // said once
}

// The same bytes in a file of another token or a later window are not used either: blocks of an
// earlier file, as a power loss may leave them.
TEST(Journal, AFileOfAnotherNameIsNotUsed) {
  for (const char* name : {"step-000003-rank-0000-c.journal", "step-000004-rank-0000-a.journal"}) {
    const Scratch scratch;
    make_folder(scratch / "chunks");
    write_file_atomic(scratch / ("chunks/" + std::string(name)),
                      frame_of(example_chunk(3, 0), "a"));
    std::vector<std::string> ignored;
    EXPECT_THAT(read_journal(scratch.path(), 3, &ignored), IsEmpty()) << name;
    EXPECT_EQ(ignored.size(), 1u) << name;
  }
}

TEST(Journal, ACheckpointBeginsAFileAndClearsTheOnesBefore) {
  const Scratch scratch;
  Journal other(scratch.path(), "run", "a", 1), journal(scratch.path(), "run", "a", 0);
  for (Journal* one : {&journal, &other}) {
    for (int64_t step : {3, 4}) one->add(example_chunk(step, 0));
    one->flush();
  }
  EXPECT_EQ(list_folder(scratch / "chunks").size(), 2u);
  for (Journal* one : {&journal, &other}) {
    one->checkpointed(5);
    one->add(example_chunk(5, 0));
    one->flush();
  }
  EXPECT_THAT(list_folder(scratch / "chunks"),
              ElementsAre("step-000005-rank-0000-a.journal", "step-000005-rank-0001-a.journal"));
  clear_chunks_before(scratch.path(), INT64_MAX);
  EXPECT_THAT(list_folder(scratch / "chunks"), IsEmpty());
}

// A run that was further on before it lost its newest checkpoint.
TEST(Journal, ChunksOfLaterStepsAreKept) {
  const Scratch scratch;
  write_journal(scratch.path(), "a", {example_chunk(3, 0), example_chunk(5, 0)});
  write_journal(scratch.path(), "b", {example_chunk(3, 1)});
  write_journal(scratch.path(), "b", {example_chunk(1, 0)}, /*rank=*/1);  // left by an earlier one
  Journal journal(scratch.path(), "run", "c", 0);
  std::vector<std::string> ignored;
  EXPECT_EQ(journal.read(3, "z", &ignored).size(), 2u);
  journal.checkpointed(4);
  journal.flush();
  EXPECT_THAT(list_folder(scratch / "chunks"), ElementsAre("step-000003-rank-0000-a.journal"));
  EXPECT_EQ(journal.read(5, "z", &ignored).size(), 1u);
  journal.checkpointed(6);
  journal.flush();
  EXPECT_THAT(list_folder(scratch / "chunks"), IsEmpty());
  EXPECT_THAT(ignored, IsEmpty());
}

}  // namespace
}  // namespace svfleet
