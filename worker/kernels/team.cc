#include "worker/kernels/team.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>
#include <vector>

namespace svfleet {
namespace {

constexpr int kSlots = 256;    // threads that have helpers at a time; others work alone
constexpr int kSpins = 2000;   // until a thread that waits for a part lets others have the core
constexpr int kLooks = 10000;  // that a helper takes before it sleeps: some 0.2 ms

void pause() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// An operation that can be joined. `state`: kOpen, and how many are at it; what else is here stays
// as it is until all of them have left.
struct alignas(64) Slot {
  static constexpr uint32_t kOpen = 1u << 31;
  std::atomic<uint32_t> state{0};
  std::atomic<bool> taken{false};  // by a thread, for its life
  team::Part call = nullptr;
  const void* f = nullptr;
  std::atomic<int64_t> parts{0};
  uint32_t most = 0;
  std::atomic<int> members{0};  // that have come so far
  alignas(64) std::atomic<int64_t> next{0};

  bool any_left() const {
    return next.load(std::memory_order_relaxed) < parts.load(std::memory_order_relaxed);
  }
  void work(int member) {
    const int64_t all = parts.load(std::memory_order_relaxed);
    for (int64_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < all;)
      call(f, part, member);
  }
};

struct Board {
  std::array<Slot, kSlots> slots;
  std::atomic<int> used{0};       // slots below this one may be taken
  std::atomic<int> free{0};       // threads that would help
  std::atomic<int> sleeping{0};   // of them
  std::atomic<uint32_t> news{0};  // what sleepers wait for
};

Board& board() {
  static Board board;
  return board;
}

// False: there is nothing to do.
bool join(Slot& slot) {
  uint32_t state = slot.state.load(std::memory_order_acquire);
  do {
    if (!(state & Slot::kOpen) || !slot.any_left()) return false;
  } while (!slot.state.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel));
  const int member = slot.members.fetch_add(1, std::memory_order_relaxed);
  const bool wanted = uint32_t(member) < slot.most;
  if (wanted) {
    --board().free;
    slot.work(member);
    ++board().free;  // before the owner goes on, and asks who is free
  }
  slot.state.fetch_sub(1, std::memory_order_release);
  return wanted;
}

// What a thread that begins operations has: a place where they can be joined, and helpers.
class Member {
 public:
  Member() {
    Board& all = board();
    for (int s = 0; s < kSlots && !slot_; ++s)
      if (!all.slots[size_t(s)].taken.exchange(true)) {
        slot_ = &all.slots[size_t(s)];
        for (int used = all.used; used <= s && !all.used.compare_exchange_weak(used, s + 1);) {
        }
      }
  }
  ~Member() {
    over_ = true;
    look_again();
    for (std::thread& helper : helpers_) helper.join();
    if (slot_) slot_->taken = false;
  }
  Slot* slot() const { return slot_; }
  // Threads beside its own.
  void have(int helpers) {
    while (slot_ && int(helpers_.size()) < helpers)
      helpers_.emplace_back([this] { help_until([this] { return over_.load(); }); });
  }

 private:
  Slot* slot_ = nullptr;
  std::atomic<bool> over_{false};
  std::vector<std::thread> helpers_;
};

Member& member() {
  thread_local Member member;
  return member;
}

}  // namespace

int team_size(int threads) {
  if (threads > 1) member().have(threads - 1);
  return std::max(threads, 1 + board().free.load(std::memory_order_relaxed));
}

void team::run(int64_t parts, int most, Part call, const void* f) {
  Slot* const slot = member().slot();
  if (!slot) {
    for (int64_t part = 0; part < parts; ++part) call(f, part, 0);
    return;
  }
  slot->call = call;
  slot->f = f;
  slot->parts.store(parts, std::memory_order_relaxed);
  slot->most = uint32_t(most);
  slot->members.store(1, std::memory_order_relaxed);
  slot->next.store(0, std::memory_order_relaxed);
  slot->state.store(Slot::kOpen | 1);
  if (board().sleeping.load() > 0) look_again();
  slot->work(0);
  slot->state.fetch_and(~Slot::kOpen, std::memory_order_acq_rel);
  for (int spins = 0; slot->state.load(std::memory_order_acquire) != 1; ++spins)
    spins < kSpins ? pause() : std::this_thread::yield();
  slot->state.store(0, std::memory_order_relaxed);
}

void help_until(const std::function<bool()>& over) {
  Board& all = board();
  ++all.free;
  bool done = over();  // asked no more once it has said so
  for (int looks = 0; !done; done = done || over()) {
    bool helped = false;
    for (int s = 0; s < all.used.load(std::memory_order_acquire); ++s)
      helped = join(all.slots[size_t(s)]) || helped;
    if (helped) {
      looks = 0;
    } else if (++looks < kLooks) {
      pause();
    } else {
      const uint32_t news = all.news.load();
      ++all.sleeping;
      // What was opened before this thread was seen to sleep is seen here.
      const bool open =
          std::any_of(all.slots.begin(), all.slots.begin() + all.used.load(),
                      [](const Slot& slot) { return (slot.state.load() & Slot::kOpen) != 0; });
      done = over();
      if (!open && !done) all.news.wait(news);
      --all.sleeping;
      looks = 0;
    }
  }
  --all.free;
}

void look_again() {
  ++board().news;
  board().news.notify_all();
}

}  // namespace svfleet
