/* What no filter can go below: it reads, answers with the same bytes whatever it has read, and knows of the milter
 * protocol only where a packet ends, of that of policy services only where a request does. One thread, level-triggered
 * epoll, blocking sockets, no checks of anything.
 *
 *     floor unix:/path | inet:port@127.0.0.1
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Version 6, no actions; no HELO, MAIL, headers, body, DATA and unknown commands, and no answer to CONNECT. */
static const char options[] = {0, 0, 0, 13, 'O', 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0x13, 0x76};
static const char go_on[] = {0, 0, 0, 1, 'c'};
static const char refused[] = "action=550 5.7.1 Refused\n\n";

static int listening(const char *address)
{
    int one = 1, listener;
    if (strncmp(address, "unix:", 5) == 0) {
        struct sockaddr_un path = {AF_UNIX, ""};
        snprintf(path.sun_path, sizeof path.sun_path, "%s", address + 5);
        listener = socket(AF_UNIX, SOCK_STREAM, 0);
        bind(listener, (struct sockaddr *)&path, sizeof path);
    } else {
        struct sockaddr_in port = {AF_INET, htons((unsigned short)atoi(address + 5)), {htonl(INADDR_LOOPBACK)}, {0}};
        listener = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        bind(listener, (struct sockaddr *)&port, sizeof port);
    }
    return listen(listener, 1024) == 0 ? listener : -1;
}

/* Answers what waits for an answer: options, RCPT and the end of a message; a request, which begins with "request=" where
 * a packet has its length. Each read has whole packets, or a whole request. */
static void answer(int connection, const unsigned char *heard, ssize_t length)
{
    ssize_t at = 0;
    int one = 1, answered = 0;
    if (heard[0] != 0) {
        send(connection, refused, sizeof refused - 1, MSG_NOSIGNAL);
        return;
    }
    while (at + 5 <= length) {
        unsigned char command = heard[at + 4];
        if (command == 'O')
            send(connection, options, sizeof options, MSG_NOSIGNAL);
        else if (command == 'R' || command == 'E')
            send(connection, go_on, sizeof go_on, MSG_NOSIGNAL);
        answered |= command == 'O' || command == 'R' || command == 'E';
        at += 4 + (heard[at + 2] << 8 | heard[at + 3]);
    }
    if (!answered)
        setsockopt(connection, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

int main(int count, char **arguments)
{
    static unsigned char heard[4096];
    struct epoll_event events[64], event = {EPOLLIN, {0}};
    int listener = count == 2 ? listening(arguments[1]) : -1, polled = epoll_create1(0);
    if (listener < 0)
        return 1;
    event.data.fd = listener;
    epoll_ctl(polled, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(polled, events, 64, -1);
        for (int n = 0; n < ready; n++) {
            int fd = events[n].data.fd;
            if (fd == listener) {
                event.data.fd = accept(listener, NULL, NULL);
                epoll_ctl(polled, EPOLL_CTL_ADD, event.data.fd, &event);
                continue;
            }
            ssize_t length = recv(fd, heard, sizeof heard, 0);
            if (length > 0)
                answer(fd, heard, length);
            else
                close(fd);
        }
    }
}
