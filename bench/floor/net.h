/* What the generators and the floor programs share: a clock, sockets, and frames as a client sends them. */
#ifndef NET_H
#define NET_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STARTS(p, n, text) ((n) >= sizeof(text) - 1 && !memcmp(p, text, sizeof(text) - 1))

/* One source address has some 28,000 ports to one destination; the next connections come from 127.0.0.2 and so on. */
enum { PORTS_A_SOURCE = 20000 };

enum wire { WS, TCP };

__attribute__((unused, noreturn, format(printf, 1, 2))) static void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((unused)) static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
#define now() seconds_of(CLOCK_MONOTONIC)
#define cpu_now() seconds_of(CLOCK_PROCESS_CPUTIME_ID)

/* Time another process has had on a core, all its threads together, in seconds. */
__attribute__((unused)) static double cpu_of(int pid) {
    char path[300];
    double total = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = pid ? opendir(path) : NULL;
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        unsigned long long ns = 0;
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/schedstat", pid, task->d_name);
        FILE *file = *task->d_name == '.' ? NULL : fopen(path, "r");
        if (!file) continue;
        if (fscanf(file, "%llu", &ns) == 1) total += ns / 1e9;
        fclose(file);
    }
    if (tasks) closedir(tasks);
    return total;
}

__attribute__((unused)) static void raise_file_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* The n-th connection to a port of this machine. */
__attribute__((unused)) static int dial(int port, int n) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket %d: %s (ulimit -n?)", n, strerror(errno));
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001 + n / PORTS_A_SOURCE)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(0x7f000001)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (n >= PORTS_A_SOURCE && bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) die("connect %d: %s", n, strerror(errno));
    return fd;
}

/* Send all, however long the other side takes. */
__attribute__((unused)) static void send_all(int fd, const char *data, size_t n) {
    while (n) {
        ssize_t sent = send(fd, data, n, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            struct pollfd wait = {fd, POLLOUT, 0};
            poll(&wait, 1, 1000);
            continue;
        }
        if (sent < 0) die("send: %s", strerror(errno));
        data += sent;
        n -= sent;
    }
}

/* A client's frame: masked text on a WebSocket, length-prefixed on TCP. The bytes written to `out`. */
__attribute__((unused)) static size_t client_frame(enum wire wire, char *out, const char *payload, size_t n) {
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t at = 0;
    if (wire == TCP) {
        uint32_t length = htonl(n);
        memcpy(out, &length, 4);
        memcpy(out + 4, payload, n);
        return n + 4;
    }
    out[at++] = (char)0x81;
    if (n < 126) {
        out[at++] = 0x80 | n;
    } else {
        out[at++] = (char)(0x80 | 126);
        out[at++] = n >> 8;
        out[at++] = n;
    }
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < n; i++) out[at + i] = payload[i] ^ mask[i & 3];
    return at + n;
}

/* The length of the frame that begins at `p`, its header included, and where its payload begins; 0 when the header
   is not all there. Sees a client's frames too (their mask counts as header). */
__attribute__((unused)) static size_t frame_at(enum wire wire, const char *text, size_t n, size_t *head) {
    const unsigned char *p = (const unsigned char *)text;
    if (wire == TCP) {
        if (n < 4) return 0;
        *head = 4;
        return 4 + (((size_t)p[0] << 24) | (p[1] << 16) | (p[2] << 8) | p[3]);
    }
    if (n < 2) return 0;
    size_t length = p[1] & 127, mask = p[1] & 128 ? 4 : 0;
    *head = 2;
    if (length == 126) {
        *head = 4;
        if (n < 4) return 0;
        length = (p[2] << 8) | p[3];
    } else if (length == 127) {
        *head = 10;
        if (n < 10) return 0;
        length = 0;
        for (int i = 2; i < 10; i++) length = (length << 8) | p[i];
    }
    *head += mask;
    return n < *head ? 0 : *head + length;
}

static const char HANDSHAKE[] __attribute__((unused)) =
    "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/* The handshake and the first frame in one segment. */
__attribute__((unused)) static void greet(int fd, enum wire wire, const char *hello) {
    char out[1024];
    size_t n = 0;
    if (wire == WS) {
        n = sizeof HANDSHAKE - 1;
        memcpy(out, HANDSHAKE, n);
    }
    n += client_frame(wire, out + n, hello, strlen(hello));
    send_all(fd, out, n);
}

/* The number in a text of the form #00000042#…; -1 when it is none. */
__attribute__((unused)) static long number_in(const char *text, size_t n) {
    long number = 0;
    if (n < 10 || text[0] != '#' || text[9] != '#') return -1;
    for (int i = 1; i < 9; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        number = number * 10 + (text[i] - '0');
    }
    return number;
}
#endif
