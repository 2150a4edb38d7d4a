/* A chat service over HTTP/1.1 that costs as little as possible: one thread, one epoll.
 *
 * The prompt orders the answer: "pieces=100 every_us=20000" is a stream of 100 pieces, one each
 * 20 ms, "every_us=0" as fast as the reader takes them. Each piece is written by itself, and its
 * text begins with the time of that: t= and 19 digits, ns of CLOCK_MONOTONIC. A request without
 * "stream":true gets one JSON body. Prints "ready http://127.0.0.1:PORT"; ends with its parent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
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

enum { MOST_SOCKETS = 1 << 16, REQUEST_SIZE = 1 << 14, EVENTS = 512, WRITE_SIZE = 4096 };

struct peer {
    int fd;
    bool waits; /* in the queue of those that are due */
    bool blocked;
    bool begun;
    long pieces; /* still to be written; -1: no answer in progress */
    uint64_t due, every;
    struct peer *before, *after;
    size_t got, left, left_at;
    char request[REQUEST_SIZE];
    char unsent[WRITE_SIZE];
};

static struct peer *peers[MOST_SOCKETS];
static struct peer queue; /* its ends; by due time */
static size_t queued;

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n";
#define CHUNK(delta, finish)                                                                       \
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","                       \
    "\"created\":1764000000,\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":" delta        \
    ",\"finish_reason\":" finish "}]}\n\n"
#define STAMP "t=0000000000000000000"
#define TEXT STAMP " these are the other words of a piece." /* 60 bytes, as of 12 tokens */
#define USAGE "\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":100,\"total_tokens\":120}"
static const char ROLE[] = CHUNK("{\"role\":\"assistant\",\"content\":\"\"}", "null");
static const char PIECE[] = CHUNK("{\"content\":\"" TEXT "\"}", "null");
static const char LAST[] = CHUNK("{}", "\"stop\"")
    "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\","
    "\"created\":1764000000,\"model\":\"bench\",\"choices\":[]," USAGE "}\n\n"
    "data: [DONE]\n\n";
static const char WHOLE[] = "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\","
    "\"created\":1764000000,\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{"
    "\"role\":\"assistant\",\"content\":\"" TEXT "\"},\"finish_reason\":\"stop\"}]," USAGE "}";

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void stamp(char *text, uint64_t now) {
    char *digits = strstr(text, STAMP) + 2;
    for (int at = 18; at >= 0; at--, now /= 10)
        digits[at] = (char)('0' + now % 10);
}

static size_t chunk(char *to, const char *body, size_t size) {
    size_t at = (size_t)sprintf(to, "%zx\r\n", size);
    memcpy(to + at, body, size + 1);
    memcpy(to + at + size, "\r\n", 3);
    return at + size + 2;
}

static void enqueue(struct peer *peer) {
    struct peer *before = queue.before;
    while (before != &queue && before->due > peer->due)
        before = before->before;
    peer->before = before;
    peer->after = before->after;
    before->after->before = peer;
    before->after = peer;
    peer->waits = true;
    queued++;
}

static void dequeue(struct peer *peer) {
    if (!peer->waits)
        return;
    peer->before->after = peer->after;
    peer->after->before = peer->before;
    peer->waits = false;
    queued--;
}

static void drop(struct peer *peer) {
    dequeue(peer);
    peers[peer->fd] = NULL;
    close(peer->fd);
    free(peer);
}

/* False if the peer is gone. What the socket does not take waits until it does. */
static bool put(struct peer *peer, const char *data, size_t size) {
    ssize_t sent = send(peer->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        drop(peer);
        return false;
    }
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    peer->blocked = taken < size;
    if (peer->blocked) {
        peer->left = size - taken;
        peer->left_at = 0;
        memmove(peer->unsent, data + taken, peer->left);
    }
    return true;
}

