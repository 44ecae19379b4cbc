// svfleet decompose: the factor store of a model, shared over all ranks, restartable.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "comm/error.h"
#include "coordinator/base/factors.h"
#include "coordinator/commands/commands.h"
#include "coordinator/config/targets.h"
#include "coordinator/crew/preflight.h"
#include "worker/model/model_tensors.h"

namespace svfleet {

int decompose_command(const CommandLine& line, const Config& config) {
  Crew crew(config);
  preflight_decompose(config, crew);
  const Architecture architecture = read_architecture(config.model.path, config.model.max_length);
  const SafetensorsFolder files = open_tensors(config.model.path, architecture);
  check_tensors(files, architecture);
  crew.agree("model folder", files.quick_fingerprint());
  auto decomposed = decompose_missing(config, crew, architecture, files, /*keep=*/false);
  if (!decomposed) return kExitRequeue;
  if (!crew.leads()) return kExitFinished;

  std::vector<NamedCertificate>& certificates = decomposed->certificates;
  std::stable_sort(certificates.begin(), certificates.end(), [](const auto& a, const auto& b) {
    return a.certificate.predicted_error > b.certificate.predicted_error;
  });
  const auto made = std::count_if(certificates.begin(), certificates.end(),
                                  [](const auto& c) { return c.made_now; });
  if (line.json) {
    nlohmann::json rows = nlohmann::json::array();
    for (const NamedCertificate& c : certificates)
      rows.push_back({{"name", c.name},
                      {"orthogonality", c.certificate.orthogonality},
                      {"off_diagonal", c.certificate.off_diagonal},
                      {"predicted_error", c.certificate.predicted_error},
                      {"made_now", c.made_now}});
    nlohmann::json result = {{"store", store_folder(config)},
                             {"model_hash", decomposed->made_from.model_hash},
                             {"matrices", certificates.size()},
                             {"made_now", made},
                             {"certificates", rows}};
    std::printf("%s\n", result.dump().c_str());
    return kExitFinished;
  }
  std::printf("%zu matrices in %s, %td of them decomposed now. Worst certificates:\n",
              certificates.size(), store_folder(config).c_str(), made);
  std::printf("  %-48s %14s %14s %14s\n", "matrix", "error of W'", "orthogonality", "off-diagonal");
  for (size_t i = 0; i < std::min<size_t>(certificates.size(), 10); ++i)
    std::printf("  %-48s %14.2e %14.2e %14.2e\n", certificates[i].name.c_str(),
                certificates[i].certificate.predicted_error,
                certificates[i].certificate.orthogonality,
                certificates[i].certificate.off_diagonal);
  return kExitFinished;
}

}  // namespace svfleet
