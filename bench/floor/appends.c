/* The floor under every durable store: write a group of rows at the end of a file, fdatasync, again.

   appends FILE ROW_BYTES GROUP SECONDS   prints what came of it. */
#include "net.h"
#include <fcntl.h>

int main(int argc, char **argv) {
    if (argc != 5) die("usage: appends FILE ROW_BYTES GROUP SECONDS");
    size_t bytes = atoi(argv[2]) * atoi(argv[3]);
    int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0) die("%s: %s", argv[1], strerror(errno));
    char *group = malloc(bytes);
    memset(group, 'x', bytes);
    double seconds = atof(argv[4]), began = now(), took;
    unsigned long rows = 0;
    do {
        if (write(file, group, bytes) != (ssize_t)bytes || fdatasync(file)) die("write: %s", strerror(errno));
        rows += atoi(argv[3]);
        took = now() - began;
    } while (took < seconds);
    unlink(argv[1]);
    printf("{\"rows\": %lu, \"seconds\": %.6f, \"rate\": %.1f, \"void\": \"\"}\n", rows, took, rows / took);
}
