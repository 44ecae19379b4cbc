#include "worker/model/pass.h"

#include "comm/error.h"

namespace svfleet {

TreePass::TreePass(const std::vector<Segment>& segments, PagePool& pool) : pool_(pool) {
  for (const Segment& segment : segments) {
    SVFLEET_CHECK(segment.parent < int(pages_.size()), "parent ", segment.parent);
    int64_t length = 0;
    Pages pages;
    if (segment.parent >= 0) {
      SVFLEET_CHECK(segments[size_t(segment.parent)].entry == segment.entry, "entry ",
                    segment.entry, " below a prefix of another");
      length = lengths_[size_t(segment.parent)];
      pages = continued(pages_[size_t(segment.parent)], length, pool, &pass_.copies);
    }
    first_rows_.push_back(pass_.rows());
    const int64_t end = length + int64_t(segment.tokens.size());
    extend(pages, end, pool);
    for (const int token : segment.tokens) {
      pass_.tokens.push_back(token);
      pass_.positions.push_back(length++);
      pass_.entries.push_back(segment.entry);
    }
    lengths_.push_back(end);
    pages_.push_back(std::move(pages));
  }
  first_rows_.push_back(pass_.rows());
  pass_.pages.reserve(size_t(pass_.rows()));
  for (size_t s = 0; s < segments.size(); ++s)
    pass_.pages.insert(pass_.pages.end(), segments[s].tokens.size(), &pages_[s]);
}

TreePass::~TreePass() {
  for (const Pages& pages : pages_) pool_.release(pages);
}

}  // namespace svfleet
