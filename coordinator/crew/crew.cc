#include "coordinator/crew/crew.h"

#include <sched.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>
#include <system_error>
#include <thread>

#include "checkpoints/hash.h"
#include "cluster/allocation_end.h"
#include "cluster/signals.h"
#include "comm/error.h"
#include "comm/stage.h"
#include "coordinator/run/identity.h"
#include "coordinator/run/progress.h"
#include "worker/cpu_quota.h"
#include "worker/failure.h"
#include "worker/kernels/team.h"
#include "worker/threads.h"
#ifdef SVFLEET_HAVE_CUDA
#include "comm/nccl_reducer.h"
#endif

namespace svfleet {
namespace {

using nlohmann::json;

// The cores that this process may use, as text: equal for ranks that share them.
std::string core_list() {
  std::string list;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return list;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &set)) list += std::to_string(core) + ",";
  return list;
}

int cores_in(const std::string& list) {
  const auto cores = std::count(list.begin(), list.end(), ',');
  return std::max<int>(1, cores > 0 ? int(cores) : int(std::thread::hardware_concurrency()));
}

std::vector<std::string> lines_of(const std::string& list) {
  std::istringstream lines(list);
  std::vector<std::string> all;
  for (std::string one; std::getline(lines, one);) all.push_back(one);
  return all;
}

// Collective: the texts of all ranks, on every rank.
std::vector<std::string> all_gather(Group& group, const std::string& text, const std::string& op) {
  std::string list;
  for (const std::string& one : group.gather(text, op)) list += one + "\n";
  group.broadcast(list, 0, op);
  return lines_of(list);
}

// Collective: until the allocation ends. One rank asks Slurm for all.
std::optional<double> seconds_left(Group& group) {
  std::string told;
  if (group.rank() == 0)
    if (const auto left = seconds_left_in_job()) told = std::to_string(*left);
  group.broadcast(told, 0, "end of the allocation");
  if (told.empty()) return std::nullopt;
  return std::stod(told);
}

// Collective. The sums of a job on GPUs go over NCCL. It wants a GPU for each rank: where ranks
// share one, or there is one rank, the host's transport stays, with the same (integer) sums.
std::unique_ptr<Reducer> make_reducer(Group& group, [[maybe_unused]] const Device& device,
                                      [[maybe_unused]] double timeout_s) {
#ifdef SVFLEET_HAVE_CUDA
  if (device.on_gpu() && group.size() > 1) {
    const std::vector<std::string> gpus =
        group.gather(group.host() + " " + device.address, "gather GPUs");
    std::string shared = std::set(gpus.begin(), gpus.end()).size() < gpus.size() ? "yes" : "";
    group.broadcast(shared, 0, "compare GPUs");
    if (shared.empty())
      return make_nccl_reducer(group, {.device = device.torch.index(), .timeout_s = timeout_s});
    if (group.rank() == 0) spdlog::warn("ranks share a GPU: their sums go through host memory");
  }
#endif
  return make_host_reducer(group);
}

}  // namespace

Crew::Crew(const Config& config, AllocationEnd::Clock clock) : timeout_s_(config.timeout_s) {
  set_compute_threads(int(config.threads));
  group_ = make_world({.timeout_s = config.timeout_s});
  agree("program", program_hash());
  agree("configuration", hash_bytes(print_config(config)));
  device_ = open_device(config.model.device, launch_local_rank(), group_->host());
  reducer_ = make_reducer(*group_, device_, config.timeout_s);
  workers_ = int(config.workers);
  if (workers_ == 0 && device_.on_gpu()) workers_ = 1;
  // A launcher may bind each rank to cores of its own, or let all ranks of a host use all of them.
  const std::string cores = core_list(), mine = group_->host() + " " + cores;
  const std::vector<std::string> all = all_gather(*group_, mine, "gather hosts");
  for (const std::string& one : all) hosts_.push_back(one.substr(0, one.find(' ')));
  host_ranks_ = std::make_unique<HostRanks>(*group_, hosts_, config.timeout_s);
  const auto sharers = std::count(all.begin(), all.end(), mine);
  if (workers_ == 0)
    workers_ = std::max<int>(
        1, std::min(cores_in(cores), cpu_quota()) / int(sharers) / int(config.threads));
  int64_t slots[1] = {workers_};
  group_->all_reduce_sum(slots, "count workers");
  slots_ = slots[0];
  allocation_ = std::make_unique<AllocationEnd>(seconds_left(*group_), std::move(clock));
  queue_ = make_chunk_queue(*group_, config.timeout_s);
}

