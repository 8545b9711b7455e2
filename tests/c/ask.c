/* ask.c - the corpus through the C ABI: ask POLICY < questions > answers
 *
 * A question is a line of nine words: connect or rcpt, the address or -, the flags, the results of SPF, DKIM, DMARC and
 * reverse DNS, and the sender and the recipient in hexadecimal digits (or - for none). An answer is a line of fields with TABs between them.
 */
#include <mxgate.h>
#include <mxgate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t unhex(const char *hex, char *out)
{
    size_t n = 0;
    unsigned byte;
    for (; sscanf(hex, "%2x", &byte) == 1; hex += 2)
        out[n++] = (char)byte;
    return n;
}

int main(int argc, char **argv)
{
    char stage[16], address[64], from[4096], hex[4096], sender[2048], recipient[2048], message[4096];
    unsigned flags, spf, dkim, dmarc, rdns;
    mxgate_gate *gate = mxgate_new();

    if (argc != 2 || mxgate_abi() != MXGATE_ABI || gate == NULL)
        return 2;
    if (mxgate_load_file(gate, argv[1], message, sizeof message) != 0) {
        fprintf(stderr, "%s\n", message);
        return 2;
    }
    while (scanf("%15s %63s %u %u %u %u %u %4095s %4095s", stage, address, &flags, &spf, &dkim, &dmarc, &rdns, from, hex) == 9) {
        struct mxgate_facts facts;
        struct mxgate_verdict verdict;
        char reply[512], greeting[512];
        int result;

        memset(&facts, 0, sizeof facts);
        memset(&verdict, 0xa5, sizeof verdict); /* needs no preparation */
        if (strcmp(address, "-") != 0)
            facts.address_size = (uint32_t)mxgate_address(address, strlen(address), facts.address);
        facts.flags = flags;
        facts.spf = (uint8_t)spf;
        facts.dkim = (uint8_t)dkim;
        facts.dmarc = (uint8_t)dmarc;
        facts.rdns = (uint8_t)rdns;
        if (strcmp(from, "-") != 0) {
            facts.sender_length = strcmp(from, "+") == 0 ? 0 : unhex(from, sender);
            facts.sender = sender;
        }
        if (strcmp(hex, "-") != 0) {
            facts.recipient_length = unhex(hex, recipient);
            facts.recipient = recipient;
        }
        result = (strcmp(stage, "rcpt") == 0 ? mxgate_check_rcpt : mxgate_check_connect)(gate, &facts, sizeof facts, &verdict);
        if (mxgate_reply(&verdict, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, sizeof reply) != strlen(reply))
            return 2;
        if (mxgate_reply(&verdict, MXGATE_AT_CONNECT, MXGATE_FOR_CLIENT, greeting, sizeof greeting) != strlen(greeting))
            return 2;
        printf("%d\t%u\t%u\t%u\t%s\t%s\t%lu\t%lu\t%s\t%s\n", result, verdict.code, verdict.hangup, verdict.decider, verdict.list,
               verdict.entry, (unsigned long)verdict.line, (unsigned long)verdict.generation, reply, greeting);
    }
    mxgate_free(gate);
    mxgate_free(NULL);
    return 0;
}
