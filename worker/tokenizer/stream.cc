// Tokens to text as they come (worker/tokenizer/tokenizer.h): no half characters.
#include "worker/tokenizer/tokenizer.h"

namespace svfleet {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";
constexpr size_t kWindow = 32;   // ids decoded again for each new one, about
constexpr size_t kMostHeld = 8;  // ids: a character is at most four bytes

bool is_whole(std::string_view text) {
  return text.find(kReplacement) == text.npos;
}

}  // namespace

std::string StreamDecoder::push(int id) {
  if (tokenizer_.is_special(id)) return "";  // no text
  ids_.push_back(id);
  const std::string all = tokenizer_.decode(ids_);
  // U+FFFD at the end may become a character with the next id.
  std::string text = all;
  while (text.ends_with(kReplacement)) text.resize(text.size() - kReplacement.size());
  if (text.size() < all.size() && text.size() <= printed_.size()) {
    if (++held_ <= int(kMostHeld)) return "";
    // So many bytes are no text, however it goes on; but the last may begin a character.
    text = all.substr(0, all.size() - kReplacement.size());
  }
  held_ = 0;
  const size_t held = all.size() - text.size();
  std::string fresh = emit(text, held);
  if (ids_.size() >= kWindow) shorten(all, held);
  return fresh;
}

std::string StreamDecoder::finish() {
  return emit(tokenizer_.decode(ids_), 0);
}

// `held`: bytes of U+FFFD behind `text` that are held back.
std::string StreamDecoder::emit(const std::string& text, size_t held) {
  std::string fresh;
  if (text.starts_with(printed_)) {
    fresh = text.substr(printed_.size());
  } else {
    // Byte fallback turned a whole run of bytes to U+FFFD, some of which is out already: what is
    // new is what the new ids give by themselves.
    fresh = tokenizer_.decode(std::span(ids_).subspan(printed_ids_));
    if (held > 0 && fresh.size() >= held) fresh.resize(fresh.size() - held);
  }
  printed_ = text;
  if (held == 0) printed_ids_ = ids_.size();
  return fresh;
}

// Starts the window anew at its last ids that are whole characters by themselves, but for what is
// held back, so that what follows is decoded as in the middle of a text (a leading space is
// stripped only at the beginning); or that are bytes which continue no character before them.
void StreamDecoder::shorten(const std::string& all, size_t held) {
  const std::span<const int> ids(ids_);
  for (size_t i = ids.size(); i-- > 1 && ids.size() - i <= kMostHeld;) {
    const std::string rest = tokenizer_.decode(ids.subspan(i));
    if (rest.size() < held) continue;
    const std::string out = rest.substr(0, rest.size() - held);
    const bool begins_whole = is_whole(out) && (held == 0 || !out.empty());
    if (!begins_whole && tokenizer_.decode(ids.first(i)) + rest != all) continue;
    printed_ = out;
    ids_ = std::vector<int>(ids.begin() + int64_t(i), ids.end());
    printed_ids_ = held == 0 ? ids_.size() : ids_.size() - 1;
    return;
  }
}

}  // namespace svfleet
