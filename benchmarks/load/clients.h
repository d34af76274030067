/* Clients of the load generator: how they connect, follow their scripts, write, and count what they receive. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "latency.h"

enum {
  READ_BYTES = 1 << 16,
  EVENTS = 512,
  HEAD_BYTES = 1 << 16,
  PING_BYTES = 32, /* pings that are answered are shorter */
  PATIENCE_MICROSECONDS = 10000000, /* for progress while connecting */
};

typedef struct { char *bytes; size_t size; } Bytes;
typedef struct { bool send; Bytes bytes; } Step;
typedef struct { Step *steps; int count; Bytes question, answer; } Script;

typedef struct {
  int fd, script, step;
  bool ready, dead;
  unsigned tail_size, head_size;
  char tail[MARK_BYTES];   /* the beginning of a mark that the last read ended with */
  char *head;              /* what was received while waiting for a step */
  double rate;             /* of a publisher; 0 for all others */
  int burst, first, templates, next;
  int64_t due;
  char *unsent;
  size_t unsent_size;
} Client;

static Script *scripts;
static Client *clients;
static int script_count, client_count, new_count, ready_count, dead_count;
static struct sockaddr_in target = {.sin_family = AF_INET};
static int poll_fd;
static uint64_t received_bytes, refused;
static Latencies latencies;
static Bytes refusal;
static char buffer[MARK_BYTES + READ_BYTES];

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *grown(void *items, size_t count, size_t size) {
  if ((count & (count - 1)) == 0 && !(items = realloc(items, (count ? 2 * count : 1) * size))) fail("memory");
  return items;
}

static int64_t now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1000000LL + at.tv_nsec / 1000;
}

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static Bytes unhex(const char *text) {
  size_t size = strspn(text, "0123456789abcdef") / 2;
  Bytes bytes = {malloc(size + 1), size};
  if (!bytes.bytes) fail("memory");
  for (size_t at = 0; at < size; at++) {
    unsigned value;
    sscanf(text + 2 * at, "%2x", &value);
    bytes.bytes[at] = (char)value;
  }
  return bytes;
}

static void bury(Client *client) {
  if (client->dead) return;
  client->dead = true;
  dead_count++;
  ready_count -= client->ready;
  close(client->fd);
}

static void transmit(Client *client, const char *data, size_t size) {
  if (!client->unsent_size) {
    ssize_t sent = send(client->fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) { bury(client); return; }
    if (sent > 0) data += sent, size -= (size_t)sent;
    if (!size) return;
  }
  if (!(client->unsent = realloc(client->unsent, client->unsent_size + size))) fail("memory");
  memcpy(client->unsent + client->unsent_size, data, size);
  client->unsent_size += size;
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(client - clients)};
  epoll_ctl(poll_fd, EPOLL_CTL_MOD, client->fd, &event);
}

/* Take as many steps of the script as what has been received allows. */
static void advance(Client *client) {
  Script *script = &scripts[client->script];
  while (!client->dead && client->step < script->count) {
    Step *step = &script->steps[client->step];
    if (step->send) {
      transmit(client, step->bytes.bytes, step->bytes.size);
    } else {
      char *found = NULL;
      if (client->head_size) found = memmem(client->head, client->head_size, step->bytes.bytes, step->bytes.size);
      if (!found) return;
      size_t used = (size_t)(found - client->head) + step->bytes.size;
      client->head_size -= (unsigned)used;
      memmove(client->head, client->head + used, client->head_size);
    }
    client->step++;
  }
  if (!client->dead && !client->ready) {
    client->ready = true;
    ready_count++;
    free(client->head);
    client->head = NULL;
  }
}

/* Go on once the socket takes more, the first time because there is a connection. */
static void flush_unsent(Client *client) {
  if (client->unsent_size) {
    ssize_t sent = send(client->fd, client->unsent, client->unsent_size, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) bury(client);
      return;
    }
    client->unsent_size -= (size_t)sent;
    memmove(client->unsent, client->unsent + sent, client->unsent_size);
  }
  if (client->unsent_size) return;
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)(client - clients)};
  epoll_ctl(poll_fd, EPOLL_CTL_MOD, client->fd, &event);
  advance(client);
}

