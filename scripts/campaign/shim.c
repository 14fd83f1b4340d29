/* Counts the file operations of a process below chosen folders; the n-th of some kinds fails.

Loaded before libc (LD_PRELOAD), so that what Python, Rust, FFmpeg and PyTorch do is counted alike.
It does nothing until a process calls campaign_arm. Counts lie on a page that forked children share
with their parent, who reads them when a child has ended. What stdio reads and writes in a FILE is
not seen, its opening is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE, RENAME, FSYNC, CREATE, OPEN, READ, MMAP, KINDS };
enum { REPLACE = -1, KILL = -9, ROOTS = 4, LONGEST = 4096 };

struct page { long seen[KINDS], chosen, hits; char last[512]; };
static struct page *page;
static char roots[ROOTS][LONGEST];
static int root_count, mask, action, stays;
static long nth;

__attribute__((constructor)) static void begin(void) {
    page = (void *)syscall(SYS_mmap, NULL, sizeof *page, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

struct page *campaign_page(void) { return page; }

/* Folders are separated by colons; an action is an errno, REPLACE or KILL. */
void campaign_arm(const char *folders, int kinds, long number, int what, int all_after) {
    root_count = 0;
    while (*folders && root_count < ROOTS) {
        size_t size = strcspn(folders, ":");
        if (size < LONGEST) {
            memcpy(roots[root_count], folders, size);
            roots[root_count++][size] = 0;
        }
        folders += size + (folders[size] == ':');
    }
    mask = kinds, nth = number, action = what, stays = all_after;
}

static int is_below(const char *path) {
    for (int i = 0; i < root_count; i++) {
        size_t size = strlen(roots[i]);
        if (!strncmp(path, roots[i], size) && (path[size] == '/' || !path[size])) return 1;
    }
    return 0;
}

/* Half of a file takes its place: a new file under its name. */
static void replace(const char *path) {
    struct stat about;
    char other[LONGEST + 8];
    int in = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
    if (in < 0) return;
    snprintf(other, sizeof other, "%s.swap", path);
    int out = syscall(SYS_openat, AT_FDCWD, other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (out >= 0 && !fstat(in, &about) && S_ISREG(about.st_mode)) {
        long left = about.st_size / 2, done;
        while (left > 0 && (done = syscall(SYS_sendfile, out, in, NULL, left)) > 0) left -= done;
        syscall(SYS_renameat2, AT_FDCWD, other, AT_FDCWD, path, 0);
    } else
        unlink(other);
    if (out >= 0) close(out);
    close(in);
}

static int ask(int kind, const char *path, const char *name) {
    if (!is_below(path)) return 0;
    __atomic_add_fetch(&page->seen[kind], 1, __ATOMIC_SEQ_CST);
    if (!(mask >> kind & 1)) return 0;
    long number = __atomic_add_fetch(&page->chosen, 1, __ATOMIC_SEQ_CST);
    if (!nth || number < nth || (number > nth && !stays)) return 0;
    if (number == nth) snprintf(page->last, sizeof page->last, "%s %s", name, path);
    __atomic_add_fetch(&page->hits, 1, __ATOMIC_SEQ_CST);
    if (action == KILL) kill(getpid(), SIGKILL);
    if (action == REPLACE) replace(path);
    return action > 0 ? action : 0;
}

static int ask_path(int kind, int folder, const char *path, const char *name) {
    char whole[LONGEST * 2], from[64];
    long size;
    if (!root_count || !path) return 0;
    if (*path == '/') return ask(kind, path, name);
    snprintf(from, sizeof from, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    size = syscall(SYS_readlinkat, AT_FDCWD, from, whole, LONGEST);
    if (size < 0) return 0;
    snprintf(whole + size, sizeof whole - size, "/%s", path);
    return ask(kind, whole, name);
}

static int ask_handle(int kind, int handle, const char *name) {
    char whole[LONGEST], from[64];
    long size;
    if (!root_count || handle < 0) return 0;
    snprintf(from, sizeof from, "/proc/self/fd/%d", handle);
    size = syscall(SYS_readlinkat, AT_FDCWD, from, whole, LONGEST - 1);
    if (size < 0) return 0;
    whole[size] = 0;
    return ask(kind, whole, name);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define FAIL(wrong, bad) do { int e = (wrong); if (e) { errno = e; return bad; } } while (0)
#define OPENS(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC) ? CREATE : OPEN)
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | __O_TMPFILE)) \
    { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

#define OPEN_AS(name) int name(const char *path, int flags, ...) { MODE(flags) REAL(name); \
    FAIL(ask_path(OPENS(flags), AT_FDCWD, path, "open"), -1); return real(path, flags, mode); }
OPEN_AS(open) OPEN_AS(open64)
#define OPENAT_AS(name) int name(int folder, const char *path, int flags, ...) { MODE(flags) \
    REAL(name); FAIL(ask_path(OPENS(flags), folder, path, "open"), -1); \
    return real(folder, path, flags, mode); }