static void write_piece(struct peer *peer) {
    static char out[WRITE_SIZE], piece[sizeof PIECE + 16];
    static size_t piece_size;
    if (!piece_size)
        piece_size = chunk(piece, PIECE, sizeof PIECE - 1);
    size_t size = 0;
    if (!peer->begun) {
        memcpy(out, HEAD, sizeof HEAD - 1);
        size = sizeof HEAD - 1;
        size += chunk(out + size, ROLE, sizeof ROLE - 1);
        peer->begun = true;
    }
    memcpy(out + size, piece, piece_size + 1);
    char *stamped = out + size;
    size += piece_size;
    if (--peer->pieces == 0) {
        size += chunk(out + size, LAST, sizeof LAST - 1);
        memcpy(out + size, "0\r\n\r\n", 6);
        size += 5;
        peer->pieces = -1;
    }
    stamp(stamped, now_ns());
    if (!put(peer, out, size) || peer->pieces < 0)
        return;
    peer->due += peer->every;
    if (!peer->blocked)
        enqueue(peer);
}

static void write_whole(struct peer *peer) {
    char out[WRITE_SIZE];
    int head = sprintf(out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                            "Content-Length: %zu\r\n\r\n", sizeof WHOLE - 1);
    memcpy(out + head, WHOLE, sizeof WHOLE);
    stamp(out + head, now_ns());
    put(peer, out, (size_t)head + sizeof WHOLE - 1);
}

static long number_after(const char *text, const char *name, long otherwise) {
    const char *found = strstr(text, name);
    return found ? strtol(found + strlen(name), NULL, 10) : otherwise;
}

static void answer(struct peer *peer) {
    peer->request[peer->got] = 0;
    char *end = strstr(peer->request, "\r\n\r\n");
    if (!end)
        return;
    char *length = strcasestr(peer->request, "\r\ncontent-length:");
    size_t size = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
    if (peer->got < (size_t)(end + 4 - peer->request) + size)
        return;
    peer->got = 0;
    bool streams = strstr(end, "\"stream\":true") || strstr(end, "\"stream\": true");
    if (!streams) {
        write_whole(peer);
        return;
    }
    peer->begun = false;
    peer->pieces = number_after(end, "pieces=", 1);
    peer->every = (uint64_t)number_after(end, "every_us=", 0) * 1000u;
    peer->due = now_ns();
    write_piece(peer);
}

static void on_readable(struct peer *peer) {
    for (;;) {
        ssize_t size = recv(peer->fd, peer->request + peer->got, REQUEST_SIZE - 1 - peer->got, 0);
        if (size < 0 && errno == EAGAIN)
            break;
        if (size <= 0) { /* also a request that does not fit */
            drop(peer);
            return;
        }
        peer->got += (size_t)size;
    }
    if (peer->got && peer->pieces < 0)
        answer(peer);
}

static void on_writable(struct peer *peer) {
    if (!peer->blocked)
        return;
    if (put(peer, peer->unsent + peer->left_at, peer->left) && !peer->blocked && peer->pieces > 0)
        enqueue(peer);
}

static void accept_all(int listener, int poll) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct peer *peer = fd < MOST_SOCKETS ? calloc(1, sizeof *peer) : NULL;
        if (!peer) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        peer->fd = fd;
        peer->pieces = -1;
        peers[fd] = peer;
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_TIMERSLACK, 1000ul);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) {
        perror("cannot listen");
        return 1;
    }
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("ready http://127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    queue.before = queue.after = &queue;
    int poll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct timespec wait = {0}, *until = NULL;
        uint64_t now = now_ns();
        if (queue.after != &queue) {
            uint64_t left = queue.after->due > now ? queue.after->due - now : 0;
            wait.tv_sec = (time_t)(left / 1000000000u);
            wait.tv_nsec = (long)(left % 1000000000u);
            until = &wait;
        }
        int count = epoll_pwait2(poll, events, EVENTS, until, NULL);
        for (int at = 0; at < count; at++) {
            int fd = events[at].data.fd;
            if (fd == listener) {
                accept_all(listener, poll);
                continue;
            }
            if (peers[fd] && events[at].events & EPOLLOUT)
                on_writable(peers[fd]);
            if (peers[fd] && events[at].events & ~(uint32_t)EPOLLOUT)
                on_readable(peers[fd]);
        }
        /* One piece each, so that nobody's stream holds up the sockets. */
        now = now_ns();
        for (size_t most = queued; most && queue.after != &queue && queue.after->due <= now; most--) {
            struct peer *peer = queue.after;
            dequeue(peer);
            write_piece(peer);
        }
    }
}
