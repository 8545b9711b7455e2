/* forks.c - fork() while other threads load, ban, change the mode and check: forks CHILDREN
 *
 * Each child does all of that too, and must neither hang nor crash. Prints how many did.
 */
#include <mxgate.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static mxgate_gate *gate;
static volatile int over;

static const char POLICY[] = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24\", \"2001:db8::/32\"]\n";

static int check(unsigned char last)
{
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;

    memset(&facts, 0, sizeof facts);
    facts.address_size = 4;
    facts.address[0] = 192;
    facts.address[2] = 2;
    facts.address[3] = last;
    return mxgate_check_connect(gate, &facts, sizeof facts, &verdict);
}

static void *load(void *unused)
{
    while (!over)
        mxgate_load_text(gate, POLICY, MXGATE_NUL, NULL, 0);
    return unused;
}

static void *ban(void *unused)
{
    char network[32];
    unsigned i;
    for (i = 0; !over; i++) {
        snprintf(network, sizeof network, "203.0.113.%u", i % 256);
        mxgate_ban(gate, network, MXGATE_NUL, 60, "a reason", MXGATE_NUL, NULL, 0);
        mxgate_set_mode(gate, MXGATE_MODE_OF_POLICY);
        mxgate_unban(gate, network, MXGATE_NUL, NULL, 0);
    }
    return unused;
}

static void *ask(void *unused)
{
    unsigned char i = 0;
    while (!over)
        check(i++);
    return unused;
}

static void *another(void *result)
{
    *(int *)result = mxgate_load_text(gate, POLICY, MXGATE_NUL, NULL, 0);
    return NULL;
}

/* 0 if all is well. */
static int child(void)
{
    char status[512];
    pthread_t thread;
    int result = 1;

    alarm(20); /* who hangs dies of it */
    if (check(1) != MXGATE_REJECT)
        return 1;
    if (mxgate_load_text(gate, POLICY, MXGATE_NUL, NULL, 0) != 0)
        return 2;
    if (mxgate_ban(gate, "198.51.100.0/24", MXGATE_NUL, 60, NULL, 0, NULL, 0) != 0 || mxgate_set_mode(gate, MXGATE_MODE_MAINTENANCE) != 0)
        return 3;
    if (check(1) != MXGATE_REJECT || mxgate_status(gate, MXGATE_TEXT, status, sizeof status) == 0)
        return 4;
    /* and with a thread of its own */
    if (pthread_create(&thread, NULL, another, &result) != 0)
        return 5;
    if (mxgate_set_mode(gate, MXGATE_MODE_OF_POLICY) != 0 || pthread_join(thread, NULL) != 0 || result != 0 || check(2) != MXGATE_REJECT)
        return 6;
    mxgate_free(gate);
    return 0;
}

int main(int argc, char **argv)
{
    pthread_t threads[4];
    unsigned long children, i, hung = 0, crashed = 0, failed = 0;

    if (argc != 2)
        return 2;
    children = strtoul(argv[1], NULL, 10);
    gate = mxgate_new();
    if (gate == NULL || mxgate_load_text(gate, POLICY, MXGATE_NUL, NULL, 0) != 0)
        return 2;
    if (pthread_create(&threads[0], NULL, load, NULL) || pthread_create(&threads[1], NULL, load, NULL) ||
        pthread_create(&threads[2], NULL, ban, NULL) || pthread_create(&threads[3], NULL, ask, NULL))
        return 2;
    for (i = 0; i < children; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(child());
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 2;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
            hung++;
        else if (WIFSIGNALED(status))
            crashed++;
        else if (WEXITSTATUS(status) != 0)
            failed = (unsigned long)WEXITSTATUS(status);
    }
    over = 1;
    for (i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    mxgate_free(gate);
    printf("%lu children: %lu hung, %lu crashed, %lu failed\n", children, hung, crashed, failed);
    return hung || crashed || failed;
}
