// Three queues behind one interface: a ledger alone, rank 0 of several (ledger and a thread that
// serves the others), and a rank that asks.
#include "comm/chunk_queue.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <map>
#include <string>
#include <thread>

#include "comm/chunk_ledger.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "comm/wait.h"
#include "comm/watch.h"

namespace svfleet {
namespace {

enum Kind : int32_t { kAsk, kFinished, kCancel, kIsOver };
enum Any : int32_t { kThisOne = 1, kLater = 2 };  // kLater: what is left is for others

struct Request {
  int64_t round;
  int64_t ticket;  // of kAsk and kIsOver: tells a late reply from the one that is waited for
  int32_t kind;
  int32_t chunk;  // of kAsk: how many the worker holds
  int64_t worker = 0;
};

struct Reply {
  int64_t round;
  int64_t ticket;
  int32_t any;  // 0: the round has been handed out; kLater; to kIsOver: 1, it is over
  int32_t chunk;
};

// What a rank tells when it comes to the start of a round.
struct AtStart {
  int64_t said;     // messages to rank 0 so far that wanted no answer
  int64_t willing;  // 0: no chunk of this round may be started
  int64_t workers;
};

template <class Message>
std::string_view bytes_of(const Message& message) {
  return {reinterpret_cast<const char*>(&message), sizeof message};
}

template <class Message>
Message message_in(const std::string& bytes) {
  SVFLEET_CHECK(bytes.size() == sizeof(Message), bytes.size(), " bytes in a chunk message");
  Message message;
  std::memcpy(&message, bytes.data(), sizeof message);
  return message;
}

class LoneQueue : public ChunkQueue {
 public:
  explicit LoneQueue(Group& group) : group_(group) {
    watch().look_after([this] { return holdings(); });
  }
  ~LoneQueue() override { watch().look_after(nullptr); }

  void start_round(const std::vector<int>& order, bool willing, int workers) override {
    ledger_.start(order, workers);
    if (!willing) cancel_round();
  }
  std::optional<int> next(int held, int worker, bool* nothing_left) override {
    return ledger_.hand_out(0, ledger_.round(), held, worker, nothing_left);
  }
  void finished(int chunk) override { ledger_.finish(0, ledger_.round(), chunk); }
  Watch& watch() override { return group_.watch(); }
  void wait_until_over(std::string_view, const std::function<bool()>&) override {}
  void cancel_round() override { ledger_.cancel(ledger_.round()); }
  std::vector<Holding> holdings() const override { return ledger_.holdings(); }
  int64_t finished_count() const override { return ledger_.finished_count(); }

 private:
  Group& group_;
  ChunkLedger ledger_;
};

// What all ranks of a group share: tags of this queue's own, so that messages of an earlier queue
// of the same group cannot reach it, and an end that waits for all.
class SharedQueue : public ChunkQueue {
 public:
  SharedQueue(Group& group, double timeout_s, int number)
      : group_(group),
        timeout_s_(timeout_s),
        request_tag_(2 * number),
        reply_tag_(2 * number + 1) {}

  Watch& watch() override { return group_.watch(); }

 protected:
  void leave_together() {
    if (std::uncaught_exceptions() > exceptions_at_start_) return;
    try {
      group_.barrier("end of the chunk queue");
    } catch (const Error&) {
      // The group remembers why it failed and says so at its next use.
    }
  }

  Group& group_;
  const double timeout_s_;
  const int request_tag_;
  const int reply_tag_;

 private:
  const int exceptions_at_start_ = std::uncaught_exceptions();
};

class ServingQueue : public SharedQueue {
 public:
  ServingQueue(Group& group, double timeout_s, int number, Replicas replicas)
      : SharedQueue(group, timeout_s, number), replicas_(replicas), heard_(group.size()) {
    for (auto& count : heard_) count = 0;
    watch().look_after([this] { return held_by_members(); });
    service_ = std::thread([this] { serve(); });
  }

  ~ServingQueue() override {
    leave_together();
    watch().look_after(nullptr);
    stop_ = true;
    service_.join();
  }

