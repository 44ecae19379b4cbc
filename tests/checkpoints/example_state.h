// A small run state with every field set, as it stands in tests/data/formats/. Never change it.
#pragma once

#include "checkpoints/run_state.h"

namespace svfleet {

inline RunState example_state() {
  RunState s;
  s.step = 12;
  s.position = 96;
  s.seed = 18446744073709551615u;
  s.slots = {{"model.layers.0.mlp.up_proj.weight", 0, 3},
             {"model.layers.0.mlp.down_proj.weight", 3, 2}};
  s.p = {0.5f, -0.25f, 1e-30f, 0.f, -3.f};
  s.m = {1.f, 2.f, 3.f, 4.f, 5.f};
  s.v = {0.125f, 0.25f, 0.5f, 1.f, 2.f};
  s.updates = 11;
  s.nonfinite_in_a_row = 1;
  s.nonfinite_total = 2;
  s.best_score = 0.75;
  s.best_step = 8;
  s.validations_since_best = 1;
  s.bits_config = R"({"threads":1})";
  s.identity = R"({"cpu":"avx2"})";
  s.config = "train:\n  steps: 48  # é\n";
  s.model_hash = "0123456789abcdef0123456789abcdef";
  s.store_hash = "fedcba9876543210fedcba9876543210";
  s.parent = "";
  return s;
}

// Two experts: the second is ahead, with a state of its own.
inline RunState example_of_several() {
  RunState second = example_state(), run;
  second.step = 13;
  second.seed = 7;
  second.p[0] = 9;
  second.best_step = 13;
  second.parent = "a hash";
  second.validation = R"({"by":"score","data":["00"]})";
  run.step = 13;
  run.config = "experts: []";
  run.identity = second.identity;
  run.model_hash = second.model_hash;
  run.store_hash = second.store_hash;
  run.experts = {{"first", example_state()}, {"second", second}};
  return run;
}

}  // namespace svfleet
