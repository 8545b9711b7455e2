/* check.c - asks a policy about a client: check POLICY ADDRESS [RECIPIENT]
 *
 *     cc -o check check.c -lmxgate
 *
 * Prints the reply and who decided. Exit status: 0 accept, 1 reject, 2 error.
 */
#include <mxgate.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct mxgate_facts facts = {0}; /* zero: not known */
    struct mxgate_verdict verdict;
    char message[4096], reply[512];
    mxgate_gate *gate;
    int result;

    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: check POLICY ADDRESS [RECIPIENT]\n");
        return 2;
    }
    facts.address_size = (uint32_t)mxgate_address(argv[2], MXGATE_NUL, facts.address);
    if (facts.address_size == 0) {
        fprintf(stderr, "%s is not an IP address\n", argv[2]);
        return 2;
    }

    gate = mxgate_new();
    result = mxgate_load_file(gate, argv[1], message, sizeof message);
    if (message[0] != '\0')
        fprintf(stderr, "%s\n", message);
    if (result == MXGATE_ACCEPT && argc == 4) {
        facts.recipient = argv[3];
        facts.recipient_length = MXGATE_NUL;
        result = mxgate_check_rcpt(gate, &facts, sizeof facts, &verdict);
    } else if (result == MXGATE_ACCEPT) {
        result = mxgate_check_connect(gate, &facts, sizeof facts, &verdict);
    }
    mxgate_free(gate); /* the verdict stays good */

    if (result < 0) {
        fprintf(stderr, "check: %s\n", mxgate_strerror(result));
        return 2;
    }
    if (result == MXGATE_REJECT) {
        mxgate_reply(&verdict, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, sizeof reply);
        printf("%s\n", reply);
    } else {
        printf("accept\n");
    }
    if (verdict.list[0] != '\0')
        printf("%s, entry %s, line %lu: %s\n", verdict.list, verdict.entry, (unsigned long)verdict.line, verdict.reason);
    return result == MXGATE_REJECT ? 1 : 0;
}