  void start_round(const std::vector<int>& order, bool willing, int workers) override {
    const std::vector<std::string> said = group_.gather("", "start a round of chunks");
    wait_to_hear(said);
    int64_t all_workers = workers;
    for (int rank = 1; rank < group_.size(); ++rank) {
      const auto theirs = message_in<AtStart>(said[rank]);
      willing = willing && theirs.willing;
      if (replicas_.leads(rank)) all_workers += theirs.workers;
    }
    ledger_.start(order, all_workers);
    if (!willing) cancel_round();  // while nobody can ask yet
    group_.barrier("round of chunks started");
  }

  std::optional<int> next(int held, int worker, bool* nothing_left) override {
    rethrow_service_error();
    return ledger_.hand_out(0, ledger_.round(), held, worker, nothing_left);
  }
  void finished(int chunk) override { ledger_.finish(0, ledger_.round(), chunk); }

  void wait_until_over(std::string_view op, const std::function<bool()>& idle) override {
    const InStage waiting(Stage::kWaiting);
    Patience patience;
    Deadline next_look(0);
    while (!ledger_.over()) {
      rethrow_service_error();
      if (next_look.passed()) {
        next_look = Deadline(0.2);
        watch().check(op);
        if (idle && !idle()) cancel_round();
      }
      patience.pause();
    }
  }

  void cancel_round() override { ledger_.cancel(ledger_.round()); }
  std::vector<Holding> holdings() const override { return ledger_.holdings(); }
  int64_t finished_count() const override { return ledger_.finished_count(); }

 private:
  // Each rank of a replica works on what its leader took, and is looked after.
  std::vector<Holding> held_by_members() const {
    std::vector<Holding> all;
    for (Holding one : ledger_.holdings())
      for (const int leader = one.rank; replicas_.leader_of(one.rank) == leader; ++one.rank)
        all.push_back(one);
    return all;
  }

  // What a rank said of the round before may be still on its way when the rank is already here.
  void wait_to_hear(const std::vector<std::string>& said) {
    const Deadline deadline(timeout_s_);
    Patience patience;
    for (int rank = 1; rank < group_.size(); ++rank) {
      const int64_t count = message_in<AtStart>(said[rank]).said;
      while (heard_[rank] < count) {
        rethrow_service_error();
        if (deadline.passed())
          throw make_error(kExitRequeue, "timeout after ", timeout_s_,
                           " s in 'start a round of "
                           "chunks': a message of rank ",
                           rank, " did not arrive");
        patience.pause();
      }
    }
  }

  void serve() {
    try {
      while (!stop_) {
        int rank = -1, tag = request_tag_;
        std::string bytes;
        if (!group_.mailbox().try_receive(&rank, &tag, &bytes)) {
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          continue;
        }
        answer(rank, message_in<Request>(bytes));
      }
    } catch (...) {
      std::lock_guard<std::mutex> lock(error_mutex_);
      error_ = std::current_exception();
    }
  }

  void answer(int rank, const Request& request) {
    if (request.kind == kIsOver) {
      const Reply reply{request.round, request.ticket, ledger_.over(), 0};
      group_.mailbox().send(rank, reply_tag_, bytes_of(reply));
      return;
    }
    if (request.kind == kAsk) {
      SVFLEET_CHECK(replicas_.leads(rank), "rank ", rank, " asks for a chunk but does not lead");
      bool nothing_left = false;
      const auto chunk =
          ledger_.hand_out(rank, request.round, request.chunk, int(request.worker), &nothing_left);
      const Reply reply{request.round, request.ticket,
                        chunk          ? kThisOne
                        : nothing_left ? 0
                                       : kLater,
                        chunk.value_or(0)};
      group_.mailbox().send(rank, reply_tag_, bytes_of(reply));
      return;
    }
    if (request.kind == kCancel)
      ledger_.cancel(request.round);
    else
      ledger_.finish(rank, request.round, request.chunk);
    ++heard_[rank];
  }

  void rethrow_service_error() {
    std::lock_guard<std::mutex> lock(error_mutex_);
    if (error_) std::rethrow_exception(error_);
  }

  const Replicas replicas_;
  ChunkLedger ledger_;
  std::vector<std::atomic<int64_t>> heard_;  // kFinished and kCancel, by rank
  std::atomic<bool> stop_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;  // what ended the service
  std::thread service_;
};

class AskingQueue : public SharedQueue {
 public:
  using SharedQueue::SharedQueue;
  ~AskingQueue() override { leave_together(); }

