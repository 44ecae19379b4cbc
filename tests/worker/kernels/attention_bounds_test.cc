// Reads and writes end where the arrays do: each lies against a page that may not be touched.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "tests/worker/kernels/attention_fixture.h"
#include "worker/kernels/attention.h"

namespace svfleet {
namespace {

// [count] numbers of which the last one is the last before forbidden memory.
template <class T>
class Guarded {
 public:
  Guarded(int64_t count, T fill) {
    const int64_t unit = sysconf(_SC_PAGESIZE);
    bytes_ = (count * int64_t(sizeof(T)) + unit - 1) / unit * unit + unit;
    memory_ = static_cast<char*>(
        mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED || mprotect(memory_ + bytes_ - unit, unit, PROT_NONE) != 0) abort();
    data = reinterpret_cast<T*>(memory_ + bytes_ - unit) - count;
    std::fill_n(data, count, fill);
  }
  Guarded(const Guarded&) = delete;
  ~Guarded() { munmap(memory_, bytes_); }
  T* data;

 private:
  char* memory_;
  int64_t bytes_;
};

template <class T>
void run(const AttentionShape& shape, int64_t keys) {
  using W = Wide<T>;
  const int64_t width = int64_t(shape.heads) * shape.head_dim;
  const T half = number<T>(0.5), zero = number<T>(0), one = number<T>(1);
  Guarded<T> q(width, half), out(width, zero), d_out(width, half);
  Guarded<W> log_sum(shape.heads, 0), d_q(width, 0);
  Guarded<T> page(page_elements(shape), one), last(page_elements(shape), one);
  Guarded<W> d_page(page_elements(shape), 0), d_last(page_elements(shape), 0);
  Guarded<const T*> pages(2, nullptr);
  Guarded<W*> d_pages(2, nullptr);
  pages.data[0] = page.data;
  pages.data[1] = last.data;
  d_pages.data[0] = d_page.data;
  d_pages.data[1] = d_last.data;
  const AttentionRow<T> row{q.data, pages.data, keys, out.data, log_sum.data};
  attend<T>(shape, {&row, 1}, 1);
  for (int64_t i = 0; i < width; ++i) EXPECT_NEAR(widen(out.data[i]), 1, 1e-6);
  const AttentionGradientRow<T> gradient{q.data,     out.data,     log_sum.data, d_out.data,
                                         pages.data, d_pages.data, keys,         d_q.data};
  attend_gradient<T>(shape, {&gradient, 1}, 1);
  for (int64_t i = 0; i < width; ++i) EXPECT_NEAR(d_q.data[i], 0, 1e-5);
}

TEST(AttentionBounds, AreKept) {
  const Kernels before = kernels();
  for (Kernels which : all_kernels()) {
    set_kernels(which);
    for (int dim : {2, 14, 16, 18, 30, 32, 34, 62, 64, 66, 80, 96, 126, 128})
      for (int64_t keys : {33, 47, 48, 49, 64}) {
        SCOPED_TRACE(name_of(which) + " head_dim " + std::to_string(dim));
        run<bf16>({2, 1, dim, 0.1}, keys);
        run<float>({2, 1, dim, 0.1}, keys);
        run<double>({2, 1, dim, 0.1}, keys);
      }
  }
  set_kernels(before);
}

TEST(AttentionBoundsDeathTest, AreSeen) {
  Guarded<float> x(5, 1);
  EXPECT_DEATH({ *const_cast<volatile float*>(x.data + 5) = 1; }, "");
}

}  // namespace
}  // namespace svfleet
