// Tokens to text as they come (worker/tokenizer/tokenizer.h): no half characters.
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";
constexpr size_t kWindow = 32;  // ids decoded again for each new one, at most

}  // namespace

std::string StreamDecoder::push(int id) {
  ids_.push_back(id);
  // U+FFFD at the end may become a character with the next id.
  std::string text = tokenizer_.decode(ids_);
  bool whole = true;
  for (; text.ends_with(kReplacement); whole = false) text.resize(text.size() - 3);
  if (!whole && text.size() <= printed_.size()) return "";
  return emit(text, whole);
}

std::string StreamDecoder::finish() {
  return emit(tokenizer_.decode(ids_), true);
}

std::string StreamDecoder::emit(const std::string& text, bool whole) {
  std::string fresh;
  if (text.starts_with(printed_)) {
    fresh = text.substr(printed_.size());
  } else {
    // Byte fallback turned a whole run of bytes to U+FFFD, some of which is out already: what is
    // new is what the new ids give by themselves.
    fresh = tokenizer_.decode(std::span(ids_).subspan(printed_ids_));
  }
  printed_ = text;
  if (!whole) return fresh;
  printed_ids_ = ids_.size();
  if (ids_.size() < kWindow) return fresh;
  // Start the window anew at the last id that is whole characters by itself, so that what follows
  // is decoded as in the middle of a text (a leading space is stripped only at the beginning).
  for (size_t i = ids_.size(); i-- > 1;) {
    const std::span<const int> rest = std::span(ids_).subspan(i);
    const std::string alone = tokenizer_.decode(rest.first(1));
    if (tokenizer_.is_special(ids_[i]) || alone.find(kReplacement) != std::string::npos) continue;
    printed_ = tokenizer_.decode(rest);
    ids_ = std::vector<int>(rest.begin(), rest.end());
    printed_ids_ = ids_.size();
    break;
  }
  return fresh;
}

}  // namespace svfleet
