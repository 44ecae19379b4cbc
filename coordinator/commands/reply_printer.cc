#include "coordinator/commands/reply_printer.h"

#include <cstdio>

#include "coordinator/run/json_line.h"
#include "coordinator/run/printed.h"

namespace svfleet {

using nlohmann::json;

void ReplyPrinter::prompt(const std::string& text) {
  prompt_ = text;
  if (!as_json_) std::printf("> %s\n", text.c_str());
}

OnText ReplyPrinter::begin(const std::string& name) {
  if (as_json_) return nullptr;
  std::printf("[%s] %s", name.c_str(), prefill_.c_str());
  return [](const std::string& text) {
    std::fputs(text.c_str(), stdout);
    check_printed();  // nothing is generated for nobody
  };
}

void ReplyPrinter::end(const std::string& name, const Rollout& reply) {
  if (!as_json_) {
    std::printf("%s\n", reply.ended || !reply.finite ? "" : " [cut by the length limit]");
    return;
  }
  results_.push_back({{"prompt", prompt_},
                      {"name", name},
                      {"prefill", prefill_},
                      {"reply", reply.text},
                      {"ended", reply.ended},
                      {"tokens", reply.tokens.size()}});
}

void ReplyPrinter::finish(double temperature) const {
  const json all = {{"temperature", temperature}, {"results", results_}};
  if (as_json_) std::printf("%s\n", json_line(all).c_str());
}

}  // namespace svfleet
