#include "checkpoints/run_checkpoint.h"

#include <gmock/gmock.h>

#include <bit>
#include <cerrno>
#include <cmath>
#include <functional>
#include <set>

#include "checkpoints/file.h"
#include "checkpoints/file_system.h"
#include "checkpoints/hdf5_image.h"
#include "tests/checkpoints/example_state.h"
#include "tests/checkpoints/scratch.h"

namespace svfleet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

void expect_example(const RunState& s) {
  EXPECT_EQ(s.step, 12);
  EXPECT_EQ(s.position, 96);
  EXPECT_EQ(s.seed, 18446744073709551615u);
  ASSERT_EQ(s.slots.size(), 2u);
  EXPECT_EQ(s.slots[0], (MatrixSlot{"model.layers.0.mlp.up_proj.weight", 0, 3}));
  EXPECT_EQ(s.slots[1], (MatrixSlot{"model.layers.0.mlp.down_proj.weight", 3, 2}));
  EXPECT_THAT(s.p, ElementsAre(0.5f, -0.25f, 1e-30f, 0.f, -3.f));
  EXPECT_THAT(s.m, ElementsAre(1.f, 2.f, 3.f, 4.f, 5.f));
  EXPECT_THAT(s.v, ElementsAre(0.125f, 0.25f, 0.5f, 1.f, 2.f));
  EXPECT_EQ(s.updates, 11);
  EXPECT_EQ(s.nonfinite_in_a_row, 1);
  EXPECT_EQ(s.nonfinite_total, 2);
  EXPECT_EQ(s.best_score, 0.75);
  EXPECT_EQ(s.best_step, 8);
  EXPECT_EQ(s.validations_since_best, 1);
  EXPECT_EQ(s.bits_config, R"({"threads":1})");
  EXPECT_EQ(s.identity, R"({"cpu":"avx2"})");
  EXPECT_EQ(s.config, "train:\n  steps: 48  # \xc3\xa9\n");
  EXPECT_EQ(s.model_hash, "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(s.store_hash, "fedcba9876543210fedcba9876543210");
  EXPECT_EQ(s.parent, "");
}

TEST(RunCheckpoint, RoundTrip) {
  expect_example(decode_state(encode_state(example_state()), "memory"));
  RunState empty;
  EXPECT_EQ(state_hash(decode_state(encode_state(empty), "memory")), state_hash(empty));
}

// What the best was chosen on came later: it is no part of the hash.
TEST(RunCheckpoint, ValidationMayBeMissing) {
  RunState state = example_state();
  EXPECT_EQ(decode_state(encode_state(state), "memory").validation, "");
  state.validation = R"({"by":"score","data":["00"]})";
  EXPECT_EQ(decode_state(encode_state(state), "memory").validation, state.validation);
  EXPECT_EQ(state_hash(state), state_hash(example_state()));
}

// Made by the first version; every later one must read it.
TEST(RunCheckpoint, ReadsVersion1) {
  const std::string path = fixture("checkpoint_v1.h5");
  const RunState state = decode_state(read_file(path), path);
  expect_example(state);
  // Computed from the file with h5py and the Python package xxhash.
  EXPECT_EQ(state_hash(state), "955feaf2ebcc294fc78946e4945c389b");
}

// Of each: all that a run of its own would have.
TEST(RunCheckpoint, SeveralExpertsRoundTrip) {
  const RunState run = example_of_several();
  const RunState read = decode_state(encode_state(run), "memory");
  ASSERT_EQ(read.experts.size(), 2u);
  EXPECT_THAT(names_of(read), ElementsAre("first", "second"));
  EXPECT_EQ(read.step, 13);
  EXPECT_EQ(read.config, "experts: []");
  expect_example(*states_of(read)[0]);
  EXPECT_EQ(state_hash(read.experts[1].state), state_hash(run.experts[1].state));
  EXPECT_EQ(read.experts[1].state.validation, run.experts[1].state.validation);
  EXPECT_EQ(state_hash(read), state_hash(run));
  EXPECT_THAT(best_steps(read), ElementsAre(8, 13));
  EXPECT_THAT(names_of(example_state()), ElementsAre(""));
}

// Made by the first version that had them; every later one must read it.
TEST(RunCheckpoint, ReadsVersion2) {
  const std::string path = fixture("checkpoint_v2.h5");
  const RunState state = decode_state(read_file(path), path);
  expect_example(state.experts.at(0).state);
  EXPECT_EQ(state_hash(state), "a519ef2d651f8ac6762c33f6051d6c65");
  EXPECT_EQ(state_hash(example_of_several()), state_hash(state));
}

TEST(RunCheckpoint, HashOfSeveralSeesNamesOrderAndStates) {
  const std::string original = state_hash(example_of_several());
  const std::vector<std::function<void(RunState&)>> changes = {
      [](RunState& s) { s.step ^= 1; },
      [](RunState& s) { s.experts[0].name = "third"; },
      [](RunState& s) { std::swap(s.experts[0], s.experts[1]); },
      [](RunState& s) { std::swap(s.experts[0].state, s.experts[1].state); },
      [](RunState& s) { s.experts.pop_back(); },
      [](RunState& s) { s.experts[1].state.v[2] = 3; }};
  std::set<std::string> hashes{original};
  for (const auto& change : changes) {
    RunState s = example_of_several();
    change(s);
    EXPECT_TRUE(hashes.insert(state_hash(s)).second);
  }
  RunState bad = example_of_several();
  bad.step = 20;
  expect_error(kExitInternal, {"no expert has the steps of the run"}, [&] { encode_state(bad); });
  bad = example_of_several();
  bad.experts[1].state.m.pop_back();
  expect_error(kExitInternal, {"'second'", "differ in length"}, [&] { encode_state(bad); });
}

void flip(float& value) {
  value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) ^ 1u);
}

