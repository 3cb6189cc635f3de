#include "app/serve/guard.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>

enum { MOST_HOST = 64 };

bool eq_guard_token(const char *header, const char *token)
{
    static const char scheme[] = "Bearer ";
    size_t front = sizeof scheme - 1, size = strlen(token);
    if (!header || strncasecmp(header, scheme, front) != 0) return false;
    const char *given = header + front;
    size_t n = strlen(given);
    volatile unsigned char differs = n != size;
    for (size_t i = 0; i < n; i++)
        differs = (unsigned char)(differs | (given[i] ^ token[i % size]));
    return !differs;
}

/* Whether what follows a host is nothing or a port. */
static bool ends_host(const char *text)
{
    if (*text == ':')
        for (text++; isdigit((unsigned char)*text);)
            text++;
    return !*text;
}

bool eq_guard_host(const char *header)
{
    char host[MOST_HOST];
    unsigned char address[sizeof(struct in6_addr)];
    if (!header) return true; /* HTTP/1.0; a browser sends it always */
    bool six = *header == '[';
    size_t n = six ? strcspn(header + 1, "]") : strcspn(header, ":");
    if (n >= sizeof host) return false;
    memcpy(host, header + six, n);
    host[n] = 0;
    if (six)
        return header[n + 1] && ends_host(header + n + 2) &&
               inet_pton(AF_INET6, host, address) == 1;
    if (!ends_host(header + n)) return false;
    return strcasecmp(host, "localhost") == 0 || inet_pton(AF_INET, host, address) == 1;
}

bool eq_guard_json(const char *header)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return header && strncasecmp(header, json, n) == 0 && strchr("; \t", header[n]);
}
