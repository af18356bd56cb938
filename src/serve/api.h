// Api: the service behind the HTTP server: finds the route of a request, checks its key, answers errors in OpenAI's
// shape, adds the CORS headers, counts. Routes are rows of a table (serve/routes.h). Any thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/api_error.h"
#include "serve/config.h"
#include "serve/metrics.h"
#include "serve/served_model.h"

namespace baize::serve {

class Api final : public Service {
 public:
  /// At least one model. What the models point to must outlive it.
  Api(ServeConfig config, std::vector<ServedModel> models, std::string version);

  std::unique_ptr<Task> handle(const Request& request, Reply& reply, const Wake& wake) override;
  void refuse(int status, const std::string& why, Reply& reply) override;

  const std::vector<ServedModel>& models() const { return models_; }
  const std::string& version() const { return version_; }
  bool needs_key() const { return !config_.api_keys.empty(); }
  const ServiceMetrics& metrics() const { return metrics_; }

 private:
  std::unique_ptr<Task> dispatch(const Request& request, Reply& reply, const Wake& wake);
  void check_key(const Request& request) const;
  bool add_cors(const Request& request, Reply& reply) const;
  void report(const ApiError& error, Reply& reply);

  const ServeConfig config_;
  const std::vector<ServedModel> models_;
  const std::string version_;
  ServiceMetrics metrics_;
};

}  // namespace baize::serve
