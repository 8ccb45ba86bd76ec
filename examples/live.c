/* A live session in C: a voice is pushed, and what comes out is counted until it has been spoken.
   Usage: live_c CHECKPOINT PORTRAIT VOICE.raw     16 bit, mono, 24 kHz:
   ffmpeg -i voice.wav -f s16le -ac 1 -ar 24000 voice.raw */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <unistd.h>

#include "liveavatar/c.h"

/* On a thread of the session. A real program shows chunk->rgb and plays chunk->audio. */
static int on_chunk(const la_live_chunk* chunk, void* user) {
  (void)user;
  printf("frames %ld..%ld, %ld samples, late %.3f s\n", (long)chunk->first_frame,
         (long)(chunk->first_frame + chunk->frames), (long)chunk->samples, chunk->late_seconds);
  return chunk->speech == 0 && chunk->speech_complete; /* not 0 ends the session */
}

/* Wakes main, which waits at the other end. */
static void on_end(la_code code, const char* message, void* user) {
  const int* ends = user;
  (void)message;
  if (write(ends[1], code == LA_CANCELLED ? "." : "!", 1) != 1) perror("live_c");
}

static la_code push_file(la_live* live, const char* path, char** message) {
  int16_t samples[2400];
  size_t count;
  la_code code = LA_OK;
  FILE* file = fopen(path, "rb");
  if (file == NULL) return LA_NOT_FOUND;
  while (code == LA_OK && (count = fread(samples, sizeof(samples[0]), 2400, file)) > 0)
    code = la_live_push(live, samples, count, message);
  fclose(file);
  return code == LA_OK ? la_live_end_speech(live, message) : code;
}

int main(int argc, char** argv) {
  la_engine_options* options = la_engine_options_new();
  la_live_request* request = la_live_request_new();
  la_engine* engine = NULL;
  la_live* live = NULL;
  char* message = NULL;
  char how = '!';
  int ends[2];
  la_code code;
  if (argc != 4 || pipe(ends) != 0) {
    fprintf(stderr, "usage: live_c CHECKPOINT PORTRAIT VOICE.raw\n");
    return 2;
  }
  la_engine_options_set(options, "checkpoint_dir", argv[1], NULL);
  la_live_request_set(request, "image", argv[2], NULL);
  la_live_request_set(request, "prompt", "a person talks to the camera", NULL);
  la_live_request_set(request, "size", "64*64", NULL);
  la_live_request_set_callbacks(request, on_chunk, on_end, ends, NULL);
  code = la_engine_load(options, &engine, &message);
  if (code == LA_OK) code = la_live_open(engine, request, &live, &message);
  if (code == LA_OK) code = push_file(live, argv[3], &message);
  if (code == LA_OK && (read(ends[0], &how, 1) != 1 || how != '.')) code = LA_IO;
  if (code != LA_OK) fprintf(stderr, "live_c: %s\n", message != NULL ? message : "it did not work");
  la_live_free(live);
  la_engine_free(engine);
  la_live_request_free(request);
  la_engine_options_free(options);
  la_free(message);
  return code != LA_OK;
}
