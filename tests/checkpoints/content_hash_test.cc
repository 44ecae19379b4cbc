#include "checkpoints/content_hash.h"

#include <gtest/gtest.h>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "checkpoints/hdf5_image.h"
#include "checkpoints/run_checkpoint.h"
#include "checkpoints/safetensors.h"
#include "tests/checkpoints/example_state.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

TEST(ContentHash, ExpertIsItsZ) {
  const Scratch scratch;
  Expert expert{{{"w", {1.f, 2.f}}}, {{"task", "a"}}};
  save_expert(scratch / "a.safetensors", expert);
  expert.metadata["task"] = "b";
  save_expert(scratch / "b.safetensors", expert);
  EXPECT_EQ(hash_path(scratch / "a.safetensors"), z_hash(expert));
  EXPECT_EQ(hash_path(scratch / "a.safetensors"), hash_path(scratch / "b.safetensors"));
  expert.z["w"][1] = 2.5f;
  save_expert(scratch / "b.safetensors", expert);
  EXPECT_NE(hash_path(scratch / "a.safetensors"), hash_path(scratch / "b.safetensors"));
}

TEST(ContentHash, ModelIsItsTensorsHoweverSplit) {
  const Scratch scratch;
  SafetensorsData all;
  all.metadata = {{"format", "pt"}};
  all.tensors["one"] = {{2}, {1, 2}};
  all.tensors["two"] = {{1}, {3}};
  all.tensors["three"] = {{1, 2}, {4, 5}};
  write_safetensors(scratch / "model.safetensors", all);
  const std::string sharded = hash_path(fixture("python_sharded"));
  EXPECT_EQ(hash_path(scratch.path()), sharded);
  EXPECT_EQ(hash_path(scratch / "model.safetensors"), sharded);
  all.tensors["two"].second[0] = 4;
  write_safetensors(scratch / "model.safetensors", all);
  EXPECT_NE(hash_path(scratch.path()), sharded);
}

TEST(ContentHash, CheckpointAndRun) {
  const Scratch scratch;
  RunState state = example_state();
  save_checkpoint(scratch / "run", state);
  const std::string hash = state_hash(state);
  EXPECT_EQ(hash_path(checkpoint_path(scratch / "run", 12)), hash);
  EXPECT_EQ(hash_path(scratch / "run"), hash);
  write_file_atomic(checkpoint_path(scratch / "run", 13), "damaged");
  EXPECT_EQ(hash_path(scratch / "run"), hash);
  expect_error(kExitDisk, {"damaged"}, [&] { hash_path(checkpoint_path(scratch / "run", 13)); });
  state.step = 14;
  save_checkpoint(scratch / "run", state);
  EXPECT_NE(hash_path(scratch / "run"), hash);
  make_folder(scratch / "new/checkpoints");
  expect_error(kExitUser, {"has no checkpoint", "none was saved yet"},
               [&] { hash_path(scratch / "new"); });
}

struct Factor {
  std::string source = "s", form = "right", extra = "built yesterday";
  std::vector<float> q = {1, 0, 0, 1};
  std::vector<double> sigma = {2, 1};
  bool bf16 = false;
};

void write_factor(const std::string& path, const Factor& f) {
  Hdf5Writer out;
  out.text("certificate", f.extra);
  out.text("source_hash", f.source);
  out.text("form", f.form);
  if (f.bf16) {
    const std::vector<uint16_t> bits = {0x3f80, 0, 0, 0x3f80};
    out.bfloat16s("Q", bits, {2, 2});
  } else {
    out.floats("Q", f.q, {2, 2});
  }
  out.doubles("sigma", f.sigma, {static_cast<int64_t>(f.sigma.size())});
  write_file_atomic(path, out.finish());
}

TEST(ContentHash, FactorStore) {
  const Scratch scratch;
  write_file_atomic(scratch / "store.json", "{}");
  expect_error(kExitUser, {"no matrix"}, [&] { hash_path(scratch.path()); });
  write_factor(scratch / "a.h5", {});
  write_factor(scratch / "b.h5", {});
  const std::string hash = hash_path(scratch.path());
  Factor other;
  other.extra = "built today";
  write_factor(scratch / "b.h5", other);
  EXPECT_EQ(hash_path(scratch.path()), hash);
  std::vector<Factor> changed(5);
  changed[0].source = "t";
  changed[1].form = "left";
  changed[2].q[3] = 0.5f;
  changed[3].sigma[1] = 1.5;
  changed[4].bf16 = true;
  for (const Factor& factor : changed) {
    write_factor(scratch / "b.h5", factor);
    EXPECT_NE(hash_path(scratch.path()), hash);
  }
  remove_file(scratch / "b.h5");
  EXPECT_NE(hash_path(scratch.path()), hash);
  write_factor(scratch / "c.h5", {});
  EXPECT_NE(hash_path(scratch.path()), hash);
}

TEST(ContentHash, OtherPathsListWhatCanBeHashed) {
  const Scratch scratch;
  make_folder(scratch / "empty");
  write_file_atomic(scratch / "x.txt", "");
  write_factor(scratch / "factor.h5", {});
  for (const std::string& path : {scratch / "empty", scratch / "x.txt", scratch / "factor.h5"})
    expect_error(kExitUser, {path, "expert", "checkpoint", "factor store", "run folder", "model"},
                 [&] { hash_path(path); });
  expect_error(kExitUser, {"no such file"}, [&] { hash_path(scratch / "missing"); });
}

}  // namespace
}  // namespace svfleet
