/* A disk that keeps only what was synced, for power cuts without a power cut. Preloaded into the server.
 *
 * The server's files are written as ever. Beside them, every write to a file in SYNCED_HOME is put down in a journal of
 * that file in SYNCED_PENDING, and only an fsync or fdatasync of the file carries its journal over into the copy in
 * SYNCED_IMAGE. So at any moment the image is what a disk would hold that had lost all it was not made to keep, and the
 * journals are the writes of which any part may have reached it all the same.
 *
 * A journal is a row of {offset, length} and so many bytes; length -1: the file was cut to `offset`. A file that was
 * removed leaves `<name>.gone` until its directory, or a new file under its name, is synced. The shared-memory index and
 * the lock are not kept: nothing in them has to outlive the process.
 *
 * SYNCED_FAIL is the path of a file that may hold a name. The next sync of the file of that name fails with EIO and, as
 * Linux does it, the pages that could not be written count as clean from then on: they stay readable, a later sync says
 * that all is well, and they never reach the disk. SYNCED_DELAY_US makes every sync take as long.
 *
 * SYNCED_REFUSE is the path of a file that may hold `<errno> <name>`. As long as it is there, every write to the file of
 * that name, the shared-memory index included, fails with that error.
 *
 * What it does not know it refuses with ENOSYS, loudly enough for a test to fail.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define LONGEST 1024

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static const char *home, *image, *pending, *to_fail, *to_refuse;
static useconds_t delay;

__attribute__((constructor)) static void begin(void) {
    home = getenv("SYNCED_HOME");
    image = getenv("SYNCED_IMAGE");
    pending = getenv("SYNCED_PENDING");
    to_fail = getenv("SYNCED_FAIL");
    to_refuse = getenv("SYNCED_REFUSE");
    delay = getenv("SYNCED_DELAY_US") ? (useconds_t)atoi(getenv("SYNCED_DELAY_US")) : 0;
}

static void broken(const char *what, const char *name) {
    dprintf(2, "synced_only: cannot %s %s: %s\n", what, name, strerror(errno));
    abort();
}

static int ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

/* The name of a file that lies in the home, "" for the home itself; NULL for everything else. */
static const char *kept_path(const char *path) {
    size_t n = home ? strlen(home) : 0;
    if (!n || strncmp(path, home, n) != 0) return NULL;
    if (path[n] == '\0') return path + n;
    const char *name = path + n + 1;
    return path[n] != '/' || strchr(name, '/') || ends(name, " (deleted)") || !strcmp(name, "lock") ? NULL : name;
}

static const char *in_home(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = home ? readlink(link, path, LONGEST - 1) : -1;
    if (n < 0) return NULL;
    path[n] = '\0';
    return kept_path(path);
}

static const char *kept(int fd, char *path) {
    const char *name = in_home(fd, path);
    return name && ends(name, "-shm") ? NULL : name;
}

static void join(char *path, const char *directory, const char *name, const char *end) {
    snprintf(path, LONGEST, "%s/%s%s", directory, name, end);
}

/* From here on everything holds the mutex. */

static void note(const char *name, int64_t offset, const void *data, int64_t length) {
    char path[LONGEST];
    int64_t head[2] = {offset, length};
    struct iovec parts[2] = {{head, sizeof head}, {(void *)data, length > 0 ? (size_t)length : 0}};
    join(path, pending, name, "");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || writev(fd, parts, 2) != (ssize_t)(parts[0].iov_len + parts[1].iov_len)) broken("journal", name);
    close(fd);
}

static void forget(const char *name) {
    char path[LONGEST];
    join(path, pending, name, "");
    if (truncate(path, 0) < 0 && errno != ENOENT) broken("forget", name);
}

static void bury(const char *name) {
    char marker[LONGEST], copy[LONGEST];
    join(marker, pending, name, ".gone");
    join(copy, image, name, "");
    if (access(marker, F_OK) == 0) {
        syscall(SYS_unlink, copy);
        syscall(SYS_unlink, marker);
    }
}

static void carry_over(const char *name) {
    char path[LONGEST];
    int64_t head[2];
    bury(name);
    join(path, pending, name, "");
    int from = open(path, O_RDONLY | O_CLOEXEC);
    join(path, image, name, "");
    int to = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (to < 0) broken("keep", name);
    while (from >= 0 && read(from, head, sizeof head) == sizeof head) {
        if (head[1] < 0) {
            if (syscall(SYS_ftruncate, to, head[0]) < 0) broken("cut", name);
            continue;
        }
        char *data = malloc((size_t)head[1] + 1);
        if (!data || read(from, data, (size_t)head[1]) != head[1]) broken("read the journal of", name);
        if (syscall(SYS_pwrite64, to, data, (size_t)head[1], head[0]) != head[1]) broken("keep", name);
        free(data);
    }
    if (from >= 0) close(from);
    close(to);
    forget(name);
}

