#include "checkpoints/safetensors.h"

#include <gmock/gmock.h>

#include <chrono>
#include <cstring>

#include "checkpoints/file.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;

template <class T>
std::vector<T> values(const TensorView& view) {
  std::vector<T> out(view.bytes / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), view.data, view.bytes);
  return out;
}

// The bytes of a file with this header; `length` overrides the header's stated length.
std::string file_of(const std::string& header, const std::string& data, uint64_t length = 0) {
  if (length == 0) length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

// scripts/make_format_fixtures.py wrote these files with the Python library.
TEST(Safetensors, ReadsPythonsFile) {
  const SafetensorsFolder in(fixture("python.safetensors"));
  EXPECT_THAT(in.names(), ElementsAre("a.weight", "b", "half", "none", "scalar"));
  EXPECT_EQ(in.at("a.weight").type, TensorType::kF32);
  EXPECT_THAT(in.at("a.weight").shape, ElementsAre(2, 3));
  EXPECT_THAT(values<float>(in.at("a.weight")), ElementsAre(1.5f, -2.f, 0.25f, 3.f, 4.f, 5.f));
  EXPECT_EQ(in.at("b").type, TensorType::kF64);
  EXPECT_THAT(values<double>(in.at("b")), ElementsAre(0.1, -0.2));
  EXPECT_EQ(in.at("half").type, TensorType::kF16);
  EXPECT_THAT(values<uint16_t>(in.at("half")), ElementsAre(0x3c00, 0xb800, 0x7bff));
  EXPECT_THAT(in.at("none").shape, ElementsAre(0, 3));
  EXPECT_EQ(in.at("none").bytes, 0u);
  EXPECT_TRUE(in.at("scalar").shape.empty());
  EXPECT_THAT(values<float>(in.at("scalar")), ElementsAre(7.f));
  const auto metadata = read_safetensors_metadata(fixture("python.safetensors"));
  EXPECT_EQ(metadata.at("made"), "by Python");
  EXPECT_EQ(metadata.at("text"), "a \"quote\" and \xc3\xa9");
  EXPECT_FALSE(in.has("c"));
  expect_error(kExitUser, {"python.safetensors", "'c'"}, [&] { in.at("c"); });
}

TEST(Safetensors, ReadsBfloat16) {
  const SafetensorsFolder in(fixture("python_bf16.safetensors"));
  EXPECT_EQ(in.at("x").type, TensorType::kBF16);
  EXPECT_THAT(values<uint16_t>(in.at("x")), ElementsAre(0x3f80, 0xc000, 0x3f00, 0x4049));
}

TEST(Safetensors, OtherTypesAreThereByName) {
  const SafetensorsFolder in(fixture("python_int64.safetensors"));
  EXPECT_EQ(in.at("ids").type, TensorType::kOther);
  EXPECT_EQ(in.at("ids").dtype, "I64");
  expect_error(kExitUser, {"'ids'", "I64", "F32 is needed"},
               [] { read_safetensors(fixture("python_int64.safetensors")); });
  const Scratch scratch;
  write_file_atomic(scratch / "x",
                    file_of(R"({"t":{"dtype":"F4","shape":[],"data_offsets":[0,0]}})", ""));
  expect_error(kExitUser, {"'t'", "F4", "can be read"},
               [&] { SafetensorsFolder in(scratch / "x"); });
}

TEST(Safetensors, AGitLfsPointerIsNamed) {
  const Scratch scratch;
  write_file_atomic(
      scratch / "x",
      "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n");
  expect_error(kExitUser, {"x' is a Git LFS pointer", "git lfs pull"},
               [&] { SafetensorsFolder in(scratch / "x"); });
}

TEST(Safetensors, ReadsShards) {
  const SafetensorsFolder in(fixture("python_sharded"));
  EXPECT_THAT(in.names(), ElementsAre("one", "three", "two"));
  EXPECT_THAT(values<float>(in.at("two")), ElementsAre(3.f));
  EXPECT_THAT(values<float>(in.at("three")), ElementsAre(4.f, 5.f));
}

// What is missing here may be there on another machine, of which a run of several ranks knows.
TEST(Safetensors, WhatIsMissingMayBeTheFaultOfThisMachine) {
  const Scratch scratch;
  make_folder(scratch / "empty");
  make_folder(scratch / "shard");
  write_file_atomic(scratch / "shard/model.safetensors.index.json",
                    R"({"weight_map":{"a":"x.safetensors"}})");
  for (const char* name : {"missing", "empty", "shard"}) {
    try {
      SafetensorsFolder in(scratch / name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), kExitUser) << error.what();
      EXPECT_TRUE(error.of_node()) << error.what();
    }
  }
}

TEST(Safetensors, BrokenShardsAreNamed) {
  const Scratch scratch;
  auto copy = [&](const std::string& name) {
    write_file_atomic(scratch / name, read_file(fixture("python_sharded/" + name)));
  };
  expect_error(kExitUser, {"neither model.safetensors"},
               [&] { SafetensorsFolder in(scratch.path()); });
  expect_error(kExitUser, {"no model at"}, [&] { SafetensorsFolder in(scratch / "missing"); });
  copy("model.safetensors.index.json");
  copy("model-00001-of-00002.safetensors");
  expect_error(kExitUser, {"model-00002-of-00002.safetensors", "no such file"},
               [&] { SafetensorsFolder in(scratch.path()); });
  write_file_atomic(scratch / "model-00002-of-00002.safetensors",
                    read_file(scratch / "model-00001-of-00002.safetensors"));
  expect_error(kExitDisk, {"model-00002-of-00002.safetensors", "'three'", "missing"},
               [&] { SafetensorsFolder in(scratch.path()); });
  for (const char* bad : {"{", "[]", "{}", R"({"weight_map":{}})", R"({"weight_map":{"a":1}})",
                          R"({"weight_map":{"a":"../x.safetensors"}})"}) {
    write_file_atomic(scratch / "model.safetensors.index.json", bad);
    expect_error(kExitDisk, {"model.safetensors.index.json"},
                 [&] { SafetensorsFolder in(scratch.path()); });
  }
}

