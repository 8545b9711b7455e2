/* greeter.c - an SMTP server that judges and takes nothing: greeter HOST ADDRESS PORT POLICY
 *
 *     cc -o greeter greeter.c -lmxgate -pthread
 *     ./greeter mx.example.org 192.0.2.25 25 /etc/mxgate/mxgate.toml
 *
 * For a host that takes no mail (mode = "no-mail"), and to see what senders make of a reply. Clients that the policy
 * refuses when they connect read that in the greeting, which no milter can write; the others are judged at RCPT. Nobody
 * gets further than DATA: that is a 451, so that the sender keeps the message. (A 250 would be a promise to deliver it.)
 * The policy is loaded again when it, or a list that it names, has changed.
 *
 * What Postfix 3.7 as the sender makes of it, as tests/greeter.rs has seen:
 *
 *     greeting 421, 521, 554   goes on to the next host; after the last it keeps the message, dsn=4.0.0, and tries for five
 *                              days, because of smtp_skip_5xx_greeting = yes, its default
 *     with that set to "no"    521 and 554: returns the message at once, dsn=5.0.0, whatever other hosts there are
 *     RCPT 521, 550, 556       returns that recipient at once, with the enhanced status code of the reply
 *     RCPT 421, 451 to DATA    keeps it and tries again; dsn=4.x.x of the reply
 *     hanging up after RCPT    keeps the other recipients of the message, too, and tries again: dsn=4.4.2
 *
 * So a 5xx at RCPT settles the matter at once, and in a greeting after five days.
 */
#define _POSIX_C_SOURCE 200809L
#include <mxgate.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
    SESSIONS = 32, /* at a time; further clients wait in the queue of the kernel */
    COMMANDS = 100, /* in a session */
    PATIENCE = 300, /* seconds for a command: RFC 5321 section 4.5.3.2.7 */
    LINE = 2048 /* longest command; RFC 5321 section 4.5.3.1.4 wants 512, and extensions of MAIL and RCPT more */
};

struct session {
    FILE *client;
    struct mxgate_facts facts;
    char helo[LINE], sender[LINE];
    int commands, recipients; /* so far; recipients of this message */
};

static mxgate_gate *gate; /* threads share it */
static const char *host;
static int listener;

/* Sends a line, cut to what fits, in one packet. If the client is gone the next reading finds that out. */
static void say(const struct session *session, const char *format, ...)
{
    char reply[1024];
    size_t length;
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reply, sizeof reply - 2, format, arguments);
    va_end(arguments);
    length = strlen(reply);
    memcpy(reply + length, "\r\n", 2);
    send(fileno(session->client), reply, length + 2, MSG_NOSIGNAL);
}

/* Reads a command into line, which has room for LINE bytes. False if the session is over: after QUIT, for one. */
static int hear(struct session *session, char *line)
{
    size_t length = 0;
    int byte;

    while ((byte = getc(session->client)) != '\n') {
        if (byte == EOF || byte == '\0' || length == LINE - 1) {
            line[0] = '\0';
            say(session, "421 4.4.2 %s Timeout, or not a command; closing the connection", host);
            return 0;
        }
        line[length++] = (char)byte;
    }
    if (length > 0 && line[length - 1] == '\r')
        length--;
    line[length] = '\0';
    if (strcasecmp(line, "QUIT") == 0) {
        say(session, "221 2.0.0 %s Bye", host);
        return 0;
    }
    if (++session->commands > COMMANDS) {
        say(session, "421 4.7.0 %s Too many commands; closing the connection", host);
        return 0;
    }
    return 1;
}

/* The path in "MAIL FROM:<user@example.org> SIZE=1000", brackets included. Returns its length, 0 if there is none. */
static size_t path_in(const char *line, const char *command, const char **path)
{
    const char *byte;
    int quoted = 0;

    if (strncasecmp(line, command, strlen(command)) != 0)
        return 0;
    *path = line + strlen(command);
    while (**path == ' ')
        ++*path;
    for (byte = *path; **path == '<' && *byte != '\0'; byte++) {
        if (*byte == '\\' && byte[1] != '\0')
            byte++;
        else if (*byte == '"')
            quoted = !quoted;
        else if (*byte == '>' && !quoted)
            return (size_t)(byte + 1 - *path);
    }
    return 0;
}

/* Refuses the client in the greeting, and gives it the time to say QUIT: closing at once makes some senders believe that
 * the connection broke. 521 is repeated (RFC 7504 section 3), after 554 anything else is a 503 (RFC 5321 section 3.1). */
static void refuse(struct session *session, const struct mxgate_verdict *verdict)
{
    char greeting[512], line[LINE] = "";

    mxgate_reply(verdict, MXGATE_AT_CONNECT, MXGATE_FOR_CLIENT, greeting, sizeof greeting);
    say(session, "%s", greeting);
    while (strncmp(greeting, "421", 3) != 0 && hear(session, line)) {
        say(session, "%s", strncmp(greeting, "521", 3) == 0 ? greeting : "503 5.5.1 Bad sequence of commands; send QUIT");
        if (verdict->hangup)
            break;
    }
    fprintf(stderr, "greeting: %s; %s\n", greeting, strcasecmp(line, "QUIT") == 0 ? "QUIT" : "no QUIT");
}

