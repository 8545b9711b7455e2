/* unload.c - dlopen() and dlclose() with live threads: unload LIBRARY TIMES
 *
 * A thread that has called into the library is alive when the library is closed, and ends after it, or before; with a
 * gate that was freed, and with one that was not. Ends with 0 if nothing crashed.
 */
#include <dlfcn.h>
#include <mxgate.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct calls {
    mxgate_gate *(*create)(void);
    void (*destroy)(mxgate_gate *);
    int (*load)(mxgate_gate *, const char *, size_t, char *, size_t);
    int (*check)(const mxgate_gate *, const struct mxgate_facts *, size_t, struct mxgate_verdict *);
    pthread_barrier_t called, closed;
    mxgate_gate *gate;
    int result;
};

/* ISO C has no conversion from an object pointer to a function pointer. */
static void find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
}

static void *use(void *argument)
{
    struct calls *calls = argument;
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;

    memset(&facts, 0, sizeof facts);
    facts.address_size = 4;
    facts.address[0] = 192;
    facts.address[2] = 2;
    /* a mistake, so that messages are made in this thread */
    calls->result = calls->load(calls->gate, "x = 1", MXGATE_NUL, NULL, 0) == MXGATE_ESYNTAX &&
                    calls->load(calls->gate, "hostname = \"a\"\n[[list]]\nname = \"l\"\nentries = [\"192.0.2.0/24\"]\n", MXGATE_NUL, NULL, 0) == 0 &&
                    calls->check(calls->gate, &facts, sizeof facts, &verdict) == MXGATE_REJECT;
    pthread_barrier_wait(&calls->called);
    pthread_barrier_wait(&calls->closed);
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned long times, i;
    if (argc != 3)
        return 2;
    times = strtoul(argv[2], NULL, 10);
    for (i = 0; i < times; i++) {
        int freed = i % 2 == 0, after = i / 2 % 2 == 0;
        struct calls calls;
        pthread_t thread;
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);

        if (library == NULL)
            return 2;
        find(library, "mxgate_new", &calls.create);
        find(library, "mxgate_free", &calls.destroy);
        find(library, "mxgate_load_text", &calls.load);
        find(library, "mxgate_check_connect", &calls.check);
        calls.gate = calls.create();
        pthread_barrier_init(&calls.called, NULL, 2);
        pthread_barrier_init(&calls.closed, NULL, 2);
        if (calls.gate == NULL || pthread_create(&thread, NULL, use, &calls) != 0)
            return 2;
        pthread_barrier_wait(&calls.called);
        if (freed)
            calls.destroy(calls.gate);
        if (after)
            dlclose(library);
        pthread_barrier_wait(&calls.closed);
        pthread_join(thread, NULL);
        if (!after)
            dlclose(library);
        if (!calls.result)
            return 1;
    }
    printf("%lu times\n", times);
    return 0;
}
