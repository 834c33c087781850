// Makes the disk fail at a chosen moment. chaos.py and the tests of the tools preload it into the tools.
//
//   FAULT_KIND    full      from the n-th call on, nothing can be written (no space left)
//                 readonly  from the n-th call on, nothing can be created, renamed or opened for writing
//                 eio       only the n-th call fails with an input/output error
//                 torn      the n-th write writes half of its bytes, then the process is killed
//                 kill      the process is killed before the n-th call
//                 slow      from the n-th call on, every flush to the disk takes a minute
//   FAULT_CALL    n, counted from 1 over the calls that change files under FAULT_FOLDER
//   FAULT_FOLDER  prefix of the files' paths: a folder, or a file name in it
//   FAULT_RANK    the rank in which it happens
//   FAULT_REPORT  a file that is created when it happens
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum call { kWrite, kFlush, kName, kOpen };

static const char* kind;
static const char* folder;
static long moment;
static atomic_long calls;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void read_variables(void) {
  const char* rank = getenv("RANK");
  const char* wanted = getenv("FAULT_RANK");
  folder = getenv("FAULT_FOLDER");
  moment = getenv("FAULT_CALL") ? atol(getenv("FAULT_CALL")) : 0;
  if (folder && wanted && !strcmp(rank ? rank : "0", wanted)) kind = getenv("FAULT_KIND");
}

static int is_below_folder(const char* path) {
  return path && !strncmp(path, folder, strlen(folder));
}

static int is_file_below_folder(int file) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  return is_below_folder(path);
}

static void report(void) {
  const char* path = getenv("FAULT_REPORT");
  const int file = path ? REAL(open)(path, O_WRONLY | O_CREAT, 0644) : -1;
  if (file >= 0) close(file);
}

static void die(void) {
  report();
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

// Not interrupted by signals.
static void sleep_a_minute(void) {
  struct timespec left = {.tv_sec = 60};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

// Counts a call and returns the error with which it fails, or 0.
static int fault(enum call call) {
  const long number = atomic_fetch_add(&calls, 1) + 1;
  if (number < moment) return 0;
  if (!strcmp(kind, "kill")) die();
  if (!strcmp(kind, "slow") && call == kFlush) {
    report();
    sleep_a_minute();
  }
  int error = 0;
  if (!strcmp(kind, "full") && (call == kWrite || call == kName)) error = ENOSPC;
  if (!strcmp(kind, "readonly") && (call == kOpen || call == kName)) error = EROFS;
  if (!strcmp(kind, "eio") && number == moment) error = EIO;
  if (error) report();
  return error;
}

// Whether this write is to be torn.
static int is_torn(void) {
  return kind && !strcmp(kind, "torn") && atomic_load(&calls) >= moment;
}

ssize_t write(int file, const void* bytes, size_t size) {
  if (kind && is_file_below_folder(file)) {
    if ((errno = fault(kWrite))) return -1;
    if (is_torn()) {
      REAL(write)(file, bytes, size / 2);
      die();
    }
  }
  return REAL(write)(file, bytes, size);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  if (kind && is_file_below_folder(file)) {
    if ((errno = fault(kWrite))) return -1;
    if (is_torn()) {
      if (count > 0) REAL(write)(file, parts[0].iov_base, parts[0].iov_len / 2);
      die();
    }
  }
  return REAL(writev)(file, parts, count);
}

int fsync(int file) {
  if (kind && is_file_below_folder(file) && (errno = fault(kFlush))) return -1;
  return REAL(fsync)(file);
}

int rename(const char* from, const char* to) {
  if (kind && is_below_folder(to) && (errno = fault(kName))) return -1;
  return REAL(rename)(from, to);
}

int mkdir(const char* path, mode_t mode) {
  if (kind && is_below_folder(path) && (errno = fault(kName))) return -1;
  return REAL(mkdir)(path, mode);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  const int changes = (flags & (O_WRONLY | O_RDWR)) != 0;
  if (kind && changes && is_below_folder(path) && (errno = fault(kOpen))) return -1;
  return REAL(open)(path, flags, mode);
}
