// Whatever happens to a file of records, all that is whole is found, and nothing else.
#include "checkpoints/frame.h"

#include <gmock/gmock.h>

#include "checkpoints/journal_files.h"
#include "tests/checkpoints/journal_example.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr char kFile[] = "chunks/step-000003-rank-0000-a.journal";
constexpr size_t kHeader = kFrameHeader;

// Three chunks of step 3 in a file.
class Frames : public testing::Test {
 protected:
  Frames() {
    write_journal(scratch_.path(), "a",
                  {example_chunk(3, 0), example_chunk(3, 1), example_chunk(3, 2)});
    good_ = read_file(path_);
    size_ = good_.size() / 3;
  }
  void write(const std::string& bytes) const {
    FILE* file = std::fopen(path_.c_str(), "wb");
    std::fwrite(bytes.data(), 1, bytes.size(), file);
    std::fclose(file);
  }
  // The chunks that a later process uses, and what it says of others.
  std::vector<int> used() {
    ignored_.clear();
    return numbers(read_journal(scratch_.path(), 3, &ignored_));
  }
  int64_t counted() const { return count_chunks(scratch_.path(), 3); }
  bool is_whole() const {
    try {
      check_chunk_file(path_);
      return true;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitDisk);
      return false;
    }
  }

  const Scratch scratch_;
  const std::string path_ = scratch_ / kFile;
  std::string good_;
  size_t size_;  // of a record
  std::vector<std::string> ignored_;
};

TEST_F(Frames, AreWhatTheFormatSays) {
  EXPECT_EQ(good_.substr(0, 8), std::string("\x93svfj\r\n\x1a"));
  const auto number = [&](size_t at) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; --i) value = value << 8 | uint8_t(good_[size_ + at + size_t(i)]);
    return value;
  };
  EXPECT_EQ(number(8), uint64_t{1} << 32 | 2);  // version 2, kind 1
  EXPECT_EQ(number(16), size_ - kHeader);
  EXPECT_EQ(number(24), 3u);
  EXPECT_EQ(number(32), 1u);
  EXPECT_EQ(good_.substr(40, 32), "run" + std::string(29, '\0'));
  EXPECT_EQ(good_.substr(72, 32), "z" + std::string(31, '\0'));
  EXPECT_EQ(good_.substr(104, 32), "a" + std::string(31, '\0'));
  EXPECT_EQ(number(kHeader), 2u);  // of the gradient, then counts, sums, bytes of texts
  EXPECT_EQ(number(kHeader + 24), 16u);
  EXPECT_EQ(number(kHeader + 32), 2u);  // prompts
  EXPECT_EQ(number(kHeader + 40), 1u);  // of which are trained
  EXPECT_EQ(size_, 152 + 6 * 8 + 2 * 4 + 2 * 8 + 2 * 8 + 16);
  EXPECT_TRUE(is_whole());
  EXPECT_EQ(counted(), 3);
}

TEST_F(Frames, AFlippedBitAnywhereLosesThatRecordOnly) {
  for (size_t at = size_; at < 2 * size_; ++at) {
    std::string bytes = good_;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
    write(bytes);
    EXPECT_THAT(used(), ElementsAre(0, 2)) << at - size_;
    EXPECT_THAT(ignored_, SizeIs(1)) << at - size_;
    EXPECT_FALSE(is_whole()) << at - size_;
    // Headers alone tell of headers alone.
    EXPECT_EQ(counted(), at < size_ + kHeader ? 2 : 3) << at - size_;
  }
}

TEST_F(Frames, ATornEndLosesTheLastRecordOnly) {
  for (size_t left = 2 * size_; left < 3 * size_; ++left) {
    write(good_.substr(0, left));
    EXPECT_THAT(used(), ElementsAre(0, 1)) << left;
    EXPECT_THAT(ignored_, SizeIs(left > 2 * size_)) << left;
    EXPECT_TRUE(is_whole()) << left;  // of a writer that was killed
    EXPECT_EQ(counted(), 2) << left;
  }
  EXPECT_THAT(FrameFile(path_).find().torn, testing::HasSubstr("not finished"));
}

