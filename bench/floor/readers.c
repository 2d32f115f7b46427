/* The generator of fan-out: N readers of one thread and one sender, who sends the next frame when all readers have
   the one WINDOW frames before it. Every text begins with a number, and every reader must see them all, in order.

   readers PORT N TEXT [options]
     --wire ws|tcp    how frames travel
     --idle           readers only; for measuring what a connection costs
     --names WORD     what readers are called, before their number
     --control PORT   frames are not sent as messages but asked of an engine, which listens here
     --pid PID        the server, for its CPU time
     --together N     so many wait for their welcome at most
     --also PORT      another node; readers go round all of them. May be said several times
   Prints {"connected": …} once everybody is welcome, then reads commands:
     round SECONDS FRAMES WINDOW   sends for that long, at most so many frames; prints what happened
   Ends with its standard input. Whatever is lost, doubled or reordered is said under "void". */
#include "net.h"

enum { RING = 4096, CHUNK = 1 << 20, SKIP_FROM = 16 << 10, KNOWN_FROM = 64, STALLED_S = 10, NODES = 16 };

struct reader {
    int fd;
    unsigned next;     /* the number it must see next */
    char upgraded, welcome, ended;
    size_t held, room; /* an unfinished frame */
    char *hold;
    size_t skip;       /* bytes of a long frame nobody counts */
};

static struct reader *readers;
static int nodes[NODES], node_count = 1, together = 200;
static int reader_count, ep, greeted, welcomed, ended, idle, control_fd = -1, server_pid;
static enum wire wire = WS;
static const char *names = "r";
static size_t text_bytes;
static char *chunk, void_reason[512];
static int have[RING];               /* how many readers have frame k */
static unsigned sent, done, acks;    /* frames: sent, had by all, acked */
static unsigned long counted_bytes, counted_frames;

__attribute__((format(printf, 1, 2))) static void spoil(const char *format, ...) {
    va_list args;
    if (*void_reason) return;
    va_start(args, format);
    vsnprintf(void_reason, sizeof void_reason, format, args);
    va_end(args);
    for (char *c = void_reason; *c; c++)
        if (*c == '"' || *c == '\\' || *c < ' ') *c = '\'';
}

static void count(struct reader *r, const char *payload, size_t n) {
    static size_t usual; /* the text begins where it began last time, mostly */
    const char *text;
    if (usual && usual + 10 < n && !memcmp(payload + usual - 8, "\"text\":\"#", 9)) {
        text = payload + usual;
    } else {
        text = memmem(payload, n, "\"text\":\"#", 9);
        if (!text) return;
        text += 8;
        usual = text - payload;
    }
    counted_bytes += n;
    counted_frames++;
    size_t left = payload + n - text;
    do { /* the server may join pieces of an answer for a reader that is behind */
        long number = number_in(text, left);
        if (number != (long)r->next) {
            spoil("%s: reader %d was told %ld, expected %u", number < (long)r->next ? "doubled or reordered" : "lost",
                  (int)(r - readers), number, r->next);
            return;
        }
        if (++have[number % RING] == reader_count) {
            have[number % RING] = 0;
            done++;
        }
        r->next++;
        text += text_bytes;
        left -= text_bytes;
    } while (left > text_bytes && *text == '#');
}

static void hear(struct reader *r, const char *payload, size_t n) {
    int is_sender = r == readers + reader_count;
    if (control_fd < 0 ? STARTS(payload, n, "{\"type\":\"message\",") : STARTS(payload, n, "{\"type\":\"run.delta\",")) {
        if (!is_sender) count(r, payload, n);
    } else if (STARTS(payload, n, "{\"type\":\"ack\"")) {
        acks++;
    } else if (STARTS(payload, n, "{\"type\":\"welcome\"")) {
        welcomed++;
    } else if (STARTS(payload, n, "{\"type\":\"run.completed\"")) {
        ended++;
    } else if (STARTS(payload, n, "{\"type\":\"error\"") || STARTS(payload, n, "{\"type\":\"bye\"") ||
               STARTS(payload, n, "{\"type\":\"reset\"")) {
        spoil("the server said %.*s", (int)(n < 300 ? n : 300), payload);
    }
}