TEST(RunCheckpoint, HashSeesEveryBitThatMatters) {
  const std::vector<std::pair<const char*, std::function<void(RunState&)>>> changes = {
      {"step", [](RunState& s) { s.step ^= 1; }},
      {"position", [](RunState& s) { s.position ^= 1; }},
      {"seed", [](RunState& s) { s.seed ^= uint64_t{1} << 63; }},
      {"slot name", [](RunState& s) { s.slots[0].name += "x"; }},
      {"slot length",
       [](RunState& s) {
         s.slots[0].length = 2, s.slots[1] = {"x", 2, 3};
       }},
      {"slot order", [](RunState& s) { std::swap(s.slots[0].name, s.slots[1].name); }},
      {"p", [](RunState& s) { flip(s.p[4]); }},
      {"sign of a zero in p", [](RunState& s) { s.p[3] = -0.f; }},
      {"m", [](RunState& s) { flip(s.m[0]); }},
      {"v", [](RunState& s) { flip(s.v[2]); }},
      {"p and m swapped", [](RunState& s) { std::swap(s.p, s.m); }},
      {"updates", [](RunState& s) { s.updates ^= 1; }},
      {"nonfinite_in_a_row", [](RunState& s) { s.nonfinite_in_a_row ^= 1; }},
      {"nonfinite_total", [](RunState& s) { s.nonfinite_total ^= 1; }},
      {"best_score", [](RunState& s) { s.best_score = std::nextafter(s.best_score, 1.0); }},
      {"best_step", [](RunState& s) { s.best_step ^= 1; }},
      {"validations_since_best", [](RunState& s) { s.validations_since_best ^= 1; }},
      {"bits_config", [](RunState& s) { s.bits_config[0] ^= 1; }},
      {"model_hash", [](RunState& s) { s.model_hash[31] ^= 1; }},
      {"store_hash", [](RunState& s) { s.store_hash[0] ^= 1; }},
      {"parent", [](RunState& s) { s.parent = "other at step 3"; }},
  };
  const std::string original = state_hash(example_state());
  std::set<std::string> hashes{original};
  for (const auto& [name, change] : changes) {
    RunState s = example_state();
    change(s);
    EXPECT_TRUE(hashes.insert(state_hash(s)).second) << name;
    // And it survives the file.
    EXPECT_EQ(state_hash(decode_state(encode_state(s), "memory")), state_hash(s)) << name;
  }
  RunState s = example_state();
  s.config = "other";
  s.identity = "other";
  EXPECT_EQ(state_hash(s), original);
}

