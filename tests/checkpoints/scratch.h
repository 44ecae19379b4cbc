// A folder of its own for each test, and the test data of the tree.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "comm/error.h"

namespace svfleet {

class Scratch {
 public:
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "svfleet-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline std::string fixture(const std::string& name) {
  return std::string(SVFLEET_SOURCE_DIR) + "/tests/data/formats/" + name;
}

// Runs `call`, which must throw an Error of this code whose text is one line and has every part.
template <class Call>
void expect_error(ExitCode code, std::initializer_list<std::string> parts, Call call) {
  try {
    call();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.code(), code) << text;
    EXPECT_EQ(text.find('\n'), text.npos) << text;
    for (const std::string& part : parts) EXPECT_NE(text.find(part), text.npos) << text;
  }
}

}  // namespace svfleet
