/* The page for the browser, chat_page.html as the build embeds it. */
#ifndef EQ_APP_SERVE_CHAT_PAGE_H
#define EQ_APP_SERVE_CHAT_PAGE_H

#include <stddef.h>

extern const unsigned char eq_chat_page[]; /* [eq_chat_page_size] */
extern const size_t eq_chat_page_size;

#endif
