#include "worker/kernels/gpu_product.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

namespace svfleet::cuda {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;
// Up to so many rows a product has an algorithm of its own; beyond them that of the last.
constexpr int64_t kUpTo[] = {16, 64, 128, 256, 1024};
constexpr int64_t kLargest = 4096;  // what is chosen for more rows is timed with so many
// Numbers of rows whose first row is compared.
constexpr int64_t kProbed[] = {1, 2, 3, 8, 16, 17, 64, 65, 128, 256, 1000, 1024};

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw std::runtime_error(std::string("CUDA error: ") + call + ": " +
                             cublasLtGetStatusString(status));
}
void check(cudaError_t error, const char* call) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("CUDA error: ") + call + ": " + cudaGetErrorString(error));
}
#define SVFLEET_CALL(call) check(call, #call)

class Memory {
 public:
  explicit Memory(size_t bytes) { SVFLEET_CALL(cudaMalloc(&data_, bytes)); }
  ~Memory() { cudaFree(data_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

// A product of `rows` rows as cublasLt sees it, column by column: y^T = m x^T.
class Problem {
 public:
  Problem(cudaDataType_t in, cudaDataType_t out, int64_t outputs, int64_t inputs, bool back,
          int64_t rows) {
    const cublasOperation_t first = back ? CUBLAS_OP_N : CUBLAS_OP_T, second = CUBLAS_OP_N;
    const int64_t m = back ? inputs : outputs, k = back ? outputs : inputs;
    SVFLEET_CALL(cublasLtMatmulDescCreate(&operation_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    SVFLEET_CALL(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSA, &first,
                                                sizeof first));
    SVFLEET_CALL(cublasLtMatmulDescSetAttribute(operation_, CUBLASLT_MATMUL_DESC_TRANSB, &second,
                                                sizeof second));
    SVFLEET_CALL(cublasLtMatrixLayoutCreate(&a_, in, uint64_t(back ? m : k), uint64_t(back ? k : m),
                                            back ? m : k));
    SVFLEET_CALL(cublasLtMatrixLayoutCreate(&b_, in, uint64_t(k), uint64_t(rows), k));
    SVFLEET_CALL(cublasLtMatrixLayoutCreate(&c_, out, uint64_t(m), uint64_t(rows), m));
  }
  ~Problem() {
    cublasLtMatrixLayoutDestroy(a_), cublasLtMatrixLayoutDestroy(b_);
    cublasLtMatrixLayoutDestroy(c_), cublasLtMatmulDescDestroy(operation_);
  }
  Problem(const Problem&) = delete;
  Problem& operator=(const Problem&) = delete;

  cublasStatus_t run(cublasLtHandle_t handle, const cublasLtMatmulAlgo_t& algorithm, const void* m,
                     const void* x, const void* add, void* y, void* workspace,
                     Stream stream) const {
    const float one = 1, beta = add ? 1 : 0;
    return cublasLtMatmul(handle, operation_, &one, m, a_, x, b_, &beta, add ? add : y, c_, y, c_,
                          &algorithm, workspace, kWorkspace, static_cast<cudaStream_t>(stream));
  }
  std::vector<cublasLtMatmulAlgo_t> algorithms(cublasLtHandle_t handle) const {
    cublasLtMatmulPreference_t wish;
    SVFLEET_CALL(cublasLtMatmulPreferenceCreate(&wish));
    const uint32_t no_split = 0;
    SVFLEET_CALL(cublasLtMatmulPreferenceSetAttribute(
        wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof kWorkspace));
    SVFLEET_CALL(cublasLtMatmulPreferenceSetAttribute(
        wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &no_split, sizeof no_split));
    constexpr int kMost = 8;
    cublasLtMatmulHeuristicResult_t found[kMost];
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, operation_, a_, b_, c_, c_,
                                                                 wish, kMost, found, &count);
    cublasLtMatmulPreferenceDestroy(wish);
    std::vector<cublasLtMatmulAlgo_t> all;
    if (status != CUBLAS_STATUS_SUCCESS) return all;
    for (int i = 0; i < count; ++i)
      if (found[i].state == CUBLAS_STATUS_SUCCESS) all.push_back(found[i].algo);
    return all;
  }

 private:
  cublasLtMatmulDesc_t operation_;
  cublasLtMatrixLayout_t a_, b_, c_;
};

template <class T>
constexpr cudaDataType_t kTypeOf = sizeof(T) == 2 ? CUDA_R_16BF : CUDA_R_32F;

// Algorithms that all give a row the same bits, by numbers of rows.
struct Chosen {
  struct For {
    cublasLtMatmulAlgo_t algorithm;
    bool rounds_at_once;
  };
  std::vector<For> by_size;  // of kUpTo, and beyond
  std::string told;

  const For& of(int64_t rows) const {
    size_t i = 0;
    while (i < std::size(kUpTo) && rows > kUpTo[i]) ++i;
    return by_size[i];
  }
};

template <class T>
class Trial {
 public:
  Trial(cublasLtHandle_t handle, void* workspace, const Product<T>& product, Stream stream)
      : handle_(handle),
        workspace_(workspace),
        product_(product),
        stream_(static_cast<cudaStream_t>(stream)),
        in_(product.back ? product.outputs : product.inputs),
        out_(product.back ? product.inputs : product.outputs),
        most_(out_ > 65536 || in_ > 65536 ? 256 : kLargest),
        x_(size_t(most_ * in_) * sizeof(T)),
        y_(size_t(most_ * out_) * sizeof(float)) {
    std::vector<T> some(65521);  // a prime, so that no two rows are the same
    std::mt19937 random(1);
    for (T& number : some) number = narrow<T>(float(random() % 2001) / 1000 - 1);
    std::vector<T> numbers(size_t(most_ * in_));
    for (size_t i = 0; i < numbers.size(); i += some.size())
      std::copy_n(some.begin(), std::min(some.size(), numbers.size() - i), numbers.begin() + i);
    SVFLEET_CALL(cudaMemcpy(x_.as<void>(), numbers.data(), numbers.size() * sizeof(T),
                            cudaMemcpyHostToDevice));
    SVFLEET_CALL(cudaEventCreate(&start_));
    SVFLEET_CALL(cudaEventCreate(&end_));
  }
  ~Trial() { cudaEventDestroy(start_), cudaEventDestroy(end_); }
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  // Which bits: those of the first algorithm, in an order that does not depend on the clock, that
  // gives a row the same ones at every number of rows. The clock chooses among those that give
  // the same.
  Chosen choose() {
    struct Candidate {
      cublasLtMatmulAlgo_t algorithm;
      bool rounds_at_once;
    };
    std::vector<Candidate> usable;
    std::vector<float> bits;
    int tried = 0;
    float fastest = 0;
    for (const cublasLtMatmulAlgo_t& algorithm : algorithms()) {
      ++tried;
      // Old kernels that are many times slower stand beside the others; one will do if need be.
      const float ms = time(algorithm, std::min<int64_t>(64, most_));
      if (ms < 0 || (!usable.empty() && ms > 4 * fastest)) continue;
      std::vector<float> own;
      if (!invariant(algorithm, &own) || (!usable.empty() && own != bits)) continue;
      if (usable.empty() || ms < fastest) fastest = ms;
      bits = own;
      usable.push_back({algorithm, rounds_at_once(algorithm, own)});
    }
    if (usable.empty())
      throw std::runtime_error("CUDA: no algorithm of cublasLt gives a row of a product of " +
                               std::to_string(product_.outputs) + " x " +
                               std::to_string(product_.inputs) +
                               " the same bits beside other rows; tried " + std::to_string(tried));
    std::ostringstream told;
    told << (sizeof(T) == 2 ? "bfloat16 " : "float32 ") << product_.outputs << " x "
         << product_.inputs << (product_.back ? " back" : "") << ": " << usable.size() << " of "
         << tried << " algorithms agree; us at";
    Chosen chosen;
    for (size_t i = 0; i <= std::size(kUpTo); ++i) {
      const int64_t rows = std::min(i < std::size(kUpTo) ? kUpTo[i] : kLargest, most_);
      float best = -1;
      for (const Candidate& candidate : usable) {
        const float ms = time(candidate.algorithm, rows);
        if (ms < 0 || (best >= 0 && ms >= best)) continue;
        if (best < 0) chosen.by_size.push_back({});
        best = ms;
        chosen.by_size.back() = {candidate.algorithm, candidate.rounds_at_once};
      }
      told << ' ' << rows << ": " << int(best * 1e3f);
    }
    chosen.told = told.str();
    return chosen;
  }

 private:
  static int id_of(const cublasLtMatmulAlgo_t& algorithm) {
    int id = 0;
    size_t written = 0;
    SVFLEET_CALL(cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_ID, &id,
                                                      sizeof id, &written));
    return id;
  }

  // What the library proposes for some numbers of rows; also for shorter sums, since for long ones
  // it proposes little that does not split them. The newest kernels, which have the highest
  // numbers, come first.
  std::vector<cublasLtMatmulAlgo_t> algorithms() const {
    std::vector<cublasLtMatmulAlgo_t> all;
    for (const int64_t longest : {in_, std::min<int64_t>(in_, 4096)})
      for (const int64_t rows : {128, 256, 64, 16, 1024, 4096}) {
        const Problem like(kTypeOf<T>, CUDA_R_32F, product_.back ? longest : product_.outputs,
                           product_.back ? product_.inputs : longest, product_.back, rows);
        for (const cublasLtMatmulAlgo_t& one : like.algorithms(handle_))
          if (std::none_of(all.begin(), all.end(), [&](const cublasLtMatmulAlgo_t& known) {
                return std::memcmp(&known, &one, sizeof one) == 0;
              }))
            all.push_back(one);
      }
    std::stable_sort(all.begin(), all.end(),
                     [](const auto& a, const auto& b) { return id_of(a) > id_of(b); });
    return all;
  }

  bool run(const cublasLtMatmulAlgo_t& algorithm, int64_t rows, cudaDataType_t type) {
    const Problem problem(kTypeOf<T>, type, product_.outputs, product_.inputs, product_.back, rows);
    return problem.run(handle_, algorithm, product_.m, x_.as<T>(), nullptr, y_.as<void>(),
                       workspace_, stream_) == CUBLAS_STATUS_SUCCESS;
  }
  // Milliseconds; below 0 where it cannot.
  float time(const cublasLtMatmulAlgo_t& algorithm, int64_t rows) {
    if (!run(algorithm, rows, CUDA_R_32F)) return -1;
    constexpr int kTimes = 3;
    SVFLEET_CALL(cudaEventRecord(start_, stream_));
    for (int i = 0; i < kTimes; ++i) run(algorithm, rows, CUDA_R_32F);
    SVFLEET_CALL(cudaEventRecord(end_, stream_));
    SVFLEET_CALL(cudaEventSynchronize(end_));
    float ms = 0;
    SVFLEET_CALL(cudaEventElapsedTime(&ms, start_, end_));
    return ms / kTimes;
  }
  template <class Y>
  bool first_row(const cublasLtMatmulAlgo_t& algorithm, int64_t rows, cudaDataType_t type,
                 std::vector<Y>* bits) {
    if (!run(algorithm, rows, type)) return false;
    bits->resize(size_t(out_));
    SVFLEET_CALL(cudaMemcpyAsync(bits->data(), y_.as<void>(), bits->size() * sizeof(Y),
                                 cudaMemcpyDeviceToHost, stream_));
    SVFLEET_CALL(cudaStreamSynchronize(stream_));
    return true;
  }
  bool invariant(const cublasLtMatmulAlgo_t& algorithm, std::vector<float>* bits) {
    if (!first_row(algorithm, kProbed[0], CUDA_R_32F, bits)) return false;
    std::vector<float> other;
    return std::all_of(std::begin(kProbed), std::end(kProbed), [&](int64_t rows) {
      return rows > most_ || (first_row(algorithm, rows, CUDA_R_32F, &other) && other == *bits);
    });
  }
  bool rounds_at_once(const cublasLtMatmulAlgo_t& algorithm, const std::vector<float>& wide) {
    if (sizeof(T) != 2) return false;
    std::vector<uint16_t> expected, own;
    for (const float value : wide) expected.push_back(to_bf16(value).bits);
    return std::all_of(std::begin(kProbed), std::end(kProbed), [&](int64_t rows) {
      return rows > most_ || (first_row(algorithm, rows, CUDA_R_16BF, &own) && own == expected);
    });
  }

  const cublasLtHandle_t handle_;
  void* const workspace_;
  const Product<T> product_;
  const cudaStream_t stream_;
  const int64_t in_, out_, most_;
  const Memory x_, y_;
  cudaEvent_t start_, end_;
};

class Library {
 public:
  static Library& of_device() {
    static std::mutex mutex;
    static std::map<int, Library> all;
    int device = 0;
    SVFLEET_CALL(cudaGetDevice(&device));
    std::lock_guard lock(mutex);
    return all[device];
  }
  Library() : workspace_(kWorkspace) { SVFLEET_CALL(cublasLtCreate(&handle_)); }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  template <class T>
  void multiply(const Product<T>& product, const T* x, int64_t rows, const float* add, void* y,
                cudaDataType_t out, Stream stream) {
    const Problem problem(kTypeOf<T>, out, product.outputs, product.inputs, product.back, rows);
    SVFLEET_CALL(problem.run(handle_, choose(product, stream).of(rows).algorithm, product.m, x, add,
                             y, workspace_.as<void>(), stream));
  }
  template <class T>
  bool rounds_at_once(const Product<T>& product, int64_t rows, Stream stream) {
    return choose(product, stream).of(rows).rounds_at_once;
  }
  std::string told() {
    std::lock_guard lock(mutex_);
    std::string text;
    for (const auto& [key, chosen] : chosen_) text += chosen.told + '\n';
    return text;
  }

 private:
  using Key = std::tuple<size_t, int64_t, int64_t, bool>;

  template <class T>
  const Chosen& choose(const Product<T>& product, Stream stream) {
    const Key key(sizeof(T), product.outputs, product.inputs, product.back);
    std::lock_guard lock(mutex_);
    const auto found = chosen_.find(key);
    if (found != chosen_.end()) return found->second;
    return chosen_[key] = Trial<T>(handle_, workspace_.as<void>(), product, stream).choose();
  }

  std::mutex mutex_;
  cublasLtHandle_t handle_ = nullptr;
  Memory workspace_;
  std::map<Key, Chosen> chosen_;
};

}  // namespace

template <class T>
void multiply(const Product<T>& product, const T* x, int64_t rows, const float* add, float* y,
              Stream stream) {
  Library::of_device().multiply(product, x, rows, add, y, CUDA_R_32F, stream);
}

bool multiply_rounded(const Product<bf16>& product, const bf16* x, int64_t rows, bf16* y,
                      Stream stream) {
  Library& library = Library::of_device();
  if (!library.rounds_at_once(product, rows, stream)) return false;
  library.multiply(product, x, rows, nullptr, y, CUDA_R_16BF, stream);
  return true;
}

std::string chosen_products() {
  return Library::of_device().told();
}

template void multiply(const Product<bf16>&, const bf16*, int64_t, const float*, float*, Stream);
template void multiply(const Product<float>&, const float*, int64_t, const float*, float*, Stream);

}  // namespace svfleet::cuda