static void bury_all(void) {
    DIR *directory = opendir(pending);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)) != NULL) {
        if (ends(entry->d_name, ".gone")) {
            entry->d_name[strlen(entry->d_name) - strlen(".gone")] = '\0';
            bury(entry->d_name);
        }
    }
    if (directory) closedir(directory);
}

static int asked(const char *path, char *what) {
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t n = read(fd, what, LONGEST - 1);
    close(fd);
    what[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static int has_to_fail(const char *name) {
    char wanted[LONGEST];
    if (!asked(to_fail, wanted) || strcmp(wanted, name) != 0) return 0;
    syscall(SYS_unlink, to_fail);
    return 1;
}

/* The error a write has to end with, or 0. */
static int is_refused(const char *name) {
    char wanted[LONGEST], *space;
    if (!asked(to_refuse, wanted) || !(space = strchr(wanted, ' '))) return 0;
    return strcmp(space + 1, name) == 0 ? atoi(wanted) : 0;
}

/* What is called instead of the system's. */

static ssize_t put(int fd, const void *data, size_t length, off64_t offset) {
    char path[LONGEST];
    const char *name = in_home(fd, path);
    int refused = name && *name ? is_refused(name) : 0;
    if (refused) {
        errno = refused;
        return -1;
    }
    if (name && ends(name, "-shm")) name = NULL;
    if (name && *name) pthread_mutex_lock(&one_at_a_time);
    if (name && *name && offset < 0) {
        off64_t at = lseek64(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR);
        note(name, at, data, (int64_t)length);
    } else if (name && *name) {
        note(name, offset, data, (int64_t)length);
    }
    ssize_t done = offset < 0 ? syscall(SYS_write, fd, data, length) : syscall(SYS_pwrite64, fd, data, length, offset);
    int why = errno;
    if (name && *name) {
        if (done != (ssize_t)length) broken("go on after a short write to", name);
        pthread_mutex_unlock(&one_at_a_time);
    }
    errno = why;
    return done;
}

static int cut(int fd, off64_t size) {
    char path[LONGEST];
    const char *name = kept(fd, path);
    if (!name || !*name) return (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&one_at_a_time);
    note(name, size, NULL, -1);
    int done = (int)syscall(SYS_ftruncate, fd, size);
    pthread_mutex_unlock(&one_at_a_time);
    return done;
}

static int synced(int fd, long call) {
    char path[LONGEST];
    const char *name = kept(fd, path);
    if (!name) return (int)syscall(call, fd);
    if (delay) usleep(delay);
    pthread_mutex_lock(&one_at_a_time);
    int fails = has_to_fail(name);
    if (fails)
        forget(name);
    else if (*name)
        carry_over(name);
    else
        bury_all();
    pthread_mutex_unlock(&one_at_a_time);
    errno = EIO;
    return fails ? -1 : 0;
}

static int removed(const char *path, long call, int directory, int flags) {
    char whole[LONGEST], marker[LONGEST];
    const char *name = realpath(path, whole) ? kept_path(whole) : NULL;
    if (name && *name) {
        pthread_mutex_lock(&one_at_a_time);
        forget(name);
        join(marker, pending, name, ".gone");
        close(open(marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        pthread_mutex_unlock(&one_at_a_time);
    }
    return (int)(call == SYS_unlink ? syscall(call, path) : syscall(call, directory, path, flags));
}

static int unknown(const char *call) {
    dprintf(2, "synced_only: %s is not known here\n", call);
    errno = ENOSYS;
    return -1;
}

ssize_t write(int fd, const void *data, size_t length) { return put(fd, data, length, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return put(fd, data, length, at); }
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return put(fd, data, length, at); }
int ftruncate(int fd, off_t size) { return cut(fd, size); }
int ftruncate64(int fd, off64_t size) { return cut(fd, size); }
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }
int unlink(const char *path) { return removed(path, SYS_unlink, 0, 0); }

int unlinkat(int directory, const char *path, int flags) {
    if (flags || directory != AT_FDCWD) return (int)syscall(SYS_unlinkat, directory, path, flags);
    return removed(path, SYS_unlinkat, directory, flags);
}

int rename(const char *from, const char *to) {
    char whole[LONGEST];
    if (home && realpath(from, whole) && kept_path(whole)) return unknown("rename");
    return (int)syscall(SYS_rename, from, to);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    char path[LONGEST];
    if (kept(fd, path)) return unknown("pwritev");
    return syscall(SYS_pwritev, fd, parts, count, at, 0);
}
