#include "worker/model/generate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "comm/error.h"
#include "comm/random.h"
#include "comm/stage.h"
#include "worker/model/next_token.h"
#include "worker/tokenizer/stop_strings.h"

namespace svfleet {
namespace {

// One reply being written.
struct Row {
  Rollout rollout;
  StreamDecoder decoder;
  StopMatcher stop;

  Row(const Tokenizer& tokenizer, const std::vector<std::string>& stop_strings)
      : decoder(tokenizer), stop(stop_strings) {}
};

// Keys and values of `layers` for the rows of the decoding loop, prompts right-aligned.
DecodeCache fill_cache(const Architecture& arch, const std::vector<Prompt>& prompts,
                       const std::vector<Segment>& segments, bool shared,
                       const std::vector<LayerKv>& kv, int samples, int64_t longest,
                       int64_t capacity) {
  const at::TensorOptions options = kv[0].k.options();
  const int64_t rows = int64_t(prompts.size()) * samples;
  DecodeCache cache;
  cache.filled = longest;
  cache.mask = at::zeros({rows, capacity}, options.device(at::kCPU));
  for (size_t p = 0; p < prompts.size(); ++p)
    cache.mask.narrow(0, int64_t(p) * samples, samples)
        .narrow(1, 0, longest - int64_t(prompts[p].tokens.size()))
        .fill_(-std::numeric_limits<double>::infinity());
  cache.mask = cache.mask.to(options.device());
  for (int layer = 0; layer < arch.layers; ++layer) {
    for (bool keys : {true, false}) {
      const at::Tensor& source = keys ? kv[layer].k : kv[layer].v;
      at::Tensor all = at::zeros({rows, arch.kv_heads, capacity, arch.head_dim}, options);
      for (size_t p = 0; p < prompts.size(); ++p) {
        const Segment& own = segments[p + (shared ? 1 : 0)];
        at::Tensor tokens = source.narrow(0, own.start, own.length);
        if (shared) tokens = at::cat({source.narrow(0, 0, segments[0].length), tokens});
        const int64_t length = tokens.size(0);
        all.narrow(0, int64_t(p) * samples, samples)
            .narrow(2, longest - length, length)
            .copy_(tokens.transpose(0, 1).unsqueeze(0).expand(
                {samples, arch.kv_heads, length, arch.head_dim}));
      }
      (keys ? cache.k : cache.v).push_back(all);
    }
  }
  return cache;
}

void keep_rows(DecodeCache& cache, const std::vector<int64_t>& rows) {
  at::Tensor index = at::empty({int64_t(rows.size())}, at::kLong);
  std::copy(rows.begin(), rows.end(), index.data_ptr<int64_t>());
  index = index.to(cache.mask.device());
  cache.mask = cache.mask.index_select(0, index);
  for (auto* side : {&cache.k, &cache.v})
    for (at::Tensor& t : *side) t = t.index_select(0, index);
}

}  // namespace

int64_t common_prefix(const std::vector<const std::vector<int>*>& sequences) {
  if (sequences.size() < 2) return 0;
  int64_t length = int64_t(sequences[0]->size()) - 1;
  for (const auto* s : sequences) {
    length = std::min(length, int64_t(s->size()) - 1);
    for (int64_t i = 0; i < length; ++i)
      if ((*s)[i] != (*sequences[0])[i]) length = i;
  }
  return std::max<int64_t>(length, 0);
}

std::vector<Rollout> generate(const Model& model, const Tokenizer& tokenizer,
                              const std::vector<Prompt>& prompts, int samples,
                              const SamplingOptions& options, Apply apply,
                              const std::vector<at::Tensor>& d, const OnText& on_text) {
  c10::NoGradGuard no_grad;
  const InStage generating(Stage::kToken);
  const Architecture& arch = model.architecture();
  int64_t longest = 0, most_new = 0;
  for (const Prompt& prompt : prompts) {
    const int64_t length = int64_t(prompt.tokens.size());
    SVFLEET_CHECK(length > 0, "empty prompt ", prompt.key);
    if (arch.max_positions && length + prompt.max_new_tokens > arch.max_positions)
      throw user_error("prompt ", prompt.key, " has ", length, " tokens and may be answered with ",
                       prompt.max_new_tokens, ": more than the model's ", arch.max_positions,
                       " positions; shorten it or task.max_new_tokens");
    longest = std::max(longest, length);
    most_new = std::max<int64_t>(most_new, prompt.max_new_tokens);
  }

  // Prefill: the common prefix, then the rest of each prompt.
  std::vector<const std::vector<int>*> sequences;
  for (const Prompt& prompt : prompts) sequences.push_back(&prompt.tokens);
  const int64_t shared = common_prefix(sequences);
  std::vector<int> packed(prompts[0].tokens.begin(), prompts[0].tokens.begin() + shared);
  std::vector<Segment> segments;
  if (shared) segments.push_back({0, shared, -1, 0});
  std::vector<int64_t> last;  // packed row of each prompt's last token
  for (const Prompt& prompt : prompts) {
    segments.push_back(
        {int64_t(packed.size()), int64_t(prompt.tokens.size()) - shared, shared ? 0 : -1, shared});
    packed.insert(packed.end(), prompt.tokens.begin() + shared, prompt.tokens.end());
    last.push_back(int64_t(packed.size()) - 1);
  }
  std::vector<LayerKv> kv;
  at::Tensor hidden = model.forward(packed, segments, apply, d, &kv);
  at::Tensor last_rows = at::empty({int64_t(last.size())}, at::kLong);
  std::copy(last.begin(), last.end(), last_rows.data_ptr<int64_t>());
  Distribution next = distribution(hidden.index_select(0, last_rows.to(model.device())),
                                   model.head(), options.temperature);
  DecodeCache cache =
      fill_cache(arch, prompts, segments, shared > 0, kv, samples, longest, longest + most_new);
  kv.clear();

  std::vector<Row> rows;
  std::vector<int64_t> from;  // row of `next` that each live row reads
  std::vector<size_t> live;
  for (size_t p = 0; p < prompts.size(); ++p)
    for (int s = 0; s < samples; ++s) {
      live.push_back(rows.size());
      from.push_back(int64_t(p));
      Row& row = rows.emplace_back(tokenizer, prompts[p].stop);
      row.rollout.prompt = int(p);
      row.rollout.sample = s;
    }

  while (!live.empty()) {
    enter(Stage::kToken);
    std::vector<size_t> still_live;
    std::vector<int64_t> kept, positions;
    std::vector<int> tokens;
    std::vector<double> uniforms;
    for (const size_t r : live) {
      const Rollout& rollout = rows[r].rollout;
      uniforms.push_back(sample_uniform(options.seed, options.step, prompts[rollout.prompt].key,
                                        rollout.sample, int64_t(rollout.tokens.size())));
    }
    const NextTokens drawn = next_tokens(next, from, uniforms, options);
    for (size_t i = 0; i < live.size(); ++i) {
      Row& row = rows[live[i]];
      Rollout& rollout = row.rollout;
      const Prompt& prompt = prompts[rollout.prompt];
      const int place = int(rollout.tokens.size());
      const int token = drawn.tokens[i];
      rollout.tokens.push_back(token);
      rollout.log_probs.push_back(drawn.log_probs[i]);
      rollout.finite = rollout.finite && std::isfinite(drawn.log_probs[i]);
      rollout.entropy += drawn.entropies[i];

      for (const auto* stops : {&arch.stop_tokens, &prompt.stop_tokens})
        rollout.ended =
            rollout.ended || std::find(stops->begin(), stops->end(), token) != stops->end();
      if (!rollout.ended) {
        std::string text = row.stop.push(row.decoder.push(token));
        rollout.ended = row.stop.stopped();
        rollout.text += text;
        if (on_text && live[i] == 0) on_text(text);
      }
      if (rollout.ended || place + 1 == prompt.max_new_tokens) {
        std::string rest = row.stop.stopped() ? "" : row.stop.push(row.decoder.finish());
        rest += row.stop.finish();
        rollout.text += rest;
        if (on_text && live[i] == 0) on_text(rest);
        continue;
      }
      still_live.push_back(live[i]);
      kept.push_back(int64_t(i));
      tokens.push_back(token);
      positions.push_back(int64_t(prompt.tokens.size()) + place);
    }
    if (still_live.size() < live.size() && !still_live.empty()) keep_rows(cache, kept);
    live = std::move(still_live);
    if (live.empty()) break;
    next = distribution(model.decode(tokens, positions, apply, d, cache), model.head(),
                        options.temperature);
    from.resize(live.size());
    for (size_t i = 0; i < live.size(); ++i) from[i] = int64_t(i);
  }

  std::vector<Rollout> rollouts;
  for (Row& row : rows) rollouts.push_back(std::move(row.rollout));
  return rollouts;
}

}  // namespace svfleet
