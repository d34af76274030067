/* The load generator: connects many clients to a server, publishes at a rate, counts and times what comes back.
 *
 * It knows no protocol but the pings of WebSocket, which it answers. A plan on standard input says what each client
 * sends and which bytes it waits for before the next step; what a message is, latency.h says. So every server is
 * measured by the same code. Marks aren't escaped by JSON, and no protocol that is measured splits or compresses them.
 *
 * Plan, one directive a line, bytes in hexadecimal digits:
 *   target PORT                        the server, on 127.0.0.1
 *   script                             a new script; `send BYTES` and `await BYTES` add steps to it
 *   answer BYTES BYTES                 what clients of the script say whenever they receive the former: a heartbeat
 *   refusal BYTES                      what is counted as refused, wherever it is received
 *   template OFFSET BYTES              a message to publish, with the place of its mark
 *   clients COUNT SCRIPT               so many clients; scripts are numbered from 0
 *   publisher SCRIPT RATE BURST FIRST COUNT   a client that publishes templates in turn, BURST at once, RATE a second
 *   connect CONCURRENCY                connects all that are new, then prints a line of JSON
 *   go SECONDS RECEIVERS PACE          publishes at PACE times the rates, waits until each message has come RECEIVERS
 *                                      times or nothing comes any more, then prints a line of JSON
 */
#include "clients.h"

#include <inttypes.h>

enum {
  LATE_MICROSECONDS = 1000,
  GRACE_MICROSECONDS = 50000, /* in which messages that come twice would be seen */
  SETTLE_MICROSECONDS = 1000000,
  STUCK_MICROSECONDS = 10000000,
};

typedef struct { Bytes bytes; size_t offset; } Template;

static Template *templates;
static int *publishers;
static int template_count, publisher_count;
static uint64_t published, turns, late;

static void publish_one(Client *client) {
  Template *template = &templates[client->first + client->next++ % client->templates];
  char mark[MARK_BYTES + 1];
  snprintf(mark, sizeof mark, "@T%016" PRId64 "@", client->due);
  memcpy(template->bytes.bytes + template->offset, mark, MARK_BYTES);
  transmit(client, template->bytes.bytes, template->bytes.size);
  published++;
}

/* Publish all that is due before the end; when more is, at the earliest. */
static int64_t publish_due(double pace, int64_t at, int64_t end) {
  int64_t next = end;
  for (int number = 0; number < publisher_count; number++) {
    Client *client = &clients[publishers[number]];
    while (client->due <= at && client->due < end && !client->dead) {
      for (int count = 0; count < client->burst; count++) publish_one(client);
      turns++;
      late += at - client->due > LATE_MICROSECONDS;
      client->due += (int64_t)(1e6 * client->burst / (client->rate * pace));
    }
    if (client->due < next && !client->dead) next = client->due;
  }
  return next;
}

/* Until all that was published has come, and a moment longer; or nothing has come for a while. */
static void settle(double receivers, int64_t end) {
  int64_t until = now() + SETTLE_MICROSECONDS;
  bool complete = false;
  while (now() < until && now() < end + STUCK_MICROSECONDS) {
    uint64_t before = latencies.received;
    if (!complete && (complete = (double)latencies.received >= receivers * (double)published))
      until = now() + GRACE_MICROSECONDS;
    serve(10000);
    if (latencies.received != before && !complete) until = now() + SETTLE_MICROSECONDS;
  }
}