TEST(RunCheckpoint, WrongFilesAreRefused) {
  auto image = [](const std::function<void(Hdf5Writer&)>& fill) {
    Hdf5Writer out;
    fill(out);
    return out.finish();
  };
  expect_error(kExitDisk, {"x.h5", "not a svfleet checkpoint"},
               [&] { decode_state(image([](auto&) {}), "x.h5"); });
  expect_error(kExitUser, {"x.h5", "newer svfleet"}, [&] {
    decode_state(image([](Hdf5Writer& out) {
                   out.text("format", "svfleet-checkpoint");
                   out.integer("version", 3);
                 }),
                 "x.h5");
  });
  expect_error(kExitDisk, {"x.h5", "'step'", "missing"}, [&] {
    decode_state(image([](Hdf5Writer& out) {
                   out.text("format", "svfleet-checkpoint");
                   out.integer("version", 1);
                 }),
                 "x.h5");
  });
  RunState bad = example_state();
  bad.m.pop_back();
  expect_error(kExitInternal, {"differ in length"}, [&] { encode_state(bad); });
  bad = example_state();
  bad.slots[1].offset = 4;
  expect_error(kExitInternal, {"down_proj"}, [&] { encode_state(bad); });
}

void save(const std::string& run, int64_t step) {
  RunState s = example_state();
  s.step = step;
  save_checkpoint(run, s);
}

