#include "coordinator/run/identity.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "checkpoints/file.h"
#include "checkpoints/hash.h"
#include "comm/error.h"

namespace svfleet {
namespace {

using nlohmann::json;  // sorts its keys

#if defined(__x86_64__)

std::string cpu_vendor() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return "unknown";
  char text[13] = {};
  std::memcpy(text, &b, 4);
  std::memcpy(text + 4, &d, 4);
  std::memcpy(text + 8, &c, 4);
  return text;
}

// Bits of XCR0 that the operating system switched on: a processor's AVX-512 or AMX is of no use to
// the libraries without them.
uint64_t enabled_states() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return 0;
  unsigned low = 0, high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// The instruction sets by which MKL, oneDNN and ATen choose their kernels.
std::vector<std::string> instruction_sets() {
  std::vector<std::string> sets;
  const uint64_t states = enabled_states();
  const bool avx = (states & 0x6) == 0x6, avx512 = (states & 0xE6) == 0xE6,
             amx = (states & 0x60000) == 0x60000;
  unsigned a = 0, b = 0, c = 0, d = 0;
  const auto add = [&](bool present, const char* name) {
    if (present) sets.push_back(name);
  };
  if (__get_cpuid(1, &a, &b, &c, &d)) {
    add(c & bit_SSE4_2, "sse4.2");
    add(avx && (c & bit_AVX), "avx");
    add(avx && (c & bit_FMA), "fma");
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    const unsigned highest_leaf = a;
    add(avx && (b & (1u << 5)), "avx2");
    add(avx512 && (b & (1u << 16)), "avx512f");
    add(avx512 && (b & (1u << 17)), "avx512dq");
    add(avx512 && (b & (1u << 30)), "avx512bw");
    add(avx512 && (b & (1u << 31)), "avx512vl");
    add(avx512 && (c & (1u << 11)), "avx512_vnni");
    add(avx512 && (d & (1u << 23)), "avx512_fp16");
    add(amx && (d & (1u << 22)), "amx_bf16");
    add(amx && (d & (1u << 24)), "amx_tile");
    if (highest_leaf >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
      add(avx && (a & (1u << 4)), "avx_vnni");
      add(avx512 && (a & (1u << 5)), "avx512_bf16");
    }
  }
  return sets;
}

#else

std::string cpu_vendor() {
  return "not x86";
}
std::vector<std::string> instruction_sets() {
  return {};
}

#endif

}  // namespace

std::string program_hash() {
  static const std::string hash = hash_bytes(read_file("/proc/self/exe"));
  return hash;
}

std::string identity(const IdentityInput& input) {
  json result;
  result["cpu"] = cpu_vendor();
  result["instruction_sets"] = instruction_sets();
  // Blocked products cut their sums by the size of the caches.
  result["cache_l1"] = sysconf(_SC_LEVEL1_DCACHE_SIZE);
  result["cache_l2"] = sysconf(_SC_LEVEL2_CACHE_SIZE);
  json environment = json::object();
  for (const char* name :
       {"ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "MKL_DEBUG_CPU_TYPE",
        "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE",
        "DNNL_DEFAULT_FPMATH_MODE", "OPENBLAS_CORETYPE", "LD_PRELOAD"})
    if (const char* value = std::getenv(name); value && *value) environment[name] = value;
  result["environment"] = environment;
  result["program"] = program_hash();
  result["torch"] = input.torch_version;
  result["threads"] = input.threads;
  result["tensor_width"] = 1;
  if (!input.gpu.empty()) result["gpu"] = input.gpu;
  if (!input.libraries.empty()) result["libraries"] = input.libraries;
  return result.dump(-1, ' ', false, json::error_handler_t::replace);
}

namespace {

void compare(const json* a, const json* b, const std::string& key, const std::string& mine,
             const std::string& theirs, std::vector<std::string>& out) {
  if (a && b && *a == *b && a->type() == b->type()) return;
  if (a && b && a->is_object() && b->is_object()) {
    std::set<std::string> keys;
    for (const auto& item : a->items()) keys.insert(item.key());
    for (const auto& item : b->items()) keys.insert(item.key());
    for (const auto& name : keys) {
      const auto in_a = a->find(name), in_b = b->find(name);
      compare(in_a == a->end() ? nullptr : &*in_a, in_b == b->end() ? nullptr : &*in_b,
              key.empty() ? name : key + "." + name, mine, theirs, out);
    }
    return;
  }
  const auto text = [](const json* value) {
    if (!value) return std::string("absent");
    std::string all = value->dump(-1, ' ', false, json::error_handler_t::replace);
    return all.size() <= 200 ? all : all.substr(0, 200) + "...";
  };
  out.push_back(key + ": " + text(a) + " " + mine + ", " + text(b) + " " + theirs);
}

}  // namespace

std::string changed_config_file(const std::string& shape_now, const std::string& shape_before) {
  if (shape_now.empty() || shape_before.empty()) return "";
  const auto hash = [](const std::string& shape) { return shape.substr(0, shape.find(' ')); };
  const auto of_generation = [](const std::string& shape) {
    return shape.ends_with(" generation_config.json");
  };
  const bool stops = hash(shape_now) == hash(shape_before);
  return stops && (of_generation(shape_now) || of_generation(shape_before))
             ? "generation_config.json"
             : "config.json";
}

std::vector<std::string> changed_files(const std::string& folder, const FolderHashes& now,
                                       const FolderHashes& before) {
  std::vector<std::string> files;
  const auto differ = [](const std::string& a, const std::string& b) {
    return !a.empty() && !b.empty() && a != "none" && b != "none" && a != b;
  };
  const auto path = [&](const char* name) { return "'" + folder + "/" + name + "'"; };
  const auto either = [&](const char* name, const char* other) {
    return path(name) + (file_exists(folder + "/" + other) ? " or " + path(other) : "");
  };
  if (differ(now.config, before.config)) {
    const std::string file = changed_config_file(now.shape, before.shape);
    files.push_back(file.empty() ? either("config.json", "generation_config.json")
                                 : path(file.c_str()));
  }
  if (differ(now.tokenizer, before.tokenizer))
    files.push_back(path("tokenizer.json") + " (whose bytes count, blanks too)");
  if (differ(now.chat_template, before.chat_template))
    files.push_back("the chat template in " +
                    either("tokenizer_config.json", "chat_template.jinja"));
  return files;
}

std::vector<std::string> differences(const std::string& a, const std::string& b,
                                     const std::string& mine, const std::string& theirs) {
  std::vector<std::string> out;
  if (a == b) return out;
  const json one = json::parse(a, nullptr, false), other = json::parse(b, nullptr, false);
  if (!one.is_object() || !other.is_object())
    out.push_back("the recorded settings cannot be read");
  else
    compare(&one, &other, "", mine, theirs, out);
  return out;
}

}  // namespace svfleet
