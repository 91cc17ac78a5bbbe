/* Stands between a program and its disk (LD_PRELOAD): counts what is done to files under one directory, kills or fails at
 * the n-th of these points, and keeps a journal of all of them. Nothing happens until disk_arm() is called. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum mode { COUNT, KILL_BEFORE, KILL_AMIDST, FAIL_ONCE, FAIL_FROM, FAIL_TORN };
enum fate { GO, FAIL, HALF_THEN_DIE, HALF_THEN_FAIL };
struct record { int32_t kind, more; uint64_t file, offset, size, name_size; };

static char root[PATH_MAX], at_first[PATH_MAX + 64];
static size_t root_size;
static enum mode mode;
static long counted, chosen;
static int error_number, journal = -1;

void disk_arm(const char *directory, int how, long point, int error, int journal_descriptor)
{
    root_size = strlen(strcpy(root, directory));
    mode = how, chosen = point, error_number = error, journal = journal_descriptor, counted = 0, at_first[0] = 0;
}
void disk_disarm(void) { root_size = 0; }
long disk_counted(void) { return counted; }
const char *disk_what(void) { return at_first; }

static int watched(const char *path)
{
    return root_size && !strncmp(path, root, root_size) && (path[root_size] == '/' || !path[root_size]);
}
static int is_shared_memory(const char *path) { size_t n = strlen(path); return n > 4 && !strcmp(path + n - 4, "-shm"); }

static const char *resolve(int directory, const char *path, char *into)
{
    if (*path == '/' || !root_size) return path;
    char link[64];
    snprintf(link, sizeof link, directory == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", directory);
    ssize_t n = readlink(link, into, PATH_MAX - 256);
    if (n < 0) return path;
    snprintf(into + n, PATH_MAX - n, "/%.250s", path);
    return into;
}

static int opened(int fd, char *path)
{
    char link[64];
    if (!root_size) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n < 0 ? 0 : n] = 0;
    return n > 0 && watched(path);
}

static void __attribute__((noreturn)) die(void) { for (;;) syscall(SYS_kill, getpid(), SIGKILL); }

/* What becomes of the next point. A full disk refuses only what takes space. */
static enum fate next(const char *what, const char *path, int takes_space, int may_be_torn)
{
    long now = ++counted;
    if (now < chosen || mode == COUNT || (now > chosen && mode != FAIL_FROM)) return GO;
    if (now == chosen) snprintf(at_first, sizeof at_first, "%s %s", what, path + root_size);
    errno = error_number;
    switch (mode) {
    case KILL_BEFORE: die();
    case KILL_AMIDST: return HALF_THEN_DIE;
    case FAIL_ONCE: return FAIL;
    case FAIL_FROM: return takes_space ? FAIL : GO;
    default: return may_be_torn ? HALF_THEN_FAIL : FAIL;
    }
}

static uint64_t inode(int fd) { struct stat s; return fstat(fd, &s) ? 0 : s.st_ino; }
static uint64_t inode_of(const char *path) { struct stat s; return lstat(path, &s) ? 0 : s.st_ino; }

static void note(char kind, int more, uint64_t file, uint64_t offset, const void *data, uint64_t size, const char *path)
{
    if (journal < 0 || is_shared_memory(path)) return;
    struct record head = {kind, more, file, offset, size, strlen(path)};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, head.name_size}, {(void *)data, data ? size : 0}};
    if (syscall(SYS_writev, journal, parts, 3L) < 0) die();
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
/* A point that happens as a whole: before it one may die or fail, amidst it is after it. */
#define WHOLE(what, path, takes_space, call, noted) do { \
    enum fate fate = next(what, path, takes_space, 0); \
    if (fate == FAIL) return -1; \
    int done = call; \
    if (done >= 0) { noted; } \
    if (fate == HALF_THEN_DIE) die(); \
    return done; } while (0)
#define PART(fate, size) ((fate) == GO ? (size) : (size) / 2)
#define AFTER(fate) do { if ((fate) == HALF_THEN_DIE) die(); if ((fate) == HALF_THEN_FAIL) { errno = error_number; return -1; } } while (0)

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write); char path[PATH_MAX];
    if (!opened(fd, path)) return real(fd, data, size);
    enum fate fate = next("write", path, 1, 1);
    if (fate == FAIL) return -1;
    off_t at = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = real(fd, data, PART(fate, size));
    if (done > 0) note('w', 0, inode(fd), at, data, done, path);
    AFTER(fate);
    return done;
}

