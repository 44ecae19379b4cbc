// The only way to MPI: one call at a time in the whole process, never one that blocks, and every
// failure named. One-sided MPI must not be used: with Open MPI 4.1.4 under MPI_THREAD_MULTIPLE a
// window aborts as soon as there are two nodes.
#pragma once

#include <mpi.h>

#include <memory>
#include <mutex>
#include <string_view>

#include "comm/wait.h"

namespace svfleet {

std::mutex& mpi_mutex();

// Throws Error(kExitRequeue) with MPI's own text unless result is MPI_SUCCESS. The mutex is held.
void check_mpi(int result, const char* call, std::string_view op);

// mpi_call("MPI_Isend", op, [&] { return MPI_Isend(...); })
template <class Call>
void mpi_call(const char* name, std::string_view op, Call&& call) {
  std::lock_guard<std::mutex> lock(mpi_mutex());
  check_mpi(call(), name, op);
}

// False when the deadline came first; the request is then still active, and so are its buffers.
bool mpi_wait(MPI_Request* request, const Deadline& deadline, double longest_sleep_s,
              std::string_view op);

// Runs `transfer` on the buffer, which MPI uses until the transfer has returned true. Otherwise, an
// exception included, it stays for ever: MPI may still write to it.
template <class Buffer, class Transfer>
bool lend_to_mpi(std::unique_ptr<Buffer>& buffer, Transfer&& transfer) {
  Buffer* const lent = buffer.release();
  if (!transfer(lent)) return false;
  buffer.reset(lent);
  return true;
}

}  // namespace svfleet
