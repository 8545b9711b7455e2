/* nothing.c - a filter that does nothing, on libmilter: nothing SOCKET [CR]
 *
 * It lets every client, sender and recipient go on. With CR it asks for CONNECT and RCPT alone. */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>

static sfsistat on_connect(SMFICTX *ctx, char *host, struct sockaddr *address)
{
    (void)ctx, (void)host, (void)address;
    return SMFIS_CONTINUE;
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
    (void)ctx, (void)name;
    return SMFIS_CONTINUE;
}

static sfsistat on_address(SMFICTX *ctx, char **arguments)
{
    (void)ctx, (void)arguments;
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = {.xxfi_name = "nothing", .xxfi_version = SMFI_VERSION};

    filter.xxfi_connect = on_connect;
    filter.xxfi_envrcpt = on_address;
    if (argc == 2) {
        filter.xxfi_helo = on_helo;
        filter.xxfi_envfrom = on_address;
    }
    if (argc < 2 || smfi_setconn(argv[1]) != MI_SUCCESS || smfi_setbacklog(1024) != MI_SUCCESS || smfi_register(filter) != MI_SUCCESS) {
        fprintf(stderr, "nothing: cannot start\n");
        return EXIT_FAILURE;
    }
    return smfi_main();
}