TEST(Safetensors, EveryCutIsSeenWhenOpened) {
  const Scratch scratch;
  const std::string whole = read_file(fixture("python.safetensors"));
  for (size_t n = 0; n < whole.size(); ++n) {
    write_file_atomic(scratch / "cut.safetensors", whole.substr(0, n));
    expect_error(kExitDisk, {"cut.safetensors", "damaged"},
                 [&] { SafetensorsFolder in(scratch / "cut.safetensors"); });
  }
  write_file_atomic(scratch / "long.safetensors", whole + "x");
  expect_error(kExitDisk, {"1 bytes longer"},
               [&] { SafetensorsFolder in(scratch / "long.safetensors"); });
}

TEST(Safetensors, BadHeadersAreRefused) {
  const Scratch scratch;
  const std::string path = scratch / "bad.safetensors";
  const std::string four(4, '\0'), eight(8, '\0');
  auto one = [](const std::string& tail) { return R"({"t":{"dtype":"F32",)" + tail + "}}"; };
  const std::vector<std::pair<std::string, std::string>> cases = {
      {file_of("{}", "", uint64_t{1} << 62), "header should have"},
      {file_of("{}", "", 3), "header should have"},
      {file_of("{", ""), "JSON"},
      {file_of("[1]", ""), "JSON"},
      {file_of(R"({"t":1})", ""), "'t'"},
      {file_of(R"({"t":{}})", ""), "'t' has no dtype"},
      {file_of(R"({"__metadata__":{"a":1}})", ""), "metadata 'a'"},
      {file_of(one(R"("shape":[1])"), four), "'t' has no valid data_offsets"},
      {file_of(one(R"("data_offsets":[0,4])"), four), "'t' has no valid shape"},
      {file_of(one(R"("shape":[-1],"data_offsets":[0,4])"), four), "'t' has no valid shape"},
      {file_of(one(R"("shape":[1.0],"data_offsets":[0,4])"), four), "'t' has no valid shape"},
      {file_of(one(R"("shape":[1],"data_offsets":[4,0])"), four), "'t' should be at"},
      {file_of(one(R"("shape":[2],"data_offsets":[0,8])"), four), "'t' should be at"},
      {file_of(one(R"("shape":[2],"data_offsets":[0,4])"), four), "'t' has 4 bytes"},
      {file_of(one(R"("shape":[4611686018427387905],"data_offsets":[0,4])"), four), "impossible"},
      {file_of(one(R"("shape":[1],"data_offsets":[4,8])"), eight), "gap before tensor 't'"},
      {file_of(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
               R"("u":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
               four),
       "overlaps"},
      {file_of(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
               R"("t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
               eight),
       "'t' twice"},
      {file_of(R"({"__metadata__":{"k":"a","k":"b"}})", ""), "'k' twice"},
  };
  for (const auto& [bytes, part] : cases) {
    write_file_atomic(path, bytes);
    expect_error(kExitDisk, {"bad.safetensors", part}, [&] { SafetensorsFolder in(path); });
  }
  // Control: the same frame with a right header opens.
  write_file_atomic(path, file_of(one(R"("shape":[1],"data_offsets":[0,4])"), four));
  EXPECT_THAT(values<float>(SafetensorsFolder(path).at("t")), ElementsAre(0.f));
}

TEST(Safetensors, WritesWhatItReads) {
  const Scratch scratch;
  SafetensorsData data;
  data.metadata = {{"k", "v \"\xc3\xa9"}};
  data.tensors["b"] = {{2, 1}, {1.f, -0.f}};
  data.tensors["a"] = {{1}, {3.f}};
  write_safetensors(scratch / "x.safetensors", data);
  const SafetensorsData back = read_safetensors(scratch / "x.safetensors");
  EXPECT_EQ(back.metadata, data.metadata);
  EXPECT_EQ(back.tensors, data.tensors);
  const std::string bytes = read_file(scratch / "x.safetensors");
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0u);
  EXPECT_EQ(bytes.size(), 8 + length + 12);
  EXPECT_EQ(bytes.substr(8 + length, 4), std::string("\0\0\x40\x40", 4));  // 3.0, "a" first
}

TEST(Safetensors, HashesSeeContentOnly) {
  const Scratch scratch;
  const std::string whole = read_file(fixture("python.safetensors"));
  const std::string path = scratch / "x.safetensors";
  write_file_atomic(path, whole);
  const SafetensorsFolder original(fixture("python.safetensors"));
  const SafetensorsFolder copy(path);
  EXPECT_EQ(original.content_hash(), copy.content_hash());
  EXPECT_EQ(copy.quick_fingerprint(), SafetensorsFolder(path).quick_fingerprint());
  std::string changed = whole;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  write_file_atomic(path, changed);
  std::filesystem::last_write_time(
      path, std::filesystem::file_time_type::clock::now() + std::chrono::seconds(1));
  const SafetensorsFolder other(path);
  EXPECT_NE(original.content_hash(), other.content_hash());
  EXPECT_NE(copy.quick_fingerprint(), other.quick_fingerprint());  // by its time
  int differ = 0;
  for (const std::string& name : original.names())
    differ += original.tensor_hash(name) != other.tensor_hash(name);
  EXPECT_EQ(differ, 1);
}

}  // namespace
}  // namespace svfleet
