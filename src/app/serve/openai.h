/* OpenAI's interface as JSON: requests that are checked, responses that are built. Nothing here
 * knows of connections. */
#ifndef EQ_APP_SERVE_OPENAI_H
#define EQ_APP_SERVE_OPENAI_H

#include "app/conversation.h"

#include <jansson.h>

typedef enum eq_api_kind { EQ_API_COMPLETION = 1, EQ_API_CHAT = 2 } eq_api_kind;

/* Why a request is refused or has failed. */
typedef struct eq_api_error {
    int status;       /* of HTTP; 0: there is no error */
    const char *type; /* borrowed from the program, as is code */
    const char *code; /* NULL: none */
    char param[64];   /* the parameter it is about, "": none */
    char message[512];
} eq_api_error;

/* Fill in an error of the kind that its status tells. param and code may be NULL. Returns false. */
bool eq_api_fail(eq_api_error *error, int status, const char *param, const char *code,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

/* ---- requests (openai_request.c) ----------------------------------------------------------- */

/* What this server can do. */
typedef struct eq_api_limits {
    const char *model;  /* its name */
    int64_t slots;      /* most choices for a prompt */
    int64_t texts;      /* most texts of a request, prompts times choices */
    int64_t context;    /* most tokens of a text */
    int64_t vocabulary; /* tokens are below it */
    bool chats;         /* there is a chat format */
} eq_api_limits;

typedef struct eq_api_prompt {
    int32_t *ids; /* owned, eq_free; [count] */
    int64_t count;
} eq_api_prompt;

enum { EQ_API_MOST_STOPS = 16 };

/* A request that was checked. Zeroed storage is an empty one. */
typedef struct eq_api_request {
    json_t *root; /* owned: what was sent; NULL when the prompts are made */
    eq_api_kind kind;
    const json_t *prompt; /* EQ_API_COMPLETION: a text, a list of texts, of ids, of lists of ids;
                             borrowed from root */
    eq_conversation messages;             /* EQ_API_CHAT; owned */
    int64_t n;                            /* choices for each prompt */
    int64_t max_tokens;                   /* 0: not said */
    eq_generate_options options;          /* without max_tokens */
    bool seeded;                          /* options.seed was said */
    json_t *stop;                         /* owned; NULL: not said */
    const char *stops[EQ_API_MOST_STOPS]; /* of that */
    int64_t stop_count;
    bool logprobs;
    int64_t top_logprobs;
    bool fresh; /* read every token of the prompt again */
    bool stream, stream_usage;
    eq_api_prompt *prompts; /* owned; [prompt_count], by eq_api_tokenize */
    int64_t prompt_count;
    int32_t end; /* EQ_API_CHAT: the token that ends an answer */
} eq_api_request;

/* Check the body of a request, [size] bytes of any kind, and take it apart. Fills in the error and
 * returns false when it is refused. The request is to be deinitialized in any case. */
bool eq_api_parse(eq_api_request *request, eq_api_error *error, eq_api_kind kind, const char *body,
                  size_t size, const eq_api_limits *limits);
/* Make the prompts of a request that was parsed; format as in eq_chat_ids. What was sent is let go
 * of: it may take a hundred times its bytes. Refuses prompts that do not fit the context. ctx is
 * used by this thread only, and clear afterwards (openai_prompt.c). */
bool eq_api_tokenize(eq_ctx *ctx, const eq_model *model, const char *format,
                     eq_api_request *request, eq_api_error *error, const eq_api_limits *limits);
/* Most new tokens for a prompt, as an engine wants it. */
int64_t eq_api_max_tokens(const eq_api_request *request, const eq_api_prompt *prompt,
                          int64_t context);
void eq_api_request_deinit(eq_api_request *request);

/* ---- responses (openai_response.c) --------------------------------------------------------- */

/* What all parts of a response have in common. */
typedef struct eq_api_head {
    char id[48];
    int64_t created; /* seconds since 1970 */
    const char *model;
    eq_api_kind kind;
} eq_api_head;

typedef struct eq_api_usage {
    int64_t prompt_tokens, cached_tokens, new_tokens;
} eq_api_usage;

/* A piece of one choice, or all of it. */
typedef struct eq_api_piece {
    int64_t index;
    const char *text; /* [size]: UTF-8, not ended by a NUL */
    size_t size;
    json_t *logprobs; /* owned, taken by the function that gets the piece; NULL: none */
    eq_finish finish; /* EQ_FINISH_NONE: more comes */
} eq_api_piece;

/* Each of these gives a new object, owned by the caller, or NULL without memory. */
json_t *eq_api_error_json(const eq_api_error *error);
json_t *eq_api_model_json(const char *name, int64_t created);
json_t *eq_api_models_json(const char *name, int64_t created);
/* A list for the tokens of one choice, and one more token for it. offset counts the characters in
 * front of it. */
json_t *eq_api_logprobs_new(eq_api_kind kind);
void eq_api_logprobs_add(json_t *list, eq_api_kind kind, const eq_model *model,
                         const eq_event *event, int64_t offset);
/* The first part of a choice in a stream of a chat: who speaks. */
json_t *eq_api_opening(const eq_api_head *head, int64_t index, bool with_usage);
/* A part of a stream. with_usage: there is a field for it, null but in the last part. */
json_t *eq_api_chunk(const eq_api_head *head, const eq_api_piece *piece, bool with_usage);
json_t *eq_api_last_chunk(const eq_api_head *head, const eq_api_usage *usage);
json_t *eq_api_choice(eq_api_kind kind, const eq_api_piece *piece);
/* A whole response; takes the list of choices. */
json_t *eq_api_response(const eq_api_head *head, json_t *choices, const eq_api_usage *usage);

#endif
