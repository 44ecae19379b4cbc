#include "checkpoints/hdf5_image.h"

#include <gmock/gmock.h>
#include <xxhash.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <thread>

#include "checkpoints/file.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

std::string example() {
  Hdf5Writer out;
  out.text("word", "caf\xc3\xa9");
  out.text("nothing", "");
  out.text("zeros", std::string("a\0b\0", 4));
  out.integer("whole", std::numeric_limits<int64_t>::min());
  out.real("third", 1.0 / 3);
  const std::vector<float> f{1.5f, -0.f, std::nanf(""), 4, 5, 6};
  out.floats("grid", f, {2, 3});
  out.floats("empty", {}, {0, 4});
  const std::vector<double> d{1e300, -2};
  out.doubles("long", d, {2});
  const std::vector<int64_t> n{-1, 0, 1};
  out.integers("counts", n);
  const std::vector<uint16_t> b{0x3f80, 0xc000};
  out.bfloat16s("short", b, {1, 2});
  return out.finish();
}

TEST(Hdf5Image, RoundTrip) {
  const Hdf5Reader in(example(), "memory");
  EXPECT_TRUE(in.has("word"));
  EXPECT_FALSE(in.has("other"));
  EXPECT_FALSE(in.has(""));
  EXPECT_EQ(in.text("word"), "caf\xc3\xa9");
  EXPECT_EQ(in.text("nothing"), "");
  EXPECT_EQ(in.text("zeros"), std::string("a\0b\0", 4));
  EXPECT_EQ(in.integer("whole"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(in.real("third"), 1.0 / 3);
  EXPECT_THAT(in.shape("grid"), ElementsAre(2, 3));
  const std::vector<float> grid = in.floats("grid");
  EXPECT_EQ(grid[0], 1.5f);
  EXPECT_TRUE(std::signbit(grid[1]));
  EXPECT_TRUE(std::isnan(grid[2]));
  EXPECT_EQ(grid[5], 6.f);
  EXPECT_THAT(in.shape("empty"), ElementsAre(0, 4));
  EXPECT_TRUE(in.floats("empty").empty());
  EXPECT_THAT(in.doubles("long"), ElementsAre(1e300, -2));
  EXPECT_THAT(in.integers("counts"), ElementsAre(-1, 0, 1));
  EXPECT_THAT(in.bfloat16s("short"), ElementsAre(0x3f80, 0xc000));
  EXPECT_TRUE(in.is_bfloat16("short"));
  EXPECT_FALSE(in.is_bfloat16("grid"));
  float into[6];
  in.read_into("grid", into, sizeof into);
  EXPECT_EQ(into[4], 5.f);
  uint16_t bits[2];
  in.read_into("short", bits, sizeof bits);
  EXPECT_EQ(bits[1], 0xc000);
}

TEST(Hdf5Image, SameContentSameBytes) {
  const std::string first = example();
  std::vector<std::string> noise(100, std::string(4096, 'x'));  // dirties the heap
  noise.clear();
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // a time stamp would change
  EXPECT_EQ(first, example());
}

TEST(Hdf5Image, WrongUseIsNamed) {
  const Hdf5Reader in(example(), "some/file.h5");
  expect_error(kExitDisk, {"some/file.h5", "'other'", "missing"}, [&] { in.text("other"); });
  expect_error(kExitDisk, {"some/file.h5", "'grid'", "float64"}, [&] { in.doubles("grid"); });
  expect_error(kExitDisk, {"'word'", "int64"}, [&] { in.integer("word"); });
  expect_error(kExitDisk, {"'whole'", "text"}, [&] { in.text("whole"); });
  expect_error(kExitDisk, {"'counts'", "single"}, [&] { in.integer("counts"); });
  float into[5];
  expect_error(kExitDisk, {"'grid'", "24", "20"}, [&] { in.read_into("grid", into, sizeof into); });
  Hdf5Writer out;
  const std::vector<float> three{1, 2, 3};
  expect_error(kExitInternal, {"shape"}, [&] { out.floats("x", three, {2, 2}); });
  out.integer("x", 1);
  expect_error(kExitInternal, {"HDF5", "x", "exists"}, [&] { out.integer("x", 1); });
}

TEST(Hdf5Image, EveryFlippedBitAndEveryCutIsSeen) {
  const std::string whole = example();
  std::mt19937 random(7);
  for (size_t byte = 0; byte < whole.size(); byte += byte + 200 < whole.size() ? 13 : 1) {
    std::string bad = whole;
    bad[byte] = static_cast<char>(bad[byte] ^ (1 << random() % 8));
    expect_error(kExitDisk, {"f.h5", "damaged"}, [&] { Hdf5Reader(bad, "f.h5"); });
  }
  for (size_t n : {size_t{0}, size_t{31}, size_t{32}, whole.size() / 2, whole.size() - 1})
    expect_error(kExitDisk, {"f.h5", "damaged"}, [&] { Hdf5Reader(whole.substr(0, n), "f.h5"); });
  expect_error(kExitDisk, {"damaged"}, [&] { Hdf5Reader(whole + "x", "f.h5"); });
}

// libhdf5 1.10.8 would copy from there: a crash, found by fuzzing.
TEST(Hdf5Image, AnEntryOutsideTheFileIsNotRead) {
  std::string image = example();
  const double numbers[] = {1e300, -2};
  const std::string bytes(reinterpret_cast<const char*>(numbers), sizeof numbers);
  const size_t data = image.find(bytes);
  ASSERT_NE(data, image.npos);
  const uint64_t place = data;
  const size_t said = image.find(std::string(reinterpret_cast<const char*>(&place), sizeof place));
  ASSERT_NE(said, image.npos);
  const auto moved_to = [&](uint64_t to) {
    std::string moved = image;
    std::memcpy(moved.data() + said, &to, sizeof to);
    const uint64_t hash = XXH3_64bits(moved.data(), moved.size() - sizeof hash);
    std::memcpy(moved.data() + moved.size() - sizeof hash, &hash, sizeof hash);
    return Hdf5Reader(moved, "moved").doubles("long");
  };
  EXPECT_THAT(moved_to(place), ElementsAre(1e300, -2));  // control: this is where it says so
  for (const uint64_t to : {uint64_t(image.size() - 8), uint64_t(1) << 40, ~uint64_t(0) - 20,
                            ~uint64_t(0) /* nothing is stored */})
    EXPECT_THROW(moved_to(to), Error) << to;
}

TEST(Hdf5Image, ManyThreads) {
  const std::string expected = example();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) {
        const std::string image = example();
        const Hdf5Reader in(image, "memory");
        if (image != expected || in.text("word") != "caf\xc3\xa9") ++wrong;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

// The HDF5 project's own tool must read what we write, trailer and all.
TEST(Hdf5Image, H5dumpReadsIt) {
  if (std::system("h5dump --version >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "h5dump is not installed (Debian package hdf5-tools)";
  const Scratch scratch;
  write_file_atomic(scratch / "x.h5", example());
  const std::string command =
      "h5dump -m %.17g -d grid -d counts -d third -d word -d short " + scratch / "x.h5" + " 2>&1";
  std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  char block[4096];
  while (size_t n = fread(block, 1, sizeof block, pipe.get())) text.append(block, n);
  EXPECT_EQ(text.find("error"), text.npos) << text;
  for (const char* part :
       {"H5T_IEEE_F32LE", "SIMPLE { ( 2, 3 ) / ( 2, 3 ) }", "(0,0): 1.5,", "nan", "(1,2): 6",
        "(0): -1,", "0.33333333333333331", "caf", "\"bfloat16\"", "(0,0): 16256,", "(0,1): 49152"})
    EXPECT_NE(text.find(part), text.npos) << part << " not in\n" << text;
}

}  // namespace
}  // namespace svfleet
