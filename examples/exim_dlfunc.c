/* exim_dlfunc.c - Exim asks a policy in its ACLs: functions for ${dlfunc...}
 *
 *     cc -shared -fPIC -o mxgate-exim.so exim_dlfunc.c -lmxgate
 *
 *     mxgate_exim_load     {POLICY}
 *     mxgate_exim_connect  {ADDRESS}
 *     mxgate_exim_rcpt     {ADDRESS}{LOGIN}{SENDER}{RECIPIENT}
 *
 * The first yields what is wrong with the policy, in lines, or nothing. The others yield nothing, or an ACL verb and a
 * reply ("deny 550 5.7.1 text"). Arguments that are missing or empty are not known. exim.conf shows how to call them. Exim
 * has to be built with EXPAND_DLFUNC, as exim4-daemon-heavy of Debian is; none of its headers is needed.
 *
 * Mail goes on, whatever is wrong: all of them return OK always. Exim answers 451 if an expansion in an ACL fails, even in
 * a warn statement (FAIL, ERROR); if it is "forced to fail" (FAIL_FORCED), a variable keeps the reply about somebody else.
 */
#include <mxgate.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef unsigned char uschar; /* as in Exim */

enum { OK = 0 }; /* "Success. The string that is placed in the variable yield is put into the expanded string" */

static mxgate_gate *gate; /* the processes that the daemon forks have it from the daemon, if it was loaded there */
static char trouble[4096];

/* Loads the policy, and once a second at most looks whether it has changed. */
int mxgate_exim_load(uschar **yield, int argc, uschar **argv)
{
    static time_t looked;
    char news[sizeof trouble];

    if (gate == NULL) {
        gate = mxgate_new();
        mxgate_load_file(gate, argc > 0 ? (char *)argv[0] : "", trouble, sizeof trouble);
    } else if (looked != time(NULL) && mxgate_refresh(gate, news, sizeof news) != 0) {
        memcpy(trouble, news, sizeof trouble);
    }
    looked = time(NULL);
    *yield = (uschar *)trouble;
    return OK;
}

static const char *argument(int argc, uschar **argv, int number)
{
    return number < argc && argv[number][0] != '\0' ? (char *)argv[number] : NULL;
}

static struct mxgate_facts facts_of(int argc, uschar **argv)
{
    struct mxgate_facts facts = {0}; /* zero: not known */
    const char *address = argument(argc, argv, 0);

    if (address != NULL)
        facts.address_size = (uint32_t)mxgate_address(address, MXGATE_NUL, facts.address);
    if (argument(argc, argv, 1) != NULL)
        facts.flags |= MXGATE_AUTHENTICATED;
    facts.sender = argument(argc, argv, 2);
    facts.sender_length = MXGATE_NUL;
    facts.recipient = argument(argc, argv, 3);
    facts.recipient_length = MXGATE_NUL;
    return facts;
}

/* The verb that can send the reply. A 4xx cannot hang up: only drop does, which makes a 550 of it. */
static int answer(uschar **yield, int objection, const struct mxgate_verdict *verdict, int connecting)
{
    static char line[1100];
    size_t verb = 0;

    line[0] = '\0';
    if (objection) {
        verb = (size_t)sprintf(line, "%s ", verdict->code < 500 ? "defer" : verdict->hangup ? "drop" : "deny");
        mxgate_reply(verdict, connecting ? MXGATE_AT_CONNECT : MXGATE_AT_RCPT, MXGATE_FOR_EXIM, line + verb, sizeof line - verb);
    }
    *yield = (uschar *)line;
    return OK;
}

/* Objects to clients that are to be hung up on. Everything else waits for RCPT, where postmaster is let through, and
 * clients that have authenticated. */
int mxgate_exim_connect(uschar **yield, int argc, uschar **argv)
{
    struct mxgate_facts facts = facts_of(argc, argv);
    struct mxgate_verdict verdict;
    int result = mxgate_check_connect(gate, &facts, sizeof facts, &verdict);

    return answer(yield, result > 0 && verdict.hangup, &verdict, 1);
}

int mxgate_exim_rcpt(uschar **yield, int argc, uschar **argv)
{
    struct mxgate_facts facts = facts_of(argc, argv);
    struct mxgate_verdict verdict;
    int result = mxgate_check_rcpt(gate, &facts, sizeof facts, &verdict);

    return answer(yield, result > 0, &verdict, 0);
}
