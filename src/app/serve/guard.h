/* Who may speak to the server. */
#ifndef EQ_APP_SERVE_GUARD_H
#define EQ_APP_SERVE_GUARD_H

#include <stdbool.h>

/* Whether an Authorization header, NULL: none, is "Bearer " and the token. How long it takes does
 * not depend on where they differ. */
bool eq_guard_token(const char *header, const char *token);
/* Whether a Host header, NULL: none, names the server by an address or as localhost. A web page can
 * make its own name point to this machine and then speak to the server as if it came from there;
 * its requests carry that name. */
bool eq_guard_host(const char *header);
/* Whether a Content-Type header, NULL: none, says JSON. Other pages in a browser may send some
 * types without asking first; this is none of them. */
bool eq_guard_json(const char *header);

#endif
