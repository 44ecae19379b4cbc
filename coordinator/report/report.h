// Runs beside each other, as one document. Every number is from a file of a run folder.
#pragma once

#include <vector>

#include "coordinator/report/document.h"
#include "coordinator/report/found.h"

namespace svfleet {

ReportDocument report_of(const std::vector<FoundRun>& runs);

// Of report_of: how an expert differs from the base, by layer and component; and what was measured.
ReportSection change_section(const std::vector<FoundRun>& runs);
ReportSection results_section(const std::vector<FoundRun>& runs);
ReportSection samples_section(const std::vector<FoundRun>& runs);

}  // namespace svfleet
