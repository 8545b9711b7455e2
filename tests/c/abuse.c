/* abuse.c - what a careless program does to the library: every call gives an error and the verdict says "accept".
 *
 * Prints nothing and ends with 0 if all is well, else names the line that is not.
 */
#include <mxgate.h>
#include <stdio.h>
#include <string.h>

#define CHECK(what) do { if (!(what)) { printf("line %d: %s\n", __LINE__, #what); return 1; } } while (0)

static const char POLICY[] =
    "hostname = \"mx.example.org\"\n"
    "[[list]]\nname = \"all\"\nentries = [\"192.0.2.0/24\"]\n"
    "[[domains]]\nname = \"parked\"\nentries = [\"parked.example\"]\n";

static int accepts(const struct mxgate_verdict *v)
{
    return v->code == 0 && v->hangup == 0 && v->decider == 0 && v->line == 0 && v->text[0] == 0 && v->status[0] == 0 && v->list[0] == 0;
}

int main(void)
{
    static const unsigned char client[4] = {192, 0, 2, 7};
    struct mxgate_facts facts;
    struct mxgate_verdict v;
    struct { struct mxgate_facts facts; char more[64]; } newer;
    char message[256], reply[512];
    mxgate *gate = mxgate_new();

    CHECK(gate != NULL);
    CHECK(mxgate_sizeof(MXGATE_FACTS) == sizeof facts && mxgate_sizeof(MXGATE_VERDICT) == sizeof v && mxgate_sizeof(9) == 0);
    CHECK(strcmp(mxgate_strerror(MXGATE_EIO), mxgate_strerror(12345)) != 0);
    memset(&facts, 0, sizeof facts);
    facts.address_size = 4;
    memcpy(facts.address, client, 4);

    /* no rules yet: accept */
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_ACCEPT && accepts(&v) && v.generation == 0);

    /* loads that fail leave the rules alone and say why */
    CHECK(mxgate_load_text(gate, POLICY, sizeof POLICY - 1, message, sizeof message) == 0 && message[0] == 0);
    CHECK(mxgate_load_text(gate, "x = 1", MXGATE_NUL, message, sizeof message) == MXGATE_ESYNTAX);
    CHECK(strstr(message, "policy:1:1: \"x\" is not a key of the policy; use hostname") != NULL);
    CHECK(mxgate_load_text(gate, "hostname = \"a\0b\"", 16, message, sizeof message) == MXGATE_ESYNTAX);
    CHECK(mxgate_load_text(gate, "hostname = \"\xff\"", MXGATE_NUL, message, sizeof message) == MXGATE_ESYNTAX);
    CHECK(strncmp(message, "policy:1:13: the policy is not UTF-8", 36) == 0);
    CHECK(mxgate_load_text(gate, "x = 1", MXGATE_NUL, message, 8) == MXGATE_ESYNTAX && strlen(message) == 7);
    CHECK(mxgate_load_text(gate, "x = 1", MXGATE_NUL, NULL, 0) == MXGATE_ESYNTAX);
    CHECK(mxgate_load_text(gate, "x = 1", MXGATE_NUL, NULL, 8) == MXGATE_EINVAL);
    CHECK(mxgate_load_text(gate, NULL, 5, message, sizeof message) == MXGATE_EINVAL && message[0] == 0);
    CHECK(mxgate_load_text(gate, POLICY, (size_t)-2, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_load_text(NULL, POLICY, MXGATE_NUL, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_load_file(gate, "/nonexistent/policy", message, sizeof message) == MXGATE_EIO);
    CHECK(strncmp(message, "/nonexistent/policy:1:1: cannot read the policy: ", 49) == 0);
    CHECK(mxgate_load_file(gate, NULL, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_load_file(NULL, "x", NULL, 0) == MXGATE_EINVAL);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && v.generation == 1 && v.code == 550);

    /* bad arguments: an error, and "accept" over whatever the verdict held */
    CHECK(mxgate_check_connect(NULL, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && !accepts(&v));
    CHECK(mxgate_check_connect(gate, NULL, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts - 1, &v) == MXGATE_EINVAL && accepts(&v));
    CHECK(mxgate_check_connect(gate, &facts, 0, &v) == MXGATE_EINVAL && accepts(&v));
    CHECK(mxgate_check_connect(gate, &facts, (size_t)-1, &v) == MXGATE_EINVAL && accepts(&v));
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, NULL) == MXGATE_EINVAL);
    facts.address_size = 5;
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.address_size = 4;
    facts.flags = 0x80000000u;
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.flags = 0;
    facts.rdns = 9;
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.rdns = MXGATE_RESULT_POLICY;
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT);
    facts.rdns = MXGATE_RESULT_UNKNOWN;
    facts.reserved = 1;
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.reserved = 0;
    facts.sender_length = 3; /* without a sender */
    CHECK(mxgate_check_rcpt(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.sender_length = 0;
    facts.recipient_length = 3; /* without a recipient */
    CHECK(mxgate_check_rcpt(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.recipient = "<user@parked.example>";
    facts.recipient_length = (size_t)1 << 40;
    CHECK(mxgate_check_rcpt(gate, &facts, sizeof facts, &v) == MXGATE_EINVAL && accepts(&v));
    facts.recipient_length = MXGATE_NUL;
    facts.address_size = 0;
    CHECK(mxgate_check_rcpt(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && v.code == 521 && v.hangup == 0);

    /* a newer program: what this library does not know must be zero */
    memset(&newer, 0, sizeof newer);
    newer.facts = facts;
    CHECK(mxgate_check_rcpt(gate, &newer.facts, sizeof newer, &v) == MXGATE_REJECT);
    newer.more[63] = 1;
    CHECK(mxgate_check_rcpt(gate, &newer.facts, sizeof newer, &v) == MXGATE_EINVAL && accepts(&v));

    /* replies: cut like snprintf() cuts, nothing from a damaged verdict */
    CHECK(mxgate_check_rcpt(gate, &facts, sizeof facts, &v) == MXGATE_REJECT);
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, NULL, 0) == 45);
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, 10) == 45 && strcmp(reply, "521 5.3.2") == 0);
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, 1) == 45 && reply[0] == 0);
    CHECK(mxgate_reply(&v, MXGATE_AT_CONNECT, MXGATE_FOR_CLIENT, reply, sizeof reply) == strlen("521 mx.example.org parked.example does not accept mail"));
    CHECK(mxgate_reply(&v, 7, 0, reply, sizeof reply) == 0 && reply[0] == 0);
    CHECK(mxgate_reply(NULL, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, sizeof reply) == 0 && reply[0] == 0);
    v.text[3] = '\n';
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, sizeof reply) == 0 && reply[0] == 0);
    memset(&v, 'x', sizeof v);
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply, sizeof reply) == 0 && reply[0] == 0);

    /* addresses */
    CHECK(mxgate_address("192.0.2.7", MXGATE_NUL, facts.address) == 4 && memcmp(facts.address, client, 4) == 0);
    CHECK(mxgate_address("::ffff:192.0.2.7 and more", 16, facts.address) == 4);
    CHECK(mxgate_address("[IPv6:2001:db8::1]", MXGATE_NUL, facts.address) == 16);
    CHECK(mxgate_address("unknown", MXGATE_NUL, facts.address) == 0);
    CHECK(mxgate_address("\xff", 1, facts.address) == 0);
    CHECK(mxgate_address(NULL, MXGATE_NUL, facts.address) == 0 && mxgate_address("192.0.2.7", MXGATE_NUL, NULL) == 0);

    mxgate_free(gate);
    mxgate_free(NULL);
    return 0;
}
