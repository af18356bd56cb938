#include "serve/openapi_schemas.h"

namespace baize::serve {

namespace {

constexpr const char* kSchemas = R"json({
"Error": {"type": "object", "required": ["error"], "additionalProperties": false, "properties": {
  "error": {"type": "object", "required": ["message", "type", "param", "code"], "additionalProperties": false,
    "properties": {
      "message": {"type": "string", "minLength": 1},
      "type": {"type": "string"},
      "param": {"type": ["string", "null"]},
      "code": {"type": ["string", "null"]}}}}},

"Message": {"oneOf": [
  {"$ref": "#/components/schemas/QuestionMessage"},
  {"$ref": "#/components/schemas/AnswerMessage"}]},
"QuestionMessage": {"type": "object", "required": ["role", "content"], "additionalProperties": {"type": "null"},
  "properties": {
    "role": {"enum": ["system", "developer", "user"]},
    "content": {"$ref": "#/components/schemas/Content"},
    "name": {"type": ["string", "null"]},
    "reasoning_content": {"type": ["string", "null"]},
    "tool_calls": {"type": ["array", "null"], "maxItems": 0},
    "annotations": {"type": ["array", "null"], "maxItems": 0}}},
"AnswerMessage": {"type": "object", "required": ["role"], "additionalProperties": {"type": "null"},
  "properties": {
    "role": {"const": "assistant"},
    "content": {"anyOf": [{"$ref": "#/components/schemas/Content"}, {"type": "null"}]},
    "name": {"type": ["string", "null"]},
    "reasoning_content": {"type": ["string", "null"]},
    "tool_calls": {"type": ["array", "null"], "maxItems": 0},
    "annotations": {"type": ["array", "null"], "maxItems": 0}}},
"Content": {"oneOf": [
  {"type": "string"},
  {"type": "array", "items": {"type": "object", "required": ["type", "text"], "properties": {
    "type": {"const": "text"},
    "text": {"type": "string"}}}}]},

"Usage": {"type": "object", "additionalProperties": false,
  "required": ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"],
  "properties": {
    "prompt_tokens": {"type": "integer", "minimum": 0},
    "completion_tokens": {"type": "integer", "minimum": 0},
    "total_tokens": {"type": "integer", "minimum": 0},
    "prompt_tokens_details": {"type": "object", "required": ["cached_tokens"], "additionalProperties": false,
      "properties": {"cached_tokens": {"type": "integer", "minimum": 0}}},
    "completion_tokens_details": {"type": "object", "required": ["reasoning_tokens"], "additionalProperties": false,
      "properties": {"reasoning_tokens": {"type": "integer", "minimum": 0}}}}},
"TokenIds": {"type": "array", "items": {"$ref": "#/components/schemas/TokenId"}},
"FinishReason": {"enum": ["stop", "length"]},

"TokenLogprob": {"type": "object", "required": ["token", "logprob", "bytes"], "additionalProperties": false,
  "properties": {
    "token": {"type": "string"},
    "logprob": {"type": "number", "maximum": 0},
    "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}}},
"ChatLogprobs": {"type": "object", "required": ["content", "refusal"], "additionalProperties": false, "properties": {
  "content": {"type": "array", "items": {"type": "object", "required": ["token", "logprob", "bytes", "top_logprobs"],
    "additionalProperties": false, "properties": {
      "token": {"type": "string"},
      "logprob": {"type": "number", "maximum": 0},
      "bytes": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}},
      "top_logprobs": {"type": "array", "maxItems": 20, "items": {"$ref": "#/components/schemas/TokenLogprob"}}}}},
  "refusal": {"type": "null"}}},
"ChatCompletion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
  "additionalProperties": false, "properties": {
    "id": {"type": "string", "pattern": "^chatcmpl-"},
    "object": {"const": "chat.completion"},
    "created": {"type": "integer", "minimum": 0},
    "model": {"type": "string"},
    "choices": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": false,
      "required": ["index", "message", "logprobs", "finish_reason"], "properties": {
        "index": {"type": "integer", "minimum": 0},
        "message": {"type": "object", "required": ["role", "content", "refusal"], "additionalProperties": false,
          "properties": {
            "role": {"const": "assistant"},
            "content": {"type": "string"},
            "refusal": {"type": "null"},
            "reasoning_content": {"type": "string"}}},
        "logprobs": {"anyOf": [{"$ref": "#/components/schemas/ChatLogprobs"}, {"type": "null"}]},
        "token_ids": {"$ref": "#/components/schemas/TokenIds"},
        "finish_reason": {"$ref": "#/components/schemas/FinishReason"}}}},
    "usage": {"$ref": "#/components/schemas/Usage"},
    "prompt_token_ids": {"$ref": "#/components/schemas/TokenIds"}}},