void Crew::agree(const std::string& what, const std::string& value) {
  const std::vector<std::string> values = group_->gather(value, "compare " + what);
  std::string verdict;
  int differ = 0;
  for (size_t rank = 1; rank < values.size(); ++rank)
    if (values[rank] != values[0]) verdict += (differ++ ? ", " : "") + group_->name(int(rank));
  if (differ)
    verdict = (differ == 1 ? "rank " : "ranks ") + verdict + " differs from that of rank " +
              group_->name(0);
  group_->broadcast(verdict, 0, "compare " + what);
  if (!verdict.empty())
    throw user_error("the ", what, " of ", verdict,
                     "; start all ranks with the same program and files");
}

void Crew::compare(const std::string& what, const std::string& value) {
  const auto others = minority(all_gather(*group_, value, "compare " + what));
  if (others && others->empty()) return;
  std::vector<std::string> at_fault;
  std::string names;
  for (const int rank : others.value_or(std::vector<int>{})) {
    names += (names.empty() ? "" : ", ") + group_->name(rank);
    if (std::find(at_fault.begin(), at_fault.end(), hosts_[rank]) == at_fault.end())
      at_fault.push_back(hosts_[rank]);
  }
  const std::string who = others
                              ? "rank " + names + " has another " + what + " than most"
                              : "the ranks differ in the " + what + ", and no value has a majority";
  throw AgreedError(kExitRequeue,
                    who +
                        "; nothing of this step was saved: a memory or processor is at fault, or "
                        "else a bug of svfleet that will show again at this step",
                    at_fault);
}

// Of several pieces that are written together the first, whichever of them it was that failed: only
// where another host failed with the same first piece is it seen that both met the same fault.
std::string Crew::place_of(const std::string& what, const std::vector<int>& pieces) const {
  std::string text = what;
  if (!pieces.empty())
    text = (what == "chunks" ? "chunk " : what + ", piece ") + std::to_string(pieces.front());
  return group_->step() < 0 ? text : "step " + std::to_string(group_->step()) + ", " + text;
}

bool Crew::share(const std::vector<int>& pieces, const std::string& what,
                 const std::function<void(int)>& work, const Report& report, int most_workers) {
  const auto one_by_one = [&](Hand& hand) {
    while (const auto piece = hand.take()) {
      work(*piece);
      hand.finished(*piece);
    }
  };
  return share(pieces, what, std::function<void(Hand&)>(one_by_one), report, most_workers);
}

bool Crew::share(const std::vector<int>& pieces, const std::string& what,
                 const std::function<void(Hand&)>& worker, const Report& report, int most_workers) {
  std::mutex mutex;
  double& longest_s = longest_s_[what];
  // Where the time is short, what workers hold may still be finished; the stop comes after that.
  bool short_of_time = false;
  const auto may_take = [&](int) {
    std::lock_guard lock(mutex);
    short_of_time = short_of_time || allocation_->time_is_short(longest_s, longest_save_s_);
    return !short_of_time && !stop_requested();
  };
  const auto idle = [&] {
    const InStage telling(Stage::kTelling);
    if (leads() && report) report({queue_->finished_count(), queue_->holdings()});
    return !stop_requested();
  };
  Part mine;
  const auto failed = [&](const Failure& failure, const std::string& place) {
    {
      std::lock_guard lock(mutex);
      if (mine.failure) return;  // the first one is the one to tell
      mine.failure = failure;
      mine.place = place;
    }
    queue_->cancel_round();
  };
  const auto finished = [&](double held_s) {
    std::lock_guard lock(mutex);
    mine.did_some = true;
    longest_s = std::max(longest_s, held_s);
  };
  std::atomic<int> busy = 0;
  const int workers = most_workers > 0 ? std::min(most_workers, workers_) : workers_;
  queue_->start_round(pieces, may_take(0), workers);
  const auto guarded = [&](Hand& hand) {
    set_compute_threads_here();
    ++busy;
    bool helps = false;  // not where it failed: what it holds has to be given up
    try {
      worker(hand);
      helps = hand.size() == 0;
    } catch (const StopWork&) {
    } catch (const Error& error) {
      failed({error}, "");
    } catch (...) {
      failed(failure_of(std::current_exception(), device_), place_of(what, hand.working_on()));
    }
    --busy;
    look_again();
    if (helps) help_until([&] { return busy == 0; });
  };
  try {
    work_through(*queue_, guarded, {workers, idle, what, {may_take, finished}});
  } catch (const std::system_error&) {  // a thread that could not be started
    failed(failure_of(std::current_exception(), device_), "");
  }
  queue_->wait_until_over(what, idle);
  if (short_of_time) request_stop();
  // A signal or a fault may have reached some ranks only: agree on it.
  mine.stop = stop_requested();
  const bool stop = end_together(*group_, hosts_, mine, "end " + what);
  if (leads() && report) report({queue_->finished_count(), {}});
  return !stop;
}

