/* Chats: lists of messages as the token ids that a model was trained with.
 *
 * A model describes its format by a template in the Jinja language. Templates are not run: the
 * family is recognised by its marks, and a table has what each family puts around the messages. */
#ifndef EQ_IO_CHAT_H
#define EQ_IO_CHAT_H

#include "io/marked.h"

typedef enum eq_role { EQ_ROLE_SYSTEM, EQ_ROLE_USER, EQ_ROLE_ASSISTANT } eq_role;

typedef struct eq_message {
    eq_role role;
    eq_text content; /* borrowed */
} eq_message;

/* A family: "chatml", "llama2", "llama3" or "mistral". */
typedef struct eq_chat_format eq_chat_format;

const char *eq_chat_format_name(const eq_chat_format *format);
/* The family of a name; NULL when there is none. */
const eq_chat_format *eq_chat_format_named(const char *name);
/* The family of a template with a NUL behind it; NULL for an unknown one and for NULL. */
const eq_chat_format *eq_chat_format_detect(const char *template);

/* The format of one model. */
typedef struct eq_chat {
    const eq_chat_format *format; /* NULL when the model has none that is known */
    const eq_tokenizer *tok;      /* borrowed */
    int32_t bos;                  /* that the format puts first, -1: none */
    int32_t end;                  /* that ends an answer; generation stops here */
    char *system;                 /* owned; message when none is given, NULL: none */
    size_t system_size;
    char problem[512]; /* why format is NULL, naming the model and --chat-format */
} eq_chat;

/* The format of a model, by its template or by name.
 *
 * tok   in  keeps being used; its template tells the family, the default system message and
 *           whether a bos token goes first
 * name  in  a family that overrides the template's; NULL: the template's. Without a template, or
 *           with one of no known family, format becomes NULL and rendering fails with `problem`
 * path  in  of the model, for messages
 * EQ_EINVAL when no family has this name or the vocabulary lacks its special tokens. */
eq_status eq_chat_init(eq_ctx *ctx, eq_chat *chat, const eq_tokenizer *tok, const char *name,
                       const char *path);
void eq_chat_deinit(eq_chat *chat);

/* The first message that is out of order, n when one is missing at the end, -1 when all is well. A
 * system message may come first; then user and assistant alternate, beginning with the user.
 *
 * expected  out  what should stand there, in words */
int64_t eq_messages_wrong(const eq_message *messages, int64_t n, const char **expected);

/* Append a chat as the templates of the family have it. What a model's own template does besides
 * is not done: thoughts (Qwen3's puts an empty <think> part before an answer), tools, dates, the
 * spaces of other versions of Mistral's. Names of special tokens inside of contents stay text. The
 * contents of answers and the tokens that end them count.
 *
 * messages  in      [n], in the order that eq_messages_wrong wants
 * open      in      an answer is to follow: ends with what the template puts before it; the last
 *                   message must then be the user's
 * out       in/out  what was appended before a failure stays
 * EQ_EINVAL when messages are out of order or the model's format is not known. */
eq_status eq_chat_render(eq_ctx *ctx, const eq_chat *chat, const eq_message *messages, int64_t n,
                         bool open, eq_marked *out);

#endif