static void go(double seconds, double receivers, double pace) {
  int64_t begun = now(), end = begun + (int64_t)(seconds * 1e6);
  double cpu = cpu_seconds();
  int dead = dead_count;
  published = turns = late = received_bytes = refused = 0;
  memset(&latencies, 0, sizeof latencies);
  for (int number = 0; number < publisher_count; number++) { /* not all at the same moment */
    Client *client = &clients[publishers[number]];
    client->due = begun + (int64_t)(1e6 * client->burst / (client->rate * pace) * number / publisher_count);
  }
  for (int64_t at = begun; at < end; at = now()) serve(publish_due(pace, at, end) - now());
  publish_due(pace, end, end); /* a busy machine may have passed over the last of it */
  settle(receivers, end);
  double took = (double)((latencies.newest > end ? latencies.newest : end) - begun) / 1e6, used = cpu_seconds() - cpu;
  printf("{\"published\":%" PRIu64 ",\"received\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"bytes\":%" PRIu64, published,
         latencies.received, refused, received_bytes);
  printf(",\"late\":%.6f,\"dead\":%d", turns ? (double)late / (double)turns : 0, dead_count - dead);
  printf(",\"p50\":%.6f,\"p99\":%.6f,\"p999\":%.6f,\"max\":%.6f", quantile(&latencies, 0.5),
         quantile(&latencies, 0.99), quantile(&latencies, 0.999), (double)latencies.worst / 1e6);
  printf(",\"seconds\":%.6f,\"cpu_seconds\":%.6f}\n", took, used);
}

static void add_client(int script, double rate, int burst, int first, int many) {
  if (script >= script_count || (rate > 0 && (many < 1 || first + many > template_count))) errno = EINVAL, fail("plan");
  if (rate > 0) {
    publishers = grown(publishers, (size_t)publisher_count, sizeof *publishers);
    publishers[publisher_count++] = client_count;
  }
  clients = grown(clients, (size_t)client_count, sizeof *clients);
  new_count++;
  clients[client_count++] = (Client){.script = script, .rate = rate, .burst = burst, .first = first, .templates = many};
}

static void add_step(bool send, const char *hex) {
  Script *script = &scripts[script_count - 1];
  script->steps = grown(script->steps, (size_t)script->count, sizeof *script->steps);
  script->steps[script->count++] = (Step){send, unhex(hex)};
}

static void add_script(void) {
  scripts = grown(scripts, (size_t)script_count, sizeof *scripts);
  scripts[script_count++] = (Script){0};
}

static void add_answer(const char *hex) {
  Script *script = &scripts[script_count - 1];
  script->question = unhex(hex);
  script->answer = unhex(hex + 2 * script->question.size + 1);
}

static void add_template(int offset, const char *hex) {
  templates = grown(templates, (size_t)template_count, sizeof *templates);
  templates[template_count++] = (Template){unhex(hex), (size_t)offset};
}

static void obey(const char *line) {
  int first, second, third, fourth, skipped = 0;
  double number, receivers, pace;
  if (sscanf(line, "target %d", &first) == 1) target.sin_port = htons((uint16_t)first);
  else if (!strncmp(line, "script", 6)) add_script();
  else if (!strncmp(line, "send ", 5)) add_step(true, line + 5);
  else if (!strncmp(line, "await ", 6)) add_step(false, line + 6);
  else if (!strncmp(line, "answer ", 7)) add_answer(line + 7);
  else if (!strncmp(line, "refusal ", 8)) refusal = unhex(line + 8);
  else if (sscanf(line, "template %d %n", &first, &skipped) == 1) add_template(first, line + skipped);
  else if (sscanf(line, "clients %d %d", &first, &second) == 2) while (first--) add_client(second, 0, 0, 0, 0);
  else if (sscanf(line, "publisher %d %lf %d %d %d", &first, &number, &second, &third, &fourth) == 5)
    add_client(first, number, second, third, fourth);
  else if (sscanf(line, "connect %d", &first) == 1) connect_all(first);
  else if (sscanf(line, "go %lf %lf %lf", &number, &receivers, &pace) == 3) go(number, receivers, pace);
  else errno = EINVAL, fail(line);
  fflush(stdout);
}

int main(void) {
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  poll_fd = epoll_create1(0);
  target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  char *line = NULL;
  size_t room = 0;
  while (getline(&line, &room, stdin) > 0) obey(line);
  return 0;
}