#define PWRITE(name, type) ssize_t name(int fd, const void *data, size_t size, type at) { \
    REAL(name); char path[PATH_MAX]; \
    if (!opened(fd, path)) return real(fd, data, size, at); \
    enum fate fate = next("write", path, 1, 1); \
    if (fate == FAIL) return -1; \
    ssize_t done = real(fd, data, PART(fate, size), at); \
    if (done > 0) note('w', 0, inode(fd), at, data, done, path); \
    AFTER(fate); return done; }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, type) ssize_t name(int fd, const struct iovec *parts, int count, type at) { \
    REAL(name); char path[PATH_MAX]; \
    if (!opened(fd, path)) return real(fd, parts, count, at); \
    ssize_t total = 0; \
    for (int n = 0; n < count; n++) { \
        ssize_t done = pwrite64(fd, parts[n].iov_base, parts[n].iov_len, at + total); \
        if (done < 0) return total ? total : -1; \
        total += done; } \
    return total; }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

/* Copies within the kernel are refused, so that the program copies by write(). */
#define NO_COPY(name, type) ssize_t name(int out, int in, type *at, size_t size) { \
    REAL(name); char path[PATH_MAX]; \
    if (!opened(out, path)) return real(out, in, at, size); \
    errno = EINVAL; return -1; }
ssize_t sendfile(int, int, off_t *, size_t), sendfile64(int, int, off64_t *, size_t);
NO_COPY(sendfile, off_t)
NO_COPY(sendfile64, off64_t)

#define SYNC(name) int name(int fd) { REAL(name); char path[PATH_MAX]; \
    if (!opened(fd, path)) return real(fd); \
    WHOLE(#name, path, 0, real(fd), note('s', 0, inode(fd), 0, 0, 0, path)); }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, type) int name(int fd, type size) { REAL(name); char path[PATH_MAX]; \
    if (!opened(fd, path)) return real(fd, size); \
    WHOLE("ftruncate", path, 0, real(fd, size), note('t', 0, inode(fd), size, 0, 0, path)); }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define REMOVE(name, is_directory) int name(const char *given) { REAL(name); char path[PATH_MAX]; \
    const char *full = resolve(AT_FDCWD, given, path); \
    if (!watched(full)) return real(given); \
    WHOLE(#name, full, 0, real(given), note('u', is_directory, 0, 0, 0, 0, full)); }
REMOVE(unlink, 0)
REMOVE(rmdir, 1)

int unlinkat(int directory, const char *given, int flags)
{
    REAL(unlinkat); char path[PATH_MAX];
    const char *full = resolve(directory, given, path);
    if (!watched(full)) return real(directory, given, flags);
    WHOLE("unlink", full, 0, real(directory, given, flags), note('u', flags & AT_REMOVEDIR, 0, 0, 0, 0, full));
}

int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags)
{
    REAL(renameat2); char old[PATH_MAX], new[PATH_MAX];
    const char *full = resolve(to_directory, to, new), *source = resolve(from_directory, from, old);
    if (!watched(full)) return real(from_directory, from, to_directory, to, flags);
    uint64_t file = inode_of(source), other = flags & RENAME_EXCHANGE ? inode_of(full) : 0;
    WHOLE("rename", full, 1, real(from_directory, from, to_directory, to, flags),
          note('r', flags, file, other, source, strlen(source), full));
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int d, const char *from, int e, const char *to) { return renameat2(d, from, e, to, 0); }

int mkdir(const char *given, mode_t permissions)
{
    REAL(mkdir); char path[PATH_MAX];
    const char *full = resolve(AT_FDCWD, given, path);
    if (!watched(full) || inode_of(full)) return real(given, permissions);
    WHOLE("mkdir", full, 1, real(given, permissions), note('m', 0, inode_of(full), 0, 0, 0, full));
}

/* Opening is a point where it makes a file or cuts one to nothing. SQLite's salts come from /dev/urandom: without chance,
 * two kills that leave the same leave it to the byte. */
static int open_file(int directory, const char *given, int flags, mode_t permissions)
{
    static int (*real)(int, const char *, int, ...);
    if (!real) real = dlsym(RTLD_NEXT, "openat64");
    char path[PATH_MAX];
    if (root_size && (mode == KILL_BEFORE || mode == KILL_AMIDST) && !strcmp(given, "/dev/urandom")) given = "/dev/zero";
    const char *full = resolve(directory, given, path);
    struct stat before;
    if (!(flags & (O_CREAT | O_TRUNC)) || !watched(full)) return real(directory, given, flags, permissions);
    int exists = !stat(full, &before), cuts = exists && flags & O_TRUNC && before.st_size;
    if (exists && !cuts) return real(directory, given, flags, permissions);
    WHOLE("open", full, !exists, real(directory, given, flags, permissions),
          cuts ? note('t', 0, before.st_ino, 0, 0, 0, full) : note('c', 0, inode(done), 0, 0, 0, full));
}
#define OPEN(name, arguments, directory) int name arguments { \
    va_list rest; va_start(rest, flags); \
    mode_t permissions = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
    va_end(rest); \
    return open_file(directory, path, flags, permissions); }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int at, const char *path, int flags, ...), at)
OPEN(openat64, (int at, const char *path, int flags, ...), at)
