#include "worker/model/gpu_pass.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "worker/model/pass.h"

namespace svfleet {
namespace {

constexpr size_t kAligned = 16;

// Where the rows of each sequence begin, and the end of all.
std::vector<int64_t> run_rows(const Pass& pass) {
  std::vector<int64_t> begins;
  for (int64_t row = 0; row < pass.rows(); ++row)
    if (!row || pass.pages[size_t(row)] != pass.pages[size_t(row) - 1]) begins.push_back(row);
  begins.push_back(pass.rows());
  return begins;
}

}  // namespace

size_t Upload::add(const void* data, size_t bytes) {
  const size_t at = (bytes_.size() + kAligned - 1) / kAligned * kAligned;
  bytes_.resize(at + bytes);
  if (bytes) std::memcpy(bytes_.data() + at, data, bytes);
  return at;
}

at::Tensor Upload::to(at::Device device) const {
  // From pinned memory, or the device would be waited for first.
  const at::Tensor host = at::empty({int64_t(std::max(bytes_.size(), kAligned))},
                                    at::TensorOptions(at::kByte).pinned_memory(device.is_cuda()));
  std::memcpy(host.data_ptr(), bytes_.data(), bytes_.size());
  return host.to(device, /*non_blocking=*/true);
}

GpuPass::GpuPass(const Pass& pass, at::Device device)
    : rows(pass.rows()), most(0), pass_(pass), device_(device) {
  const std::vector<int64_t> begins = run_rows(pass);
  for (size_t run = 0; run + 1 < begins.size(); ++run)
    most = std::max(most, int64_t(pass.pages[size_t(begins[run])]->size()));
  std::vector<int> run_of, table;
  for (size_t run = 0; run + 1 < begins.size(); ++run) {
    const Pages& pages = *pass.pages[size_t(begins[run])];
    table.insert(table.end(), pages.begin(), pages.end());
    table.resize((run + 1) * size_t(most), 0);
    run_of.insert(run_of.end(), size_t(begins[run + 1] - begins[run]), int(run));
  }
  Upload upload;
  positions_ = upload.add(pass.positions);
  run_of_ = upload.add(run_of);
  table_ = upload.add(table);
  for (size_t from = 0; from < pass.copies.size();) {
    std::set<int> written;
    std::vector<PageCopy> batch;
    for (; from < pass.copies.size() && !written.count(pass.copies[from].from); ++from) {
      written.insert(pass.copies[from].to);
      batch.push_back(pass.copies[from]);
    }
    std::stable_sort(batch.begin(), batch.end(),
                     [](const PageCopy& a, const PageCopy& b) { return a.from < b.from; });
    std::vector<int> source, target, slots;
    for (const PageCopy& copy : batch) {
      source.push_back(copy.from);
      target.push_back(copy.to);
      slots.push_back(copy.slots);
    }
    cuts_.push_back(
        {int64_t(batch.size()), upload.add(source), upload.add(target), upload.add(slots)});
  }
  numbers_ = upload.to(device);
}

std::vector<GpuPass::Batch> GpuPass::copies() const {
  std::vector<Batch> all;
  for (const Cut& cut : cuts_)
    all.push_back({cut.count, at<int>(cut.from), at<int>(cut.to), at<int>(cut.slots)});
  return all;
}

const GpuPass::Readers& GpuPass::readers() const {
  if (readers_) return *readers_;
  const std::vector<int64_t> begins = run_rows(pass_);
  struct Read {
    int place;
    std::vector<int> runs;
  };
  std::map<int, Read> by_page;
  for (size_t run = 0; run + 1 < begins.size(); ++run) {
    const Pages& pages = *pass_.pages[size_t(begins[run])];
    const int64_t last = pass_.positions[size_t(begins[run + 1] - 1)];
    for (int64_t place = 0; place <= last / kPageTokens; ++place) {
      Read& read = by_page[pages[size_t(place)]];
      read.place = int(place);
      read.runs.push_back(int(run));
    }
  }
  std::vector<int> page, place, first = {0}, runs;
  for (const auto& [number, read] : by_page) {
    page.push_back(number);
    place.push_back(read.place);
    runs.insert(runs.end(), read.runs.begin(), read.runs.end());
    first.push_back(int(runs.size()));
  }
  Upload upload;
  const size_t at_page = upload.add(page), at_place = upload.add(place),
               at_first = upload.add(first), at_runs = upload.add(runs),
               at_rows = upload.add(begins);
  reader_numbers_ = upload.to(device_);
  const char* base = static_cast<const char*>(reader_numbers_.data_ptr());
  const auto ints = [&](size_t offset) { return reinterpret_cast<const int*>(base + offset); };
  readers_ = std::make_unique<const Readers>(
      Readers{int64_t(page.size()), ints(at_page), ints(at_place), ints(at_first), ints(at_runs),
              reinterpret_cast<const int64_t*>(base + at_rows)});
  return *readers_;
}

}  // namespace svfleet
