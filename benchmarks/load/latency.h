/* Latencies of messages: a histogram, and how messages are recognised in what clients receive.
 *
 * A message is anything that contains a mark: "@T", 16 digits, "@". The digits are the microseconds (CLOCK_MONOTONIC)
 * at which it was sent, or was due, if the generator was late.
 */
#include <stdint.h>
#include <string.h>

enum { MARK_BYTES = 19, BUCKETS = 64 * 32 };

typedef struct {
  uint64_t received, buckets[BUCKETS];
  int64_t worst, newest; /* microseconds: the longest latency, and when the last message came */
} Latencies;

/* 32 buckets for each doubling: within 3 % of the truth. */
static int bucket_of(int64_t value) {
  if (value < 64) return value < 0 ? 0 : (int)value;
  int shift = 63 - __builtin_clzll((uint64_t)value) - 5;
  int bucket = shift * 32 + (int)(value >> shift);
  return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double value_of(int bucket) {
  if (bucket < 64) return bucket;
  int shift = bucket / 32 - 1;
  return (double)((int64_t)(bucket - shift * 32) << shift);
}

/* In seconds, such as that of which 0.99 of all messages stay below. */
static double quantile(const Latencies *latencies, double share) {
  uint64_t wanted = (uint64_t)((double)latencies->received * share), seen = 0;
  for (int bucket = 0; bucket < BUCKETS; bucket++)
    if ((seen += latencies->buckets[bucket]) > wanted) return value_of(bucket) / 1e6;
  return (double)latencies->worst / 1e6;
}

/* Count all marks in what was received at a time. */
static void count_marks(Latencies *latencies, const char *data, size_t size, int64_t at) {
  const char *end = data + size;
  while (data + MARK_BYTES <= end && (data = memchr(data, '@', (size_t)(end - data) - MARK_BYTES + 1))) {
    if (data[1] != 'T' || data[MARK_BYTES - 1] != '@') { data++; continue; }
    int64_t sent = 0;
    for (int digit = 2; digit < MARK_BYTES - 1; digit++) sent = sent * 10 + (data[digit] - '0');
    latencies->received++;
    latencies->newest = at;
    latencies->buckets[bucket_of(at - sent)]++;
    if (at - sent > latencies->worst) latencies->worst = at - sent;
    data += MARK_BYTES;
  }
}

/* How many of the last bytes may be the beginning of a mark, to be looked at again with those that follow. A mark that
 * ends within them ends with '@' too, so it is the last '@' that may begin another. */
static size_t begun_mark(const char *data, size_t size) {
  size_t from = size < MARK_BYTES - 1 ? 0 : size - (MARK_BYTES - 1);
  const char *begin = memrchr(data + from, '@', size - from);
  return begin ? (size_t)(data + size - begin) : 0;
}
