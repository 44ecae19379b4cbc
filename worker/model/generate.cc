#include "worker/model/generate.h"

#include <numeric>

namespace svfleet {

std::vector<Rollout> generate(const Weights& weights, const Tokenizer& tokenizer,
                              const Adapter& adapter, const std::vector<Prompt>& prompts,
                              int samples, const SamplingOptions& options, const OnText& on_text) {
  Engine engine(weights, tokenizer, adapter, options);
  std::vector<int> numbers(size_t(samples), 0);
  std::iota(numbers.begin(), numbers.end(), 0);
  for (size_t p = 0; p < prompts.size(); ++p)
    engine.submit({prompts[p], numbers, p == 0 ? on_text : nullptr});
  std::vector<Rollout> rollouts(prompts.size() * size_t(samples));
  while (!engine.idle())
    for (Engine::Finished& done : engine.step()) {
      Rollout& own = rollouts[size_t(done.request * samples + done.rollout.sample)];
      own = std::move(done.rollout);
      own.prompt = int(done.request);
    }
  return rollouts;
}

}  // namespace svfleet
