// HDF5 files as byte strings: built and parsed in memory (core driver), so that one checked writer
// serves every file, with a checksum over the whole image that HDF5 1.10 lacks.
//
// The file on disk is a plain HDF5 file followed by a 32-byte trailer (magic, version, XXH3-64 of
// what precedes), which HDF5 tools ignore. HDF5 itself is not thread-safe: calls are serialised
// inside.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace svfleet {

class Hdf5Writer {
 public:
  Hdf5Writer();
  ~Hdf5Writer();
  void text(const std::string& name, std::string_view value);
  void integer(const std::string& name, int64_t value);
  void real(const std::string& name, double value);
  void floats(const std::string& name, std::span<const float> v, std::vector<int64_t> shape);
  void doubles(const std::string& name, std::span<const double> v, std::vector<int64_t> shape);
  void integers(const std::string& name, std::span<const int64_t> v);
  // bfloat16 bit patterns, stored as uint16 with attribute type="bfloat16".
  void bfloat16s(const std::string& name, std::span<const uint16_t> v, std::vector<int64_t> shape);
  std::string finish();  // image with trailer

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class Hdf5Reader {
 public:
  // `origin` (a path) is named in errors. Throws Error(kExitDisk) when the checksum or the
  // structure is wrong.
  Hdf5Reader(std::string image, std::string origin);
  ~Hdf5Reader();
  bool has(const std::string& name) const;
  std::string text(const std::string& name) const;
  int64_t integer(const std::string& name) const;
  double real(const std::string& name) const;
  std::vector<int64_t> shape(const std::string& name) const;
  std::vector<float> floats(const std::string& name) const;
  std::vector<double> doubles(const std::string& name) const;
  std::vector<int64_t> integers(const std::string& name) const;
  std::vector<uint16_t> bfloat16s(const std::string& name) const;
  // Reads floats or bfloat16s straight into caller memory (bytes must match exactly).
  void read_into(const std::string& name, void* destination, size_t bytes) const;
  bool is_bfloat16(const std::string& name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace svfleet
