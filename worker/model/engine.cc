#include "worker/model/engine.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "comm/error.h"
#include "comm/random.h"
#include "comm/stage.h"
#include "worker/model/decoder.h"
#include "worker/model/operations.h"
#include "worker/tokenizer/stop_strings.h"

namespace svfleet {
namespace {

// Prompt tokens that are computed at once, at least one prompt: what waits for its first token
// must not hold up those that wait for their next for long.
constexpr int64_t kPrefillTokens = 4096;

// How many tokens all of these begin with, leaving at least one to each.
int64_t common_prefix(const std::vector<const std::vector<int>*>& all) {
  if (all.size() < 2) return 0;
  const std::vector<int>& first = *all[0];
  int64_t length = int64_t(first.size()) - 1;
  for (const std::vector<int>* other : all) {
    length = std::min(length, int64_t(other->size()) - 1);
    length =
        std::mismatch(first.begin(), first.begin() + length, other->begin()).first - first.begin();
  }
  return length;
}

}  // namespace

struct Engine::Held {
  Held(PagePool& p, const Pages& of, at::Tensor last)
      : pool(p), pages(of), hidden(std::move(last)) {
    pool.hold(pages);
  }
  ~Held() { pool.release(pages); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  PagePool& pool;
  const Pages pages;
  const at::Tensor hidden;  // [1, hidden], of its last token
};

// One reply being written.
class Engine::Row {
 public:
  Row(const Engine& engine, int64_t number, std::shared_ptr<const Request> request, int sample,
      std::shared_ptr<Held> held)
      : number(number),
        request(std::move(request)),
        held(std::move(held)),
        arch_(engine.weights_.architecture()),
        decoder_(engine.tokenizer_),
        stop_(this->request->prompt.stop) {
    rollout.sample = sample;
  }

  const Prompt& prompt() const { return request->prompt; }
  int64_t length() const { return int64_t(rollout.tokens.size()); }
  // Of the token that was drawn last.
  int64_t position() const { return int64_t(prompt().tokens.size()) + length() - 1; }

  // The token that was drawn for it; whether it wants another.
  bool take(int token, float log_prob, double entropy) {
    rollout.tokens.push_back(token);
    rollout.log_probs.push_back(log_prob);
    rollout.finite = rollout.finite && std::isfinite(log_prob);
    rollout.entropy += entropy;
    for (const auto* stops : {&arch_.stop_tokens, &prompt().stop_tokens})
      rollout.ended =
          rollout.ended || std::find(stops->begin(), stops->end(), token) != stops->end();
    if (!rollout.ended) {
      const std::string text = stop_.push(decoder_.push(token));
      rollout.ended = stop_.stopped();
      write(text);
    }
    if (!rollout.ended && length() < prompt().max_new_tokens) return true;
    std::string rest = stop_.stopped() ? "" : stop_.push(decoder_.finish());
    rest += stop_.finish();
    write(rest);
    return false;
  }

  const int64_t number;
  const std::shared_ptr<const Request> request;
  std::shared_ptr<Held> held;  // until it has pages of its own
  Pages pages;
  Rollout rollout;

 private:
  void write(const std::string& text) {
    rollout.text += text;
    if (request->on_text && rollout.sample == request->samples.front()) request->on_text(text);
  }