TEST_F(Frames, WhatFollowsATornRecordIsFound) {
  const std::string last = good_.substr(2 * size_);
  for (size_t left = 1; left < size_; ++left) {
    write(good_.substr(0, size_ + left) + last);
    EXPECT_THAT(used(), ElementsAre(0, 2)) << left;
    EXPECT_THAT(ignored_, SizeIs(1)) << left;
    EXPECT_EQ(counted(), 2) << left;
    EXPECT_FALSE(is_whole()) << left;
  }
}

TEST_F(Frames, ZerosAndOtherBytesArePassedOver) {
  for (const std::string& between :
       {std::string(1, '\0'), std::string(100'000, '\0'), std::string(3 << 20, 'x'),
        std::string("\x93svfj\r\n"), good_.substr(0, 8), std::string("\x93svfj\r\n\x1a\x93")}) {
    write(good_.substr(0, size_) + between + good_.substr(size_));
    EXPECT_THAT(used(), ElementsAre(0, 1, 2)) << between.size();
    EXPECT_THAT(ignored_, SizeIs(1));
    EXPECT_EQ(counted(), 3);
    EXPECT_FALSE(is_whole());
    write(between + good_);
    EXPECT_THAT(used(), ElementsAre(0, 1, 2)) << between.size();
    write(good_ + between);
    EXPECT_THAT(used(), ElementsAre(0, 1, 2)) << between.size();
  }
  write(std::string(size_, '\0') + good_.substr(size_));
  EXPECT_THAT(used(), ElementsAre(1, 2));
  write(std::string(500, '\0'));
  EXPECT_THAT(used(), IsEmpty());
  write("");
  EXPECT_THAT(used(), IsEmpty());
  EXPECT_THAT(ignored_, IsEmpty());
}

// After a power loss a file may have its length and not yet all of its bytes: the count believes
// the header, a reader does not.
TEST_F(Frames, APayloadOfZerosIsNotUsed) {
  std::string bytes = good_;
  std::fill(bytes.begin() + long(2 * size_ + kHeader), bytes.end(), '\0');
  write(bytes);
  EXPECT_THAT(used(), ElementsAre(0, 1));
  EXPECT_FALSE(is_whole());
}

TEST_F(Frames, ARecordThatIsThereTwiceCountsOnce) {
  write(good_ + good_.substr(0, size_));
  EXPECT_THAT(used(), ElementsAre(0, 1, 2));
  EXPECT_THAT(ignored_, SizeIs(1));
  EXPECT_EQ(counted(), 3);
  // The first of them damaged, the second one is used.
  std::string bytes = good_ + good_.substr(0, size_);
  bytes[size_ - 1] ^= 1;
  write(bytes);
  EXPECT_THAT(used(), ElementsAre(0, 1, 2));
}

TEST_F(Frames, AreFoundFarApart) {
  FinishedChunk large = example_chunk(3, 7);
  large.gradient.assign(1 << 20, 1.5f);
  write_journal(scratch_.path(), "a", {large, example_chunk(3, 8)});
  EXPECT_THAT(used(), ElementsAre(0, 1, 2, 7, 8));
  std::string bytes = read_file(path_);
  bytes[good_.size() + 8] ^= 1;  // the large one's header
  write(bytes);
  EXPECT_THAT(used(), ElementsAre(0, 1, 2, 8));
  EXPECT_EQ(counted(), 4);
}

// A payload whose checksum is right may still be none.
TEST(Payload, LengthsThatDoNotFitAreDamage) {
  std::string good;
  append_payload(example_chunk(3, 1), good);
  FinishedChunk chunk;
  decode_payload(good, "x", chunk);
  EXPECT_THAT(chunk.counts, ElementsAre(1, 1));
  for (size_t left = 0; left < good.size(); ++left)
    expect_error(kExitDisk, {"x is damaged"},
                 [&] { decode_payload(good.substr(0, left), "x", chunk); });
  for (int field = 0; field < 4; ++field)
    for (const uint64_t length : {uint64_t{0}, uint64_t{3}, uint64_t{1} << 62, ~uint64_t{0}}) {
      std::string bytes = good;
      bytes.replace(size_t(8 * field), 8, reinterpret_cast<const char*>(&length), 8);
      expect_error(kExitDisk, {"x is damaged"}, [&] { decode_payload(bytes, "x", chunk); });
    }
}

}  // namespace
}  // namespace svfleet