TEST(RunCheckpoint, NewestGoodOneIsLoaded) {
  const Scratch scratch;
  EXPECT_FALSE(load_newest_checkpoint(scratch / "never").state);
  for (int64_t step : {2, 999'999, 1'000'000}) save(scratch.path(), step);
  EXPECT_EQ(checkpoint_path("run", 2), "run/checkpoints/step-000002.h5");
  write_file_atomic(scratch / "checkpoints/notes.txt", "not a checkpoint");
  write_file_atomic(scratch / "checkpoints/step-000003.h5.tmp-x-1-1-1", "nor this");
  NewestCheckpoint newest = load_newest_checkpoint(scratch.path());
  EXPECT_EQ(newest.state->step, 1'000'000);  // by number, not by name
  EXPECT_TRUE(newest.damaged.empty());

  // One flipped bit, then a torn file: each passed over with a line.
  std::string bytes = read_file(checkpoint_path(scratch.path(), 1'000'000));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  write_file_atomic(checkpoint_path(scratch.path(), 1'000'000), bytes);
  write_file_atomic(checkpoint_path(scratch.path(), 999'999), bytes.substr(0, 1000));
  newest = load_newest_checkpoint(scratch.path());
  EXPECT_EQ(newest.state->step, 2);
  EXPECT_THAT(newest.damaged,
              ElementsAre(testing::AllOf(HasSubstr("step-1000000.h5"), HasSubstr("checksum")),
                          testing::AllOf(HasSubstr("step-999999.h5"), HasSubstr("damaged"))));
}

// A disk that opens nothing of this name.
class UnreadableDisk : public FileSystem {
 public:
  explicit UnreadableDisk(std::string name) : name_(std::move(name)) { replace_file_system(this); }
  ~UnreadableDisk() override { replace_file_system(nullptr); }
  int open(const std::string& path, int flags, int mode) override {
    if (path.ends_with(name_)) return errno = EIO, -1;
    return FileSystem::open(path, flags, mode);
  }

 private:
  const std::string name_;
};

TEST(RunCheckpoint, WhatCannotBeReadIsNotDamaged) {
  const Scratch scratch;
  for (int64_t step : {2, 3}) save(scratch.path(), step);
  {
    const UnreadableDisk disk("step-000003.h5");
    const NewestCheckpoint newest = load_newest_checkpoint(scratch.path());
    EXPECT_EQ(newest.state->step, 2);  // an older one will do
    EXPECT_THAT(newest.damaged, ElementsAre(HasSubstr("step-000003.h5")));
    EXPECT_TRUE(newest.wrong.empty());
  }
  {
    const UnreadableDisk disk(".h5");
    const NewestCheckpoint newest = load_newest_checkpoint(scratch.path());
    EXPECT_FALSE(newest.state);
    ASSERT_TRUE(newest.unread);
    expect_error(kExitDisk, {"step-000003.h5"}, [&] { std::rethrow_exception(newest.unread); });
  }
  for (int64_t step : {2, 3}) write_file_atomic(checkpoint_path(scratch.path(), step), "damaged");
  EXPECT_FALSE(load_newest_checkpoint(scratch.path()).unread);  // control
}

TEST(RunCheckpoint, NameMustAgreeWithStep) {
  const Scratch scratch;
  save(scratch.path(), 3);
  write_file_atomic(checkpoint_path(scratch.path(), 9),
                    read_file(checkpoint_path(scratch.path(), 3)));
  const NewestCheckpoint newest = load_newest_checkpoint(scratch.path());
  EXPECT_EQ(newest.state->step, 3);
  EXPECT_THAT(newest.damaged, ElementsAre(HasSubstr("holds step 3")));
}

TEST(RunCheckpoint, NewerVersionIsNotPassedOver) {
  const Scratch scratch;
  save(scratch.path(), 3);
  Hdf5Writer out;
  out.text("format", "svfleet-checkpoint");
  out.integer("version", 3);
  write_file_atomic(checkpoint_path(scratch.path(), 4), out.finish());
  expect_error(kExitUser, {"step-000004.h5", "newer svfleet"},
               [&] { load_newest_checkpoint(scratch.path()); });
}

TEST(RunCheckpoint, PruneKeepsTheLastAndTheBest) {
  const Scratch scratch;
  for (int64_t step = 1; step <= 6; ++step) save(scratch.path(), step);
  prune_checkpoints(scratch.path(), 2, {3});
  EXPECT_THAT(list_folder(scratch / "checkpoints"),
              ElementsAre("step-000003.h5", "step-000005.h5", "step-000006.h5"));
  prune_checkpoints(scratch.path(), 0, {});  // never none
  EXPECT_THAT(list_folder(scratch / "checkpoints"), ElementsAre("step-000006.h5"));
}

TEST(RunCheckpoint, PruneKeepsWhatARunMayGoBackTo) {
  const Scratch scratch;
  for (int64_t step = 1; step <= 9; ++step) {
    RunState state = example_state();
    state.step = step;
    state.best_step = step >= 4 ? 2 : 1;
    save_checkpoint(scratch.path(), state);
  }
  write_file_atomic(checkpoint_path(scratch.path(), 5), "damaged");
  prune_checkpoints(scratch.path(), 2, {7}, 5);
  EXPECT_THAT(list_folder(scratch / "checkpoints"),
              ElementsAre("step-000002.h5", "step-000004.h5", "step-000005.h5", "step-000007.h5",
                          "step-000008.h5", "step-000009.h5"));
  // Once the newest is known to be good, it is the one.
  prune_checkpoints(scratch.path(), 1, {7}, 9);
  EXPECT_THAT(list_folder(scratch / "checkpoints"),
              ElementsAre("step-000002.h5", "step-000007.h5", "step-000009.h5"));
}

TEST(RunCheckpoint, PruneDoesNotCountDamagedOnes) {
  const Scratch scratch;
  for (int64_t step = 1; step <= 3; ++step) save(scratch.path(), step);
  write_file_atomic(checkpoint_path(scratch.path(), 100), "damaged");
  prune_checkpoints(scratch.path(), 1, {});
  EXPECT_THAT(list_folder(scratch / "checkpoints"),
              ElementsAre("step-000003.h5", "step-000100.h5"));
  EXPECT_EQ(load_newest_checkpoint(scratch.path()).state->step, 3);
}

}  // namespace
}  // namespace svfleet
