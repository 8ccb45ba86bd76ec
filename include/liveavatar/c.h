/* liveavatar for C99, and for bindings of other languages: the same engine as liveavatar.h.

     char* message = NULL;
     la_engine_options* options = la_engine_options_new();
     la_engine_options_set(options, "checkpoint_dir", "models/mini", NULL);
     la_engine* engine = NULL;
     if (la_engine_load(options, &engine, &message) != LA_OK) puts(message);

   Conventions, for every function here:
   Errors    la_code, LA_OK or what went wrong. The last parameter, char** message, may be NULL; else it is always set:
             to NULL after LA_OK, to one line that says what, where and what to do otherwise (NULL also where there was
             no memory for it). That string is the caller's, to be freed with la_free. No exception comes out; nothing
             is printed; the process is never ended.
   Objects   What *_new, la_engine_load, la_describe, la_video_file_create and la_live_open give is the caller's, to be
             freed with the function of its name; those take NULL too. After an error the object is NULL. Objects do not
   refer to each other: each may be freed before the others, except that nothing is freed while a call uses it. Texts
   End in 0, UTF-8, and are copied. A path goes to the system byte for byte. NULL      For an object or a text is
   LA_INVALID_ARGUMENT, where nothing else is said. Threads   Any function may be called from any thread. One object is
   used by one thread at a time, except an engine and a live session: see there. Growth    Functions and codes are
   added, and names that *_set knows, and fields at the end of structs that the library makes (la_job_info, la_progress,
   la_live_chunk); la_chunk and la_live_position stay as they are. */
#ifndef LIVEAVATAR_C_H_
#define LIVEAVATAR_C_H_

#include <stddef.h>
#include <stdint.h>

#include "liveavatar/export.h"
#include "liveavatar/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Of ErrorCode in status.h; a caller must expect values that are not here yet. */
typedef enum la_code {
  LA_OK = 0,
  LA_INVALID_ARGUMENT = 1,
  LA_NOT_FOUND = 2,
  LA_CORRUPT = 3,
  LA_OUT_OF_MEMORY = 4,
  LA_IO = 5,
  LA_CANCELLED = 6,
  LA_UNSUPPORTED = 7
} la_code;

typedef struct la_engine_options la_engine_options;
typedef struct la_engine la_engine;
typedef struct la_request la_request;
typedef struct la_video_file la_video_file;
typedef struct la_live_request la_live_request;
typedef struct la_live la_live;

/* Of the library that is linked, "1.2.3"; static. LIVEAVATAR_VERSION_STRING is that of the headers. */
LIVEAVATAR_EXPORT const char* la_version(void);

/* Frees a message; NULL is nothing. */
LIVEAVATAR_EXPORT void la_free(char* message);

/* --- options of an engine, with their defaults; NULL: no memory. --- */
LIVEAVATAR_EXPORT la_engine_options* la_engine_options_new(void);
LIVEAVATAR_EXPORT void la_engine_options_free(la_engine_options* options);

/* Sets a field of EngineOptions in liveavatar.h by its name: "checkpoint_dir", "threads", "memory_budget_bytes", ...
   Numbers are decimal, as "4" or "2.5"; a bool is "true" or "false". "lora" adds an adapter to `loras`; "lora_strength"
   sets that of the last one added. An unknown name, or a text that is no such value, is LA_INVALID_ARGUMENT. */
LIVEAVATAR_EXPORT la_code la_engine_options_set(la_engine_options* options, const char* name, const char* value,
                                                char** message);

/* --- a request: the requested job, with its defaults; NULL: no memory. It may be used for several runs, one after
   another. --- */
LIVEAVATAR_EXPORT la_request* la_request_new(void);
LIVEAVATAR_EXPORT void la_request_free(la_request* request);

/* Sets a field of GenerateRequest in liveavatar.h by its name, as above: "image", "audio", "prompt", "size", "seed",
   ... "fit" is "cover" or "original". "mask" adds one to `masks`. Not while la_generate runs it. */
LIVEAVATAR_EXPORT la_code la_request_set(la_request* request, const char* name, const char* value, char** message);

/* Where a running job stands, as Progress in liveavatar.h; valid during the callback. */
typedef struct la_progress {
  const char* stage;
  int64_t block, blocks;
  int64_t frames_done, frames;
  int64_t retried_block; /* -1: none */
} la_progress;

/* Called by la_generate on its own thread; NULL: none. user is passed on and never touched. */
typedef void (*la_progress_callback)(const la_progress* progress, void* user);
LIVEAVATAR_EXPORT la_code la_request_set_progress(la_request* request, la_progress_callback callback, void* user,
                                                  char** message);

