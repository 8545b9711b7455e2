/* memory.c - loads, bans and the rest while memory fails: memory POLICY COUNT
 *
 * Fails the first allocation of a load, then the second, and so on, COUNT of them or until a load has no more: once that
 * one alone, once all from that one on. After each the old rules must be in force, or the new ones if the load said so.
 * The library finds this malloc() before that of the C library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <mxgate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

/* Number of the allocation that fails, counted down; 0 is the one. All after it too, if they are to. */
static long countdown = -1;
static int armed, from_then_on;
static unsigned long failures;

static int fails(void)
{
    if (!armed)
        return 0;
    if (countdown-- > 0)
        return 0;
    if (countdown < -1 && !from_then_on)
        return 0;
    failures++;
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return fails() ? NULL : __libc_malloc(size); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : __libc_calloc(n, size); }
void *realloc(void *p, size_t size) { return fails() ? NULL : __libc_realloc(p, size); }
void *aligned_alloc(size_t alignment, size_t size) { return fails() ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void **p, size_t alignment, size_t size)
{
    if (fails())
        return ENOMEM;
    *p = __libc_memalign(alignment, size);
    return *p == NULL ? ENOMEM : 0;
}

static void arm(long n, int rest)
{
    countdown = n;
    from_then_on = rest;
    failures = 0;
    armed = 1;
}

static int disarm(void)
{
    armed = 0;
    return failures > 0;
}

static int check(const mxgate_gate *gate, uint64_t *generation)
{
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;
    int result;

    memset(&facts, 0, sizeof facts);
    facts.address_size = 4;
    facts.address[0] = 192;
    facts.address[2] = 2;
    facts.address[3] = 7;
    facts.recipient = "<user@parked.example>";
    facts.recipient_length = MXGATE_NUL;
    result = mxgate_check_rcpt(gate, &facts, sizeof facts, &verdict);
    *generation = verdict.generation;
    return result;
}

int main(int argc, char **argv)
{
    static char message[4096], status[4096];
    unsigned long n, count, failed_loads = 0;
    uint64_t generation;
    mxgate_gate *gate;
    int rest, more;

    if (argc != 3)
        return 2;
    count = strtoul(argv[2], NULL, 10);
    /* no gate, or a whole one */
    for (n = 0, more = 1; more && n < count; n++)
        for (rest = 0; rest < 2; rest++) {
            arm((long)n, rest);
            gate = mxgate_new();
            more = disarm();
            if (gate != NULL && more)
                return 3;
            mxgate_free(gate);
        }
    gate = mxgate_new();
    if (gate == NULL || mxgate_load_file(gate, argv[1], message, sizeof message) != 0 || check(gate, &generation) != MXGATE_REJECT || generation != 1)
        return 2;
    for (n = 0, more = 1; more && n < count; n++)
        for (rest = 0; rest < 2; rest++) {
            uint64_t before = generation;
            int result;
            arm((long)n, rest);
            result = mxgate_load_file(gate, argv[1], message, sizeof message);
            more = disarm();
            if (result != 0 && result != MXGATE_ELIMIT && result != MXGATE_EIO) {
                printf("allocation %lu: %d, %s\n", n, result, message);
                return 4;
            }
            if (result != 0 && message[0] == 0)
                return 5;
            if (check(gate, &generation) != MXGATE_REJECT || generation != before + (result == 0)) {
                printf("allocation %lu: other rules are in force\n", n);
                return 6;
            }
            failed_loads += result != 0;
        }
    printf("%lu allocations of a load, %lu loads failed\n", n, failed_loads);
    for (n = 0, more = 1; more && n < count; n++)
        for (rest = 0; rest < 2; rest++) {
            int result;
            arm((long)n, rest);
            result = mxgate_ban(gate, "198.51.100.0/24", MXGATE_NUL, 0, "a reason", MXGATE_NUL, message, sizeof message);
            more = disarm();
            if (result != 0 && result != MXGATE_ELIMIT)
                return 7;
            arm((long)n, rest);
            mxgate_status(gate, MXGATE_JSON, status, sizeof status);
            more |= disarm();
            arm((long)n, rest);
            mxgate_set_mode(gate, MXGATE_MODE_OF_POLICY);
            more |= disarm();
            arm((long)n, rest);
            mxgate_unban(gate, "198.51.100.0/24", MXGATE_NUL, NULL, 0);
            more |= disarm();
        }
    /* and with memory again all is well */
    if (mxgate_load_file(gate, argv[1], message, sizeof message) != 0 || check(gate, &generation) != MXGATE_REJECT)
        return 8;
    mxgate_free(gate);
    return 0;
}
