// The page of a load test: one HTML file without scripts or anything from elsewhere, its plots drawn as SVG. Pure.
#pragma once

#include <string>
#include <vector>

#include "apps/load_report.h"

namespace baize::apps {

/// Distributions of TTFT and E2E, tokens a second over time, each request's latency by its start; light and dark.
std::string load_page(const LoadSetup& setup, const LoadSummary& summary, const std::vector<LoadResult>& results);

}  // namespace baize::apps