/* Read once. Was that all there is? */
static int readable(struct reader *r) {
    if (r->held) memcpy(chunk, r->hold, r->held);
    ssize_t asked = CHUNK - r->held, n = recv(r->fd, chunk + r->held, asked, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return 1;
    if (n <= 0) {
        spoil("lost: the server closed connection %d", (int)(r - readers));
        epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, NULL);
        return 1;
    }
    size_t at = 0, end = r->held + n, head, whole = 0;
    if (r->skip) {
        at = r->skip < end ? r->skip : end;
        r->skip -= at;
    }
    if (!r->upgraded) {
        char *blank = memmem(chunk, end, "\r\n\r\n", 4);
        if (blank) {
            if (!STARTS(chunk, end, "HTTP/1.1 101")) spoil("the handshake was answered %.*s", 60, chunk);
            r->upgraded = 1;
            at = blank + 4 - chunk;
        }
    }
    if (r->upgraded) {
        while (at < end && (whole = frame_at(wire, chunk + at, end - at, &head)) && whole <= end - at) {
            hear(r, chunk + at + head, whole - head);
            at += whole;
        }
        if (at < end && whole > SKIP_FROM && end - at > KNOWN_FROM &&
            !STARTS(chunk + at + head, end - at, "{\"type\":\"run.delta\"")) {
            hear(r, chunk + at + head, end - at - head);
            r->skip = whole - (end - at);
            at = end;
        }
    }
    r->held = end - at;
    if (r->held > r->room) r->hold = realloc(r->hold, r->room = r->held + 512);
    if (r->held) memcpy(r->hold, chunk + at, r->held);
    return n < asked;
}

/* Read what is there; how many connections had something. */
static int listen_for(int milliseconds) {
    struct epoll_event events[512];
    int n = epoll_wait(ep, events, 512, milliseconds);
    for (int i = 0; i < n; i++)
        while (!readable(events[i].data.ptr)) {}
    return n;
}

static void join(struct reader *r, int i) {
    char hello[128];
    memset(r, 0, sizeof *r);
    r->fd = dial(i, greeted);
    r->upgraded = wire == TCP;
    if (r == readers + reader_count)
        snprintf(hello, sizeof hello, "{\"type\":\"hello\",\"user\":\"sender\",\"threads\":[]}");
    else
        snprintf(hello, sizeof hello, "{\"type\":\"hello\",\"user\":\"%.20s%05d\"}", names, (int)(r - readers));
    struct epoll_event event = {EPOLLIN | EPOLLET, {.ptr = r}};
    epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &event);
    greet(r->fd, wire, hello);
    greeted++;
}

static void everybody_joins(void) {
    int wanted = reader_count + !idle;
    double began = now(), moved = began;
    while (welcomed < wanted && !*void_reason) {
        int before = welcomed;
        while (greeted < wanted && greeted - welcomed < together) join(readers + greeted, nodes[greeted % node_count]);
        listen_for(100);
        if (welcomed != before) moved = now();
        if (now() - moved > STALLED_S) spoil("lost: %d of %d were welcomed", welcomed, wanted);
    }
    double seconds = now() - began;
    while (listen_for(50) > 0) {}
    printf("{\"connected\": %d, \"seconds\": %.4f, \"void\": \"%s\"}\n", welcomed, seconds, void_reason);
    fflush(stdout);
    if (*void_reason) exit(1);
}

/* Send as many frames as the window has room for, in one write. */
static void pump(unsigned until, unsigned window) {
    static char out[1 << 16];
    char payload[2048];
    size_t n = 0;
    while (sent < until && sent - done < window && n < sizeof out - 2048) {
        if (control_fd >= 0) {
            n += sprintf(out + n, "%08u\n", sent);
        } else {
            size_t m = sprintf(payload, "{\"type\":\"message.send\",\"thread\":\"lobby\",\"text\":\"#%08u#", sent);
            memset(payload + m, 'x', text_bytes - 10);
            m += text_bytes - 10;
            m += sprintf(payload + m, "\"}");
            n += client_frame(wire, out + n, payload, m);
        }
        sent++;
    }
    if (n) send_all(control_fd >= 0 ? control_fd : readers[reader_count].fd, out, n);
}