static void forget_message(struct session *session)
{
    session->facts.sender = NULL;
    session->facts.sender_length = 0;
    session->recipients = 0;
}

/* Judges a recipient; false if the connection is to be closed. */
static int on_rcpt(struct session *session, const char *recipient, size_t length)
{
    struct mxgate_verdict verdict;
    char reply[512];

    session->facts.recipient = recipient;
    session->facts.recipient_length = length;
    if (mxgate_check_rcpt(gate, &session->facts, sizeof session->facts, &verdict) <= 0) {
        say(session, "250 2.1.5 Ok"); /* no objection, or an error */
        session->recipients++;
        return 1;
    }
    mxgate_reply(&verdict, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, sizeof reply);
    say(session, "%s", reply);
    fprintf(stderr, "at RCPT: %s\n", reply);
    return !verdict.hangup;
}

static void talk(struct session *session)
{
    char line[LINE];
    const char *path = NULL;
    size_t length;

    say(session, "220 %s ESMTP", host);
    while (hear(session, line)) {
        if (strncasecmp(line, "EHLO ", 5) == 0 || strncasecmp(line, "HELO ", 5) == 0) {
            forget_message(session);
            session->facts.helo = strcpy(session->helo, line + 5);
            session->facts.helo_length = MXGATE_NUL;
            say(session, line[0] == 'E' || line[0] == 'e' ? "250-%s\r\n250 ENHANCEDSTATUSCODES" : "250 %s", host);
        } else if (strcasecmp(line, "RSET") == 0) {
            forget_message(session);
            say(session, "250 2.0.0 Ok");
        } else if (strncasecmp(line, "NOOP", 4) == 0) {
            say(session, "250 2.0.0 Ok");
        } else if ((length = path_in(line, "MAIL FROM:", &path)) > 0) {
            if (session->facts.sender != NULL) {
                say(session, "503 5.5.1 Nested MAIL command");
                continue;
            }
            session->facts.sender = memcpy(session->sender, path, length);
            session->facts.sender_length = length;
            say(session, "250 2.1.0 Ok");
        } else if ((length = path_in(line, "RCPT TO:", &path)) > 0) {
            if (session->facts.sender == NULL)
                say(session, "503 5.5.1 Need MAIL command");
            else if (!on_rcpt(session, path, length))
                return;
        } else if (strcasecmp(line, "DATA") == 0) {
            if (session->recipients == 0) {
                say(session, "503 5.5.1 Need RCPT command");
                continue;
            }
            say(session, "451 4.3.0 %s judges recipients and takes no messages", host);
            forget_message(session);
        } else {
            say(session, "500 5.5.2 Command not recognized, or without its argument in <>");
        }
    }
}

static void serve(int client)
{
    struct session session;
    struct mxgate_verdict verdict;
    struct sockaddr_storage address;
    struct timeval patience = {PATIENCE, 0};
    socklen_t size = sizeof address;

    memset(&session, 0, sizeof session); /* zero: not known */
    memset(&address, 0, sizeof address);
    session.client = fdopen(client, "r");
    if (session.client == NULL) {
        close(client);
        return;
    }
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    getpeername(client, (struct sockaddr *)&address, &size);
    if (address.ss_family == AF_INET) {
        session.facts.address_size = 4;
        memcpy(session.facts.address, &((struct sockaddr_in *)&address)->sin_addr, 4);
    } else if (address.ss_family == AF_INET6) {
        session.facts.address_size = 16;
        memcpy(session.facts.address, &((struct sockaddr_in6 *)&address)->sin6_addr, 16);
    }
    if (mxgate_check_connect(gate, &session.facts, sizeof session.facts, &verdict) > 0)
        refuse(&session, &verdict);
    else
        talk(&session); /* no objection, or an error */
    fclose(session.client);
}

static void *work(void *nothing)
{
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client >= 0)
            serve(client);
        else
            sleep(1); /* out of file descriptors, perhaps */
    }
    return nothing;
}

/* A listening socket, or -1. */
static int listen_at(const char *address, const char *port)
{
    struct addrinfo hints, *found;
    int fd, yes = 1;

    memset(&hints, 0, sizeof hints);
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(address, port, &hints, &found) != 0)
        return -1;
    fd = socket(found->ai_family, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 100) != 0) {
        close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    return fd;
}

int main(int argc, char **argv)
{
    char message[4096];
    pthread_t thread;
    int result, n;

    if (argc != 5) {
        fprintf(stderr, "usage: greeter HOST ADDRESS PORT POLICY\n");
        return 2;
    }
    host = argv[1];
    gate = mxgate_new();
    result = mxgate_load_file(gate, argv[4], message, sizeof message);
    if (message[0] != '\0')
        fprintf(stderr, "%s\n", message);
    if (result < 0)
        return 1;
    listener = listen_at(argv[2], argv[3]);
    if (listener < 0) {
        perror(argv[2]);
        return 1;
    }
    for (n = 0; n < SESSIONS; n++) {
        if (pthread_create(&thread, NULL, work, NULL) != 0)
            return 1;
    }
    for (;;) {
        sleep(1);
        result = mxgate_refresh(gate, message, sizeof message);
        if (result != 0)
            fprintf(stderr, "%s%s\n", message, result < 0 ? "" : "the policy has changed");
    }
}
