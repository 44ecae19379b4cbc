// README.md of an exported folder: what a stranger must know of an expert to use it.
#pragma once

#include <string>

#include "coordinator/sharing/opened.h"
#include "coordinator/sharing/origin.h"

namespace svfleet {

struct CardText {
  std::string library;  // as the hub names it: transformers, peft, svfleet
  std::string title;
  std::string use;  // Markdown: what this folder is, and how it is loaded
};

// Base model and revision, hashes of model, factors and z, and how it was trained as far as the
// expert's metadata say.
std::string model_card(const OpenedExpert& opened, const Origin& origin, const CardText& text);

}  // namespace svfleet
