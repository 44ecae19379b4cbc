// Replies to prompts by continuous batching: rows enter and leave at any time, and nothing of a
// reply depends on who shares its batch.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/model/adapter.h"
#include "worker/model/key_values.h"
#include "worker/model/sampling.h"
#include "worker/model/weights.h"
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {

// What a reply's random numbers are keyed by, besides its prompt.
struct DrawKey {
  uint64_t seed = 0;
  int64_t step = 0;
};

struct Prompt {
  std::vector<int> tokens;
  int64_t key = 0;  // position in the data: part of the random numbers' key
  int max_new_tokens = 64;
  std::vector<std::string> stop;         // stop strings
  std::vector<int> stop_tokens = {};     // besides the model's own
  int entry = kOnlyExpert;               // of the adapter's table
  std::optional<DrawKey> drawn_by = {};  // instead of the engine's options
};

struct Rollout {
  int prompt = 0, sample = 0;
  std::vector<int> tokens;       // as sampled, the stop token included
  std::vector<float> log_probs;  // of each under softmax(logits / T), untruncated
  double entropy = 0;            // of those distributions, summed over tokens, in nats
  bool finite = true;            // false: the model's logits held a NaN or infinity
  bool ended = false;            // by a stop token or stop string, not by the length limit
  std::string text;              // without stop token; cut before a stop string
};

// Called for each token, for streaming.
using OnText = std::function<void(const std::string&)>;

struct Request {
  Prompt prompt;
  std::vector<int> samples = {0};  // each a reply, by keyed random numbers of its own
  OnText on_text = nullptr;        // of the first of them
};

// Of one thread. A prompt is computed and held once for all of its samples.
class Engine {
 public:
  // What it is given must stay. At most `max_rows` replies are written at a time; others wait.
  Engine(const Weights& weights, const Tokenizer& tokenizer, const Adapter& adapter,
         const SamplingOptions& options, int max_rows = 256);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Returns the request's number. Error(kExitUser) when a prompt and its reply do not fit into the
  // model's positions.
  int64_t submit(Request request);
  void cancel(int64_t request);  // its replies are given up, wherever they are

  struct Finished {
    int64_t request;
    Rollout rollout;  // `prompt` is not set
  };
  // One token more for every row; whoever waits is let in first. Returns what ended.
  std::vector<Finished> step();
  bool idle() const { return waiting_.empty() && rows_.empty(); }
  int64_t rows() const { return int64_t(rows_.size()); }

 private:
  struct Held;  // a prompt's pages, and where its samples begin
  class Row;
  struct Waiting {
    int64_t number;
    std::shared_ptr<const Request> request;
    size_t next = 0;  // sample
    std::shared_ptr<Held> held;
  };

  void admit();
  void prefill(const std::vector<Waiting*>& prompts);
  void take(std::vector<std::unique_ptr<Row>>& rows, const NextTokens& drawn,
            std::vector<Finished>* finished);
  NextTokens draw(const at::Tensor& hidden, const std::vector<int64_t>& from,
                  const std::vector<std::unique_ptr<Row>>& rows) const;

  const Weights& weights_;
  const Tokenizer& tokenizer_;
  const Adapter& adapter_;
  const SamplingOptions options_;
  const int64_t max_rows_;
  PagePool pool_;
  int64_t submitted_ = 0;
  std::deque<Waiting> waiting_;
  std::vector<std::unique_ptr<Row>> rows_;  // that have tokens
  std::vector<std::unique_ptr<Row>> new_;   // whose first token is drawn from their prompt
};

}  // namespace svfleet
