// A main for test programs that run over ranks: the world group is made once and ends after the
// tests. Use it in the SOURCES (world_main.cc) instead of gtest's own main.
#pragma once

#include "comm/group.h"

namespace svfleet {

Group& world();

}  // namespace svfleet
