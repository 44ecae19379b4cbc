// What training has changed, as tables and pictures: z by layer and component, or each matrix of
// another core.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>

#include "coordinator/report/picture.h"
#include "coordinator/report/report.h"

namespace svfleet {
namespace {

constexpr size_t kBins = 32;  // of components, in a picture

struct Place {
  int64_t layer = 0;
  std::string kind;
};

// "model.layers.7.mlp.up_proj.weight" and what stands behind it: layer 7, "up_proj".
Place place_of(const std::string& name) {
  Place place;
  const size_t at = name.find("layers.");
  if (at != name.npos) place.layer = std::strtoll(name.c_str() + at + 7, nullptr, 10);
  const size_t end = name.rfind(".weight");
  const std::string stem = name.substr(0, end);
  place.kind = stem.substr(stem.rfind('.') + 1) + (end == name.npos ? "" : name.substr(end + 7));
  return place;
}

struct Moves {
  std::map<int64_t, std::vector<double>> by_layer;  // |z - 1|, or |coefficient|
  double squares = 0, most = 0;
  int64_t count = 0, layer_of_most = 0;
};

// Empty: SVF, a file of version 1.
std::string core_of(const FoundRun& run) {
  const auto found = run.expert.metadata.find("core");
  return found == run.expert.metadata.end() ? "" : found->second;
}

std::map<std::string, Moves> moves_of(const FoundRun& run) {
  std::map<std::string, Moves> out;
  // Scales rest at 1; coefficients of other cores at 0.
  const bool of_scales = core_of(run).empty() || core_of(run) == "ia3";
  for (const auto& [name, tensor] : run.expert.tensors) {
    const std::vector<float>& values = tensor.second;
    const Place place = place_of(name);
    Moves& moves = out[place.kind];
    std::vector<double>& row = moves.by_layer[place.layer];
    for (const float value : values) {
      const double move = std::fabs(double(value) - (of_scales ? 1 : 0));
      row.push_back(move);
      moves.squares += move * move;
      moves.count += 1;
      if (move > moves.most) moves.most = move, moves.layer_of_most = place.layer;
    }
  }
  return out;
}

// Mean over equal parts of the components.
std::vector<double> binned(const std::vector<double>& moves) {
  const size_t bins = std::min(kBins, moves.size());
  std::vector<double> out(bins);
  for (size_t bin = 0; bin < bins; ++bin) {
    const size_t begin = bin * moves.size() / bins, end = (bin + 1) * moves.size() / bins;
    for (size_t i = begin; i < end; ++i) out[bin] += moves[i] / double(end - begin);
  }
  return out;
}

}  // namespace

ReportSection change_section(const std::vector<FoundRun>& runs) {
  ReportSection section{"What was learnt", {}};
  ReportTable table{
      {"run", "core", "matrices", "numbers", "root mean square", "largest", "in layer"}, {}};
  std::vector<ReportPart> pictures;
  for (const FoundRun& run : runs) {
    if (run.expert_file.empty()) continue;
    const bool diagonal = core_of(run).empty();
    double most = 0;
    for (const auto& [kind, moves] : moves_of(run)) {
      const double rms = moves.count ? std::sqrt(moves.squares / double(moves.count)) : 0;
      table.rows.push_back({run.name, diagonal ? "diagonal" : core_of(run), kind,
                            std::to_string(moves.count), shown_number(rms),
                            shown_number(moves.most), std::to_string(moves.layer_of_most)});
      most = std::max(most, moves.most);
      if (!diagonal || moves.most == 0) continue;  // nothing to see
      std::vector<std::vector<double>> rows;
      for (const auto& [layer, row] : moves.by_layer) rows.push_back(binned(row));
      pictures.push_back(ReportPicture{heat_map(run.name + ", " + kind, rows)});
    }
    if (diagonal && most == 0)
      section.parts.push_back(run.name + ": " + run.expert_file + " is the base model, z = 1.");
  }
  if (table.rows.empty()) return section;
  section.parts.push_back(
      "How large the numbers of each kind of matrix are: z - 1 of scales, of other cores the "
      "coefficients themselves (LoRA's A starts at random ones).");
  section.parts.push_back(std::move(table));
  if (!pictures.empty())
    section.parts.push_back(
        "|z - 1| by layer (rows) and component (columns, the largest singular value on the left).");
  for (ReportPart& picture : pictures) section.parts.push_back(std::move(picture));
  return section;
}

}  // namespace svfleet
