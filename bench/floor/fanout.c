/* The floor of fan-out: one frame comes in, one send() a reader of a ready buffer goes out. Nothing is stored.

   fanout SIZE TEXT   prints its port, then serves until it is killed.
   Every frame to a reader has SIZE bytes of payload and ends in a text of TEXT bytes.
   Who says hello with "threads":[] is the sender; everybody else is a reader. */
#include "net.h"

enum { MOST = 20000, ROOM = 8192 };

static struct peer {
    int upgraded;
    size_t held;
    char hold[ROOM];
} *peers[MOST];
static int readers[MOST], reader_count;
static char *ready, *number;
static size_t ready_bytes;

static const char ACCEPTED[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static size_t server_frame(char *out, const char *payload, size_t n) {
    out[0] = (char)0x81;
    if (n < 126) {
        out[1] = n;
        memcpy(out + 2, payload, n);
        return n + 2;
    }
    out[1] = 126;
    out[2] = n >> 8;
    out[3] = n;
    memcpy(out + 4, payload, n);
    return n + 4;
}

static void make_ready(size_t size, size_t text) {
    char *payload = calloc(1, size + text + 256);
    size_t n = sprintf(payload, "{\"type\":\"message\",\"pad\":\"");
    size_t rest = strlen("\",\"text\":\"\"}") + text;
    while (n + rest < size) payload[n++] = '-';
    n += sprintf(payload + n, "\",\"text\":\"");
    size_t at = n;
    memset(payload + n, 'x', text);
    memcpy(payload + n, "#00000000#", 10);
    n += text;
    n += sprintf(payload + n, "\"}");
    ready = malloc(n + 8);
    ready_bytes = server_frame(ready, payload, n);
    number = ready + (ready_bytes - n) + at + 1;
    free(payload);
}

static void say(int fd, const char *payload) {
    char out[256];
    send_all(fd, out, server_frame(out, payload, strlen(payload)));
}

static void heard(int fd, char *payload, size_t n) {
    if (memmem(payload, n, "\"hello\"", 7)) {
        if (!memmem(payload, n, "\"threads\":[]", 12)) readers[reader_count++] = fd;
        say(fd, "{\"type\":\"welcome\"}");
        return;
    }
    char *text = memmem(payload, n, "\"text\":\"#", 9);
    if (!text) return;
    memcpy(number, text + 9, 8);
    for (int i = 0; i < reader_count; i++) {
        ssize_t sent = send(readers[i], ready, ready_bytes, MSG_NOSIGNAL);
        if (sent != (ssize_t)ready_bytes) send_all(readers[i], ready + (sent > 0 ? sent : 0), ready_bytes - (sent > 0 ? sent : 0));
    }
    say(fd, "{\"type\":\"ack\"}");
}

static int readable(int fd) {
    struct peer *peer = peers[fd];
    ssize_t n = recv(fd, peer->hold + peer->held, ROOM - peer->held, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN;
    size_t at = 0, end = peer->held + n, head;
    if (!peer->upgraded) {
        char *blank = memmem(peer->hold, end, "\r\n\r\n", 4);
        if (!blank) return peer->held = end, 1;
        send_all(fd, ACCEPTED, sizeof ACCEPTED - 1);
        peer->upgraded = 1;
        at = blank + 4 - peer->hold;
    }
    for (size_t whole; (whole = frame_at(WS, peer->hold + at, end - at, &head)) && whole <= end - at; at += whole) {
        char *mask = peer->hold + at + head - 4, *payload = mask + 4;
        for (size_t i = 0; i < whole - head; i++) payload[i] ^= mask[i & 3];
        heard(fd, payload, whole - head);
    }
    memmove(peer->hold, peer->hold + at, end - at);
    peer->held = end - at;
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 3) die("usage: fanout SIZE TEXT");
    make_ready(atoi(argv[1]), atoi(argv[2]));
    raise_file_limit();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, door = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
    if (bind(door, (struct sockaddr *)&address, size) || listen(door, 4096)) die("listen: %s", strerror(errno));
    getsockname(door, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    struct epoll_event event = {EPOLLIN, {.fd = door}}, events[512];
    epoll_ctl(ep, EPOLL_CTL_ADD, door, &event);
    for (;;) {
        int n = epoll_wait(ep, events, 512, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd != door) {
                if (readable(fd)) continue;
                for (int k = 0; k < reader_count; k++)
                    if (readers[k] == fd) readers[k] = readers[--reader_count];
                close(fd);
                continue;
            }
            while ((fd = accept4(door, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (fd >= MOST) die("more than %d connections", MOST);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                if (!peers[fd]) peers[fd] = malloc(sizeof *peers[fd]);
                peers[fd]->upgraded = peers[fd]->held = 0;
                event.data.fd = fd;
                epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
            }
        }
    }
}
