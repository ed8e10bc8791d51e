/* Makes system calls on the files of one folder fail, for tests: LD_PRELOAD it, and call `fault` to say which.
 *
 * The nth call of one kind on a path with a given text in it fails with an errno, and perhaps all that change the
 * folder after it. A write may also write half of what it is given, or the folder be moved away. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, WRITE, FSYNC, CLOSE, RENAME, MKDIR, LINK, UNLINK };

static char place[PATH_MAX], name[PATH_MAX];
static int kind, number, left, is_lasting, is_short, is_deletion, has_begun;

void fault(const char *of, const char *with, int which, int nth, int error, int lasting, int half, int deletion) {
    strncpy(place, of, PATH_MAX - 1);
    strncpy(name, with, PATH_MAX - 1);
    kind = which, left = nth, number = error, is_lasting = lasting, is_short = half, is_deletion = deletion;
    has_begun = 0;
}

#define REAL(function) ((__typeof__(function) *)dlsym(RTLD_NEXT, #function))

/* Is it that call, or one after it that fails too? What is short says so by -1. */
static int fails(int which, const char *path) {
    if (!place[0] || !path || strncmp(path, place, strlen(place)) != 0) return 0;
    if (has_begun) {
        int is_deletable = which == UNLINK && number != EROFS && number != EACCES;
        return is_lasting && which != CLOSE && !is_deletable;
    }
    if (which != kind || !strstr(path + strlen(place), name) || --left > 0) return 0;
    has_begun = 1;
    if (is_deletion) {
        char gone[PATH_MAX + 8];
        snprintf(gone, sizeof gone, "%s-gone", place);
        REAL(rename)(place, gone);
        return 0;
    }
    return is_short ? -1 : 1;
}

static const char *path_of(int descriptor) {
    static __thread char path[PATH_MAX];
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return path;
}

static const char *absolute(int folder, const char *path) {
    static __thread char whole[2 * PATH_MAX];
    const char *base;
    if (!path || path[0] == '/') return path;
    char here[PATH_MAX];
    base = folder == AT_FDCWD ? getcwd(here, PATH_MAX) : path_of(folder);
    if (!base) return path;
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    return whole;
}

#define FAIL(which, path)               \
    if (place[0] && fails(which, path)) { \
        errno = number;                 \
        return -1;                      \
    }

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & O_CREAT; }

#define OPENING(function)                                                     \
    int function(const char *path, int flags, ...) {                          \
        va_list more;                                                         \
        va_start(more, flags);                                                \
        mode_t mode = va_arg(more, mode_t);                                   \
        va_end(more);                                                         \
        if (writes(flags)) FAIL(OPEN, absolute(AT_FDCWD, path));              \
        return REAL(function)(path, flags, mode);                             \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(function)                                                  \
    int function(int folder, const char *path, int flags, ...) {              \
        va_list more;                                                         \
        va_start(more, flags);                                                \
        mode_t mode = va_arg(more, mode_t);                                   \
        va_end(more);                                                         \
        if (writes(flags)) FAIL(OPEN, absolute(folder, path));                \
        return REAL(function)(folder, path, flags, mode);                     \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

#define OPENING_STREAM(function)                                              \
    FILE *function(const char *path, const char *mode) {                      \
        if (mode[0] != 'r' && place[0] && fails(OPEN, absolute(AT_FDCWD, path))) { \
            errno = number;                                                   \
            return NULL;                                                      \
        }                                                                     \
        return REAL(function)(path, mode);                                    \
    }
OPENING_STREAM(fopen)
OPENING_STREAM(fopen64)

#define WRITING(function, descriptor, count, parameters, arguments, halved)   \
    ssize_t function parameters {                                             \
        int failing = place[0] ? fails(WRITE, path_of(descriptor)) : 0;       \
        if (failing < 0 && count > 1) return REAL(function) halved;           \
        if (failing) {                                                        \
            errno = number;                                                   \
            return -1;                                                        \
        }                                                                     \
        return REAL(function) arguments;                                      \
    }
WRITING(write, file, size, (int file, const void *from, size_t size), (file, from, size), (file, from, size / 2))
WRITING(pwrite, file, size, (int file, const void *from, size_t size, off_t at), (file, from, size, at),
        (file, from, size / 2, at))
WRITING(pwrite64, file, size, (int file, const void *from, size_t size, off64_t at), (file, from, size, at),
        (file, from, size / 2, at))
WRITING(writev, file, parts, (int file, const struct iovec *from, int parts), (file, from, parts),
        (file, from, parts / 2))

size_t fwrite(const void *from, size_t size, size_t count, FILE *file) {
    if (place[0] && fails(WRITE, path_of(fileno(file)))) {
        errno = number;
        return 0;
    }
    return REAL(fwrite)(from, size, count, file);
}

int fsync(int file) {
    FAIL(FSYNC, path_of(file));
    return REAL(fsync)(file);
}

int close(int file) {
    int is_failing = place[0] && writes(fcntl(file, F_GETFL)) && fails(CLOSE, path_of(file));
    int result = REAL(close)(file);
    if (!is_failing) return result;
    errno = number;
    return -1;
}

int rename(const char *from, const char *to) {
    FAIL(RENAME, absolute(AT_FDCWD, to));
    return REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    FAIL(RENAME, absolute(to_folder, to));
    return REAL(renameat)(from_folder, from, to_folder, to);
}

int mkdir(const char *path, mode_t mode) {
    FAIL(MKDIR, absolute(AT_FDCWD, path));
    return REAL(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    FAIL(MKDIR, absolute(folder, path));
    return REAL(mkdirat)(folder, path, mode);
}

int link(const char *from, const char *to) {
    FAIL(LINK, absolute(AT_FDCWD, to));
    return REAL(link)(from, to);
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    FAIL(LINK, absolute(to_folder, to));
    return REAL(linkat)(from_folder, from, to_folder, to, flags);
}

int unlink(const char *path) {
    FAIL(UNLINK, absolute(AT_FDCWD, path));
    return REAL(unlink)(path);
}

int unlinkat(int folder, const char *path, int flags) {
    FAIL(UNLINK, absolute(folder, path));
    return REAL(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) {
    FAIL(UNLINK, absolute(AT_FDCWD, path));
    return REAL(rmdir)(path);
}
