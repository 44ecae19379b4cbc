#include "checkpoints/expert.h"

#include <gmock/gmock.h>

#include <cmath>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "checkpoints/safetensors.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

Expert example() {
  return {{{"a.weight", {1.f, 0.5f, -2.f}}, {"b.weight", {1.25f}}},
          {{"task", "largest of three"}, {"step", "12"}, {"model_hash", "abc"}}};
}

TEST(Expert, RoundTrip) {
  const Scratch scratch;
  save_expert(scratch / "e.safetensors", example());
  const Expert back = load_expert(scratch / "e.safetensors");
  EXPECT_EQ(back.z, example().z);
  EXPECT_EQ(back.metadata.at("task"), "largest of three");
  EXPECT_EQ(back.metadata.at("step"), "12");
  EXPECT_EQ(back.metadata.at("format"), "svfleet-expert");
  EXPECT_EQ(back.metadata.at("version"), "1");
}

// Made by the first version; every later one must read it.
TEST(Expert, ReadsVersion1) {
  const Expert expert = load_expert(fixture("expert_v1.safetensors"));
  ASSERT_EQ(expert.z.size(), 2u);
  EXPECT_THAT(expert.z.at("a.weight"), ElementsAre(1.f, 0.5f, -2.f));
  EXPECT_THAT(expert.z.at("b.weight"), ElementsAre(1.25f));
  EXPECT_EQ(expert.metadata.at("task"), "largest of three");
  EXPECT_EQ(expert.metadata.at("model_hash"), "abc");
}

// Of another core than SVF's.
Expert example_of_core() {
  return {{{"a.weight.A", {1.f, 0.5f, -2.f}}, {"a.weight.B", {1.25f, 0.f}}},
          {{"task", "largest of three"}},
          "lora rank 1 alpha 32",
          {{"a.weight.A", {1, 3}}, {"a.weight.B", {2, 1}}}};
}

TEST(Expert, ReadsVersion2) {
  const Expert expert = load_expert(fixture("expert_v2.safetensors"));
  EXPECT_EQ(expert.z, example_of_core().z);
  EXPECT_EQ(expert.shapes, example_of_core().shapes);
  EXPECT_EQ(expert.core, "lora rank 1 alpha 32");
  EXPECT_EQ(expert.metadata.at("version"), "2");
  EXPECT_EQ(expert.metadata.at("task"), "largest of three");
}

TEST(Expert, HashOfVersion2IsOfCoreAndShapesToo) {
  const std::string original = z_hash(example_of_core());
  const auto changed = [&](auto change) {
    Expert e = example_of_core();
    change(e);
    return z_hash(e) != original;
  };
  EXPECT_FALSE(changed([](Expert& e) { e.metadata.clear(); }));
  EXPECT_TRUE(changed([](Expert& e) { e.core = "lora rank 1 alpha 31"; }));
  EXPECT_TRUE(changed([](Expert& e) { e.core.clear(); }));
  EXPECT_TRUE(changed([](Expert& e) { e.shapes["a.weight.A"] = {3, 1}; }));
  EXPECT_TRUE(changed([](Expert& e) { e.z["a.weight.B"][1] = 1e-30f; }));
}

TEST(Expert, NamesTheWeightOfATensor) {
  EXPECT_EQ(weight_of("a.weight.A"), "a.weight");
  EXPECT_EQ(weight_of("a.weight.B"), "a.weight");
  EXPECT_EQ(weight_of("a.weight"), "a.weight");
}

TEST(Expert, HashIsOfNamesAndBitsOnly) {
  const std::string original = z_hash(example());
  Expert e = example();
  e.metadata.clear();
  EXPECT_EQ(z_hash(e), original);
  e.z["a.weight"][1] = std::nextafter(0.5f, 1.f);
  EXPECT_NE(z_hash(e), original);
  e = example();
  e.z["c.weight"] = e.z["b.weight"];
  e.z.erase("b.weight");
  EXPECT_NE(z_hash(e), original);
  // By hand: each name and each vector with its length before it.
  EXPECT_EQ(z_hash({{{"w", {1.f}}}, {}}),
            hash_bytes(std::string("\x0b\0\0\0\0\0\0\0svfleet-z-1\1\0\0\0\0\0\0\0w"
                                   "\1\0\0\0\0\0\0\0\0\0\x80\x3f",
                                   8 + 11 + 8 + 1 + 8 + 4)));
}

