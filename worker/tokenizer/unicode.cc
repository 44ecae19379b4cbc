#include "worker/tokenizer/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <memory>

#include "comm/error.h"

namespace svfleet {
namespace {

constexpr std::array<CharRange, 10> kWhiteSpace = {{{0x9, 0xd},
                                                    {0x20, 0x20},
                                                    {0x85, 0x85},
                                                    {0xa0, 0xa0},
                                                    {0x1680, 0x1680},
                                                    {0x2000, 0x200a},
                                                    {0x2028, 0x2029},
                                                    {0x202f, 0x202f},
                                                    {0x205f, 0x205f},
                                                    {0x3000, 0x3000}}};

constexpr std::array<CharRange, 2> kNewestDigits = {{{0x11de0, 0x11de9}, {0x16ff4, 0x16ff6}}};

// Unicode standard, table 3-7: how many bytes follow a lead byte, and the range of the first one.
struct Lead {
  int following;
  unsigned char low, high;
};
Lead lead_of(unsigned char byte) {
  if (byte < 0x80) return {0, 0, 0};
  if (byte >= 0xc2 && byte <= 0xdf) return {1, 0x80, 0xbf};
  if (byte == 0xe0) return {2, 0xa0, 0xbf};
  if (byte == 0xed) return {2, 0x80, 0x9f};
  if (byte >= 0xe1 && byte <= 0xef) return {2, 0x80, 0xbf};
  if (byte == 0xf0) return {3, 0x90, 0xbf};
  if (byte >= 0xf1 && byte <= 0xf3) return {3, 0x80, 0xbf};
  if (byte == 0xf4) return {3, 0x80, 0x8f};
  return {-1, 0, 0};
}

}  // namespace

std::string valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const Lead lead = lead_of(static_cast<unsigned char>(bytes[i]));
    size_t end = i + 1;
    for (int k = 0; k < lead.following && end < bytes.size(); ++k, ++end) {
      const auto byte = static_cast<unsigned char>(bytes[end]);
      if (byte < (k == 0 ? lead.low : 0x80) || byte > (k == 0 ? lead.high : 0xbf)) break;
    }
    if (lead.following >= 0 && end - i == static_cast<size_t>(lead.following) + 1)
      text.append(bytes, i, end - i);
    else
      text += "\xef\xbf\xbd";
    i = end;
  }
  return text;
}

char32_t next_char(std::string_view text, size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at++]);
  if (lead < 0x80) return lead;
  const int following = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  char32_t c = lead & (0x3f >> following);
  for (int k = 0; k < following && at < text.size(); ++k)
    c = c << 6 | (static_cast<unsigned char>(text[at++]) & 0x3f);
  return c;
}

void append_char(std::string& text, char32_t c) {
  if (c < 0x80) {
    text += static_cast<char>(c);
    return;
  }
  const int following = c >= 0x10000 ? 3 : c >= 0x800 ? 2 : 1;
  constexpr unsigned char kMark[] = {0, 0xc0, 0xe0, 0xf0};
  text += static_cast<char>(kMark[following] | c >> (6 * following));
  for (int k = following - 1; k >= 0; --k) text += static_cast<char>(0x80 | (c >> (6 * k) & 0x3f));
}

bool is_white_space(char32_t c) {
  for (const auto& range : kWhiteSpace)
    if (c >= range.first && c <= range.last) return true;
  return false;
}

std::string nfc(std::string_view text) {
  utf8proc_uint8_t* composed = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &composed,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(composed, &std::free);
  SVFLEET_CHECK(length >= 0, utf8proc_errmsg(length), " on a text of ", text.size(), " bytes");
  return std::string(reinterpret_cast<const char*>(composed), static_cast<size_t>(length));
}

std::span<const CharRange> white_space_ranges() {
  return kWhiteSpace;
}
std::span<const CharRange> newest_digits() {
  return kNewestDigits;
}

}  // namespace svfleet
