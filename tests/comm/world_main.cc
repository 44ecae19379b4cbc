#include "tests/comm/world_main.h"

#include <gtest/gtest.h>

#include <exception>
#include <iostream>

namespace svfleet {
namespace {
Group* the_world = nullptr;
}
Group& world() {
  return *the_world;
}
}  // namespace svfleet

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int failed = 1;
  try {
    auto group = svfleet::make_world({.timeout_s = 60});
    svfleet::the_world = group.get();
    if (group->rank() != 0) {
      auto& listeners = testing::UnitTest::GetInstance()->listeners();
      delete listeners.Release(listeners.default_result_printer());
      struct Failures : testing::EmptyTestEventListener {
        void OnTestPartResult(const testing::TestPartResult& result) override {
          if (!result.failed()) return;
          std::cerr << "rank " << svfleet::world().rank() << ": " << result.file_name() << ":"
                    << result.line_number() << ": " << result.message() << std::endl;
        }
      };
      listeners.Append(new Failures);
    }
    failed = RUN_ALL_TESTS();
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
  }
  return failed;
}
