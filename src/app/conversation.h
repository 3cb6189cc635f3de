/* The messages of a chat, and the file that keeps them: {"messages": [{"role": "...", "content":
 * "..."}, ...]} on one line, as training data have conversations. */
#ifndef EQ_APP_CONVERSATION_H
#define EQ_APP_CONVERSATION_H

#include "app/session.h"

/* A system message may come first, then user and assistant in turn. Zeroed storage is empty. */
typedef struct eq_conversation {
    const char **roles; /* owned; [n] of "system", "user", "assistant" */
    char **texts;       /* owned; [n], each owned */
    int64_t n, room;
} eq_conversation;

void eq_conversation_deinit(eq_conversation *conversation);
/* Append a copy of a text; false without memory. role must live on. */
bool eq_conversation_push(eq_conversation *conversation, const char *role, const char *text);
/* Remove the last message. */
void eq_conversation_pop(eq_conversation *conversation);
/* The system message, "" when there is none. */
const char *eq_conversation_system(const eq_conversation *conversation);
/* Set it, or with "" remove it; false without memory. */
bool eq_conversation_set_system(eq_conversation *conversation, const char *text);
/* Remove all but the system message. */
void eq_conversation_reset(eq_conversation *conversation);
/* Messages of the user that have an answer. */
int64_t eq_conversation_turns(const eq_conversation *conversation);
/* The same without its oldest turns: lists of its own (free), texts borrowed; n is 0 without
 * memory. */
eq_conversation eq_conversation_view(const eq_conversation *conversation, int64_t dropped);
/* Remove the oldest turns. */
void eq_conversation_drop(eq_conversation *conversation, int64_t turns);

/* Write the file, whole or not at all; reports what is wrong. */
eq_status eq_conversation_save(eq_session *session, const eq_conversation *conversation,
                               const char *path);
/* Read a file into an empty conversation; reports what is wrong. */
eq_status eq_conversation_load(eq_session *session, eq_conversation *conversation,
                               const char *path);

#endif
