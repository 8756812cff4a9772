// Publishes `count` messages of `size` bytes with the C client, `window` of them in flight; prints the seconds.
//
//     cc -O2 -o publish publish.c -lnats && NATS_URL=nats://127.0.0.1:4222 ./publish bench.new 50000 256 512
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed = 0;

static void on_error(jsCtx *js, jsPubAckErr *error, void *closure) {
  (void)js, (void)closure;
  failed++;
  fprintf(stderr, "%s\n", error->ErrText ? error->ErrText : natsStatus_GetText(error->Err));
}

int main(int argc, char **argv) {
  const char *url = getenv("NATS_URL");
  if (argc != 5 || !url) return fprintf(stderr, "usage: NATS_URL=… %s SUBJECT COUNT SIZE WINDOW\n", argv[0]), 2;
  int count = atoi(argv[2]), size = atoi(argv[3]);
  natsConnection *nc = NULL;
  jsCtx *js = NULL;
  jsOptions options;
  char *payload = calloc(1, size ? size : 1);

  natsStatus status = natsConnection_ConnectTo(&nc, url);
  if (status == NATS_OK) status = jsOptions_Init(&options);
  options.PublishAsync.MaxPending = atoi(argv[4]);
  options.PublishAsync.ErrHandler = on_error;
  if (status == NATS_OK) status = natsConnection_JetStream(&js, nc, &options);

  int64_t begin = nats_NowInNanoSeconds();
  for (int i = 0; status == NATS_OK && i < count; i++)
    status = js_PublishAsync(js, argv[1], payload, size, NULL);
  if (status == NATS_OK) status = js_PublishAsyncComplete(js, NULL);
  int64_t end = nats_NowInNanoSeconds();

  if (status != NATS_OK || failed)
    return fprintf(stderr, "%s, %d not acknowledged\n", natsStatus_GetText(status), failed), 1;
  printf("%.6f\n", (end - begin) / 1e9);
  jsCtx_Destroy(js);
  natsConnection_Destroy(nc);
  nats_Close();
  free(payload);
  return 0;
}
