// What a kernel is written in: 16 numbers side by side, in order, in plain C++.
//
// lanes_avx2.h and lanes_avx512.h have the same with vector instructions; every operation has the
// same bits in all of them (of a NaN: that it is one). All of it lies in unnamed namespaces, for
// each file that includes it is compiled with other instructions.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "worker/kernels/bf16.h"

namespace svfleet {
namespace {

constexpr int kLanes = 16;

struct AllLanes {};  // in the place of how many

// f(place, AllLanes or how many) for the 16s in [0, count) and what remains.
template <class F>
inline void for_lanes(int64_t count, F f) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) f(i, AllLanes());
  if (i < count) f(i, int(count - i));
}

template <class W>
struct PlainLanes {
  using Scalar = W;
  W v[kLanes];

  template <class F>
  static PlainLanes make(F f) {
    PlainLanes out;
    for (int i = 0; i < kLanes; ++i) out.v[i] = f(i);
    return out;
  }
  static PlainLanes set(W x) {
    return make([=](int) { return x; });
  }
  template <class T>
  static PlainLanes load(const T* from, AllLanes, W = 0) {
    return make([=](int i) { return W(widen(from[i])); });
  }
  // The lanes from `count` on hold `rest`.
  template <class T>
  static PlainLanes load(const T* from, int count, W rest = 0) {
    return make([=](int i) { return i < count ? W(widen(from[i])) : rest; });
  }
  template <class T>
  void store(T* to, AllLanes) const {
    store(to, kLanes);
  }
  template <class T>
  void store(T* to, int count) const {
    for (int i = 0; i < count; ++i) to[i] = narrow<T>(v[i]);
  }
  template <class T>
  PlainLanes rounded_to() const {
    return make([this](int i) { return W(widen(narrow<T>(v[i]))); });
  }
  // Rounded up where the lower half of the bits plus random[i] carries.
  void store_keyed(bf16* to, const uint16_t* random, int count) const {
    for (int i = 0; i < count; ++i)
      to[i] = v[i] != v[i] ? to_bf16(v[i])
                           : bf16{uint16_t((std::bit_cast<uint32_t>(v[i]) + random[i]) >> 16)};
  }
  void store_keyed(bf16* to, const uint16_t* random, AllLanes) const {
    store_keyed(to, random, kLanes);
  }

  friend PlainLanes operator+(const PlainLanes& a, const PlainLanes& b) {
    return make([&](int i) { return a.v[i] + b.v[i]; });
  }
  friend PlainLanes operator-(const PlainLanes& a, const PlainLanes& b) {
    return make([&](int i) { return a.v[i] - b.v[i]; });
  }
  friend PlainLanes operator*(const PlainLanes& a, const PlainLanes& b) {
    return make([&](int i) { return a.v[i] * b.v[i]; });
  }
  friend PlainLanes operator/(const PlainLanes& a, const PlainLanes& b) {
    return make([&](int i) { return a.v[i] / b.v[i]; });
  }
  // a * b + c, rounded once.
  friend PlainLanes fma(const PlainLanes& a, const PlainLanes& b, const PlainLanes& c) {
    return make([&](int i) { return std::fma(a.v[i], b.v[i], c.v[i]); });
  }
  // b where either is a NaN.
  friend PlainLanes max(const PlainLanes& a, const PlainLanes& b) {
    return make([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  // a < b ? x : y.
  friend PlainLanes where_less(const PlainLanes& a, const PlainLanes& b, const PlainLanes& x,
                               const PlainLanes& y) {
    return make([&](int i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
  }
  // The float of bits (bits of t << 23) + one: 2^n where the lowest bits of t hold n.
  friend PlainLanes two_to_the(const PlainLanes& t) {
    return make([&](int i) {
      return std::bit_cast<W>((std::bit_cast<uint32_t>(t.v[i]) << 23) + 0x3f800000);
    });
  }
  // Lane i with lane i + 8, then 4, 2, 1.
  W sum() const {
    PlainLanes a = *this;
    for (int half = kLanes / 2; half >= 1; half /= 2)
      for (int i = 0; i < half; ++i) a.v[i] = a.v[i] + a.v[i + half];
    return a.v[0];
  }
  // Of no NaN.
  W largest() const {
    W most = v[0];
    for (int i = 1; i < kLanes; ++i) most = v[i] > most ? v[i] : most;
    return most;
  }
};

}  // namespace
}  // namespace svfleet