OPENAT_AS(openat) OPENAT_AS(openat64)
#define FOPEN_AS(name) FILE *name(const char *path, const char *how) { REAL(name); \
    FAIL(ask_path(*how == 'r' && !strchr(how, '+') ? OPEN : CREATE, AT_FDCWD, path, "fopen"), NULL); \
    return real(path, how); }
FOPEN_AS(fopen) FOPEN_AS(fopen64)
#define HANDLE_AS(kind, type, name, words, ...) type name words { REAL(name); \
    FAIL(ask_handle(kind, handle, #name), -1); return real(__VA_ARGS__); }
HANDLE_AS(READ, ssize_t, read, (int handle, void *to, size_t n), handle, to, n)
HANDLE_AS(READ, ssize_t, pread, (int handle, void *to, size_t n, off_t at), handle, to, n, at)
HANDLE_AS(READ, ssize_t, pread64, (int handle, void *to, size_t n, off64_t at), handle, to, n, at)
HANDLE_AS(READ, ssize_t, readv, (int handle, const struct iovec *to, int n), handle, to, n)
HANDLE_AS(READ, ssize_t, preadv, (int handle, const struct iovec *to, int n, off_t at), handle, to, n, at)
HANDLE_AS(READ, ssize_t, preadv64, (int handle, const struct iovec *to, int n, off64_t at), handle, to, n, at)
HANDLE_AS(WRITE, ssize_t, write, (int handle, const void *from, size_t n), handle, from, n)
HANDLE_AS(WRITE, ssize_t, pwrite, (int handle, const void *from, size_t n, off_t at), handle, from, n, at)
HANDLE_AS(WRITE, ssize_t, pwrite64, (int handle, const void *from, size_t n, off64_t at), handle, from, n, at)
HANDLE_AS(WRITE, ssize_t, writev, (int handle, const struct iovec *from, int n), handle, from, n)
HANDLE_AS(WRITE, ssize_t, sendfile, (int handle, int from, off_t *at, size_t n), handle, from, at, n)
HANDLE_AS(WRITE, ssize_t, sendfile64, (int handle, int from, off64_t *at, size_t n), handle, from, at, n)
HANDLE_AS(FSYNC, int, fsync, (int handle), handle)
HANDLE_AS(FSYNC, int, fdatasync, (int handle), handle)

int rename(const char *from, const char *to) {
    REAL(rename);
    FAIL(ask_path(RENAME, AT_FDCWD, to, "rename"), -1);
    return real(from, to);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(renameat);
    FAIL(ask_path(RENAME, to_folder, to, "rename"), -1);
    return real(from_folder, from, to_folder, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    FAIL(ask_path(CREATE, AT_FDCWD, path, "mkdir"), -1);
    return real(path, mode);
}
#define MMAP_AS(name, where_t) void *name(void *near, size_t n, int may, int flags, int handle, \
    where_t at) { REAL(name); if (!(flags & MAP_ANONYMOUS)) \
    FAIL(ask_handle(MMAP, handle, "mmap"), MAP_FAILED); \
    return real(near, n, may, flags, handle, at); }
MMAP_AS(mmap, off_t) MMAP_AS(mmap64, off64_t)
