#include "rl/item_file.h"

#include <algorithm>

#include "comm/error.h"
#include "rl/ascii.h"

namespace svfleet {
namespace {

struct Format {
  std::string_view head;
  const char* words;
};

constexpr Format kFormats[] = {
    {"\x1f\x8b", "is compressed (gzip); unpack it with gunzip"},
    {"\x28\xb5\x2f\xfd", "is compressed (zstd); unpack it with unzstd"},
    {"\xfd"
     "7zXZ",
     "is compressed (xz); unpack it with unxz"},
    {"BZh", "is compressed (bzip2); unpack it with bunzip2"},
    {"PK\x03\x04", "is a zip archive; unpack it"},
    {"PAR1",
     "is a Parquet file; write it as JSONL, with pandas for instance: "
     "read_parquet(FILE).to_json(OUT, orient='records', lines=True)"},
    {"ARROW1",
     "is an Arrow file; write it as JSONL, with datasets for instance: "
     "Dataset.from_file(FILE).to_json(OUT)"},
    {"\xff\xfe", "is UTF-16; write it as UTF-8 (iconv -f UTF-16 -t UTF-8)"},
    {"\xfe\xff", "is UTF-16; write it as UTF-8 (iconv -f UTF-16 -t UTF-8)"}};

std::string_view without_space(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

void refuse_other_format(const std::string& path, std::string_view bytes) {
  for (const Format& format : kFormats)
    if (bytes.starts_with(format.head))
      throw user_error("'", path, "' ", format.words, "; a task file has one JSON object per line");
  if (constexpr std::string_view kMark = "\xef\xbb\xbf"; bytes.starts_with(kMark))
    bytes.remove_prefix(kMark.size());
  const std::string_view text = without_space(bytes);
  const std::string_view first = without_space(text.substr(0, text.find('\n')));
  if (text.starts_with('['))
    throw user_error(path, ":1: a JSON list; each line must hold one item, without brackets round ",
                     "them all and commas between them (jq -c '.[]' FILE > FILE.jsonl)");
  if (first == "{")
    throw user_error(path, ":1: an item over several lines; each line must hold a whole one ",
                     "(jq -c . FILE > FILE.jsonl)");
}

}  // namespace svfleet