TEST(Expert, OtherFilesAreRefused) {
  const Scratch scratch;
  const std::string path = scratch / "e.safetensors";
  expect_error(kExitUser, {path, "no expert file"}, [&] { load_expert(path); });
  expect_error(kExitUser, {"is a folder", "experts/best.safetensors"},
               [&] { load_expert(std::filesystem::path(path).parent_path().string()); });
  write_file_atomic(path + ".h5", "\x89HDF");
  expect_error(kExitUser, {"is a checkpoint", "experts/best.safetensors"},
               [&] { load_expert(path + ".h5"); });
  auto refused = [&](ExitCode code, const SafetensorsData& data, const std::string& part) {
    write_safetensors(path, data);
    expect_error(code, {path, part}, [&] { load_expert(path); });
  };
  const std::map<std::string, std::string> right = {{"format", "svfleet-expert"}, {"version", "1"}};
  refused(kExitUser, {{}, {{"w", {{1}, {1.f}}}}}, "format=svfleet-expert");
  refused(kExitUser, {{{"format", "pt"}}, {{"w", {{1}, {1.f}}}}}, "format=svfleet-expert");
  refused(kExitUser, {{{"format", "svfleet-expert"}, {"version", "3"}}, {{"w", {{1}, {1.f}}}}},
          "version '3'");
  refused(kExitUser, {right, {}}, "no z");
  refused(kExitUser, {right, {{"w", {{0}, {}}}}}, "'w' is empty");
  refused(kExitUser, {right, {{"w", {{1, 2}, {1.f, 2.f}}}}}, "2 dimensions");
  refused(kExitUser, {right, {{"w", {{2}, {1.f, std::nanf("")}}}}}, "'w' is not finite at entry 1");
  refused(kExitUser, {right, {{"w", {{1}, {INFINITY}}}}}, "not finite");
  write_safetensors(path, {right, {{"w", {{2}, {1.f, 2.f}}}}});  // control
  EXPECT_THAT(load_expert(path).z.at("w"), ElementsAre(1.f, 2.f));
  write_file_atomic(path, read_file(path).substr(0, 100));
  expect_error(kExitDisk, {path, "damaged"}, [&] { load_expert(path); });
  expect_error(kExitUser, {"python_bf16.safetensors", "format=svfleet-expert"},
               [&] { load_expert(fixture("python_bf16.safetensors")); });
  write_safetensors(path, {right, {{"w", {{2}, {1.f, 2.f}}}}});
  std::string other_type = read_file(path);
  other_type.replace(other_type.find("F32"), 3, "F16");
  other_type.replace(other_type.find("[2]"), 3, "[4]");
  write_file_atomic(path, other_type);
  expect_error(kExitUser, {path, "'w'", "F16"}, [&] { load_expert(path); });
}

TEST(Expert, EveryFlippedBitOfZIsFound) {
  const Scratch scratch;
  const std::string path = scratch / "e.safetensors";
  save_expert(path, example());
  const std::string whole = read_file(path);
  const size_t z_bytes = 4 * sizeof(float);  // z is the end of the file
  for (size_t bit = 0; bit < 8 * z_bytes; ++bit) {
    std::string bytes = whole;
    bytes[whole.size() - z_bytes + bit / 8] ^= char(1 << bit % 8);
    write_file_atomic(path, bytes);
    try {
      load_expert(path);
      FAIL() << "bit " << bit;
    } catch (const Error& error) {  // kExitUser where it has become infinite
      EXPECT_TRUE(error.code() == kExitDisk || error.code() == kExitUser) << error.what();
    }
  }
  write_file_atomic(path, whole);  // control
  EXPECT_EQ(load_expert(path).z, example().z);
}

TEST(Expert, BadOnesAreNotSaved) {
  const Scratch scratch;
  expect_error(kExitInternal, {"'w'", "not finite"}, [&] {
    save_expert(scratch / "e", {{{"w", {NAN}}}, {}});
  });
  expect_error(kExitInternal, {"'w'", "empty"}, [&] {
    save_expert(scratch / "e", {{{"w", {}}}, {}});
  });
  EXPECT_FALSE(file_exists(scratch / "e"));
}

}  // namespace
}  // namespace svfleet
