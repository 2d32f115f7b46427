/* The generator of the durable bench: N senders, each sending its next message when the last one is acked.

   acks PORT N TEXT [--wire ws|tcp] [--pid PID]
   Prints {"connected": …} once everybody is welcome, then reads commands:
     round SECONDS   sends for that long; prints how many acks came, how fast, and how long they took
   Ends with its standard input. An ack that is not for the message in flight, a seq acked twice and a seq that is
   missing are said under "void". Senders hear nothing but their acks: what fan-out costs is another bench. */
#include "net.h"

enum { ROOM = 16 << 10, GREETING = 200, STALLED_S = 20, MOST = 1 << 22 };

struct sender {
    int fd;
    char upgraded;
    unsigned id;  /* of the message in flight, 0 for none */
    double sent;  /* when it was sent */
    size_t held;
    char hold[ROOM];
};

static struct sender *senders;
static int sender_count, ep, greeted, welcomed, in_flight, playing, server_pid;
static enum wire wire = TCP;
static size_t text_bytes;
static unsigned ids, acks;
static double *took;
static unsigned *seqs;
static char void_reason[512];

__attribute__((format(printf, 1, 2))) static void spoil(const char *format, ...) {
    va_list args;
    if (*void_reason) return;
    va_start(args, format);
    vsnprintf(void_reason, sizeof void_reason, format, args);
    va_end(args);
    for (char *c = void_reason; *c; c++)
        if (*c == '"' || *c == '\\' || *c < ' ') *c = '\'';
}

static void send_next(struct sender *s) {
    char payload[2048], out[2100];
    s->id = ++ids;
    size_t n = sprintf(payload, "{\"type\":\"message.send\",\"id\":%u,\"thread\":\"lobby\",\"text\":\"", s->id);
    memset(payload + n, 'x', text_bytes);
    n += text_bytes;
    n += sprintf(payload + n, "\"}");
    n = client_frame(wire, out, payload, n);
    s->sent = now();
    in_flight++;
    send_all(s->fd, out, n);
}

static long field(const char *payload, size_t n, const char *name) {
    const char *at = memmem(payload, n, name, strlen(name));
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

static void hear(struct sender *s, const char *payload, size_t n) {
    if (STARTS(payload, n, "{\"type\":\"ack\"")) {
        if (field(payload, n, "\"id\":") != (long)s->id || !s->id) spoil("an ack came for another message");
        if (acks < MOST) {
            took[acks] = now() - s->sent;
            seqs[acks] = field(payload, n, "\"seq\":");
        }
        acks++;
        in_flight--;
        s->id = 0;
        if (playing && acks < MOST) send_next(s);
    } else if (STARTS(payload, n, "{\"type\":\"welcome\"")) {
        welcomed++;
    } else {
        spoil("the server said %.*s", (int)(n < 300 ? n : 300), payload);
    }
}

static void readable(struct sender *s) {
    ssize_t n = recv(s->fd, s->hold + s->held, ROOM - s->held, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        spoil("lost: the server closed connection %d", (int)(s - senders));
        epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, NULL);
        return;
    }
    size_t at = 0, end = s->held + n, head;
    char *blank = s->upgraded ? NULL : memmem(s->hold, end, "\r\n\r\n", 4);
    if (blank) {
        s->upgraded = 1;
        at = blank + 4 - s->hold;
    }
    for (size_t whole; s->upgraded && (whole = frame_at(wire, s->hold + at, end - at, &head)) && whole <= end - at;
         at += whole)
        hear(s, s->hold + at + head, whole - head);
    memmove(s->hold, s->hold + at, end - at);
    s->held = end - at;
    if (s->held == ROOM) spoil("a frame is longer than %d bytes", ROOM);
}

static int listen_for(int milliseconds) {
    struct epoll_event events[256];
    int n = epoll_wait(ep, events, 256, milliseconds);
    for (int i = 0; i < n; i++) readable(events[i].data.ptr);
    return n;
}

static void everybody_joins(int port) {
    double began = now();
    while (welcomed < sender_count && !*void_reason) {
        while (greeted < sender_count && greeted - welcomed < GREETING) {
            struct sender *s = senders + greeted;
            char hello[128];
            s->fd = dial(port, greeted);
            s->upgraded = wire == TCP;
            snprintf(hello, sizeof hello, "{\"type\":\"hello\",\"user\":\"s%05d\",\"threads\":[]}", greeted++);
            struct epoll_event event = {EPOLLIN, {.ptr = s}};
            epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &event);
            greet(s->fd, wire, hello);
        }
        listen_for(100);
        if (now() - began > STALLED_S) spoil("lost: %d of %d were welcomed", welcomed, sender_count);
    }
    printf("{\"connected\": %d, \"seconds\": %.4f, \"void\": \"%s\"}\n", welcomed, now() - began, void_reason);
    fflush(stdout);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int by_seq(const void *a, const void *b) {
    unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;
    return (x > y) - (x < y);
}

static void play(double seconds) {
    static unsigned last_seq;
    acks = 0;
    playing = 1;
    double cpu = cpu_now(), server_cpu = cpu_of(server_pid), began = now(), moved = began;
    for (int i = 0; i < sender_count; i++) send_next(senders + i);
    while (in_flight && !*void_reason) {
        if (listen_for(100) > 0) moved = now();
        if (now() - began > seconds) playing = 0;
        if (now() - moved > STALLED_S) spoil("lost: %d acks did not come", in_flight);
    }
    double took_all = now() - began;
    cpu = cpu_now() - cpu;
    server_cpu = cpu_of(server_pid) - server_cpu;
    qsort(seqs, acks, sizeof *seqs, by_seq);
    qsort(took, acks, sizeof *took, by_value);
    for (unsigned i = 1; i < acks; i++)
        if (seqs[i] != seqs[i - 1] + 1) spoil("seq %u is followed by %u", seqs[i - 1], seqs[i]);
    if (acks && last_seq && seqs[0] != last_seq + 1) spoil("seq %u is followed by %u", last_seq, seqs[0]);
    if (acks) last_seq = seqs[acks - 1];
    printf("{\"acks\": %u, \"seconds\": %.6f, \"rate\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"generator_cpu\": %.3f, \"server_cpu\": %.3f, \"void\": \"%s\"}\n",
           acks, took_all, acks / took_all, acks ? took[acks / 2] * 1e3 : 0, acks ? took[acks * 99ul / 100] * 1e3 : 0,
           cpu / took_all, server_cpu / took_all, void_reason);
    fflush(stdout);
    if (*void_reason) exit(1);
}

int main(int argc, char **argv) {
    if (argc < 4) die("usage: acks PORT N TEXT [--wire ws|tcp] [--pid PID]");
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "--wire") && ++i < argc) wire = strcmp(argv[i], "ws") ? TCP : WS;
        else if (!strcmp(argv[i], "--pid") && ++i < argc) server_pid = atoi(argv[i]);
        else die("unknown option %s", argv[i]);
    }
    raise_file_limit();
    sender_count = atoi(argv[2]);
    text_bytes = atoi(argv[3]);
    if (text_bytes < 1 || text_bytes > 1500) die("TEXT is 1 to 1500 bytes");
    senders = calloc(sender_count, sizeof *senders);
    took = malloc(MOST * sizeof *took);
    seqs = malloc(MOST * sizeof *seqs);
    ep = epoll_create1(0);
    everybody_joins(atoi(argv[1]));
    char line[128];
    while (!*void_reason && fgets(line, sizeof line, stdin)) {
        double seconds;
        if (sscanf(line, "round %lf", &seconds) != 1) die("unknown command %s", line);
        play(seconds);
    }
}
