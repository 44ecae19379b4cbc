// One rank of a job in which something goes wrong; faults_test.cc starts it under mpirun.
// fault_rank MODE TIMEOUT_S [LEAST_STILL_S]. Ends as svfleet's main does: one line, then the
// error's code.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "comm/chunk_queue.h"
#include "comm/error.h"
#include "comm/group.h"
#include "comm/hand.h"
#include "comm/host_ranks.h"
#include "comm/stage.h"

using namespace svfleet;

namespace {

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// Work that goes on: a stage every quarter of a second.
void work_for(double seconds) {
  for (double done = 0; done < seconds; done += 0.25) {
    enter(Stage::kToken);
    sleep_s(0.25);
  }
}

// Standard error is a pipe that nobody reads, and it is full.
void hang_stderr() {
  int ends[2];
  if (pipe(ends) != 0 || dup2(ends[1], STDERR_FILENO) < 0) std::exit(9);
  const std::string much(4096, 'x');
  fcntl(ends[1], F_SETFL, O_NONBLOCK);
  while (write(ends[1], much.data(), much.size()) > 0) continue;
  while (write(ends[1], "x", 1) > 0) continue;
  fcntl(ends[1], F_SETFL, 0);
}

// Faults in a round of chunks.
void run_round(const std::string& mode, Group& world, double timeout_s) {
  const int rank = world.rank();
  if (mode == "silent_queue") {
    auto queue = make_chunk_queue(world, timeout_s);
    queue->start_round({1, 2, 3});
    if (rank == 0) raise(SIGSTOP);
    sleep_s(0.5);
    work_through(
        *queue, 3, [](int) {}, nullptr);
  } else if (mode == "stuck_chunk") {
    // One thread of rank 0 hangs in a chunk, as on a disk that is away; all else lives.
    auto queue = make_chunk_queue(world, timeout_s);
    queue->start_round({1, 2, 3, 4});
    const auto work = [&](int chunk) {
      if (rank == 0 && chunk == 1) sleep_s(120);
    };
    if (rank == 1) sleep_s(0.5);  // rank 0 takes the first one
    work_through(*queue, 2, work, nullptr);
    queue->wait_until_over("chunks", nullptr);
  } else if (mode == "stuck_stdio") {
    // A chunk hangs, and so does all that could be said of it: a thread holds standard output, and
    // standard error is not read.
    hang_stderr();
    std::thread([] {
      flockfile(stdout);
      sleep_s(120);
    }).detach();
    auto queue = make_chunk_queue(world, timeout_s);
    queue->start_round({1});
    const auto work = [&](int) {
      work_for(0.5);
      sleep_s(120);
    };
    work_through(*queue, 1, work, nullptr);
  } else if (mode == "moving_chunk" || mode == "standing_chunk") {
    // The last rank takes very long for a chunk, and moves in it or stands still.
    auto queue = make_chunk_queue(world, timeout_s);
    queue->start_round({1, 2, 3});
    const auto work = [&](int) {
      if (rank != world.size() - 1) return sleep_s(0.5);
      work_for(mode == "moving_chunk" ? 14 * timeout_s : 1);
      if (mode == "standing_chunk") sleep_s(120);
    };
    work_through(*queue, 1, work, nullptr);
    queue->wait_until_over("chunks", nullptr);
    world.barrier("end");
    if (rank == 0) std::fprintf(stderr, "finished 3\n");
  } else if (mode == "waiting_chunk" || mode == "hanging_hand") {
    // The last rank holds two chunks, and is at the second for long: it moves there or hangs.
    auto queue = make_chunk_queue(world, timeout_s);
    queue->start_round({1, 2, 3, 4, 5, 6});
    const auto worker = [&](Hand& hand) {
      if (rank != world.size() - 1) sleep_s(0.3);
      while (const auto chunk = hand.take()) {
        const auto second = hand.most() < 2 ? hand.take() : std::nullopt;
        if (rank == world.size() - 1 && second) {
          hand.at({*second});
          work_for(mode == "waiting_chunk" ? 14 : 1);
          if (mode == "hanging_hand") sleep_s(120);
        }
        if (second) hand.finished(*second);
        hand.finished(*chunk);
      }
    };
    work_through(*queue, worker, {});
    queue->wait_until_over("chunks", nullptr);
    world.barrier("end");
    if (rank == 0) std::fprintf(stderr, "finished 6\n");
  } else if (mode == "slow_chunk" || mode == "stopped_chunk") {
    // Rank 1 takes far longer than the timeout for a chunk, or is stopped inside it.
    auto queue = make_chunk_queue(world, timeout_s);
    queue->start_round({1, 2, 3, 4});
    const auto work = [&](int) {
      if (rank != 1) return sleep_s(0.2);
      if (mode == "stopped_chunk") raise(SIGSTOP);
      sleep_s(2.5 * timeout_s);
    };
    work_through(*queue, 1, work, nullptr);
    queue->wait_until_over("chunks", nullptr);
    int64_t done[1] = {rank == 0 ? queue->finished_count() : 0};
    world.all_reduce_sum(done, "count");
    if (rank == 0) std::fprintf(stderr, "finished %d\n", static_cast<int>(done[0]));
  }
}

// Three ranks of one host. One does not send what the others wait for, or does not take what is
// sent to it, or is at something else.
void run_on_host(const std::string& mode, Group& world, double timeout_s) {
  HostRanks ranks(world, {"n", "n", "n"}, timeout_s);
  std::string bytes(size_t{1} << 20, 'x');
  const bool odd = world.rank() == 1;
  if (mode == "host_absent_sender") {
    if (odd) sleep_s(120);
    ranks.broadcast(bytes, 1, "share W' of q_proj");
  } else if (mode == "host_absent_taker") {
    if (odd) sleep_s(120);
    ranks.broadcast(bytes, 0, "share W' of q_proj");
    world.barrier("end");
  } else {  // host_other_call
    ranks.broadcast(bytes, 1, odd ? "share W' of k_proj" : "share W' of q_proj");
  }
}

void run(const std::string& mode, double timeout_s, double least_still_s) {
  auto world = make_world({.timeout_s = timeout_s, .least_still_s = least_still_s});
  const int rank = world->rank();
  world->set_step(12);
  std::vector<int64_t> gradient = {rank};
  if (mode == "absent") {
    if (rank == 1 || rank == 3) sleep_s(120);
    world->all_reduce_sum(gradient, "reduce gradient");
  } else if (mode == "absent_root") {
    if (rank == 0) sleep_s(120);
    world->barrier("open the store");
  } else if (mode == "late_root") {
    // Rank 1 waits 0.7 of the timeout for rank 0, and both then wait for rank 2: all the same line.
    if (rank == 0) sleep_s(0.7 * timeout_s);
    if (rank == 2) sleep_s(120);
    world->barrier("late root");
  } else if (mode == "late") {  // a control: late, but in time
    if (rank == 1) sleep_s(0.6 * timeout_s);
    world->all_reduce_sum(gradient, "reduce gradient");
    if (rank == 0) std::fprintf(stderr, "sum %d\n", static_cast<int>(gradient[0]));
  } else if (mode == "killed") {
    if (rank == 1) raise(SIGKILL);
    world->all_reduce_sum(gradient, "reduce gradient");
  } else if (mode == "other_call") {
    if (rank == 2)
      world->barrier("save");
    else
      world->all_reduce_sum(gradient, "reduce gradient");
  } else if (mode == "other_size") {
    if (rank == 1) gradient.push_back(0);
    world->all_reduce_sum(gradient, "reduce gradient");
  } else if (mode == "exception") {
    if (rank == 1) throw user_error("cannot read 'x.jsonl'");
    world->barrier("read the task");
  } else if (mode == "exit") {
    if (rank == 1) std::exit(kExitDisk);
    world->barrier("read the task");
  } else if (mode == "abort") {
    if (rank == 1) world->abort(kExitNoProgress);
    world->barrier("read the task");
  } else if (mode == "loading" || mode == "loading_root" || mode == "standing_load") {
    // In front of a collective one rank works longer than the timeout, or stops working.
    if (rank == (mode == "loading_root" ? 0 : 1)) {
      work_for(mode == "standing_load" ? 1 : 3.5 * timeout_s);
      if (mode == "standing_load") sleep_s(120);
    }
    world->all_reduce_sum(gradient, "reduce gradient");
    if (rank == 0) std::fprintf(stderr, "sum %d\n", static_cast<int>(gradient[0]));
  } else if (mode.starts_with("host_")) {
    run_on_host(mode, *world, timeout_s);
  } else {
    run_round(mode, *world, timeout_s);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(argv[1], std::atof(argv[2]), argc > 3 ? std::atof(argv[3]) : 60);
    return kExitFinished;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    sleep_s(0.3);  // mpirun ends all ranks at the first one that aborts: let all lines come out
    return error.code();
  }
}
