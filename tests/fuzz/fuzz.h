// What all fuzzers share: bytes as a file in memory, and what counts as a bug of ours.
#pragma once

#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "comm/error.h"

namespace svfleet {

// Of this process, in memory.
inline const std::string& fuzz_folder() {
  static const std::string folder = [] {
    const char* parent = std::getenv("SVFLEET_FUZZ_FOLDER");
    const std::string path =
        std::string(parent ? parent : "/dev/shm") + "/" + std::to_string(getpid());
    mkdir(path.c_str(), 0700);
    return path;
  }();
  return folder;
}

inline std::string fuzz_file(const std::string& name, const void* data, size_t size) {
  const std::string path = fuzz_folder() + "/" + name;
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (!file || (size && std::fwrite(data, 1, size, file) != size) || std::fclose(file) != 0)
    std::abort();
  return path;
}

// An Error that a user or a disk can cause is an answer; one of code 70 and every other exception
// is a bug.
template <class Read>
int survives(Read read) {
  try {
    read();
  } catch (const Error& error) {
    if (error.code() != kExitInternal) return 0;
    std::fprintf(stderr, "code 70: %s\n", error.what());
    std::abort();
  }
  return 0;
}

}  // namespace svfleet
