/* The C API in one page: load a checkpoint, make a talking video, stop after 60 s of it, or after SECONDS.
   Usage: first_video_c CHECKPOINT PORTRAIT VOICE OUT.mp4 [SECONDS] */
#include <stdio.h>
#include <stdlib.h>

#include "liveavatar/c.h"

/* What a run needs and what is freed at its end, whatever happened. */
typedef struct run {
  la_engine_options* options;
  la_engine* engine;
  la_request* request;
  la_job_info* info;
  la_video_file* file;
  double seconds;
  la_code written;
  char* message; /* of what failed first */
} run;

static void free_run(run* r) {
  la_video_file_free(r->file);
  la_job_info_free(r->info);
  la_request_free(r->request);
  la_engine_free(r->engine);
  la_engine_options_free(r->options);
  la_free(r->message);
}

static int on_chunk(const la_chunk* chunk, void* user) {
  run* r = user;
  int64_t done = chunk->first_frame + chunk->frames;
  printf("frames %ld..%ld of %ld\n", (long)chunk->first_frame, (long)done, (long)r->info->frames);
  r->written = la_video_file_append(r->file, chunk, &r->message);
  return r->written != LA_OK || (double)done >= r->seconds * (double)r->info->fps;
}

static la_code load(run* r, const char* checkpoint) {
  la_code code;
  r->options = la_engine_options_new();
  code = la_engine_options_set(r->options, "checkpoint_dir", checkpoint, &r->message);
  return code != LA_OK ? code : la_engine_load(r->options, &r->engine, &r->message);
}

static la_code describe(run* r, const char* portrait, const char* voice) {
  const char* fields[4][2] = {
      {"image", portrait}, {"audio", voice}, {"prompt", "a person talks to the camera"}, {"size", "64*64"}};
  int i;
  r->request = la_request_new();
  for (i = 0; i < 4; ++i) {
    la_code code = la_request_set(r->request, fields[i][0], fields[i][1], &r->message);
    if (code != LA_OK) return code;
  }
  return la_describe(r->engine, r->request, &r->info, &r->message);
}

static la_code make_video(run* r, const char* voice, const char* out) {
  la_code made, finished;
  la_code code = la_video_file_create(out, r->info, voice, &r->file, &r->message);
  if (code != LA_OK) return code;
  char* stopped = NULL;
  made = la_generate(r->engine, r->request, on_chunk, r, &stopped);
  if (r->written != LA_OK || made == LA_CANCELLED) {
    la_free(stopped); /* on_chunk said stop, and r->message why if it was an error */
    made = r->written;
  } else {
    r->message = stopped;
  }
  /* Also after an error: what was made is kept. */
  finished = la_video_file_finish(r->file, made == LA_OK ? &r->message : NULL);
  return made != LA_OK ? made : finished;
}

int main(int argc, char** argv) {
  run r = {0};
  la_code code;
  if (argc != 5 && argc != 6) {
    fprintf(stderr, "usage: first_video_c CHECKPOINT PORTRAIT VOICE OUT.mp4 [SECONDS]\n");
    return 2;
  }
  r.seconds = argc == 6 ? atof(argv[5]) : 60;
  printf("liveavatar %s\n", la_version());
  code = load(&r, argv[1]);
  if (code == LA_OK) code = describe(&r, argv[2], argv[3]);
  if (code == LA_OK) code = make_video(&r, argv[3], argv[4]);
  if (code != LA_OK) fprintf(stderr, "first_video_c: %s\n", r.message != NULL ? r.message : "no memory is left");
  free_run(&r);
  return code != LA_OK;
}