/* Answer what keeps connections alive: pings of WebSocket (RFC 6455 §5.5.2) and what the script says. Messages are
 * ASCII text behind a short head; a length in that head that looks like a ping is followed by more than a ping's. */
static void answer(Client *client, const char *data, size_t size) {
  const char *end = data + size;
  for (const char *at = data; at < end && (at = memchr(at, 0x89, (size_t)(end - at))); at++) {
    size_t length = at + 1 < end ? (unsigned char)at[1] : PING_BYTES;
    if (length >= PING_BYTES || at + 2 + length > end) continue;
    char pong[6 + PING_BYTES] = {(char)0x8a, (char)(0x80 | length)};
    memcpy(pong + 6, at + 2, length);
    transmit(client, pong, 6 + length);
  }
  Script *script = &scripts[client->script];
  if (script->question.size && memmem(data, size, script->question.bytes, script->question.size))
    transmit(client, script->answer.bytes, script->answer.size);
  while (refusal.size && (data = memmem(data, (size_t)(end - data), refusal.bytes, refusal.size)))
    refused++, data += refusal.size;
}

static void take(Client *client, size_t size, int64_t at) {
  received_bytes += size;
  if (!client->ready) {
    if (!client->head && !(client->head = malloc(HEAD_BYTES))) fail("memory");
    if (client->head_size + size > HEAD_BYTES) {  /* keep the newest */
      size_t less = client->head_size + size - HEAD_BYTES;
      memmove(client->head, client->head + less, client->head_size -= (unsigned)less);
    }
    memcpy(client->head + client->head_size, buffer + MARK_BYTES, size);
    client->head_size += (unsigned)size;
    advance(client);
    return;
  }
  answer(client, buffer + MARK_BYTES, size);
  char *data = buffer + MARK_BYTES - client->tail_size;
  memcpy(data, client->tail, client->tail_size);
  size += client->tail_size;
  count_marks(&latencies, data, size, at);
  client->tail_size = (unsigned)begun_mark(data, size);
  memcpy(client->tail, data + size - client->tail_size, client->tail_size);
}

static void serve(int64_t microseconds) {
  struct epoll_event events[EVENTS];
  if (microseconds < 0) microseconds = 0;
  struct timespec timeout = {microseconds / 1000000, microseconds % 1000000 * 1000};
  int found = epoll_pwait2(poll_fd, events, EVENTS, &timeout, NULL);
  for (int index = 0; index < found; index++) {
    Client *client = &clients[events[index].data.u32];
    if (client->dead) continue;
    if (events[index].events & EPOLLOUT) flush_unsent(client);
    if (!(events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || client->dead) continue;
    ssize_t size = recv(client->fd, buffer + MARK_BYTES, READ_BYTES, 0);
    if (size > 0) take(client, (size_t)size, now());
    else if (size == 0 || errno != EAGAIN) bury(client);
  }
}

static void open_client(Client *client) {
  client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (client->fd < 0) fail("socket");
  int yes = 1;
  setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (connect(client->fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) fail("connect");
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.u32 = (uint32_t)(client - clients)};
  if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, client->fd, &event)) fail("epoll");
}

static void connect_all(int concurrency) {
  int64_t begun = now(), last_progress = begun;
  int opened = client_count - new_count, first = opened, ready = ready_count, dead = dead_count, before = ready + dead;
  double cpu = cpu_seconds();
  new_count = 0;
  while (ready_count + dead_count < client_count && now() - last_progress < PATIENCE_MICROSECONDS) {
    while (opened < client_count && opened - ready_count - dead_count < concurrency) open_client(&clients[opened++]);
    serve(100000);
    if (ready_count + dead_count != before) before = ready_count + dead_count, last_progress = now();
  }
  printf("{\"clients\":%d,\"ready\":%d,\"dead\":%d,\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n", client_count - first,
         ready_count - ready, dead_count - dead, (double)(last_progress - begun) / 1e6, cpu_seconds() - cpu);
}
