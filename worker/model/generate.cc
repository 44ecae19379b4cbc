#include "worker/model/generate.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "comm/error.h"
#include "comm/random.h"
#include "comm/stage.h"
#include "worker/model/decoder.h"
#include "worker/model/index_tensor.h"
#include "worker/model/roots.h"
#include "worker/tokenizer/stop_strings.h"

namespace svfleet {
namespace {

void check_lengths(const Architecture& arch, const std::vector<Prompt>& prompts) {
  for (const Prompt& prompt : prompts) {
    const int64_t length = int64_t(prompt.tokens.size());
    SVFLEET_CHECK(length > 0, "empty prompt ", prompt.key);
    if (arch.max_positions && length + prompt.max_new_tokens > arch.max_positions)
      throw user_error("prompt ", prompt.key, " has ", length, " tokens and may be answered with ",
                       prompt.max_new_tokens, ": more than the model's ", arch.max_positions,
                       " positions; shorten it or task.max_new_tokens");
  }
}

// One reply being written.
class Reply {
 public:
  Reply(const Tokenizer& tokenizer, const Architecture& arch, const Prompt& prompt, int index,
        int sample, const OnText& on_text)
      : arch_(arch), prompt_(prompt), on_text_(on_text), decoder_(tokenizer), stop_(prompt.stop) {
    rollout_.prompt = index;
    rollout_.sample = sample;
  }

  const Prompt& prompt() const { return prompt_; }
  const Rollout& rollout() const { return rollout_; }
  int64_t length() const { return int64_t(rollout_.tokens.size()); }

  // The token that was drawn for it; whether it wants another.
  bool take(int token, float log_prob, double entropy) {
    rollout_.tokens.push_back(token);
    rollout_.log_probs.push_back(log_prob);
    rollout_.finite = rollout_.finite && std::isfinite(log_prob);
    rollout_.entropy += entropy;
    for (const auto* stops : {&arch_.stop_tokens, &prompt_.stop_tokens})
      rollout_.ended =
          rollout_.ended || std::find(stops->begin(), stops->end(), token) != stops->end();
    if (!rollout_.ended) {
      const std::string text = stop_.push(decoder_.push(token));
      rollout_.ended = stop_.stopped();
      write(text);
    }
    if (!rollout_.ended && length() < prompt_.max_new_tokens) return true;
    std::string rest = stop_.stopped() ? "" : stop_.push(decoder_.finish());
    rest += stop_.finish();
    write(rest);
    return false;
  }

 private:
  void write(const std::string& text) {
    rollout_.text += text;
    if (on_text_ && rollout_.prompt == 0 && rollout_.sample == 0) on_text_(text);
  }

  const Architecture& arch_;
  const Prompt& prompt_;
  const OnText& on_text_;
  Rollout rollout_;
  StreamDecoder decoder_;
  StopMatcher stop_;
};

// The prompts as a tree: common prefixes, then the rest of each.
struct Packed {
  Batch batch;
  std::vector<int> segments;  // each prompt's own
  std::vector<int64_t> last;  // packed row of each prompt's last token
};

Packed pack(const std::vector<Prompt>& prompts) {
  Packed packed;
  std::vector<Sequence> sequences;
  for (const Prompt& prompt : prompts) sequences.push_back({&prompt.tokens, prompt.entry});
  const std::vector<int> roots = add_roots(sequences, packed.batch);
  for (size_t p = 0; p < prompts.size(); ++p) {
    packed.segments.push_back(add_rest(sequences[p], roots[p], packed.batch));
    packed.last.push_back(int64_t(packed.batch.tokens.size()) - 1);
  }
  return packed;
}

// Keys and values of `layers` for the rows of the decoding loop, prompts right-aligned.
DecodeCache fill_cache(const Architecture& arch, const std::vector<Prompt>& prompts,
                       const Packed& packed, const std::vector<LayerKv>& kv, int samples) {
  int64_t longest = 0, most_new = 0;
  for (const Prompt& prompt : prompts) {
    longest = std::max(longest, int64_t(prompt.tokens.size()));
    most_new = std::max<int64_t>(most_new, prompt.max_new_tokens);
  }
  const int64_t capacity = longest + most_new;
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
        const Segment& own = packed.batch.segments[packed.segments[p]];
        at::Tensor tokens = source.narrow(0, own.start, own.length);
        if (own.parent >= 0) {
          const Segment& root = packed.batch.segments[own.parent];
          tokens = at::cat({source.narrow(0, root.start, root.length), tokens});
        }
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
  const at::Tensor index = index_tensor(rows, cache.mask.device());
  cache.mask = cache.mask.index_select(0, index);
  for (auto* side : {&cache.k, &cache.v})
    for (at::Tensor& t : *side) t = t.index_select(0, index);
}

// One token for each of `live`, from the rows `from` of `hidden`.
NextTokens draw(const Head& head, const at::Tensor& hidden, const std::vector<int64_t>& from,
                const std::vector<Reply*>& live, const SamplingOptions& options) {
  std::vector<double> uniforms;
  for (const Reply* reply : live)
    uniforms.push_back(sample_uniform(options.seed, options.step, reply->prompt().key,
                                      reply->rollout().sample, reply->length()));
  return head.draw(hidden, from, uniforms, options);
}

}  // namespace

std::vector<Rollout> generate(const Weights& weights, const Tokenizer& tokenizer,
                              const Adapter& adapter, const std::vector<Prompt>& prompts,
                              int samples, const SamplingOptions& options, const OnText& on_text) {
  c10::NoGradGuard no_grad;
  const InStage generating(Stage::kToken);
  const Architecture& arch = weights.architecture();
  check_lengths(arch, prompts);

  const Packed packed = pack(prompts);
  std::vector<LayerKv> kv;
  at::Tensor hidden = forward(weights, adapter, packed.batch, &kv)
                          .index_select(0, index_tensor(packed.last, weights.device()));
  DecodeCache cache = fill_cache(arch, prompts, packed, kv, samples);
  kv.clear();

  std::vector<Reply> replies;
  replies.reserve(prompts.size() * size_t(samples));  // `live` points into it
  std::vector<Reply*> live;
  std::vector<int64_t> from;  // row of `hidden` that each live reply goes on from
  for (size_t p = 0; p < prompts.size(); ++p)
    for (int s = 0; s < samples; ++s) {
      live.push_back(&replies.emplace_back(tokenizer, arch, prompts[p], int(p), s, on_text));
      from.push_back(int64_t(p));
    }
  while (true) {
    enter(Stage::kToken);
    const NextTokens drawn = draw(weights.head(), hidden, from, live, options);
    std::vector<Reply*> going;
    std::vector<int64_t> kept;
    DecodeBatch next;
    for (size_t i = 0; i < live.size(); ++i) {
      Reply& reply = *live[i];
      if (!reply.take(drawn.tokens[i], drawn.log_probs[i], drawn.entropies[i])) continue;
      going.push_back(&reply);
      kept.push_back(int64_t(i));
      next.tokens.push_back(drawn.tokens[i]);
      next.positions.push_back(int64_t(reply.prompt().tokens.size()) + reply.length() - 1);
      next.entries.push_back(reply.prompt().entry);
    }
    if (going.empty()) break;
    if (going.size() < live.size()) keep_rows(cache, kept);
    live = std::move(going);
    hidden = decode(weights, adapter, next, cache);
    from.resize(live.size());
    std::iota(from.begin(), from.end(), 0);
  }

  std::vector<Rollout> rollouts;
  for (const Reply& reply : replies) rollouts.push_back(reply.rollout());
  return rollouts;
}

}  // namespace svfleet
