// The lines of a task: as questions with a number, and with choices.
#include "rl/task.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace svfleet;
  TaskSpec spec;
  spec.name = "fuzz";
  spec.train = fuzz_file("train.jsonl", data, size);
  for (const RewardKind kind :
       {RewardKind::kLastNumber, RewardKind::kMultipleChoice, RewardKind::kExact}) {
    RewardSpec reward;
    reward.kind = kind;
    spec.rewards = {reward};
    spec.prompt = kind == RewardKind::kMultipleChoice ? "{question.stem}\n{choices}" : "{question}";
    survives([&] {
      for (const Item& item : load_task(spec, "train").items)
        score_reply(spec.rewards, "The answer is 7, or B.", item.gold);
    });
  }
  return 0;
}
