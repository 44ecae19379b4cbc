// Threads that help each other: one that works at an operation in parts is joined by those that
// have nothing to do, and waits for nobody who has not come. Helpers look for work for a while
// before they sleep, so that the hundreds of small operations of a token do not each wake them
// (a parallel region of OpenMP's takes 50 us to wake a thread of a virtual machine, or keeps it
// busy between operations whoever else needs the core).
//
// Which thread does what part alters no bits: a part's result is its own.
#pragma once

#include <cstdint>
#include <functional>

namespace svfleet {

// How many may work at an operation of the calling thread that is to have `threads` of its own:
// those, and whoever is free.
int team_size(int threads);

namespace team {
using Part = void (*)(const void* f, int64_t part, int member);
void run(int64_t parts, int most, Part call, const void* f);
}  // namespace team

// f(part, member) once for each part in [0, parts), lower ones begun first; 0 <= member < most
// tells those who work at it apart. f must not throw, and must not call this.
template <class F>
void in_parts(int64_t parts, int most, const F& f) {
  if (most <= 1 || parts <= 1) {
    for (int64_t part = 0; part < parts; ++part) f(part, 0);
    return;
  }
  const auto call = [](const void* g, int64_t part, int member) {
    (*static_cast<const F*>(g))(part, member);
  };
  team::run(parts, most, call, &f);
}

// The calling thread helps wherever it can until `over`, which is asked often, and after
// look_again().
void help_until(const std::function<bool()>& over);
void look_again();

}  // namespace svfleet
