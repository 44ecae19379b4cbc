#include "worker/libtorch.h"

#include <ATen/Version.h>
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "checkpoints/hash.h"

namespace svfleet {
namespace {

// What the linker wrote into a library to tell it from all others; "" where it did not.
std::string build_id(const dl_phdr_info& info) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& part = info.dlpi_phdr[i];
    if (part.p_type != PT_NOTE) continue;
    const size_t align = part.p_align == 8 ? 8 : 4;
    const auto padded = [align](size_t bytes) { return (bytes + align - 1) / align * align; };
    const char* at = reinterpret_cast<const char*>(info.dlpi_addr + part.p_vaddr);
    const char* const end = at + part.p_memsz;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const char* const name = at + sizeof note;
      const char* const content = name + padded(note.n_namesz);
      if (content + note.n_descsz > end) break;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !std::memcmp(name, "GNU", 4)) {
        std::string hex;
        for (size_t k = 0; k < note.n_descsz; ++k) {
          char digits[3];
          std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(content[k]));
          hex += digits;
        }
        return hex;
      }
      at = content + padded(note.n_descsz);
    }
  }
  return "";
}

// The program finds libtorch through links beside itself (cmake/FindTorchDirect.cmake), which may
// go away with a build that the run outlives.
std::string behind_link(const std::string& file) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path beside = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* name : {"lib", "nvidia"}) {
    const std::string link = (beside / name).string(), in = link + "/";
    if (!file.starts_with(in)) continue;
    const fs::path to = fs::read_symlink(link, error);
    if (!error) return (beside / to / file.substr(in.size())).lexically_normal().string();
  }
  return file;
}

}  // namespace

std::string torch_identity() {
  std::string text = std::string(TORCH_VERSION_TEXT) + " " + hash_bytes(at::show_config());
  Dl_info info;
  struct stat file;
  if (dladdr(reinterpret_cast<const void*>(&at::show_config), &info) && info.dli_fname &&
      stat(info.dli_fname, &file) == 0)
    text += " " + std::to_string(file.st_size);
  return text;
}

std::string torch_build() {
  const std::string options = at::show_config(), key = "TORCH_VERSION=";
  const size_t begin = options.find(key);
  std::string version =
      begin == std::string::npos
          ? "of unknown version"
          : options.substr(begin + key.size(), options.find(',', begin) - begin - key.size());
  std::string id;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        if (!std::strstr(info->dlpi_name, "/libtorch_cpu.so")) return 0;
        *static_cast<std::string*>(out) = build_id(*info);
        return 1;
      },
      &id);
  return id.empty() ? version : version + " (build " + id.substr(0, 16) + ")";
}

std::vector<std::string> loaded_libraries() {
  std::vector<std::string> files;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        // The program has no name, and what the kernel puts there no folder.
        if (std::strchr(info->dlpi_name, '/'))
          static_cast<std::vector<std::string>*>(out)->push_back(info->dlpi_name);
        return 0;
      },
      &files);
  for (std::string& file : files) file = behind_link(file);
  return files;
}

}  // namespace svfleet
