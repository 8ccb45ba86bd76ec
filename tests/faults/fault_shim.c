// Preloaded into a program (LD_PRELOAD), it counts calls of the C library by kind and lets one of them fail. What goes
// to a file counts only where the file is below FAULT_FOLDERS, so that the loader and the standard streams are left
// alone. Counting begins with main() and ends with it.
//
//   FAULT_FOLDERS=/a:/b      the folders, absolute
//   FAULT=KIND:N:HOW[+]      the N-th call of that kind fails, with + all from there on; N = 0 with +: every call
//                            (memory: from there on there is only what is freed)
//                            HOW: an errno; "short", half of the bytes are moved; "end", a read finds the file's end
//   FAULT=space:BYTES:MS     the disk is full after so many bytes written below FAULT_FOLDERS, and has room again MS ms
//                            after it was found full; 0: never
//   FAULT=clock:N:SECONDS    from the N-th look on, the wall clock is off by so much
//   FAULT_LOG=FILE           appended: "hit KIND N CALL PATH" at the fault, "count KIND N" for each kind at the end
//   FAULT_SITES=FILE         written: "N HASH" for each allocation, HASH that of the last calls that led to it
//   FAULT_TRACE=1            at the fault the calls that led to it are appended to FAULT_LOG
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "fault_space.h"

enum Kind {
  kOpen,
  kList,
  kRead,
  kWrite,
  kSync,
  kTruncate,
  kReserve,
  kSeek,
  kStat,
  kLock,
  kRename,
  kClose,
  kMap,
  kMemory,
  kThread,
  kClock,
  kSpace,
  kKinds
};
static const char* const kNames[kKinds] = {"open",    "list",   "read",   "write", "sync",   "truncate",
                                           "reserve", "seek",   "stat",   "lock",  "rename", "close",
                                           "map",     "memory", "thread", "clock", "space"};
enum { kFiles = 4096, kFolders = 8, kShort = -1, kEnd = -2, kDeepest = 48, kSite = 7 };

static atomic_bool active;
static atomic_long counts[kKinds];
static atomic_long freed_bytes;
static atomic_bool tracked[kFiles];  // by descriptor
static int fault_kind = -1;
static long fault_at, fault_how;
static bool fault_stays, trace_wanted;
static char folders[kFolders][512];
static int folder_count;
static int log_file = -1, sites_file = -1;
static __thread bool inside;  // the shim's own calls do not count

// The C library's function of that name.
#define REAL(result, name, ...)       \
  static result (*real)(__VA_ARGS__); \
  if (real == NULL) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void say(int file, const char* format, ...) {
  if (file < 0) return;
  char line[1200];
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(line, sizeof(line), format, arguments);
  va_end(arguments);
  if (length > 0) syscall(SYS_write, file, line, (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1);
}

static void read_fault(const char* text) {
  char kind[32];
  char how[32];
  if (text == NULL || sscanf(text, "%31[^:]:%ld:%31s", kind, &fault_at, how) != 3) return;
  for (int i = 0; i < kKinds; ++i)
    if (strcmp(kind, kNames[i]) == 0) fault_kind = i;
  fault_stays = how[strlen(how) - 1] == '+';
  fault_how = strncmp(how, "short", 5) == 0 ? kShort : strncmp(how, "end", 3) == 0 ? kEnd : strtol(how, NULL, 10);
  if (fault_kind == kSpace) limit_space(fault_at, fault_how);
}

static void read_folders(const char* text) {
  while (text != NULL && *text != '\0' && folder_count < kFolders) {
    const char* end = strchrnul(text, ':');
    snprintf(folders[folder_count++], sizeof(folders[0]), "%.*s", (int)(end - text), text);
    text = *end == ':' ? end + 1 : end;
  }
}

static int open_log(const char* name, int flags) {
  const char* path = getenv(name);
  return path == NULL ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);
}

