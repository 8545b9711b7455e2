/* milter.c - a policy inside a libmilter program: milter SOCKET POLICY
 *
 *     cc -o milter milter.c -lmilter -lmxgate -pthread
 *     ./milter inet:8899@127.0.0.1 /etc/mxgate/mxgate.toml
 *
 *     smtpd_milters = inet:127.0.0.1:8899      # main.cf of Postfix; not in non_smtpd_milters
 *     milter_default_action = accept
 *
 * For those who have a milter of their own; others run "mxgate serve". The client is remembered at CONNECT and refused
 * at RCPT: there code and text reach it as they are (at CONNECT libmilter takes no reply of ours), postmaster stays
 * reachable, and it is known who has authenticated.
 *
 * The policy is loaded again when it, or a list that it names, has changed; with a mistake in it the rules in force stay.
 * Whatever else goes wrong means: accept. Two things libmilter does by itself: it ends at SIGHUP, as at SIGTERM; and it
 * hangs up where Postfix writes "unknown" for the address of a client, which is a case for milter_default_action.
 */
#define _POSIX_C_SOURCE 200809L
#include <libmilter/mfapi.h>
#include <mxgate.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What is known of a connection. */
struct session {
    struct mxgate_facts client;
    char *helo, *sender; /* NULL: not known */
};

static mxgate_gate *gate; /* threads share it */
static const char *policy;

static sfsistat on_connect(SMFICTX *ctx, char *host, struct sockaddr *address)
{
    struct session *session = calloc(1, sizeof *session); /* zero: not known */

    if (session == NULL)
        return SMFIS_ACCEPT;
    if (address != NULL && address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        session->client.address_size = 4;
        memcpy(session->client.address, &v4.sin_addr, 4);
        /* No client but a user of this host, by sendmail(1): Postfix would try a refused message again for ever. */
        if (v4.sin_port == 0 && strcmp(host, "localhost") == 0) {
            free(session);
            return SMFIS_ACCEPT;
        }
    } else if (address != NULL && address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        session->client.address_size = 16;
        memcpy(session->client.address, &v6.sin6_addr, 16);
    }
    smfi_setpriv(ctx, session);
    return SMFIS_CONTINUE;
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
    struct session *session = smfi_getpriv(ctx);

    if (session != NULL) {
        free(session->helo);
        session->helo = strdup(name);
    }
    return SMFIS_CONTINUE;
}

static sfsistat on_mail(SMFICTX *ctx, char **arguments)
{
    struct session *session = smfi_getpriv(ctx);

    if (session != NULL) {
        free(session->sender);
        session->sender = strdup(arguments[0]);
    }
    return SMFIS_CONTINUE;
}

/* The recipient as the mail server will deliver to it: it knows where <user%other.example@example.org> goes. What it
 * need not resolve is better as the client wrote it: Postfix gives a domain to <postmaster>, and changes those in UTF-8. */
static const char *recipient_of(SMFICTX *ctx, const char *argument)
{
    const char *mailer = smfi_getsymval(ctx, "{rcpt_mailer}"), *resolved = smfi_getsymval(ctx, "{rcpt_addr}");
    const char *at = strchr(argument, '@'), *byte = argument;

    while (*byte != '\0' && (unsigned char)*byte < 0x80)
        byte++;
    if ((at == NULL || *byte != '\0') && at == strrchr(argument, '@') && strpbrk(argument, "%!") == NULL)
        return argument;
    /* With the mailer "error" the address is the text of an error. */
    if (mailer == NULL || *mailer == '\0' || strcmp(mailer, "error") == 0 || resolved == NULL || strchr(resolved, '@') == NULL)
        return argument;
    return resolved;
}

static sfsistat on_rcpt(SMFICTX *ctx, char **arguments)
{
    const struct session *session = smfi_getpriv(ctx);
    const char *login = smfi_getsymval(ctx, "{auth_authen}");
    struct mxgate_facts facts;
    struct mxgate_verdict verdict;
    char line[1024], *status, *text;

    if (session == NULL)
        return SMFIS_CONTINUE;
    facts = session->client;
    if (login != NULL && *login != '\0')
        facts.flags |= MXGATE_AUTHENTICATED;
    facts.helo = session->helo;
    facts.helo_length = MXGATE_NUL;
    facts.sender = session->sender;
    facts.sender_length = MXGATE_NUL;
    facts.recipient = recipient_of(ctx, arguments[0]);
    facts.recipient_length = MXGATE_NUL;
    if (mxgate_check_rcpt(gate, &facts, sizeof facts, &verdict) <= 0)
        return SMFIS_CONTINUE; /* no objection, or an error; ACCEPT would let in every recipient after this one, too */

    /* Nothing that a stranger wrote gets into the log as it is: all strings of a verdict are printable ASCII. */
    fprintf(stderr, "refused: %u %s %s; list %s, entry %s\n", verdict.code, verdict.status, verdict.text, verdict.list, verdict.entry);
    if (mxgate_reply(&verdict, MXGATE_AT_RCPT, MXGATE_FOR_MILTER, line, sizeof line) == 0)
        return SMFIS_CONTINUE;
    /* libmilter takes "550 5.7.1 text" in three parts. */
    status = line + 4;
    text = strchr(status, ' ');
    line[3] = '\0';
    *text++ = '\0';
    smfi_setreply(ctx, line, status, text);
    /* The action has to be of the same class, or libmilter sends a text of its own. */
    return verdict.code < 500 ? SMFIS_TEMPFAIL : SMFIS_REJECT;
}

static sfsistat on_close(SMFICTX *ctx)
{
    struct session *session = smfi_getpriv(ctx);

    if (session != NULL) {
        free(session->helo);
        free(session->sender);
        free(session);
        smfi_setpriv(ctx, NULL);
    }
    return SMFIS_CONTINUE;
}

/* Says what became of a load; false if it failed. */
static int report(int result, const char *message)
{
    if (message[0] != '\0')
        fprintf(stderr, "%s\n", message);
    fprintf(stderr, "%s: %s\n", policy, result < 0 ? mxgate_strerror(result) : "in force");
    return result >= 0;
}

static void *keep_fresh(void *nothing)
{
    char message[4096];
    int result;

    for (;;) {
        sleep(1);
        result = mxgate_refresh(gate, message, sizeof message);
        if (result != 0)
            report(result, message);
    }
    return nothing;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = {
        .xxfi_name = "mxgate",
        .xxfi_version = SMFI_VERSION,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_close = on_close,
    };
    char message[4096];
    pthread_t thread;
    sigset_t signals;

    if (argc != 3 || smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS) {
        fprintf(stderr, "usage: milter SOCKET POLICY, with a SOCKET such as inet:8899@127.0.0.1 or unix:/run/mxgate.sock\n");
        return 2;
    }
    gate = mxgate_new();
    policy = argv[2];
    if (!report(mxgate_load_file(gate, policy, message, sizeof message), message))
        return 1;
    /* Signals are for libmilter, whose thread waits for them. */
    sigfillset(&signals);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (pthread_create(&thread, NULL, keep_fresh, NULL) != 0)
        return 1;
    /* The gate is not freed: the other thread may be loading. */
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
