/* Host names as a test wants them: `NAMES` is "redis=127.77.0.1 mysql=127.77.0.2". Loaded before libc into
 * the program under test, so that a configuration can be tried unchanged, without rights on the machine. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    const char *names = getenv("NAMES");
    char address[64] = "";
    size_t length = node ? strlen(node) : 0;
    for (const char *at = names; length && at && *at; at = strchr(at, ' ') ? strchr(at, ' ') + 1 : "") {
        if (strncmp(at, node, length) == 0 && at[length] == '=') {
            size_t size = strcspn(at + length + 1, " ");
            if (size < sizeof address) memcpy(address, at + length + 1, size);
        }
    }
    return real(*address ? address : node, service, hints, found);
}