/* --- an engine: loaded models on one device. --- */

/* Takes seconds to minutes. The options may be freed afterwards. */
LIVEAVATAR_EXPORT la_code la_engine_load(const la_engine_options* options, la_engine** engine, char** message);
/* Not while a call uses the engine, thus not from a callback. */
LIVEAVATAR_EXPORT void la_engine_free(la_engine* engine);

/* Bytes that the engine holds now, and the most since it was loaded; 0 for NULL. Any thread, at any time. */
LIVEAVATAR_EXPORT size_t la_engine_memory_used_bytes(const la_engine* engine);
LIVEAVATAR_EXPORT size_t la_engine_memory_peak_bytes(const la_engine* engine);

/* What a job will make, as JobInfo in liveavatar.h. Made by la_describe alone; all of it is freed with
   la_job_info_free. */
typedef struct la_job_info {
  int64_t width, height; /* pixels */
  int64_t fps;
  int64_t frames, blocks, clips;
  size_t note_count; /* lines that a user should know of the inputs */
  const char* const* notes;
  const char* video_encoder; /* of a video file: "auto", "cpu" or "nvenc" */
  int64_t video_card;        /* whose NVENC; -1: any */
} la_job_info;

/* Checks the request's inputs and says what the job will make. Any thread, also during la_generate on the same engine.
 */
LIVEAVATAR_EXPORT la_code la_describe(la_engine* engine, const la_request* request, la_job_info** info, char** message);
LIVEAVATAR_EXPORT void la_job_info_free(la_job_info* info);

/* Consecutive frames, ready to show; as VideoChunk in liveavatar.h. */
typedef struct la_chunk {
  int64_t first_frame; /* position in the video; chunks arrive in order without gaps */
  int64_t frames;
  int64_t width, height;
  const uint8_t* rgb; /* [frames, height, width, 3] */
} la_chunk;

/* 0 to go on; anything else stops the job, which then returns LA_CANCELLED. The chunk and its pixels are the engine's
   and valid during the callback only. user is passed on and never touched. It must return: an exception of C++ ends the
   job as LA_CANCELLED, longjmp out of it is not allowed. */
typedef int (*la_chunk_callback)(const la_chunk* chunk, void* user);

/* Runs the job on the calling thread, on which alone the callbacks are called, and returns when it has ended. From a
   callback la_describe, la_engine_memory_* and everything of other objects may be called. One job at a time per engine:
   a second la_generate, from a callback or another thread, is LA_UNSUPPORTED at once and disturbs nothing. After any
   error the engine is ready for the next job. */
LIVEAVATAR_EXPORT la_code la_generate(la_engine* engine, const la_request* request, la_chunk_callback on_chunk,
                                      void* user, char** message);

/* Stops the la_generate that is running on the engine, which then returns LA_CANCELLED, within a layer of the model;
   frames that were delivered are the caller's. Any thread, also from a callback. Nothing is running, or NULL: nothing
   happens, and the next la_generate runs. */
LIVEAVATAR_EXPORT void la_engine_stop(la_engine* engine);

/* --- a video file with the voice beside the frames: .mp4, .m4v, .mov, .mkv, or HLS, .m3u8. --- */

/* info: of the job whose frames will come; it may be freed afterwards. audio: as the job's; NULL: a silent video. */
LIVEAVATAR_EXPORT la_code la_video_file_create(const char* path, const la_job_info* info, const char* audio,
                                               la_video_file** file, char** message);
/* The encoder by FFmpeg's name: "libx264", "h264_nvenc"; it is the file's. NULL for NULL. */
LIVEAVATAR_EXPORT const char* la_video_file_encoder(const la_video_file* file);
/* Copies the frames, and may wait for space in the queue. */
LIVEAVATAR_EXPORT la_code la_video_file_append(la_video_file* file, const la_chunk* chunk, char** message);
/* Ends the file properly; to be called also after a stop or an error, and before la_video_file_free. */
LIVEAVATAR_EXPORT la_code la_video_file_finish(la_video_file* file, char** message);
/* Without la_video_file_finish the file plays up to its last second. */
LIVEAVATAR_EXPORT void la_video_file_free(la_video_file* file);

/* --- live sessions: sound is pushed as it is made, and a talking video without an end comes out (docs/live.md). --- */

/* A requested session, with its defaults; NULL: no memory. It may open several. */
LIVEAVATAR_EXPORT la_live_request* la_live_request_new(void);
LIVEAVATAR_EXPORT void la_live_request_free(la_live_request* request);

