#include "checkpoints/journal.h"

#include <gmock/gmock.h>

#include <cmath>

#include "checkpoints/file.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

FinishedChunk example(int64_t step, int chunk, const std::string& z = "z") {
  return {"run",
          step,
          chunk,
          z,
          {static_cast<float>(chunk), 0.5f},
          {1, chunk},
          {0.25, std::nan("")},
          R"([{"reply":"ab"}])",
          ""};
}

std::vector<int> numbers(const std::vector<FinishedChunk>& chunks) {
  std::vector<int> out;
  for (const FinishedChunk& chunk : chunks) out.push_back(chunk.chunk);
  return out;
}

TEST(Journal, ChunksComeBackByNumber) {
  const Scratch scratch;
  std::vector<std::string> ignored;
  EXPECT_TRUE(read_chunks(scratch.path(), "run", 3, "z", &ignored).empty());
  for (int chunk : {10000, 9999, 0, 12}) write_chunk(scratch.path(), example(3, chunk));
  const auto chunks = read_chunks(scratch.path(), "run", 3, "z", &ignored);
  EXPECT_THAT(numbers(chunks), ElementsAre(0, 12, 9999, 10000));
  EXPECT_THAT(chunks[1].gradient, ElementsAre(12.f, 0.5f));
  EXPECT_THAT(chunks[1].counts, ElementsAre(1, 12));
  EXPECT_THAT(chunks[1].sums, ElementsAre(0.25, testing::IsNan()));
  EXPECT_EQ(chunks[1].texts, R"([{"reply":"ab"}])");
  EXPECT_EQ(chunks[1].run_id, "run");
  EXPECT_EQ(chunks[1].step, 3);
  EXPECT_EQ(chunks[1].z_hash, "z");
  EXPECT_TRUE(ignored.empty());
}

// Made by the first version; every later one must read it.
TEST(Journal, ReadsVersion1) {
  const Scratch scratch;
  make_folder(scratch / "chunks");
  write_file_atomic(scratch / "chunks/step-000012-chunk-0003.h5",
                    read_file(fixture("chunk_v1.h5")));
  std::vector<std::string> ignored;
  const auto chunks = read_chunks(scratch.path(), "run-1", 12, "0a1b", &ignored);
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].chunk, 3);
  EXPECT_THAT(chunks[0].gradient, ElementsAre(1.5f, -2.5f));
  EXPECT_EQ(chunks[0].summary, R"({"tokens":7})");
}

TEST(Journal, WhatDoesNotFitIsNamedAndNotUsed) {
  const Scratch scratch;
  auto path = [&](const std::string& name) { return scratch / ("chunks/" + name); };
  for (int chunk = 0; chunk < 5; ++chunk) write_chunk(scratch.path(), example(3, chunk));
  std::string bytes = read_file(path("step-000003-chunk-0000.h5"));
  write_file_atomic(path("step-000003-chunk-0006.h5"), bytes);  // another chunk's name
  write_file_atomic(path("step-000003-chunk-0001.h5"), bytes.substr(0, bytes.size() / 2));  // torn
  bytes[100] = static_cast<char>(bytes[100] ^ 1);  // flipped
  write_file_atomic(path("step-000003-chunk-0000.h5"), bytes);
  write_chunk(scratch.path(), example(3, 2, "other z"));
  FinishedChunk foreign = example(3, 3);
  foreign.run_id = "other run";
  write_chunk(scratch.path(), foreign);
  write_chunk(scratch.path(), example(2, 0));  // waits for its checkpoint: no word of it
  write_file_atomic(path("odd.h5"), "");
  write_file_atomic(path("step-000003-chunk-0007.h5.tmp-a-1-1-1"), "half");

  std::vector<std::string> ignored;
  const auto chunks = read_chunks(scratch.path(), "run", 3, "z", &ignored);
  EXPECT_THAT(numbers(chunks), ElementsAre(4));
  EXPECT_THAT(ignored, testing::UnorderedElementsAre(
                           AllOf(HasSubstr("chunk-0000"), HasSubstr("checksum")),
                           AllOf(HasSubstr("chunk-0001"), HasSubstr("damaged")),
                           AllOf(HasSubstr("chunk-0002"), HasSubstr("other z")),
                           AllOf(HasSubstr("chunk-0003"), HasSubstr("other run")),
                           AllOf(HasSubstr("chunk-0006"), HasSubstr("chunk 0, not 6")),
                           HasSubstr("odd.h5")));
  for (const std::string& line : ignored) EXPECT_EQ(line.find('\n'), line.npos);
}

TEST(Journal, EarlierStepsAreCleared) {
  const Scratch scratch;
  clear_chunks_before(scratch.path(), 3);
  for (int64_t step : {1, 2, 3, 4}) write_chunk(scratch.path(), example(step, 0));
  clear_chunks_before(scratch.path(), 3);
  EXPECT_THAT(list_folder(scratch / "chunks"),
              ElementsAre("step-000003-chunk-0000.h5", "step-000004-chunk-0000.h5"));
}

}  // namespace
}  // namespace svfleet
