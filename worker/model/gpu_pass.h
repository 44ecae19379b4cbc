// A pass as the kernels of a GPU see it: sent there once, for all layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace svfleet {

struct Pass;

// Numbers that go to the device in one copy, which nobody waits for.
class Upload {
 public:
  template <class T>
  size_t add(const std::vector<T>& numbers) {
    return add(numbers.data(), numbers.size() * sizeof(T));
  }
  at::Tensor to(at::Device device) const;  // bytes

 private:
  size_t add(const void* data, size_t bytes);  // where they begin, aligned
  std::vector<char> bytes_;
};

class GpuPass {
 public:
  GpuPass(const Pass& pass, at::Device device);

  int64_t rows, most;  // rows; pages of the longest sequence
  const int64_t* positions() const { return at<int64_t>(positions_); }
  const int* run_of() const { return at<int>(run_of_); }
  const int* table() const { return at<int>(table_); }
  // Copies in the order of the pass, cut where one reads what another before it has written.
  struct Batch {
    int64_t count;
    const int *from, *to, *slots;
  };
  std::vector<Batch> copies() const;
  // Which runs read which page; for the gradient.
  struct Readers {
    int64_t pages;
    const int *page, *place, *first, *runs;
    const int64_t* run_rows;
  };
  const Readers& readers() const;

 private:
  template <class T>
  const T* at(size_t offset) const {
    return reinterpret_cast<const T*>(static_cast<const char*>(numbers_.data_ptr()) + offset);
  }
  struct Cut {
    int64_t count;
    size_t from, to, slots;
  };

  const Pass& pass_;
  const at::Device device_;
  at::Tensor numbers_;
  size_t positions_, run_of_, table_;
  std::vector<Cut> cuts_;
  mutable at::Tensor reader_numbers_;
  mutable std::unique_ptr<const Readers> readers_;
};

}  // namespace svfleet
