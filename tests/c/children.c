/* children.c - what an image costs the processes that share it: children IMAGE CHILDREN CHECKS LIMIT
 *
 * Forks so many children. Each of them opens the image, checks so many clients, waits until all have done so, and looks how
 * much memory it has to itself that it did not have before. Prints the answers of all together, the largest amount in KiB
 * and the shortest time to open in microseconds; fails if the amount is more than LIMIT.
 */
#include <mxgate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct report { unsigned long refused, own, opened; };

/* Private memory of this process, in KiB. */
static unsigned long own(void)
{
    char line[256];
    unsigned long sum = 0, part;
    FILE *smaps = fopen("/proc/self/smaps_rollup", "r");

    if (smaps == NULL)
        return 0;
    while (fgets(line, sizeof line, smaps) != NULL)
        if (sscanf(line, "Private_Clean: %lu", &part) == 1 || sscanf(line, "Private_Dirty: %lu", &part) == 1)
            sum += part;
    fclose(smaps);
    return sum;
}

static unsigned long microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long)now.tv_sec * 1000000 + (unsigned long)now.tv_nsec / 1000;
}

/* Writes a byte when all has been asked, the report when the pipe go ends, and ends with the pipe stop. 0 if all is well. */
static int child(const char *image, unsigned long checks, int done, int go, int out, int stop)
{
    struct report report;
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;
    char message[256], byte = 0;
    unsigned long i, begun, before;
    unsigned seed = 1;
    mxgate_gate *gate;

    memset(&report, 0, sizeof report);
    memset(&facts, 0, sizeof facts);
    facts.address_size = 4;
    before = own();
    begun = microseconds();
    gate = mxgate_new();
    if (gate == NULL || mxgate_open_image(gate, image, message, sizeof message) != 0)
        return 1;
    report.opened = microseconds() - begun;
    for (i = 0; i < checks; i++) {
        int result;
        /* half of the addresses are in the range of the list */
        seed = seed * 1664525u + 1013904223u;
        facts.address[0] = (unsigned char)(seed >> 31 ? 11 : 193);
        facts.address[1] = (unsigned char)(seed >> 23);
        facts.address[2] = (unsigned char)(seed >> 15);
        facts.address[3] = (unsigned char)(seed >> 7);
        result = mxgate_check_connect(gate, &facts, sizeof facts, &verdict);
        if (result < 0 || result != (verdict.code != 0))
            return 2;
        report.refused += (unsigned long)result;
    }
    /* all of them have it open when they look: a page that one process has mapped counts as its own */
    if (write(done, &byte, 1) != 1 || read(go, &byte, 1) != 0)
        return 3;
    report.own = own();
    report.own = report.own > before ? report.own - before : 0;
    return write(out, &report, sizeof report) != sizeof report || read(stop, &byte, 1) != 0 ? 4 : 0;
}

int main(int argc, char **argv)
{
    unsigned long children, i, refused = 0, most = 0, shortest = ~0ul, limit, failed = 0;
    int done[2], go[2], out[2], stop[2];
    struct report report;

    if (argc != 5 || pipe(done) || pipe(go) || pipe(out) || pipe(stop))
        return 2;
    children = strtoul(argv[2], NULL, 10);
    limit = strtoul(argv[4], NULL, 10);
    for (i = 0; i < children; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 2;
        if (pid == 0) {
            close(go[1]); /* those of the parent alone keep the pipes open */
            close(stop[1]);
            close(done[0]);
            close(out[0]);
            _exit(child(argv[1], strtoul(argv[3], NULL, 10), done[1], go[0], out[1], stop[0]));
        }
    }
    close(done[1]);
    close(out[1]);
    for (i = 0; i < children && read(done[0], &report, 1) == 1; i++)
        ;
    close(go[1]);
    for (i = 0; i < children && read(out[0], &report, sizeof report) == sizeof report; i++) {
        refused += report.refused;
        most = report.own > most ? report.own : most;
        shortest = report.opened < shortest ? report.opened : shortest;
    }
    close(stop[1]);
    for (i = 0; i < children; i++) {
        int status;
        if (wait(&status) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
            failed++;
    }
    printf("%lu children, %lu failed, %lu refused\n%lu KiB at most for one of them, %lu us at least to open\n", children, failed, refused,
           most, shortest);
    return failed != 0 || refused == 0 || most > limit;
}