"ChatCompletionChunk": {"type": "object", "required": ["id", "object", "created", "model", "choices"],
  "additionalProperties": false, "properties": {
    "id": {"type": "string", "pattern": "^chatcmpl-"},
    "object": {"const": "chat.completion.chunk"},
    "created": {"type": "integer", "minimum": 0},
    "model": {"type": "string"},
    "choices": {"type": "array", "maxItems": 1, "items": {"type": "object", "additionalProperties": false,
      "required": ["index", "delta", "logprobs", "finish_reason"], "properties": {
        "index": {"type": "integer", "minimum": 0},
        "delta": {"type": "object", "additionalProperties": false, "properties": {
          "role": {"const": "assistant"},
          "content": {"type": "string"},
          "reasoning_content": {"type": "string"}}},
        "logprobs": {"anyOf": [{"$ref": "#/components/schemas/ChatLogprobs"}, {"type": "null"}]},
        "token_ids": {"$ref": "#/components/schemas/TokenIds"},
        "prompt_token_ids": {"$ref": "#/components/schemas/TokenIds"},
        "finish_reason": {"anyOf": [{"$ref": "#/components/schemas/FinishReason"}, {"type": "null"}]}}}},
    "usage": {"anyOf": [{"$ref": "#/components/schemas/Usage"}, {"type": "null"}]}}},

"CompletionLogprobs": {"type": "object", "required": ["tokens", "token_logprobs", "top_logprobs", "text_offset"],
  "additionalProperties": false, "properties": {
    "tokens": {"type": "array", "items": {"type": "string"}},
    "token_logprobs": {"type": "array", "items": {"type": ["number", "null"], "maximum": 0}},
    "top_logprobs": {"type": "array", "items": {"type": ["object", "null"], "maxProperties": 20,
      "additionalProperties": {"type": "number", "maximum": 0}}},
    "text_offset": {"type": "array", "items": {"type": "integer", "minimum": 0}}}},
"CompletionChoice": {"type": "object", "required": ["index", "text", "logprobs", "finish_reason"],
  "additionalProperties": false, "properties": {
    "index": {"type": "integer", "minimum": 0},
    "text": {"type": "string"},
    "logprobs": {"anyOf": [{"$ref": "#/components/schemas/CompletionLogprobs"}, {"type": "null"}]},
    "token_ids": {"$ref": "#/components/schemas/TokenIds"},
    "prompt_token_ids": {"$ref": "#/components/schemas/TokenIds"},
    "finish_reason": {"anyOf": [{"$ref": "#/components/schemas/FinishReason"}, {"type": "null"}]}}},
"Completion": {"type": "object", "required": ["id", "object", "created", "model", "choices", "usage"],
  "additionalProperties": false, "properties": {
    "id": {"type": "string", "pattern": "^cmpl-"},
    "object": {"const": "text_completion"},
    "created": {"type": "integer", "minimum": 0},
    "model": {"type": "string"},
    "choices": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/CompletionChoice"}},
    "usage": {"$ref": "#/components/schemas/Usage"}}},
"CompletionChunk": {"type": "object", "required": ["id", "object", "created", "model", "choices"],
  "additionalProperties": false, "properties": {
    "id": {"type": "string", "pattern": "^cmpl-"},
    "object": {"const": "text_completion"},
    "created": {"type": "integer", "minimum": 0},
    "model": {"type": "string"},
    "choices": {"type": "array", "maxItems": 1, "items": {"$ref": "#/components/schemas/CompletionChoice"}},
    "usage": {"anyOf": [{"$ref": "#/components/schemas/Usage"}, {"type": "null"}]}}},

"Model": {"type": "object", "required": ["id", "object", "created", "owned_by", "max_model_len"],
  "additionalProperties": false, "properties": {
    "id": {"type": "string"},
    "object": {"const": "model"},
    "created": {"type": "integer", "minimum": 0},
    "owned_by": {"type": "string"},
    "max_model_len": {"type": "integer", "minimum": 1}}},
"Models": {"type": "object", "required": ["object", "data"], "additionalProperties": false, "properties": {
  "object": {"const": "list"},
  "data": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Model"}}}},
"Tokens": {"type": "object", "required": ["count", "max_model_len", "tokens"], "additionalProperties": false,
  "properties": {
    "count": {"type": "integer", "minimum": 0},
    "max_model_len": {"type": "integer", "minimum": 1},
    "tokens": {"$ref": "#/components/schemas/TokenIds"}}},
"Text": {"type": "object", "required": ["prompt"], "additionalProperties": false, "properties": {
  "prompt": {"type": "string"}}},
"Health": {"type": "object", "required": ["status"], "additionalProperties": false, "properties": {
  "status": {"const": "ok"}}},
"Version": {"type": "object", "required": ["version"], "additionalProperties": false, "properties": {
  "version": {"type": "string"}}},
"Document": {"type": "object", "required": ["openapi", "info", "paths"]}
})json";

}  // namespace

const char* openapi_schemas() { return kSchemas; }

}  // namespace baize::serve
