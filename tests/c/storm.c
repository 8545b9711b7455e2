/* storm.c - threads that check while others load, ban and change the mode: storm THREADS CHECKS RELOADS
 *
 * Two policies take turns: the loads with odd numbers refuse 192.0.2.0/24 as "odd" with 550, the others as "even" with 421.
 * An answer is right if list, code and number of the load belong together, and no thread sees an older load after a newer
 * one. A million entries more make a load long enough to be met. Prints the number of checks; ends with 0 if all were right.
 */
#include <mxgate.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static mxgate_gate *gate;
static unsigned long checks_each;
static volatile int wrong;

static const char *const POLICIES[2] = {
    "hostname = \"mx.example.org\"\n[[list]]\nname = \"even\"\nreply = \"421 4.7.1 even\"\nentries = [\"192.0.2.0/24\"]\n",
    "hostname = \"mx.example.org\"\n[[list]]\nname = \"odd\"\nreply = \"550 5.7.1 odd\"\nentries = [\"192.0.2.0/24\"]\n"};

static void *check(void *unused)
{
    static const unsigned char listed[4] = {192, 0, 2, 7}, clean[4] = {198, 51, 100, 7};
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;
    uint64_t last = 0;
    unsigned long i;

    memset(&facts, 0, sizeof facts);
    facts.address_size = 4;
    facts.recipient = "<user@example.org>";
    facts.recipient_length = MXGATE_NUL;
    for (i = 0; i < checks_each && !wrong; i++) {
        int odd, good, result;
        memcpy(facts.address, i % 2 ? listed : clean, 4);
        result = (i % 4 < 2 ? mxgate_check_connect : mxgate_check_rcpt)(gate, &facts, sizeof facts, &verdict);
        odd = (int)(verdict.generation % 2);
        if (i % 2)
            good = result == MXGATE_REJECT && verdict.code == (odd ? 550 : 421) && strcmp(verdict.list, odd ? "odd" : "even") == 0 &&
                   strcmp(verdict.text, odd ? "odd" : "even") == 0;
        else
            good = result == MXGATE_ACCEPT && verdict.code == 0;
        if (!good || verdict.generation < last)
            wrong = 1;
        last = verdict.generation;
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t threads[64];
    struct mxgate_counters counters;
    unsigned long n, reloads, i;

    if (argc != 4 || (n = strtoul(argv[1], NULL, 10)) > 64)
        return 2;
    checks_each = strtoul(argv[2], NULL, 10);
    reloads = strtoul(argv[3], NULL, 10);
    gate = mxgate_new();
    if (gate == NULL || mxgate_load_text(gate, POLICIES[1], MXGATE_NUL, NULL, 0) != 0)
        return 2;
    for (i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, check, NULL) != 0)
            return 2;
    for (i = 0; i < reloads && !wrong; i++) {
        /* What changes besides must not get into the answers: a ban of somebody else, and the mode that is in force. */
        if (mxgate_load_text(gate, POLICIES[i % 2], MXGATE_NUL, NULL, 0) != 0 ||
            mxgate_ban(gate, "203.0.113.0/24", MXGATE_NUL, 60, NULL, 0, NULL, 0) != 0 || mxgate_set_mode(gate, MXGATE_MODE_OPEN) != 0 ||
            mxgate_unban(gate, "203.0.113.0/24", MXGATE_NUL, NULL, 0) != 1)
            wrong = 1;
    }
    for (i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    if (mxgate_count(gate, &counters, sizeof counters) != 0 || counters.generation != reloads + 1 ||
        (!wrong && counters.checks != n * checks_each) || counters.rejected + counters.deferred != counters.checks / 2)
        wrong = 1;
    printf("%lu checks, %lu loads\n", (unsigned long)counters.checks, (unsigned long)counters.generation);
    mxgate_free(gate);
    return wrong;
}
