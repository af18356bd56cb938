/* baize_text: tokenizers and chat templates of the Rust crate in rust/, for the C++ layer `text` alone.
 *
 * Functions that can fail return a baize_text_status; on any but OK they store a message in *error, which the caller
 * frees. Results are owned by the caller and freed with the function of their type. Texts are UTF-8 without a
 * terminator. Handles are immutable: any number of threads may use one at once. No panic crosses this border. */
#ifndef BAIZE_TEXT_H
#define BAIZE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum baize_text_status {
  BAIZE_TEXT_OK = 0,
  BAIZE_TEXT_BAD = 1,     /* what was given is broken, or cannot be done */
  BAIZE_TEXT_REFUSED = 2, /* a chat template raised an exception of its own */
  BAIZE_TEXT_PANIC = 3    /* a bug in a library, caught */
} baize_text_status;

/* Borrowed bytes; data may be null if size is 0. */
typedef struct baize_text_view {
  const char* data;
  size_t size;
} baize_text_view;

/* Owned bytes. */
typedef struct baize_text_buffer {
  char* data;
  size_t size;
} baize_text_buffer;

/* Owned token ids. */
typedef struct baize_text_ids {
  int32_t* data;
  size_t size;
} baize_text_ids;

void baize_text_buffer_free(baize_text_buffer buffer);
void baize_text_ids_free(baize_text_ids ids);

typedef struct baize_tokenizer baize_tokenizer;

/* From the text of a Hugging Face tokenizer.json. `options` is a JSON object: {"added": [AddedToken, ...],
 * "special": [content, ...], "bos": content, "eos": content, "add_bos": bool, "add_eos": bool}, all optional. */
baize_text_status baize_tokenizer_from_json(baize_text_view json, baize_text_view options, baize_tokenizer** out,
                                            baize_text_buffer* error);

/* The arrays of a GGUF vocabulary. They are read during the call only. */
typedef struct baize_text_vocab {
  const baize_text_view* tokens; /* [n_tokens] */
  size_t n_tokens;
  const float* scores; /* [n_scores] */
  size_t n_scores;
  const uint8_t* mergeable; /* [n_mergeable]; 1 for tokens that may come out of ordinary text (model "scores") */
  size_t n_mergeable;
  const baize_text_view* merges; /* [n_merges] "left right" */
  size_t n_merges;
  baize_text_view charsmap; /* SentencePiece's precompiled character map */
} baize_text_vocab;

/* `options` is a JSON object: {"model": "ranks" | "scores" | "wordpiece" | "unigram", "normalizer", "pre_tokenizer",
 * "decoder": as in tokenizer.json, "unk": id, "fuse_unk", "byte_fallback", "ignore_merges": bool, "prefix", "suffix":
 * [id, ...], "added": [{"id", "special", "lstrip", "rstrip"}, ...]}; only "model" is required. */
baize_text_status baize_tokenizer_from_vocab(const baize_text_vocab* vocab, baize_text_view options,
                                             baize_tokenizer** out, baize_text_buffer* error);

void baize_tokenizer_free(baize_tokenizer* tokenizer);

/* `add_special` puts the tokenizer's begin and end tokens around the ids; `parse_special` makes special tokens out of
 * their spelling in the text. */
baize_text_status baize_tokenizer_encode(const baize_tokenizer* tokenizer, baize_text_view text, bool add_special,
                                         bool parse_special, baize_text_ids* out, baize_text_buffer* error);

/* The bytes that a token adds to a text, at its beginning if `first`; empty for an id without a token. */
baize_text_status baize_tokenizer_piece(const baize_tokenizer* tokenizer, int32_t id, bool first,
                                        baize_text_buffer* out, baize_text_buffer* error);

/* The token as the vocabulary spells it; empty for an id without a token. */
baize_text_status baize_tokenizer_token(const baize_tokenizer* tokenizer, int32_t id, baize_text_buffer* out,
                                        baize_text_buffer* error);

/* The id of a token that the vocabulary spells `token`, or -1. */
baize_text_status baize_tokenizer_id(const baize_tokenizer* tokenizer, baize_text_view token, int32_t* out,
                                     baize_text_buffer* error);

typedef struct baize_tokenizer_info {
  int32_t id_limit;       /* one past the highest id */
  baize_text_ids special; /* ascending */
  baize_text_ids prefix;  /* what `add_special` adds */
  baize_text_ids suffix;
} baize_tokenizer_info;

baize_text_status baize_tokenizer_describe(const baize_tokenizer* tokenizer, baize_tokenizer_info* out,
                                           baize_text_buffer* error);

typedef struct baize_template baize_template;

/* `constants` is a JSON object of variables that every rendering sees, such as bos_token; empty for none. */
baize_text_status baize_template_new(baize_text_view source, baize_text_view constants, baize_template** out,
                                     baize_text_buffer* error);

void baize_template_free(baize_template* chat_template);

typedef struct baize_template_input {
  baize_text_view messages;  /* a JSON array */
  baize_text_view tools;     /* a JSON array, or empty for none */
  baize_text_view variables; /* a JSON object, or empty for none */
  bool add_generation_prompt;
  /* Writes the current time in the strftime format `format` to `out` and returns the length; more than `capacity`
   * means that it cannot. Called from within baize_template_render; must not throw. */
  size_t (*format_time)(void* context, baize_text_view format, char* out, size_t capacity);
  void* context;
} baize_template_input;

baize_text_status baize_template_render(const baize_template* chat_template, const baize_template_input* input,
                                        baize_text_buffer* out, baize_text_buffer* error);

#ifdef __cplusplus
}
#endif

#endif
