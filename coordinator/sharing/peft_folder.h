// An expert as a LoRA adapter that the library peft loads.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "coordinator/sharing/loss.h"
#include "coordinator/sharing/opened.h"
#include "coordinator/sharing/origin.h"

namespace svfleet {

// What a kind of matrix, or all of them, lose by a limited rank.
struct LoraLoss {
  int64_t matrices = 0, truncated = 0, largest_rank = 0;
  int64_t most_moved = 0;  // components of one matrix
  ChangeLoss change = {};  // over all of them
};

struct PeftFolder {
  std::map<std::string, LoraLoss> by_kind;
  LoraLoss all;
};

// adapter_config.json and adapter_model.safetensors, with lora_alpha = r, so that what is added is
// B A itself, and factors in float32. Of rank `most` at most. Error(kExitUser) where the expert
// changes nothing: peft has no adapter without matrices.
PeftFolder write_peft(const OpenedExpert& opened, const Origin& origin, int64_t most,
                      const std::string& out);

}  // namespace svfleet
