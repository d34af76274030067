/* What the machine can do: a server that only writes. Every line that a publisher sends goes to all WebSocket clients
 * as one frame, by one send() for each. A client that begins with "GET" is a subscriber; any other is a publisher.
 * No protocol is checked, nothing is kept, a client that doesn't read is forgotten.
 *
 *   limit PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILES = 100000, READ_BYTES = 1 << 16 };

static char accepted[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
static char subscribed[] = "\x81\x0c\"subscribed\"";
static int subscribers[FILES], count, kind[FILES];
static char line[READ_BYTES];
static size_t line_size;

static void broadcast(const char *data, size_t size) {
  char frame[4 + READ_BYTES];
  size_t head = 2;
  frame[0] = (char)0x81;
  if (size < 126) frame[1] = (char)size;
  else frame[1] = 126, frame[2] = (char)(size >> 8), frame[3] = (char)size, head = 4;
  memcpy(frame + head, data, size);
  for (int index = 0; index < count; index++)
    if (send(subscribers[index], frame, head + size, MSG_NOSIGNAL) < 0) subscribers[index--] = subscribers[--count];
}

static void publish(const char *data, size_t size) {
  for (size_t at = 0; at < size; at++) {
    if (data[at] == '\n') broadcast(line, line_size), line_size = 0;
    else if (line_size < sizeof line) line[line_size++] = data[at];
  }
}

static void take(int fd) {
  static char data[READ_BYTES];
  ssize_t size = recv(fd, data, sizeof data, 0);
  if (size <= 0) {
    if (size == 0 || errno != EAGAIN) close(fd);
    return;
  }
  if (!kind[fd]) kind[fd] = size >= 3 && !memcmp(data, "GET", 3) ? 1 : 3;
  else if (kind[fd] == 1) kind[fd] = 2;
  else if (kind[fd] == 2) return;
  if (kind[fd] == 3) publish(data, (size_t)size);
  else if (kind[fd] == 1) send(fd, accepted, sizeof accepted - 1, MSG_NOSIGNAL);
  else {
    send(fd, subscribed, sizeof subscribed - 1, MSG_NOSIGNAL);
    subscribers[count++] = fd;
  }
}

int main(int argc, char **argv) {
  struct rlimit files = {FILES, FILES};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll_fd = epoll_create1(0);
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "0"))};
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 2048)) return perror("listen"), 1;
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    int found = epoll_wait(poll_fd, events, 256, -1);
    for (int index = 0; index < found; index++) {
      if (events[index].data.fd != listener) { take(events[index].data.fd); continue; }
      for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= FILES) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        kind[fd] = 0;
        struct epoll_event client = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &client);
      }
    }
  }
}
