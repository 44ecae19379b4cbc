#include "coordinator/config/utf8.h"

#include <algorithm>

#include "worker/tokenizer/unicode.h"

namespace svfleet {

size_t not_utf8_at(const std::string& text) {
  const std::string valid = valid_utf8(text);
  if (valid == text) return text.npos;
  return size_t(std::mismatch(text.begin(), text.end(), valid.begin(), valid.end()).first -
                text.begin());
}

}  // namespace svfleet
