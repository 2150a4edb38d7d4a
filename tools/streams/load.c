/* Clients that stream: one thread, one epoll, one request at a time on each connection.
 *
 * Arguments are NAME=VALUE, see `options`. Each client starts its next stream when the last has
 * ended; the first ones have different lengths, so that starts and ends are spread over the time.
 * Prints "connected", "begin" and "end" at the ends of the measured time and then its results as
 * JSON. Lags and waits are of that time only. A piece is found by the stamp of its write, whatever
 * it is wrapped in. Ends by itself, and with its parent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, READ_SIZE = 1 << 18, CARRY = 32, STALLED_PIECES = 100000, RETRY_MS = 100 };
enum { STAMP_SIZE = 21, LONGEST_S = 120 };

static struct {
    long port, clients, pieces, every_us, stream, step_us, settle_ms, window_ms, stalled;
} options = {.clients = 1, .pieces = 100, .every_us = 20000, .stream = 1, .step_us = 1031,
             .settle_ms = 500, .window_ms = 2000};
static enum { HTTP, CALL_TOOL, TOOL_CALL, JSON_RPC } dialect;

/* Where the reader is in an HTTP response. */
enum phase { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER };

struct client {
    int fd, number;
    bool runs, failed;
    long ordered, seen, requests;
    uint64_t sent_at, start_at, last_stamp;
    /* what is not yet a whole frame, head or line */
    char *kept;
    size_t kept_size, kept_room;
    enum phase phase;
    size_t body_left;
    char carry[CARRY];
    size_t carried;
};

static struct client *clients;
static uint64_t next_start = UINT64_MAX, begins, ends;
static bool measuring;
static struct { uint64_t pieces, ended, refused, refused_before, lost, wrong; } count;
static char complaint[400];

struct times { uint64_t *at; size_t size, room; };
static struct times lags, waits;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void fail(const char *format, ...) {
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(1);
}

static void add(struct times *times, uint64_t value) {
    if (times->size == times->room) {
        times->room = times->room ? times->room * 2 : 1 << 16;
        times->at = realloc(times->at, times->room * sizeof *times->at);
        if (!times->at)
            fail("out of memory");
    }
    times->at[times->size++] = value;
}

