// The fingerprints by which published chat templates are recognised.
#pragma once

#include <span>

namespace svfleet {

struct KnownTemplate {
  const char* fingerprint;  // ChatTemplate::fingerprint of the published text
  const char* family;       // which of chat_families() renders alike
};

// Written by scripts/chat_templates, which renders each text with Jinja2 and compares.
std::span<const KnownTemplate> known_templates();

}  // namespace svfleet