__attribute__((constructor)) static void begin(void) {
  void* frames[2];
  backtrace(frames, 2);  // loads what it needs
  read_fault(getenv("FAULT"));
  read_folders(getenv("FAULT_FOLDERS"));
  trace_wanted = getenv("FAULT_TRACE") != NULL;
  log_file = open_log("FAULT_LOG", O_APPEND);
  sites_file = open_log("FAULT_SITES", O_TRUNC);
}

static void end_counting(void) {
  if (!atomic_exchange(&active, false)) return;
  for (int i = 0; i < kSpace; ++i) say(log_file, "count %s %ld\n", kNames[i], atomic_load(&counts[i]));
  say(log_file, "count space %ld\n", space_written());
}
__attribute__((destructor)) static void end(void) { end_counting(); }

static int (*real_main)(int, char**, char**);
static int counted_main(int argc, char** argv, char** environment) {
  active = true;
  int code = real_main(argc, argv, environment);
  end_counting();
  return code;
}

int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void* stack_end) {
  REAL(int, __libc_start_main, int (*)(int, char**, char**), int, char**, void (*)(void), void (*)(void),
       void (*)(void), void*);
  real_main = main;
  return real(counted_main, argc, argv, init, fini, loader_fini, stack_end);
}

static void hit(enum Kind kind, long n, const char* call, const char* path) {
  inside = true;
  say(log_file, "hit %s %ld %s %s\n", kNames[kind], n, call, path == NULL ? "" : path);
  if (trace_wanted && log_file >= 0) {
    void* frames[kDeepest];
    backtrace_symbols_fd(frames, backtrace(frames, kDeepest), log_file);
  }
  inside = false;
}

// Counts a call. Whether it is to fail.
static bool fails(enum Kind kind, const char* call, const char* path) {
  if (!active || inside) return false;
  const long n = atomic_fetch_add(&counts[kind], 1) + 1;
  if ((int)kind != fault_kind) return false;
  const bool now = fault_stays ? n >= fault_at : n == fault_at;
  if (now && (n == fault_at || fault_at == 0)) hit(kind, n, call, path);
  return now;
}

// For calls whose only fault is an errno.
static bool refused(enum Kind kind, const char* call, const char* path) {
  if (!fails(kind, call, path)) return false;
  errno = (int)fault_how;
  return true;
}

static bool is_below(const char* path) {
  char whole[1024];
  if (path == NULL) return false;
  if (path[0] != '/') {
    if (syscall(SYS_getcwd, whole, sizeof(whole) / 2) <= 0) return false;
    strncat(strcat(whole, "/"), path, sizeof(whole) / 2 - 2);
    path = whole;
  }
  for (int i = 0; i < folder_count; ++i) {
    const size_t length = strlen(folders[i]);
    if (strncmp(path, folders[i], length) == 0 && (path[length] == '/' || path[length] == '\0')) return true;
  }
  return false;
}

static bool is_tracked(int file) { return active && file >= 0 && file < kFiles && tracked[file]; }
static int track(int file, bool below) {
  if (file >= 0 && file < kFiles) tracked[file] = below;
  return file;
}

// --- names ---

static mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                       \
  int name(const char* path, int flags, ...) {           \
    va_list arguments;                                   \
    va_start(arguments, flags);                          \
    const mode_t mode = mode_of(flags, arguments);       \
    va_end(arguments);                                   \
    REAL(int, name, const char*, int, ...);              \
    const bool below = is_below(path);                   \
    if (below && refused(kOpen, #name, path)) return -1; \
    return track(real(path, flags, mode), below);        \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                         \
  int name(int folder, const char* path, int flags, ...) {                   \
    va_list arguments;                                                       \
    va_start(arguments, flags);                                              \
    const mode_t mode = mode_of(flags, arguments);                           \
    va_end(arguments);                                                       \
    REAL(int, name, int, const char*, int, ...);                             \
    const bool below = path[0] != '/' ? is_tracked(folder) : is_below(path); \
    if (below && refused(kOpen, #name, path)) return -1;                     \
    return track(real(folder, path, flags, mode), below);                    \
  }
OPENAT(openat)
OPENAT(openat64)

#define MKOSTEMP(name)                                   \
  int name(char* path, int flags) {                      \
    REAL(int, name, char*, int);                         \
    const bool below = is_below(path);                   \
    if (below && refused(kOpen, #name, path)) return -1; \
    return track(real(path, flags), below);              \
  }
MKOSTEMP(mkostemp)
MKOSTEMP(mkostemp64)

#define FOPEN(name)                                        \
  FILE* name(const char* path, const char* mode) {         \
    REAL(FILE*, name, const char*, const char*);           \
    const bool below = is_below(path);                     \
    if (below && refused(kOpen, #name, path)) return NULL; \
    FILE* file = real(path, mode);                         \
    if (file != NULL) track(fileno(file), below);          \
    return file;                                           \
  }
FOPEN(fopen)
FOPEN(fopen64)

int close(int file) {
  REAL(int, close, int);
  const bool below = is_tracked(file);
  track(file, false);
  const int code = real(file);
  return below && refused(kClose, "close", NULL) ? -1 : code;
}

DIR* opendir(const char* path) {
  REAL(DIR*, opendir, const char*);
  if (is_below(path) && refused(kList, "opendir", path)) return NULL;
  DIR* folder = real(path);
  if (folder != NULL) track(dirfd(folder), is_below(path));
  return folder;
}

#define READDIR(type, name)                                                    \
  struct type* name(DIR* folder) {                                             \
    REAL(struct type*, name, DIR*);                                            \
    if (is_tracked(dirfd(folder)) && refused(kList, #name, NULL)) return NULL; \
    return real(folder);                                                       \
  }
READDIR(dirent, readdir)
READDIR(dirent64, readdir64)

#define STAT(type, name)                                          \
  int name(const char* path, struct type* info) {                 \
    REAL(int, name, const char*, struct type*);                   \
    if (is_below(path) && refused(kStat, #name, path)) return -1; \
    return real(path, info);                                      \
  }
STAT(stat, stat)
STAT(stat64, stat64)
STAT(stat, lstat)
STAT(stat64, lstat64)

#define FSTAT(type, name)                                           \
  int name(int file, struct type* info) {                           \
    REAL(int, name, int, struct type*);                             \
    if (is_tracked(file) && refused(kStat, #name, NULL)) return -1; \
    return real(file, info);                                        \
  }
FSTAT(stat, fstat)
FSTAT(stat64, fstat64)

#define FSTATAT(type, name)                                                  \
  int name(int folder, const char* path, struct type* info, int flags) {     \
    REAL(int, name, int, const char*, struct type*, int);                    \
    const bool below = path[0] != '/' ? is_tracked(folder) : is_below(path); \
    if (below && refused(kStat, #name, path)) return -1;                     \
    return real(folder, path, info, flags);                                  \
  }
FSTATAT(stat, fstatat)
FSTATAT(stat64, fstatat64)

int statvfs(const char* path, struct statvfs* info) {
  REAL(int, statvfs, const char*, struct statvfs*);
  if (is_below(path) && refused(kStat, "statvfs", path)) return -1;
  return real(path, info);
}
int access(const char* path, int mode) {
  REAL(int, access, const char*, int);
  if (is_below(path) && refused(kStat, "access", path)) return -1;
  return real(path, mode);
}

int rename(const char* from, const char* to) {
  REAL(int, rename, const char*, const char*);
  if (is_below(to) && refused(kRename, "rename", to)) return -1;
  return real(from, to);
}

// --- bytes ---

// How many of `bytes` are to be moved: -1 with errno, 0 for the end of the file.
static ssize_t moved(enum Kind kind, const char* call, size_t bytes) {
  if (!fails(kind, call, NULL)) return (ssize_t)bytes;
  if (fault_how == kEnd) return 0;
  if (fault_how == kShort) return bytes > 1 ? (ssize_t)(bytes / 2) : (ssize_t)bytes;
  errno = (int)fault_how;
  return -1;
}

static void disk_is_full(const char* call) {
  static atomic_flag is_told = ATOMIC_FLAG_INIT;
  if (!atomic_flag_test_and_set(&is_told)) hit(kSpace, space_written(), call, NULL);
  errno = ENOSPC;
}

static ssize_t to_write(const char* call, size_t bytes) {
  const ssize_t wanted = moved(kWrite, call, bytes);
  const ssize_t taken = wanted > 0 ? take_space(wanted) : wanted;
  if (wanted <= 0 || taken > 0) return taken;
  disk_is_full(call);
  return -1;
}

ssize_t read(int file, void* to, size_t bytes) {
  REAL(ssize_t, read, int, void*, size_t);
  const ssize_t some = is_tracked(file) ? moved(kRead, "read", bytes) : (ssize_t)bytes;
  return some <= 0 && bytes > 0 ? some : real(file, to, (size_t)some);
}
ssize_t write(int file, const void* from, size_t bytes) {
  REAL(ssize_t, write, int, const void*, size_t);
  const ssize_t some = is_tracked(file) ? to_write("write", bytes) : (ssize_t)bytes;
  return some <= 0 && bytes > 0 ? some : real(file, from, (size_t)some);
}

#define PREAD(name, offset_type)                                                         \
  ssize_t name(int file, void* to, size_t bytes, offset_type at) {                       \
    REAL(ssize_t, name, int, void*, size_t, offset_type);                                \
    const ssize_t some = is_tracked(file) ? moved(kRead, #name, bytes) : (ssize_t)bytes; \
    return some <= 0 && bytes > 0 ? some : real(file, to, (size_t)some, at);             \
  }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define PWRITE(name, offset_type)                                                    \
  ssize_t name(int file, const void* from, size_t bytes, offset_type at) {           \
    REAL(ssize_t, name, int, const void*, size_t, offset_type);                      \
    const ssize_t some = is_tracked(file) ? to_write(#name, bytes) : (ssize_t)bytes; \
    return some <= 0 && bytes > 0 ? some : real(file, from, (size_t)some, at);       \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

// Of several parts: the first alone, where not all are to be moved.
ssize_t writev(int file, const struct iovec* parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec*, int);
  if (!is_tracked(file)) return real(file, parts, count);
  size_t bytes = 0;
  for (int i = 0; i < count; ++i) bytes += parts[i].iov_len;
  const ssize_t some = to_write("writev", bytes);
  if (some == (ssize_t)bytes || some < 0) return some < 0 ? some : real(file, parts, count);
  const struct iovec first = {parts[0].iov_base, parts[0].iov_len < (size_t)some ? parts[0].iov_len : (size_t)some};
  return real(file, &first, 1);
}
ssize_t readv(int file, const struct iovec* parts, int count) {
  REAL(ssize_t, readv, int, const struct iovec*, int);
  if (is_tracked(file) && refused(kRead, "readv", NULL)) return -1;
  return real(file, parts, count);
}

#define ON_FILE(kind, name, parameters, values, ...)               \
  int name parameters {                                            \
    REAL(int, name, __VA_ARGS__);                                  \
    if (is_tracked(file) && refused(kind, #name, NULL)) return -1; \
    return real values;                                            \
  }
ON_FILE(kSync, fsync, (int file), (file), int)
ON_FILE(kSync, fdatasync, (int file), (file), int)
ON_FILE(kTruncate, ftruncate, (int file, off_t bytes), (file, bytes), int, off_t)
ON_FILE(kTruncate, ftruncate64, (int file, off64_t bytes), (file, bytes), int, off64_t)
ON_FILE(kLock, flock, (int file, int how), (file, how), int, int)

static bool has_room(off64_t bytes) {
  if (!active || has_space(bytes)) return true;
  disk_is_full("fallocate");
  return false;
}
#define FALLOCATE(name, offset_type)                                   \
  int name(int file, int how, offset_type at, offset_type bytes) {     \
    REAL(int, name, int, int, offset_type, offset_type);               \
    if (is_tracked(file) && refused(kReserve, #name, NULL)) return -1; \
    if (is_tracked(file) && !has_room(bytes)) return -1;               \
    return real(file, how, at, bytes);                                 \
  }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

#define LSEEK(name, offset_type)                                    \
  offset_type name(int file, offset_type at, int whence) {          \
    REAL(offset_type, name, int, offset_type, int);                 \
    if (is_tracked(file) && refused(kSeek, #name, NULL)) return -1; \
    return real(file, at, whence);                                  \
  }
LSEEK(lseek, off_t)
LSEEK(lseek64, off64_t)

// --- memory, threads, time ---

#define MMAP(name, offset_type)                                                                 \
  void* name(void* at, size_t bytes, int protection, int flags, int file, offset_type offset) { \
    REAL(void*, name, void*, size_t, int, int, int, offset_type);                               \
    if (refused(kMap, #name, NULL)) return MAP_FAILED;                                          \
    return real(at, bytes, protection, flags, file, offset);                                    \
  }
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

// Addresses differ between runs and the distances between them do not.
static void note_site(void) {
  void* frames[kSite];
  inside = true;
  const int depth = backtrace(frames, kSite);
  uint64_t hash = 1469598103934665603u;
  for (int i = 1; i < depth; ++i) {
    hash ^= (uint64_t)(uintptr_t)frames[i];
    hash *= 1099511628211u;
  }
  say(sites_file, "%ld %016lx\n", atomic_load(&counts[kMemory]), (unsigned long)hash);
  inside = false;
}

// Whether the freed bytes are enough, which are then taken.
static bool is_freed(size_t bytes) {
  long freed = atomic_load(&freed_bytes);
  while (freed >= (long)bytes)
    if (atomic_compare_exchange_weak(&freed_bytes, &freed, freed - (long)bytes)) return true;
  return false;
}

static bool no_memory(const char* call, size_t bytes) {
  if (!active || inside) return false;
  const bool none = fails(kMemory, call, NULL) && !(fault_stays && is_freed(bytes));
  if (sites_file >= 0) note_site();
  if (none) errno = (int)fault_how;
  return none;
}
void free(void* memory) {
  if (fault_stays && fault_kind == kMemory && atomic_load(&counts[kMemory]) >= fault_at)
    atomic_fetch_add(&freed_bytes, (long)malloc_usable_size(memory));
  __libc_free(memory);
}
void* malloc(size_t bytes) { return no_memory("malloc", bytes) ? NULL : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) {
  return no_memory("calloc", count * bytes) ? NULL : __libc_calloc(count, bytes);
}
void* realloc(void* old, size_t bytes) { return no_memory("realloc", bytes) ? NULL : __libc_realloc(old, bytes); }
void* memalign(size_t alignment, size_t bytes) {
  return no_memory("memalign", bytes) ? NULL : __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  return no_memory("aligned_alloc", bytes) ? NULL : __libc_memalign(alignment, bytes);
}
int posix_memalign(void** to, size_t alignment, size_t bytes) {
  void* memory = no_memory("posix_memalign", bytes) ? NULL : __libc_memalign(alignment, bytes);
  if (memory == NULL) return ENOMEM;
  *to = memory;
  return 0;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* settings, void* (*body)(void*), void* argument) {
  REAL(int, pthread_create, pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (refused(kThread, "pthread_create", NULL)) return (int)fault_how;
  return real(thread, settings, body, argument);
}

int clock_gettime(clockid_t clock, struct timespec* now) {
  REAL(int, clock_gettime, clockid_t, struct timespec*);
  const int code = real(clock, now);
  if (clock == CLOCK_REALTIME && fails(kClock, "clock_gettime", NULL)) now->tv_sec += fault_how;
  return code;
}
