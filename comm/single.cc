// A group of one: what every collective is when there is nobody else.
#include <unistd.h>

#include <atomic>
#include <deque>
#include <mutex>

#include "comm/error.h"
#include "comm/group.h"
#include "comm/watch.h"

namespace svfleet {
namespace {

class SelfMailbox : public Mailbox {
 public:
  void send(int rank, int tag, std::string_view bytes) override {
    SVFLEET_CHECK(rank == 0, "message to rank ", rank, " in a group of one");
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back({tag, std::string(bytes)});
  }

  bool try_receive(int* rank, int* tag, std::string* bytes) override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto message = waiting_.begin(); message != waiting_.end(); ++message) {
      if (*tag != -1 && *tag != message->tag) continue;
      *rank = 0;
      *tag = message->tag;
      *bytes = std::move(message->bytes);
      waiting_.erase(message);
      return true;
    }
    return false;
  }

  std::vector<int> untaken() override { return {}; }

 private:
  struct Message {
    int tag;
    std::string bytes;
  };
  std::mutex mutex_;
  std::deque<Message> waiting_;
};

std::string host_name() {
  char name[256] = "";
  gethostname(name, sizeof name - 1);
  return name;
}

class SingleGroup : public Group {
 public:
  explicit SingleGroup(const GroupOptions& options) : watch_(*this, nullptr, options) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string host() const override { return host_; }
  std::string name(int rank) const override {
    return std::to_string(rank) + " (host " + host_ + ")";
  }

  void barrier(std::string_view) override {}
  void broadcast(std::string&, int root, std::string_view op) override {
    SVFLEET_CHECK(root == 0, "root ", root, " of '", op, "' in a group of one");
  }
  std::vector<std::string> gather(std::string_view bytes, std::string_view) override {
    return {std::string(bytes)};
  }
  void all_reduce_max(std::span<int32_t>, std::string_view) override {}
  void all_reduce_sum(std::span<int64_t>, std::string_view) override {}
  Mailbox& mailbox() override { return mailbox_; }
  Mailbox& host_mail() override { return host_mail_; }
  Watch& watch() override { return watch_; }
  void set_step(int64_t step) override { step_ = step; }
  int64_t step() const override { return step_; }
  [[noreturn]] void abort(int code) override { _exit(code); }

 private:
  const std::string host_ = host_name();
  std::atomic<int64_t> step_{-1};
  SelfMailbox mailbox_, host_mail_;
  Watch watch_;  // the last: it looks at the others
};

}  // namespace

std::unique_ptr<Group> make_single(const GroupOptions& options) {
  return std::make_unique<SingleGroup>(options);
}

}  // namespace svfleet