static int by_value(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static double quantile_us(const struct times *sorted, double q) {
    if (!sorted->size)
        return 0;
    size_t at = (size_t)(q * (double)sorted->size);
    return (double)sorted->at[at < sorted->size ? at : sorted->size - 1] / 1e3;
}

static void complain(const char *text, size_t size) {
    if (complaint[0])
        return;
    size_t at = 0;
    for (size_t from = 0; from < size && at < sizeof complaint - 1; from++)
        complaint[at++] = strchr("\"\\", text[from]) || text[from] < ' ' || text[from] > '~'
                              ? '\''
                              : text[from];
    complaint[at] = 0;
}

static size_t masked_frame(char *to, const char *text, size_t size) {
    static const unsigned char mask[4] = {0x5a, 0x17, 0xc3, 0x88};
    size_t at = 0;
    to[at++] = (char)0x81;
    if (size < 126) {
        to[at++] = (char)(0x80 | size);
    } else {
        to[at++] = (char)0xfe;
        to[at++] = (char)(size >> 8);
        to[at++] = (char)size;
    }
    memcpy(to + at, mask, 4);
    at += 4;
    for (size_t from = 0; from < size; from++)
        to[at + from] = (char)(text[from] ^ mask[from % 4]);
    return at + size;
}

static void send_all(int fd, const char *data, size_t size) {
    /* Requests are small: a socket that takes no more is lost, and seen as such when it is read. */
    if (send(fd, data, size, MSG_NOSIGNAL) < 0)
        return;
}

static void send_text(int fd, const char *text, size_t size) {
    char frame[4096];
    send_all(fd, frame, masked_frame(frame, text, size));
}

static void send_request(int fd, int number, long serial, long pieces, long every_us) {
    char prompt[200], id[48], text[2048];
    const char *stream = options.stream ? "true" : "false";
    snprintf(prompt, sizeof prompt,
             "pieces=%ld every_us=%ld Say in some sentences what an actor is and what it is good for.",
             pieces, every_us);
    snprintf(id, sizeof id, "c%d-%ld", number, serial);
    int size = 0;
    switch (dialect) {
    case HTTP: {
        char body[1024];
        int length = snprintf(body, sizeof body,
            "{\"model\":\"bench\",\"messages\":[{\"role\":\"user\",\"content\":\"%s\"}],"
            "\"stream\":%s%s}",
            prompt, stream, options.stream ? ",\"stream_options\":{\"include_usage\":true}" : "");
        size = snprintf(text, sizeof text,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n"
            "Content-Type: application/json\r\nX-Exai-Session: c%d\r\nContent-Length: %d\r\n\r\n%s",
            options.port, number, length, body);
        send_all(fd, text, (size_t)size);
        return;
    }
    case CALL_TOOL:
    case TOOL_CALL:
        size = snprintf(text, sizeof text,
            "{\"op\":\"%s\",\"request_id\":\"%s\",\"name\":\"chat\",\"stream\":%s,"
            "\"arguments\":{\"prompt\":\"%s\",\"model\":\"bench\"}}",
            dialect == CALL_TOOL ? "call_tool" : "tool_call", id, stream, prompt);
        break;
    case JSON_RPC:
        size = snprintf(text, sizeof text,
            "{\"jsonrpc\":\"2.0\",\"id\":\"%s\",\"method\":\"tools/call\",\"params\":{\"name\":\"chat\","
            "\"arguments\":{\"prompt\":\"%s\",\"model\":\"bench\"},\"stream\":%s,"
            "\"_meta\":{\"progressToken\":\"%s\"}}}",
            id, prompt, stream, id);
        break;
    }
    send_text(fd, text, (size_t)size);
}

static void start(struct client *client, uint64_t now) {
    /* The first stream of each is a part of a whole one; 37 has no factor in common with 100. */
    bool first = client->requests++ == 0;
    client->ordered = first ? 1 + client->number * 37 % options.pieces : options.pieces;
    client->seen = 0;
    client->last_stamp = 0;
    client->runs = true;
    client->failed = false;
    client->start_at = 0;
    client->phase = IN_HEAD;
    client->carried = 0;
    client->sent_at = now;
    send_request(client->fd, client->number, client->requests, client->ordered, options.every_us);
}

static void start_later(struct client *client, uint64_t at) {
    client->start_at = at;
    if (at < next_start)
        next_start = at;
}

static void start_those_due(uint64_t now) {
    next_start = UINT64_MAX;
    for (long at = 0; at < options.clients; at++) {
        struct client *client = &clients[at];
        if (!client->start_at)
            continue;
        if (client->start_at <= now)
            start(client, now);
        else if (client->start_at < next_start)
            next_start = client->start_at;
    }
}

static void ended(struct client *client, uint64_t now) {
    client->runs = false;
    if (client->failed) {
        count.refused += measuring;
        count.refused_before += !measuring;
        start_later(client, now + RETRY_MS * 1000000u);
        return;
    }
    if (client->seen != client->ordered)
        count.wrong++;
    count.ended += measuring;
    start(client, now);
}

static void seen(struct client *client, uint64_t stamp, uint64_t now) {
    if (stamp < client->last_stamp)
        count.wrong++;
    client->last_stamp = stamp;
    if (client->seen++ == 0 && measuring && client->sent_at >= begins)
        add(&waits, now - client->sent_at);
    if (measuring) {
        count.pieces++;
        add(&lags, now - stamp);
    }
}

/* Counts the stamps in a text; returns where the rest begins, which may be a part of one. */
static size_t find_stamps(struct client *client, const char *text, size_t size, uint64_t now) {
    size_t at = 0;
    const char *found;
    while ((found = memmem(text + at, size - at, "t=0", 3))) {
        size_t from = (size_t)(found - text);
        if (size - from < STAMP_SIZE)
            return from;
        uint64_t stamp = 0;
        size_t digits = 2;
        for (; digits < STAMP_SIZE && found[digits] >= '0' && found[digits] <= '9'; digits++)
            stamp = stamp * 10 + (uint64_t)(found[digits] - '0');
        if (digits == STAMP_SIZE)
            seen(client, stamp, now);
        at = from + digits;
    }
    /* Two bytes at the end may begin the next one. */
    return size - at < 2 ? at : size - 2;
}

static bool in_front(const char *text, size_t size, const char *part) {
    return memmem(text, size < 120 ? size : 120, part, strlen(part)) != NULL;
}

static void on_text(struct client *client, const char *text, size_t size, uint64_t now) {
    if (!client->runs)
        return;
    bool last = dialect == JSON_RPC ? !in_front(text, size, "\"notifications/progress\"")
                                    : in_front(text, size, "\"call_tool_res\"");
    if (!last) {
        if (dialect == JSON_RPC || in_front(text, size, "\"stream_chunk\""))
            find_stamps(client, text, size, now);
        return;
    }
    client->failed = dialect == JSON_RPC ? in_front(text, size, "\"error\"") ||
                                               memmem(text, size, "\"isError\":true", 14)
                                         : !in_front(text, size, "\"ok\":true");
    if (client->failed)
        complain(text, size);
    else if (!options.stream) { /* the text may be in it several times */
        const char *found = memmem(text, size, "t=0", 3);
        size_t left = found ? size - (size_t)(found - text) : 0;
        find_stamps(client, found, left < STAMP_SIZE ? left : STAMP_SIZE, now);
    }
    ended(client, now);
}

/* Returns how much of the data were whole frames; -1 if the server closed. */
static ssize_t read_frames(struct client *client, const char *data, size_t size, uint64_t now) {
    size_t at = 0;
    while (size - at >= 2) {
        const unsigned char *head = (const unsigned char *)data + at;
        size_t length = head[1] & 0x7f, start = 2;
        if (length == 126) {
            if (size - at < 4)
                break;
            length = (size_t)head[2] << 8 | head[3];
            start = 4;
        } else if (length == 127) {
            if (size - at < 10)
                break;
            length = 0;
            for (int byte = 2; byte < 10; byte++)
                length = length << 8 | head[byte];
            start = 10;
        }
        if (size - at < start + length)
            break;
        int opcode = head[0] & 0x0f;
        if (opcode == 8) {
            complain(data + at + start + 2, length < 2 ? 0 : length - 2);
            return -1;
        }
        if (opcode == 1)
            on_text(client, data + at + start, length, now);
        at += start + length;
    }
    return (ssize_t)at;
}

static void on_payload(struct client *client, const char *data, size_t size, uint64_t now) {
    static char joined[READ_SIZE + CARRY];
    memcpy(joined, client->carry, client->carried);
    memcpy(joined + client->carried, data, size);
    size += client->carried;
    size_t rest = find_stamps(client, joined, size, now);
    client->carried = size - rest;
    memcpy(client->carry, joined + rest, client->carried);
}

/* Returns how much of the data has been read; -1 if it is no HTTP. */
static ssize_t read_responses(struct client *client, const char *data, size_t size, uint64_t now) {
    size_t at = 0;
    while (at < size) {
        const char *from = data + at, *line;
        size_t left = size - at;
        switch (client->phase) {
        case IN_HEAD: {
            const char *end = memmem(from, left, "\r\n\r\n", 4);
            if (!end)
                return (ssize_t)at;
            char head[4096];
            size_t length = (size_t)(end - from);
            if (length >= sizeof head || strncmp(from, "HTTP/1.1 ", 9))
                return -1;
            memcpy(head, from, length);
            head[length] = 0;
            if (strncmp(head + 9, "200", 3)) {
                client->failed = true;
                complain(head, length);
            }
            char *whole = strcasestr(head, "\r\ncontent-length:");
            client->body_left = whole ? strtoul(whole + 17, NULL, 10) : 0;
            client->phase = whole ? IN_BODY : IN_CHUNK_SIZE;
            at += length + 4;
            if (whole && !client->body_left)
                ended(client, now);
            break;
        }
        case IN_BODY:
        case IN_CHUNK: {
            size_t part = left < client->body_left ? left : client->body_left;
            on_payload(client, from, part, now);
            client->body_left -= part;
            at += part;
            if (!client->body_left && client->phase == IN_CHUNK)
                client->phase = AFTER_CHUNK;
            else if (!client->body_left)
                ended(client, now);
            break;
        }
        case AFTER_CHUNK:
            if (left < 2)
                return (ssize_t)at;
            at += 2;
            client->phase = IN_CHUNK_SIZE;
            break;
        case IN_CHUNK_SIZE:
            line = memmem(from, left, "\r\n", 2);
            if (!line)
                return (ssize_t)at;
            client->body_left = strtoul(from, NULL, 16);
            client->phase = client->body_left ? IN_CHUNK : IN_TRAILER;
            at += (size_t)(line - from) + 2;
            break;
        case IN_TRAILER: /* there is none */
            if (left < 2)
                return (ssize_t)at;
            at += 2;
            ended(client, now);
            break;
        }
    }
    return (ssize_t)at;
}

static void lose(struct client *client) {
    count.lost++;
    close(client->fd);
    client->fd = -1;
    client->runs = false;
}

static void on_readable(struct client *client) {
    static char data[READ_SIZE];
    size_t before = client->kept_size;
    if (before > sizeof data / 2)
        fail("a frame of more than %zu bytes", sizeof data / 2);
    memcpy(data, client->kept, before);
    ssize_t got = recv(client->fd, data + before, sizeof data - before, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        lose(client);
        return;
    }
    size_t size = before + (size_t)got;
    uint64_t now = now_ns();
    ssize_t used = dialect == HTTP ? read_responses(client, data, size, now)
                                   : read_frames(client, data, size, now);
    if (used < 0) {
        lose(client);
        return;
    }
    client->kept_size = size - (size_t)used;
    if (client->kept_size > client->kept_room) {
        client->kept_room = client->kept_size * 2;
        client->kept = realloc(client->kept, client->kept_room);
        if (!client->kept)
            fail("out of memory");
    }
    memcpy(client->kept, data + used, client->kept_size);
}

static void receive_until(int fd, const char *end) {
    char answer[4096];
    size_t size = 0;
    for (;;) {
        ssize_t got = recv(fd, answer + size, sizeof answer - 1 - size, 0);
        if (got <= 0) {
            complain(answer, size);
            fail("the server ended a connection in its handshake: %s", complaint);
        }
        size += (size_t)got;
        answer[size] = 0;
        if (memmem(answer, size, end, strlen(end)))
            return;
    }
}

static int open_connection(bool reads_little) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1, little = 4096;
    struct timeval patience = {.tv_sec = 20};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (reads_little)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    if (connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect to port %ld: %s", options.port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (dialect == HTTP)
        return fd;
    char text[300];
    int size = snprintf(text, sizeof text,
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        options.port);
    send_all(fd, text, (size_t)size);
    receive_until(fd, "\r\n\r\n");
    if (dialect == JSON_RPC) {
        static const char hello[] = "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\","
            "\"params\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{},"
            "\"clientInfo\":{\"name\":\"bench\",\"version\":\"1\"}}}";
        send_text(fd, hello, sizeof hello - 1);
        receive_until(fd, "\"result\"");
    } else {
        static const char hello[] = "{\"op\":\"hello\",\"client\":\"bench\"}";
        send_text(fd, hello, sizeof hello - 1);
        receive_until(fd, "\"ok\":true");
    }
    return fd;
}

static void read_options(int argc, char **argv) {
    static const struct { const char *name; long *value; } known[] = {
        {"port", &options.port}, {"clients", &options.clients}, {"pieces", &options.pieces},
        {"every_us", &options.every_us}, {"stream", &options.stream},
        {"step_us", &options.step_us}, {"settle_ms", &options.settle_ms},
        {"window_ms", &options.window_ms}, {"stalled", &options.stalled}};
    for (int at = 1; at < argc; at++) {
        char *value = strchr(argv[at], '=');
        bool found = false;
        if (!value)
            fail("%s: not NAME=VALUE", argv[at]);
        *value++ = 0;
        if (!strcmp(argv[at], "dialect")) {
            static const char *const names[] = {"http", "call_tool", "tool_call", "jsonrpc"};
            for (int each = 0; each < 4; each++)
                if (!strcmp(value, names[each])) {
                    dialect = (unsigned)each;
                    found = true;
                }
        }
        for (size_t each = 0; each < sizeof known / sizeof *known; each++)
            if (!strcmp(argv[at], known[each].name)) {
                *known[each].value = strtol(value, NULL, 10);
                found = true;
            }
        if (!found)
            fail("%s=%s: unknown", argv[at], value);
    }
}

static void say(const char *line) {
    puts(line);
    fflush(stdout);
}

int main(int argc, char **argv) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1000ul);
    alarm(LONGEST_S);
    read_options(argc, argv);
    if (!options.stream)
        options.pieces = 1;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    clients = calloc((size_t)options.clients, sizeof *clients);
    if (!clients)
        fail("out of memory");
    int poll = epoll_create1(EPOLL_CLOEXEC), slow[64];
    for (long at = 0; at < options.clients; at++) {
        struct client *client = &clients[at];
        client->number = (int)at;
        client->fd = open_connection(false);
        fcntl(client->fd, F_SETFL, O_NONBLOCK);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
        epoll_ctl(poll, EPOLL_CTL_ADD, client->fd, &event);
    }
    if (options.stalled > 64)
        fail("at most 64 stalled readers");
    for (long at = 0; at < options.stalled; at++)
        slow[at] = open_connection(true);
    say("connected");
    uint64_t began = now_ns(), ramp = (uint64_t)(options.clients * options.step_us) * 1000u;
    begins = began + ramp + (uint64_t)options.settle_ms * 1000000u;
    ends = begins + (uint64_t)options.window_ms * 1000000u;
    for (long at = 0; at < options.clients; at++)
        start_later(&clients[at], began + (uint64_t)(at * options.step_us) * 1000u);
    bool stalled = false;
    for (;;) {
        uint64_t now = now_ns();
        if (now >= next_start)
            start_those_due(now);
        if (!stalled && now >= began + ramp) {
            stalled = true;
            for (long at = 0; at < options.stalled; at++)
                send_request(slow[at], (int)(options.clients + at), 1, STALLED_PIECES, 0);
        }
        if (!measuring && now >= begins) {
            measuring = true;
            begins = now;
            say("begin");
        }
        if (now >= ends)
            break;
        uint64_t until = measuring ? ends : begins;
        if (next_start < until)
            until = next_start;
        if (!stalled && began + ramp < until)
            until = began + ramp;
        uint64_t left = until > now ? until - now : 0;
        struct timespec wait = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        struct epoll_event events[EVENTS];
        int found = epoll_pwait2(poll, events, EVENTS, &wait, NULL);
        for (int at = 0; at < found; at++) {
            struct client *client = events[at].data.ptr;
            if (client->fd >= 0)
                on_readable(client);
        }
    }
    ends = now_ns();
    say("end");
    qsort(lags.at, lags.size, sizeof *lags.at, by_value);
    qsort(waits.at, waits.size, sizeof *waits.at, by_value);
    printf("{\"seconds\":%.6f,\"pieces\":%lu,\"ended\":%lu,\"refused\":%lu,\"refused_before\":%lu,"
           "\"lost\":%lu,\"wrong\":%lu,\"lag_us\":[%.1f,%.1f],\"wait_us\":[%.1f,%.1f],"
           "\"waits\":%zu,\"complaint\":\"%s\"}\n",
           (double)(ends - begins) / 1e9, count.pieces, count.ended, count.refused,
           count.refused_before, count.lost, count.wrong, quantile_us(&lags, 0.5),
           quantile_us(&lags, 0.99), quantile_us(&waits, 0.5), quantile_us(&waits, 0.99), waits.size,
           complaint);
    return 0;
}