/* An answer begins: the engine says so with one byte. */
static void begin_run(void) {
    static const char start[] = "{\"type\":\"run.start\",\"thread\":\"lobby\",\"assistant\":\"openai\"}";
    char out[256], go;
    ended = 0;
    send_all(readers[reader_count].fd, out, client_frame(wire, out, start, sizeof start - 1));
    struct pollfd wait = {control_fd, POLLIN, 0};
    if (poll(&wait, 1, STALLED_S * 1000) != 1 || recv(control_fd, &go, 1, 0) != 1) spoil("lost: no answer began");
    while (listen_for(20) > 0) {}
}

static void settle(void) {
    double moved = now();
    if (control_fd >= 0) send_all(control_fd, "end\n", 4);
    while (!*void_reason && (control_fd >= 0 ? ended < reader_count : acks < sent)) {
        if (listen_for(100) > 0) moved = now();
        if (now() - moved > STALLED_S) spoil("lost: %u acks for %u frames, %d ends of the answer", acks, sent, ended);
    }
    while (listen_for(50) > 0) {} /* whatever comes now is a double */
}

static void play(double seconds, unsigned frames, unsigned window) {
    if (control_fd >= 0) begin_run();
    unsigned first = sent, last = sent + frames, seen = done;
    counted_bytes = counted_frames = 0;
    double cpu = cpu_now(), server_cpu = cpu_of(server_pid), began = now(), ended_at = began;
    pump(last, window);
    while (done < sent && !*void_reason) {
        listen_for(200);
        if (done != seen) {
            seen = done;
            ended_at = now();
            if (ended_at - began < seconds) pump(last, window);
        } else if (now() - ended_at > STALLED_S) {
            spoil("lost: %u frames were sent, all readers have %u", sent, done);
        }
    }
    double took = ended_at - began;
    cpu = cpu_now() - cpu;
    server_cpu = cpu_of(server_pid) - server_cpu;
    settle();
    unsigned long total = (unsigned long)(done - first) * reader_count;
    printf("{\"frames\": %u, \"deliveries\": %lu, \"seconds\": %.6f, \"rate\": %.1f, \"generator_cpu\": %.3f, "
           "\"server_cpu\": %.3f, \"frame_bytes\": %lu, \"void\": \"%s\"}\n",
           done - first, total, took, total / took, cpu / took, server_cpu / took,
           counted_frames ? counted_bytes / counted_frames : 0, void_reason);
    fflush(stdout);
    if (*void_reason) exit(1);
}

int main(int argc, char **argv) {
    if (argc < 4) die("usage: readers PORT N TEXT [--wire ws|tcp] [--idle] [--control PORT] [--pid PID] [--together N] [--also PORT]");
    for (int i = 4; i < argc; i++) {
        if (!strcmp(argv[i], "--idle")) idle = 1;
        else if (!strcmp(argv[i], "--names") && ++i < argc) names = argv[i];
        else if (!strcmp(argv[i], "--wire") && ++i < argc) wire = strcmp(argv[i], "tcp") ? WS : TCP;
        else if (!strcmp(argv[i], "--control") && ++i < argc) control_fd = dial(atoi(argv[i]), 0);
        else if (!strcmp(argv[i], "--together") && ++i < argc) together = atoi(argv[i]);
        else if (!strcmp(argv[i], "--also") && ++i < argc && node_count < NODES) nodes[node_count++] = atoi(argv[i]);
        else if (!strcmp(argv[i], "--pid") && ++i < argc) server_pid = atoi(argv[i]);
        else die("unknown option %s", argv[i]);
    }
    nodes[0] = atoi(argv[1]);
    raise_file_limit();
    reader_count = atoi(argv[2]);
    text_bytes = atoi(argv[3]);
    if (text_bytes < 10 || text_bytes > 1500) die("TEXT is 10 to 1500 bytes");
    readers = calloc(reader_count + 1, sizeof *readers);
    chunk = malloc(CHUNK);
    ep = epoll_create1(0);
    everybody_joins();
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        double seconds;
        unsigned frames, window;
        if (sscanf(line, "round %lf %u %u", &seconds, &frames, &window) != 3) die("unknown command %s", line);
        if (!window || window > RING / 2) die("a window is 1 to %d frames", RING / 2);
        play(seconds, frames, window);
    }
}