  void start_round(const std::vector<int>&, bool willing, int workers) override {
    const AtStart mine{said_, willing, workers};
    group_.gather(bytes_of(mine), "start a round of chunks");
    group_.barrier("round of chunks started");
    cancelled_ = false;
    ++round_;
  }

  std::optional<int> next(int held, int worker, bool* nothing_left) override {
    std::lock_guard<std::mutex> lock(asking_);
    if (cancelled_) return std::nullopt;
    const Reply reply = ask(kAsk, held, worker);
    if (nothing_left) *nothing_left = reply.any == 0;
    if (reply.any != kThisOne) return std::nullopt;
    if (cancelled_) {  // while it was asked: rank 0 must not wait for this chunk
      finished(reply.chunk);
      return std::nullopt;
    }
    return reply.chunk;
  }

  void wait_until_over(std::string_view, const std::function<bool()>& idle) override {
    // Rank 0 answers all ranks in turn: the more there are, the less often each asks.
    const InStage waiting(Stage::kWaiting);
    Patience patience(0.02 * (1 + group_.size() / 64.0));
    std::lock_guard<std::mutex> lock(asking_);
    while (!ask(kIsOver).any) {
      if (idle && !idle()) cancel_round();
      patience.pause();
    }
  }

  void finished(int chunk) override {
    ++said_;
    const Request request{round_, 0, kFinished, chunk};
    group_.mailbox().send(0, request_tag_, bytes_of(request));
  }

  void cancel_round() override {
    if (cancelled_.exchange(true)) return;
    ++said_;
    const Request request{round_, 0, kCancel, 0};
    group_.mailbox().send(0, request_tag_, bytes_of(request));
  }

  std::vector<Holding> holdings() const override { only_on_rank_0(); }
  int64_t finished_count() const override { only_on_rank_0(); }

 private:
  // One question at a time; the threads of a rank take turns.
  Reply ask(Kind kind, int held = 0, int worker = 0) {
    if (rank_0_is_silent_) throw_silence();
    const Request request{round_, ++ticket_, kind, held, worker};
    group_.mailbox().send(0, request_tag_, bytes_of(request));
    const Deadline deadline(timeout_s_);
    Patience patience;
    while (true) {
      int rank = 0, tag = reply_tag_;
      std::string bytes;
      if (group_.mailbox().try_receive(&rank, &tag, &bytes)) {
        const Reply reply = message_in<Reply>(bytes);
        if (reply.ticket == request.ticket) return reply;
        continue;
      }
      if (deadline.passed()) {
        rank_0_is_silent_ = true;
        throw_silence();
      }
      patience.pause();
    }
  }

  [[noreturn]] void throw_silence() {
    throw make_error(kExitRequeue, expiry(timeout_s_, "ask for a chunk", group_.step()), ": rank ",
                     group_.name(0), " did not answer rank ", group_.name(group_.rank()));
  }
  [[noreturn]] void only_on_rank_0() const {
    throw make_error(kExitInternal, "internal error: the chunk ledger was read on rank ",
                     group_.rank(), "; it is on rank 0");
  }

  std::mutex asking_;
  bool rank_0_is_silent_ = false;  // the other threads need not wait for it in turn
  int64_t ticket_ = 0;
  std::atomic<int64_t> round_{0};
  std::atomic<int64_t> said_{0};
  std::atomic<bool> cancelled_{false};
};

// Queues are made collectively, so the n-th one is the same on all ranks.
int next_number() {
  static std::atomic<int> count{0};
  return count++ % 8000;  // MPI promises tags up to 32767
}

}  // namespace

std::unique_ptr<ChunkQueue> make_chunk_queue(Group& group, double timeout_s, Replicas replicas) {
  SVFLEET_CHECK(group.size() % replicas.width == 0, group.size(), " ranks in replicas of ",
                replicas.width);
  if (group.size() == 1) return std::make_unique<LoneQueue>(group);
  const int number = next_number();
  std::unique_ptr<ChunkQueue> queue;
  if (group.rank() == 0)
    queue = std::make_unique<ServingQueue>(group, timeout_s, number, replicas);
  else
    queue = std::make_unique<AskingQueue>(group, timeout_s, number);
  return queue;
}

}  // namespace svfleet
