/* Pauses a process before every change that it makes below the folder PAUSE_ROOT, in whatever
   language, and in the middle of every write, when half of its bytes are written: it writes a line
   to the pipe PAUSE_TELL and waits for a byte from PAUSE_WAIT. Meanwhile no thread changes
   anything, so that what lies on disk is what a kill at that moment leaves.

       cc -shared -fPIC -o pause.so pause.c -ldl     then LD_PRELOAD=pause.so */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t changing = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static int tell = -1, waiting = -1;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static void place_of(int fd, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    out[n < 0 ? 0 : n] = 0;
}

static void pause_before(const char *what, int fd, const char *path) {
    const char *root = getenv("PAUSE_ROOT");
    char whole[2 * PATH_MAX] = "";
    if (!root) return;
    if (path && path[0] == '/') snprintf(whole, sizeof whole, "%s", path);
    else {
        if (fd == AT_FDCWD) { if (!getcwd(whole, PATH_MAX)) return; }
        else place_of(fd, whole);
        if (path) { strncat(whole, "/", 2); strncat(whole, path, PATH_MAX); }
    }
    if (strncmp(whole, root, strlen(root))) return;
    if (tell < 0) {
        static int (*real_open)(const char *, int, ...);
        real_open = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
        tell = real_open(getenv("PAUSE_TELL"), O_WRONLY | O_CLOEXEC);
        waiting = real_open(getenv("PAUSE_WAIT"), O_RDONLY | O_CLOEXEC);
    }
    static ssize_t (*real_write)(int, const void *, size_t);
    real_write = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    char line[3 * PATH_MAX], go;
    int n = snprintf(line, sizeof line, "%s %s\n", what, whole);
    if (real_write(tell, line, n) != n || read(waiting, &go, 1) != 1) _exit(99);
}

#define CHANGE(type, call) \
    pthread_mutex_lock(&changing); call; \
    pthread_mutex_unlock(&changing); return done

#define WRITES(flags) ((flags) & (O_CREAT | O_TRUNC))
#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (!WRITES(flags)) return real(path, flags, mode); \
        CHANGE(int, pause_before("open", AT_FDCWD, path); int done = real(path, flags, mode)); }
OPEN(open) OPEN(open64)
#define OPENAT(name) \
    int name(int fd, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        if (!WRITES(flags)) return real(fd, path, flags, mode); \
        CHANGE(int, pause_before("open", fd, path); int done = real(fd, path, flags, mode)); }
OPENAT(openat) OPENAT(openat64)

#define ON_FD(type, name, parameters, arguments, ...) \
    type name parameters { REAL(type, name, __VA_ARGS__); \
        CHANGE(type, pause_before(#name, fd, NULL); type done = real arguments); }
/* A write is two, of half of the bytes each. */
#define WRITE(name, parameters, first, second, ...) \
    ssize_t name parameters { REAL(ssize_t, name, __VA_ARGS__); \
        pthread_mutex_lock(&changing); pause_before(#name, fd, NULL); \
        size_t half = n / 2; ssize_t done = 0; \
        if (half) { done = real first; if (done == (ssize_t)half) pause_before("half", fd, NULL); } \
        if (done == (ssize_t)half) { ssize_t rest = real second; \
            done = rest < 0 ? (done ? done : rest) : done + rest; } \
        pthread_mutex_unlock(&changing); return done; }
#define REST ((const char *)b + half)
WRITE(write, (int fd, const void *b, size_t n), (fd, b, half), (fd, REST, n - half), int, const void *, size_t)
WRITE(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, half, o), (fd, REST, n - half, o + half), int, const void *, size_t, off_t)
WRITE(pwrite64, (int fd, const void *b, size_t n, off_t o), (fd, b, half, o), (fd, REST, n - half, o + half), int, const void *, size_t, off_t)
ssize_t writev(int fd, const struct iovec *parts, int count) {
    size_t n = 0; ssize_t done;
    for (int k = 0; k < count; k++) n += parts[k].iov_len;
    char *b = malloc(n + 1), *end = b;
    if (!b) _exit(98);
    for (int k = 0; k < count; k++) { memcpy(end, parts[k].iov_base, parts[k].iov_len); end += parts[k].iov_len; }
    done = write(fd, b, n); /* pauses */
    free(b);
    return done;
}
ON_FD(ssize_t, pwritev, (int fd, const struct iovec *b, int n, off_t o), (fd, b, n, o), int, const struct iovec *, int, off_t)
ON_FD(int, fsync, (int fd), (fd), int)
ON_FD(int, fdatasync, (int fd), (fd), int)
ON_FD(int, ftruncate, (int fd, off_t n), (fd, n), int, off_t)
ON_FD(int, ftruncate64, (int fd, off_t n), (fd, n), int, off_t)

#define ON_PATH(name, parameters, arguments, fd, path, ...) \
    int name parameters { REAL(int, name, __VA_ARGS__); \
        CHANGE(int, pause_before(#name, fd, path); int done = real arguments); }
ON_PATH(rename, (const char *a, const char *b), (a, b), AT_FDCWD, a, const char *, const char *)
ON_PATH(renameat, (int f, const char *a, int g, const char *b), (f, a, g, b), f, a, int, const char *, int, const char *)
ON_PATH(renameat2, (int f, const char *a, int g, const char *b, unsigned w), (f, a, g, b, w), f, a, int, const char *, int, const char *, unsigned)
ON_PATH(link, (const char *a, const char *b), (a, b), AT_FDCWD, b, const char *, const char *)
ON_PATH(symlink, (const char *a, const char *b), (a, b), AT_FDCWD, b, const char *, const char *)
ON_PATH(unlink, (const char *a), (a), AT_FDCWD, a, const char *)
ON_PATH(unlinkat, (int f, const char *a, int w), (f, a, w), f, a, int, const char *, int)
ON_PATH(rmdir, (const char *a), (a), AT_FDCWD, a, const char *)
ON_PATH(mkdir, (const char *a, mode_t m), (a, m), AT_FDCWD, a, const char *, mode_t)
ON_PATH(mkdirat, (int f, const char *a, mode_t m), (f, a, m), f, a, int, const char *, mode_t)
ON_PATH(truncate, (const char *a, off_t n), (a, n), AT_FDCWD, a, const char *, off_t)