/* Sets a field of LiveRequest in live.h by its name, as la_request_set: "image", "prompt", "sample_rate",
   "allow_changes", ... */
LIVEAVATAR_EXPORT la_code la_live_request_set(la_live_request* request, const char* name, const char* value,
                                              char** message);

/* Four frames and their sound; as LiveChunk in live.h. */
typedef struct la_live_chunk {
  int64_t first_frame, frames; /* in order without gaps, 25 a second */
  int64_t width, height;       /* pixels */
  const uint8_t* rgb;          /* [frames, height, width, 3] */
  const int16_t* audio;        /* mono, of these frames */
  int64_t samples, sample_rate;
  int64_t speech, speech_samples; /* at the end of the chunk, as la_live_position */
  int speech_complete;
  int64_t queued_samples; /* that wait for a later block */
  int64_t gaps;           /* times so far that a speech ran dry */
  double late_seconds, paused_seconds;
  double hear_seconds, sample_seconds, decode_seconds;
} la_live_chunk;

/* 0 to go on; anything else ends the session. The chunk and what it points to are the session's and valid during the
   callback only. It must return, as la_chunk_callback. */
typedef int (*la_live_chunk_callback)(const la_live_chunk* chunk, void* user);
/* Called once, after the last chunk, where the session ends other than by la_live_close or la_live_free: why. message
   is valid during the callback. */
typedef void (*la_live_end_callback)(la_code code, const char* message, void* user);

/* One call at a time, on a thread of the session. on_end may be NULL. user is passed on and never touched. */
LIVEAVATAR_EXPORT la_code la_live_request_set_callbacks(la_live_request* request, la_live_chunk_callback on_chunk,
                                                        la_live_end_callback on_end, void* user, char** message);

/* How far the video has come in what was pushed. A speech is what is pushed until la_live_end_speech or
   la_live_interrupt. */
typedef struct la_live_position {
  int64_t speech;  /* its number, from 0; -1: none yet */
  int64_t samples; /* of it, up to that moment */
  int complete;    /* not 0: no more of it follows */
} la_live_position;

/* Returns when the session is ready to begin; the callbacks may be called before that. Any thread, also while other
   sessions run, which are late by that; not from a callback. LA_UNSUPPORTED while la_generate runs on the engine, which
   refuses too while a session is open. The request may be freed afterwards. */
LIVEAVATAR_EXPORT la_code la_live_open(la_engine* engine, const la_live_request* request, la_live** live,
                                       char** message);

/* All functions of a session: any thread, several at once, also from its callbacks; but la_live_free. After its end,
   which may be that of its engine, they are LA_CANCELLED or say what ended it. */

/* Pixels; 0 for NULL. */
LIVEAVATAR_EXPORT int64_t la_live_width(const la_live* live);
LIVEAVATAR_EXPORT int64_t la_live_height(const la_live* live);
/* Copies mono samples at the request's sample_rate to the end of what is queued, all or none, and does not wait. -1..1
   is full scale of float samples. LA_OUT_OF_MEMORY: the queue has no room for so much. samples may be NULL if count is
   0. */
LIVEAVATAR_EXPORT la_code la_live_push(la_live* live, const int16_t* samples, size_t count, char** message);
LIVEAVATAR_EXPORT la_code la_live_push_float(la_live* live, const float* samples, size_t count, char** message);
/* The speech ends with what was pushed. */
LIVEAVATAR_EXPORT la_code la_live_end_speech(la_live* live, char** message);
/* Drops what no block has begun with, but for 5 ms that fade out. position: where the video will stop to speak; may be
 * NULL. */
LIVEAVATAR_EXPORT la_code la_live_interrupt(la_live* live, la_live_position* position, char** message);
/* Another prompt or portrait, from the block that begins next; waits until it is in place. first_frame: the first that
   has it; may be NULL. After an error nothing has changed. LA_UNSUPPORTED without "allow_changes". */
LIVEAVATAR_EXPORT la_code la_live_set_prompt(la_live* live, const char* prompt, int64_t* first_frame, char** message);
LIVEAVATAR_EXPORT la_code la_live_set_portrait(la_live* live, const char* image, int64_t* first_frame, char** message);
/* Ends the session: no callback runs when it returns, and none will; from within a callback none after that one. NULL,
   or a second call: nothing. */
LIVEAVATAR_EXPORT void la_live_close(la_live* live);
/* Closes it too. Not from its callbacks, nor while a call uses the session. */
LIVEAVATAR_EXPORT void la_live_free(la_live* live);

#ifdef __cplusplus
}
#endif

#endif
