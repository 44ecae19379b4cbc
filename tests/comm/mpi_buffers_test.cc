// When MPI reports an error in the middle of a transfer, it may still write to the buffer: that
// must not be given back to the heap. This program stands between svfleet and MPI (the profiling
// interface), and between both and the heap.
#include <gtest/gtest.h>
#include <mpi.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "comm/error.h"
#include "comm/group.h"

namespace {

bool armed = false;                       // the next transfer fails
std::atomic<const void*> lent = nullptr;  // its buffer
MPI_Request its_request = MPI_REQUEST_NULL;
std::atomic<bool> freed = false;

int note(int result, const void* buffer, MPI_Request* request) {
  if (armed) lent = buffer, its_request = *request;
  return result;
}

void give_back(void* memory) {
  if (memory && memory == lent) freed = true;
  std::free(memory);
}

}  // namespace

void* operator new(size_t bytes) {
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  give_back(memory);
}
void operator delete(void* memory, size_t) noexcept {
  give_back(memory);
}

extern "C" {
int MPI_Iallreduce(const void* from, void* to, int count, MPI_Datatype type, MPI_Op op,
                   MPI_Comm comm, MPI_Request* request) {
  return note(PMPI_Iallreduce(from, to, count, type, op, comm, request), to, request);
}
int MPI_Ibcast(void* buffer, int count, MPI_Datatype type, int root, MPI_Comm comm,
               MPI_Request* request) {
  return note(PMPI_Ibcast(buffer, count, type, root, comm, request), buffer, request);
}
int MPI_Imrecv(void* buffer, int count, MPI_Datatype type, MPI_Message* message,
               MPI_Request* request) {
  return note(PMPI_Imrecv(buffer, count, type, message, request), buffer, request);
}
int MPI_Test(MPI_Request* request, int* done, MPI_Status* status) {
  if (armed && lent && *request == its_request) {
    armed = false;
    return MPI_ERR_OTHER;
  }
  return PMPI_Test(request, done, status);
}
}

namespace svfleet {
namespace {

std::unique_ptr<Group> world;

// Runs `transfer`, in which MPI fails once, and looks what became of the buffer.
template <class Transfer>
void fails_once(Transfer transfer) {
  lent = nullptr;
  freed = false;
  armed = true;
  try {
    transfer();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kExitRequeue) << error.what();
    EXPECT_NE(std::string(error.what()).find("MPI_Test failed"), std::string::npos) << error.what();
  }
  EXPECT_NE(lent, nullptr);
  EXPECT_FALSE(freed) << "a buffer that MPI still uses was freed";
}

const std::string kLong(1000, 'x');

// First: after a failed collective the group makes no other.
TEST(MpiBuffers, OfAMessage) {
  world->mailbox().send(0, 7, kLong);
  std::string bytes;
  int rank = -1, tag = 7;
  fails_once([&] {
    while (!world->mailbox().try_receive(&rank, &tag, &bytes)) usleep(1000);
  });
}

TEST(MpiBuffers, ControlTheWatchSeesABufferGivenBack) {
  freed = false;
  auto buffer = std::make_unique<std::vector<int64_t>>(1000);
  lent = buffer->data();
  buffer.reset();
  EXPECT_TRUE(freed);
}

TEST(MpiBuffers, OfACollective) {
  std::vector<int64_t> values(1000, 3);
  fails_once([&] { world->all_reduce_sum(values, "a sum that fails"); });
  EXPECT_EQ(values[0], 3);
  EXPECT_THROW(world->barrier("after it"), Error);
}

}  // namespace
}  // namespace svfleet

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  svfleet::world = svfleet::make_world({.timeout_s = 60});
  const int failed = RUN_ALL_TESTS();
  std::fflush(nullptr);
  _exit(failed);  // a broken group would end the job
}