void Crew::together(const std::string& what, const std::function<void()>& work) {
  Part mine;
  try {
    work();
  } catch (...) {
    mine.failure = failure_of(std::current_exception(), device_);
  }
  end_together(*group_, hosts_, mine, what);
}

void Crew::on_leader(const std::string& what, const std::function<void()>& work) {
  together(what, [&] {
    if (leads()) work();
  });
}

std::optional<std::vector<std::string>> Crew::collect(
    const Batches& batches, const std::function<std::string(int64_t, int64_t)>& work) {
  const int64_t total = batches.total, batch = batches.batch;
  std::vector<int> pieces((total + batch - 1) / batch);
  std::iota(pieces.begin(), pieces.end(), 0);
  std::mutex mutex;
  json mine = json::array();  // [piece, text]
  int64_t finished = 0;       // everywhere; on rank 0
  Progress progress(
      {.label = batches.label, .unit = batches.unit, .total = total, .shown = leads()});
  const bool done = share(
      pieces, batches.what,
      [&](int piece) {
        const std::string text = work(piece * batch, std::min(total, (piece + 1) * batch));
        std::lock_guard lock(mutex);
        mine.push_back({piece, text});
      },
      [&](const ShareReport& now) {
        finished = now.finished;
        progress.update(std::min(total, now.finished * batch));
      },
      batches.most_workers);
  progress.finish();
  if (!done) {  // a stop that came when nothing was left to do stops nothing here
    std::string all;
    if (leads() && finished == int64_t(pieces.size())) all = "finished";
    group_->broadcast(all, 0, "see whether all " + batches.what + " is done");
    if (all.empty()) return std::nullopt;
  }
  const std::vector<std::string> parts = group_->gather(
      mine.dump(-1, ' ', false, json::error_handler_t::replace), "gather " + batches.what);
  std::vector<std::string> texts(leads() ? pieces.size() : 0);
  size_t seen = 0;
  for (const std::string& part : parts)
    for (const json& one : json::parse(part)) {
      texts.at(one[0].get<size_t>()) = one[1];
      ++seen;
    }
  SVFLEET_CHECK(seen == texts.size(), seen, " of ", texts.size(), " pieces of ", batches.what);
  return texts;
}

void Crew::side_by_side(int64_t count, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  std::exception_ptr failure;
  StageCounter* const counter = stage_counter();
  const auto fail = [&] {  // in a catch block
    std::lock_guard lock(mutex);
    if (!failure) failure = std::current_exception();
    next = count;
  };
  const auto loop = [&] {
    const Counted counted(counter);
    set_compute_threads_here();
    try {
      for (int64_t i; (i = next++) < count;) work(i);
    } catch (...) {
      fail();
    }
  };
  std::vector<std::thread> threads;
  try {
    for (int i = 1; i < workers_; ++i) threads.emplace_back(loop);
  } catch (...) {  // no thread can be started; those before it are waited for
    fail();
  }
  loop();
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
}

void Crew::helped(const std::function<void()>& work) {
  std::atomic<bool> over = false;
  std::vector<std::thread> helpers;
  const auto end = [&] {
    over = true;
    look_again();
    for (std::thread& helper : helpers) helper.join();
  };
  try {
    for (int i = 1; i < workers_; ++i)
      helpers.emplace_back([&] { help_until([&] { return over.load(); }); });
  } catch (const std::system_error&) {  // with fewer, then
  }
  try {
    work();
  } catch (...) {
    end();
    throw;
  }
  end();
}

}  // namespace svfleet