  const Architecture& arch_;
  StreamDecoder decoder_;
  StopMatcher stop_;
};

Engine::Engine(const Weights& weights, const Tokenizer& tokenizer, const Adapter& adapter,
               const SamplingOptions& options, int max_rows)
    : weights_(weights),
      tokenizer_(tokenizer),
      adapter_(adapter),
      options_(options),
      max_rows_(max_rows),
      pool_(weights) {}

Engine::~Engine() = default;

int64_t Engine::submit(Request request) {
  const Prompt& prompt = request.prompt;
  const int64_t length = int64_t(prompt.tokens.size()), positions = weights_.architecture().longest;
  SVFLEET_CHECK(length > 0 && !request.samples.empty(), "empty prompt ", prompt.key);
  if (positions && length + prompt.max_new_tokens > positions)
    throw user_error("prompt ", prompt.key, " has ", length, " tokens and may be answered with ",
                     prompt.max_new_tokens, ": more than the model's ", positions,
                     " positions; shorten it or task.max_new_tokens");
  waiting_.push_back({submitted_, std::make_shared<const Request>(std::move(request)), 0, nullptr});
  return submitted_++;
}

void Engine::cancel(int64_t request) {
  std::erase_if(waiting_, [&](const Waiting& w) { return w.number == request; });
  for (auto* rows : {&rows_, &new_})
    std::erase_if(*rows, [&](const std::unique_ptr<Row>& row) {
      if (row->number != request) return false;
      pool_.release(row->pages);
      return true;
    });
}

// Lets in as many samples as there is room for, in the order of their requests.
void Engine::admit() {
  int64_t room = max_rows_ - rows(), tokens = 0;
  std::vector<Waiting*> prompts;
  for (Waiting& waiting : waiting_) {
    const int64_t length = int64_t(waiting.request->prompt.tokens.size());
    if (room <= 0 || (tokens && tokens + length > kPrefillTokens)) break;
    if (!waiting.held) prompts.push_back(&waiting), tokens += length;
    room -= int64_t(waiting.request->samples.size() - waiting.next);
  }
  if (!prompts.empty()) prefill(prompts);
  while (!waiting_.empty() && waiting_.front().held) {
    Waiting& first = waiting_.front();
    for (; first.next < first.request->samples.size(); ++first.next) {
      if (rows() + int64_t(new_.size()) >= max_rows_) return;
      new_.push_back(std::make_unique<Row>(*this, first.number, first.request,
                                           first.request->samples[first.next], first.held));
    }
    waiting_.pop_front();
  }
}

// As a tree: what prompts of one entry begin with is computed once.
void Engine::prefill(const std::vector<Waiting*>& prompts) {
  std::vector<Segment> segments;
  std::vector<int> own;
  std::vector<std::pair<int, int>> roots;  // entry, segment or -1
  for (const Waiting* waiting : prompts) {
    const Prompt& prompt = waiting->request->prompt;
    auto root = std::find_if(roots.begin(), roots.end(),
                             [&](const auto& r) { return r.first == prompt.entry; });
    if (root == roots.end()) {
      std::vector<const std::vector<int>*> alike;
      for (const Waiting* other : prompts)
        if (other->request->prompt.entry == prompt.entry)
          alike.push_back(&other->request->prompt.tokens);
      const int64_t shared = common_prefix(alike);
      roots.emplace_back(prompt.entry, shared ? int(segments.size()) : -1);
      root = roots.end() - 1;
      if (shared)
        segments.push_back(
            {{prompt.tokens.begin(), prompt.tokens.begin() + shared}, -1, prompt.entry});
    }
    const size_t shared = root->second < 0 ? 0 : segments[size_t(root->second)].tokens.size();
    own.push_back(int(segments.size()));
    segments.push_back({{prompt.tokens.begin() + int64_t(shared), prompt.tokens.end()},
                        root->second,
                        prompt.entry});
  }
  const TreePass tree(segments, pool_);
  const at::Tensor hidden = forward(weights_, adapter_, tree.pass(), pool_);
  for (size_t p = 0; p < prompts.size(); ++p)
    prompts[p]->held = std::make_shared<Held>(pool_, tree.pages(own[p]),
                                              hidden.narrow(0, tree.last_row(own[p]), 1).clone());
}

NextTokens Engine::draw(const at::Tensor& hidden, const std::vector<int64_t>& from,
                        const std::vector<std::unique_ptr<Row>>& rows) const {
  std::vector<double> uniforms;
  for (const auto& row : rows) {
    const DrawKey by = row->prompt().drawn_by.value_or(DrawKey{options_.seed, options_.step});
    uniforms.push_back(sample_uniform(by.seed, by.step, row->prompt().key, row->rollout.sample,
                                      int(row->length())));
  }
  return weights_.head().draw(hidden, from, uniforms, options_);
}

void Engine::take(std::vector<std::unique_ptr<Row>>& rows, const NextTokens& drawn,
                  std::vector<Finished>* finished) {
  for (size_t i = 0; i < rows.size(); ++i) {
    Row& row = *rows[i];
    if (row.take(drawn.tokens[i], drawn.log_probs[i], drawn.entropies[i])) continue;
    finished->push_back({row.number, std::move(row.rollout)});
    pool_.release(row.pages);
    rows[i].reset();
  }
  std::erase(rows, nullptr);
}

std::vector<Engine::Finished> Engine::step() {
  c10::NoGradGuard no_grad;
  const InStage writing(Stage::kToken);
  std::vector<Finished> finished;
  if (!rows_.empty()) {
    Pass pass;
    for (const auto& row : rows_) {
      extend(row->pages, row->position() + 1, pool_);
      pass.tokens.push_back(row->rollout.tokens.back());
      pass.positions.push_back(row->position());
      pass.entries.push_back(row->prompt().entry);
      pass.pages.push_back(&row->pages);
    }
    const at::Tensor hidden = forward(weights_, adapter_, pass, pool_);
    std::vector<int64_t> from(rows_.size());
    std::iota(from.begin(), from.end(), 0);
    take(rows_, draw(hidden, from, rows_), &finished);
  }
  admit();
  if (new_.empty()) return finished;
  std::vector<at::Tensor> hidden;
  std::vector<int64_t> from;
  const Held* last = nullptr;
  for (const auto& row : new_) {
    if (row->held.get() != last) hidden.push_back(row->held->hidden);
    last = row->held.get();
    from.push_back(int64_t(hidden.size()) - 1);
  }
  take(new_, draw(at::cat(hidden), from, new_), &finished);
  for (auto& row : new_) {  // it goes on: with pages of its own from here
    std::vector<PageCopy> copies;
    const auto length = int64_t(row->prompt().tokens.size());
    row->pages = continued(row->held->pages, length, pool_, &copies);
    for (const PageCopy& copy : copies) pool_.copy(copy);
    row->held.reset();
    rows_.push_back(std::move(row));
  }
  new_.clear();
  return finished;
}

}  // namespace svfleet
