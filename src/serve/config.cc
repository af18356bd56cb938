#include "serve/config.h"

namespace baize::serve {

namespace {

#define OF(member) [](ServeConfig& c) { return &c.member; }

constexpr double kDay = 86400;

const ServeField kFields[] = {
    {.name = "host",
     .help = "address to listen at; 0.0.0.0: all of this machine",
     .type = "ADDRESS",
     .text = OF(http.host)},
    {.name = "port", .help = "port to listen at; 0: any free one", .type = "N", .number = OF(http.port), .max = 65535},
    {.name = "api-key",
     .help = "key that requests must bring (several: separated by commas)",
     .type = "KEY",
     .texts = OF(api_keys)},
    {.name = "alias", .help = "names of the models for requests, in their order", .type = "NAME", .texts = OF(alias)},
    {.name = "cors",
     .help = "origins whose pages may ask, such as https://example.org; *: all",
     .type = "ORIGIN",
     .texts = OF(cors)},
    {.name = "tls-cert", .help = "certificate chain (PEM), for https", .type = "FILE", .text = OF(http.tls_cert)},
    {.name = "tls-key", .help = "private key of the certificate (PEM)", .type = "FILE", .text = OF(http.tls_key)},
    {.name = "max-body",
     .help = "largest request in bytes",
     .type = "N",
     .number = OF(http.max_body),
     .min = 1024,
     .max = 1 << 30},
    {.name = "max-connections",
     .help = "connections at once",
     .type = "N",
     .number = OF(http.max_connections),
     .min = 1,
     .max = 100000},
    {.name = "read-timeout",
     .help = "a request must arrive within that time",
     .type = "SECONDS",
     .seconds = OF(http.read_seconds),
     .min = 0.1,
     .max = kDay},
    {.name = "idle-timeout",
     .help = "a connection without requests is closed after that time",
     .type = "SECONDS",
     .seconds = OF(http.idle_seconds),
     .min = 0.1,
     .max = kDay},
    {.name = "write-timeout",
     .help = "a client that takes nothing for that time is dropped",
     .type = "SECONDS",
     .seconds = OF(http.write_seconds),
     .min = 0.1,
     .max = kDay},
    {.name = "grace",
     .help = "running answers may take that long after SIGTERM",
     .type = "SECONDS",
     .seconds = OF(http.grace_seconds),
     .min = 0,
     .max = kDay},
};

#undef OF

}  // namespace

std::span<const ServeField> serve_fields() { return kFields; }

}  // namespace baize::serve
