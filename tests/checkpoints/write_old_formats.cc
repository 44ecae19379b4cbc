// Usage: write_old_formats FOLDER. Run once per format version; what it made is never made again,
// so that later versions prove that they read what this one wrote.
#include <cstdio>

#include "checkpoints/expert.h"
#include "checkpoints/file.h"
#include "tests/checkpoints/example_state.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: write_old_formats FOLDER\n");
    return 2;
  }
  using namespace svfleet;
  const std::string folder = argv[1];
  write_file_atomic(folder + "/checkpoint_v1.h5", encode_state(example_state()));
  write_file_atomic(folder + "/checkpoint_v2.h5", encode_state(example_of_several()));
  save_expert(folder + "/expert_v1.safetensors",
              {{{"a.weight", {1.f, 0.5f, -2.f}}, {"b.weight", {1.25f}}},
               {{"task", "largest of three"}, {"step", "12"}, {"model_hash", "abc"}}});
  save_expert(folder + "/expert_v2.safetensors",
              {{{"a.weight.A", {1.f, 0.5f, -2.f}}, {"a.weight.B", {1.25f, 0.f}}},
               {{"task", "largest of three"}},
               "lora rank 1 alpha 32",
               {{"a.weight.A", {1, 3}}, {"a.weight.B", {2, 1}}}});
  return 0;
}
