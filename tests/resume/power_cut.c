// For LD_PRELOAD: writes down, in order, what a program does to the files below POWER_CUT_ROOT, into the file
// POWER_CUT_JOURNAL outside of it. power_cut.py makes of that what a power cut leaves. What stdio writes and what is
// mapped is not seen; kill_and_resume.py compares the whole journal with the folder, so that it would be noticed.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libavcodec/avcodec.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct Record {
  uint32_t kind;  // a letter: kRecords in power_cut.py
  uint32_t path_bytes;
  uint64_t inode, at, bytes;  // `bytes` behind the path
};

static char root[PATH_MAX];
static int journal = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
  const char* folder = getenv("POWER_CUT_ROOT");
  const char* file = getenv("POWER_CUT_JOURNAL");
  if (folder == NULL || file == NULL || realpath(folder, root) == NULL) return;
  journal = (int)syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

static int is_below(const char* path) {
  const size_t length = strlen(root);
  return journal >= 0 && strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

// In one call: of a killed program the last record alone may be cut off.
static void put(char kind, const char* path, uint64_t inode, uint64_t at, const void* data, uint64_t bytes) {
  struct Record head = {(uint32_t)kind, (uint32_t)strlen(path), inode, at, bytes};
  struct iovec parts[3] = {{&head, sizeof(head)}, {(void*)path, head.path_bytes}, {(void*)data, bytes}};
  if (syscall(SYS_writev, journal, parts, 3) != (long)(sizeof(head) + head.path_bytes + bytes)) abort();
}

static int path_of(int fd, char* path) {
  char link[64];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = '\0';
  return length > 0 && is_below(path);
}

// Of a name that may not exist: its folder does.
static int path_at(int folder, const char* name, char* path) {
  char whole[2 * PATH_MAX] = "", base[PATH_MAX] = "";
  if (name[0] != '/' && folder == AT_FDCWD && getcwd(base, sizeof(base)) == NULL) return 0;
  if (name[0] != '/' && folder != AT_FDCWD) path_of(folder, base);
  snprintf(whole, sizeof(whole), "%s%s%.*s", base, base[0] ? "/" : "", PATH_MAX - 1, name);
  char* last = strrchr(whole, '/');
  *last = '\0';
  if (realpath(whole[0] ? whole : "/", path) == NULL) return 0;
  const size_t length = strlen(path);
  snprintf(path + length, PATH_MAX - length, "/%s", last + 1);
  return is_below(path);
}

static uint64_t inode_of(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

// Files that were there are named too: what follows knows them by their inode.
static int open_at(int folder, const char* name, int flags, mode_t mode) {
  char path[PATH_MAX];
  pthread_mutex_lock(&lock);
  const int fd = (int)syscall(SYS_openat, folder, name, flags, mode);
  const int error = errno;
  const int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)) != 0;
  if (fd >= 0 && writes && (flags & O_TMPFILE) != O_TMPFILE && path_of(fd, path)) {
    put('O', path, inode_of(fd), 0, NULL, 0);
    if ((flags & O_TRUNC) != 0) put('T', path, inode_of(fd), 0, NULL, 0);
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

#define MODE_OF(flags)                                                     \
  mode_t mode = 0;                                                         \
  va_list more;                                                            \
  va_start(more, flags);                                                   \
  if ((flags & (O_CREAT | __O_TMPFILE)) != 0) mode = va_arg(more, mode_t); \
  va_end(more)

int open(const char* name, int flags, ...) {
  MODE_OF(flags);
  return open_at(AT_FDCWD, name, flags, mode);
}
int open64(const char* name, int flags, ...) {
  MODE_OF(flags);
  return open_at(AT_FDCWD, name, flags, mode);
}
int openat(int folder, const char* name, int flags, ...) {
  MODE_OF(flags);
  return open_at(folder, name, flags, mode);
}
int openat64(int folder, const char* name, int flags, ...) {
  MODE_OF(flags);
  return open_at(folder, name, flags, mode);
}
int creat(const char* name, mode_t mode) { return open_at(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char* name, mode_t mode) { return creat(name, mode); }

// offset < 0: at the file's own position.
static ssize_t write_at(int fd, const struct iovec* parts, int count, off_t offset) {
  char path[PATH_MAX];
  pthread_mutex_lock(&lock);
  ssize_t wrote =
      offset < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, offset, 0);
  const int error = errno;
  if (wrote > 0 && path_of(fd, path)) {
    off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - wrote : offset;
    ssize_t left = wrote;
    for (int i = 0; left > 0; ++i) {
      const ssize_t bytes = left < (ssize_t)parts[i].iov_len ? left : (ssize_t)parts[i].iov_len;
      put('W', path, inode_of(fd), (uint64_t)at, parts[i].iov_base, (uint64_t)bytes);
      at += bytes;
      left -= bytes;
    }
  }
  pthread_mutex_unlock(&lock);
  errno = error;
  return wrote;
}

ssize_t writev(int fd, const struct iovec* parts, int count) { return write_at(fd, parts, count, -1); }
ssize_t pwritev(int fd, const struct iovec* parts, int count, off_t at) { return write_at(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec* parts, int count, off_t at) { return write_at(fd, parts, count, at); }
ssize_t write(int fd, const void* data, size_t bytes) {
  const struct iovec part = {(void*)data, bytes};
  return write_at(fd, &part, 1, -1);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t at) {
  const struct iovec part = {(void*)data, bytes};
  return write_at(fd, &part, 1, at);
}
ssize_t pwrite64(int fd, const void* data, size_t bytes, off_t at) { return pwrite(fd, data, bytes, at); }

// The call is an expression; with the lock, so that the journal has its order.
#define WITH_LOCK(call, record)      \
  char path[PATH_MAX], to[PATH_MAX]; \
  (void)path, (void)to;              \
  pthread_mutex_lock(&lock);         \
  const int result = (int)(call);    \
  const int error = errno;           \
  if (result == 0) record;           \
  pthread_mutex_unlock(&lock);       \
  errno = error;                     \
  return result

static void put_size(int fd, const char* path) {
  struct stat info;
  if (fstat(fd, &info) == 0) put('T', path, info.st_ino, (uint64_t)info.st_size, NULL, 0);
}

int ftruncate(int fd, off_t bytes) {
  WITH_LOCK(syscall(SYS_ftruncate, fd, bytes), if (path_of(fd, path)) put_size(fd, path));
}
int ftruncate64(int fd, off_t bytes) { return ftruncate(fd, bytes); }
int fallocate(int fd, int mode, off_t at, off_t bytes) {
  WITH_LOCK(syscall(SYS_fallocate, fd, mode, at, bytes), if (path_of(fd, path)) put_size(fd, path));
}
int fallocate64(int fd, int mode, off_t at, off_t bytes) { return fallocate(fd, mode, at, bytes); }
int posix_fallocate(int fd, off_t at, off_t bytes) { return fallocate(fd, 0, at, bytes) == 0 ? 0 : errno; }
int posix_fallocate64(int fd, off_t at, off_t bytes) { return posix_fallocate(fd, at, bytes); }

static void put_two(char kind, int from_folder, const char* from, int to_folder, const char* name, char* path,
                    char* to) {
  if (path_at(from_folder, from, path) && path_at(to_folder, name, to)) put(kind, path, 0, 0, to, strlen(to));
}

int renameat2(int from_folder, const char* from, int to_folder, const char* name, unsigned flags) {
  WITH_LOCK(syscall(SYS_renameat2, from_folder, from, to_folder, name, flags),
            put_two('R', from_folder, from, to_folder, name, path, to));
}
int renameat(int from_folder, const char* from, int to_folder, const char* name) {
  return renameat2(from_folder, from, to_folder, name, 0);
}
int rename(const char* from, const char* name) { return renameat2(AT_FDCWD, from, AT_FDCWD, name, 0); }
int linkat(int from_folder, const char* from, int to_folder, const char* name, int flags) {
  WITH_LOCK(syscall(SYS_linkat, from_folder, from, to_folder, name, flags),
            put_two('L', from_folder, from, to_folder, name, path, to));
}
int link(const char* from, const char* name) { return linkat(AT_FDCWD, from, AT_FDCWD, name, 0); }

static void put_name(char kind, int folder, const char* name, char* path) {
  if (path_at(folder, name, path)) put(kind, path, 0, 0, NULL, 0);
}

int unlinkat(int folder, const char* name, int flags) {
  WITH_LOCK(syscall(SYS_unlinkat, folder, name, flags),
            put_name((flags & AT_REMOVEDIR) != 0 ? 'D' : 'U', folder, name, path));
}
int unlink(const char* name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char* name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }
int remove(const char* name) {
  const int result = unlink(name);
  return result != 0 && errno == EISDIR ? rmdir(name) : result;
}
int mkdirat(int folder, const char* name, mode_t mode) {
  WITH_LOCK(syscall(SYS_mkdirat, folder, name, mode), put_name('M', folder, name, path));
}
int mkdir(const char* name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

// Without the lock: what is written meanwhile is not covered, so the journal has where it began.
static int sync_by(long call, int fd) {
  static uint64_t last = 0;
  char path[PATH_MAX];
  const int known = path_of(fd, path);
  pthread_mutex_lock(&lock);
  const uint64_t number = ++last;
  if (known) put('B', path, inode_of(fd), number, NULL, 0);
  pthread_mutex_unlock(&lock);
  const int result = (int)syscall(call, fd);
  const int error = errno;
  pthread_mutex_lock(&lock);
  if (known && result == 0) put('S', path, inode_of(fd), number, NULL, 0);
  pthread_mutex_unlock(&lock);
  errno = error;
  return result;
}

int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

// Frames that were handed to the encoder: what the file may lack at a cut is counted against them.
int avcodec_send_frame(AVCodecContext* encoder, const AVFrame* frame) {
  int (*next)(AVCodecContext*, const AVFrame*) = NULL;
  *(void**)&next = dlsym(RTLD_NEXT, "avcodec_send_frame");
  pthread_mutex_lock(&lock);
  if (journal >= 0 && frame != NULL && frame->width > 0) put('F', "", 0, 0, NULL, 0);
  pthread_mutex_unlock(&lock);
  return next(encoder, frame);
}
