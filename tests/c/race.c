/* race.c - two threads whose checks write to one verdict: what a sanitizer has to notice inside the library. */
#include <mxgate.h>
#include <pthread.h>
#include <string.h>

static mxgate_gate *gate;
static struct mxgate_verdict verdict;

static void *check(void *unused)
{
    struct mxgate_facts facts;
    int i;
    memset(&facts, 0, sizeof facts);
    for (i = 0; i < 10000; i++)
        mxgate_check_connect(gate, &facts, sizeof facts, &verdict);
    return unused;
}

int main(void)
{
    pthread_t one, two;
    gate = mxgate_new();
    pthread_create(&one, NULL, check, NULL);
    pthread_create(&two, NULL, check, NULL);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    return 0;
}
