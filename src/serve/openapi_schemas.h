// The schemas of messages and answers in the OpenAPI document. They allow nothing that they do not name, so that tests
// notice an answer that says more than the document. Any thread.
#pragma once

namespace baize::serve {

/// A JSON object: schemas by name. Those of streamed answers' events end in "Chunk". TokenId is not among them, for it
/// depends on the models.
const char* openapi_schemas();

}  // namespace baize::serve
