/* opensmtpd_filter.c - OpenSMTPD asks a policy: a filter, as smtpd-filters(7) describes it (protocol 0.6 and 0.7)
 *
 *     cc -o filter-mxgate opensmtpd_filter.c -lmxgate
 *     filter "mxgate" proc-exec "filter-mxgate /etc/mxgate/mxgate.toml"        # in smtpd.conf, see there
 *
 * smtpd ends when one of its filters ends, so this one does so only when smtpd has closed its input. Whatever else goes
 * wrong, it says "proceed". smtpd logs what it writes to standard error.
 */
#define _POSIX_C_SOURCE 200809L /* getline() */
#include <mxgate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What earlier lines told about a session. */
struct session {
    struct session *next;
    unsigned long long id;
    struct mxgate_facts facts;
    char *sender;
};

static mxgate_gate *gate;
static struct session *sessions[1024]; /* by the last bits of the id */

/* The place of a session; NULL is in it if there is no such session. */
static struct session **find(const char *id_text)
{
    unsigned long long id = strtoull(id_text, NULL, 16);
    struct session **place = &sessions[id % 1024];

    while (*place != NULL && (*place)->id != id)
        place = &(*place)->next;
    return place;
}

/* Ends a field, and returns what comes after it; "" if nothing does. */
static char *after(char *field)
{
    char *end = field + strcspn(field, "|");

    if (*end != '\0')
        *end++ = '\0';
    return end;
}

/* link-connect|ID|rdns|pass, fail or error|address:port|... */
static void begin(const char *id, char *rdns)
{
    char *fcrdns = after(rdns), *source = after(fcrdns), *port;
    struct session **place = find(id), *session = *place;

    after(source);
    if ((port = strrchr(source, ':')) == NULL || (session == NULL && (session = calloc(1, sizeof *session)) == NULL))
        return;
    session->id = strtoull(id, NULL, 16);
    *place = session;
    session->facts.address_size = (uint32_t)mxgate_address(source, (size_t)(port - source), session->facts.address);
    if (strcmp(fcrdns, "pass") == 0)
        session->facts.rdns = MXGATE_RESULT_PASS;
    else if (strcmp(fcrdns, "fail") == 0 && strcmp(rdns, "<unknown>") != 0)
        session->facts.rdns = MXGATE_RESULT_FAIL; /* a client without a name has none that could be wrong */
}

static void end(const char *id)
{
    struct session **place = find(id), *session = *place;

    if (session != NULL) {
        *place = session->next;
        free(session->sender);
        free(session);
    }
}

/* link-auth|ID|user|result, and since protocol 0.7 link-auth|ID|result|user; the last field may contain "|". */
static void login(const char *version, const char *id, const char *fields)
{
    struct session *session = *find(id);
    const char *minor = strchr(version, '.'), *last = strrchr(fields, '|');
    int result_is_last = strncmp(version, "0.", 2) == 0 && atoi(minor + 1) < 7;
    int passed = result_is_last ? last != NULL && strcmp(last, "|pass") == 0 : strncmp(fields, "pass|", 5) == 0;

    if (session != NULL && passed)
        session->facts.flags |= MXGATE_AUTHENTICATED;
}

static void answer(const char *id, const char *token, int objection, const struct mxgate_verdict *verdict, int connecting)
{
    char decision[1100] = "proceed";

    if (objection)
        mxgate_reply(verdict, connecting ? MXGATE_AT_CONNECT : MXGATE_AT_RCPT, MXGATE_FOR_OPENSMTPD, decision, sizeof decision);
    printf("filter-result|%s|%s|%s\n", id, token, decision);
}

static void decide(const char *phase, const char *id, char *token)
{
    struct session *session = *find(id);
    struct mxgate_verdict verdict = {0};
    char *argument = after(token);
    int connecting = strcmp(phase, "connect") == 0, objection = 0;

    if (session == NULL || session->facts.address_size == 0) {
        objection = 0; /* "unix:/path": a program of this host */
    } else if (connecting) {
        /* Only clients that are to be hung up on. Everything else waits for RCPT, where postmaster is let through, and
         * clients that have authenticated. */
        objection = mxgate_check_connect(gate, &session->facts, sizeof session->facts, &verdict) > 0 && verdict.hangup;
    } else if (strcmp(phase, "mail-from") == 0) {
        free(session->sender);
        session->sender = strdup(argument);
        session->facts.sender = session->sender;
        session->facts.sender_length = MXGATE_NUL;
    } else if (strcmp(phase, "rcpt-to") == 0) {
        session->facts.recipient = argument;
        session->facts.recipient_length = MXGATE_NUL;
        objection = mxgate_check_rcpt(gate, &session->facts, sizeof session->facts, &verdict) > 0;
        session->facts.recipient = NULL;
    }
    answer(id, token, objection, &verdict, connecting);
}

/* report|version|time|smtp-in|event|ID|fields or filter|version|time|smtp-in|phase|ID|token|argument */
static void handle(char *line)
{
    char *version = after(line), *event = after(after(after(version))), *id = after(event), *fields = after(id);

    if (strcmp(line, "config") == 0 && strcmp(version, "ready") == 0)
        printf("register|report|smtp-in|link-connect\n"
               "register|report|smtp-in|link-auth\n"
               "register|report|smtp-in|link-disconnect\n"
               "register|filter|smtp-in|connect\n"
               "register|filter|smtp-in|mail-from\n"
               "register|filter|smtp-in|rcpt-to\n"
               "register|ready\n");
    else if (strcmp(line, "filter") == 0)
        decide(event, id, fields);
    else if (strcmp(event, "link-connect") == 0)
        begin(id, fields);
    else if (strcmp(event, "link-auth") == 0)
        login(version, id, fields);
    else if (strcmp(event, "link-disconnect") == 0)
        end(id);
}

int main(int argc, char **argv)
{
    char message[4096] = "", *line = NULL;
    size_t size = 0;

    gate = mxgate_new();
    mxgate_load_file(gate, argc > 1 ? argv[1] : "", message, sizeof message);
    if (message[0] != '\0')
        fprintf(stderr, "%s\n", message);
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (getline(&line, &size, stdin) != -1) {
        line[strcspn(line, "\n")] = '\0';
        handle(line);
    }
    return 0;
}
