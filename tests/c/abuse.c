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

static const char LIMITED[] = "hostname = \"mx.example.org\"\n[limits]\nconcurrent = 1\n";

static int accepts(const struct mxgate_verdict *v)
{
    return v->code == 0 && v->hangup == 0 && v->decider == 0 && v->line == 0 && v->text[0] == 0 && v->status[0] == 0 && v->list[0] == 0;
}

static struct heard { int lines, level; char line[128]; } heard;

static void hear(void *user, int level, const char *message)
{
    struct heard *to = user;
    to->lines++;
    to->level = level;
    snprintf(to->line, sizeof to->line, "%s", message);
}

int main(void)
{
    static const unsigned char client[4] = {192, 0, 2, 7}, banned[4] = {198, 51, 100, 7};
    struct { struct mxgate_counters known; unsigned char more[8]; } counters;
    struct mxgate_facts facts;
    struct mxgate_verdict v;
    struct { struct mxgate_facts facts; char more[64]; } newer;
    char message[256], reply[512];
    mxgate_gate *gate = mxgate_new();

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
    CHECK(mxgate_load_text(gate, POLICY, sizeof POLICY - 1, NULL, 8) == MXGATE_EINVAL); /* not loaded: see the generation below */
    CHECK(mxgate_load_text(gate, NULL, 5, message, sizeof message) == MXGATE_EINVAL && message[0] == 0);
    CHECK(mxgate_load_text(gate, POLICY, (size_t)-2, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_load_text(NULL, POLICY, MXGATE_NUL, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_load_file(gate, "/nonexistent/policy", message, sizeof message) == MXGATE_EIO);
    CHECK(strncmp(message, "/nonexistent/policy:1:1: cannot read the policy: ", 49) == 0);
    CHECK(mxgate_load_file(gate, NULL, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_load_file(NULL, "x", NULL, 0) == MXGATE_EINVAL);
    CHECK(mxgate_open_image(gate, "/nonexistent/image", message, sizeof message) == MXGATE_EIO);
    CHECK(strncmp(message, "/nonexistent/image:1:1: cannot read the image: ", 47) == 0);
    CHECK(mxgate_open_image(gate, "/", message, sizeof message) == MXGATE_EIO);
    CHECK(mxgate_open_image(gate, "/dev/null", message, sizeof message) == MXGATE_EIO);
    CHECK(strncmp(message, "/dev/null:1:1: cannot map the image: ", 37) == 0);
    CHECK(mxgate_open_image(gate, "/etc/passwd", message, 24) == MXGATE_ESYNTAX && strcmp(message, "/etc/passwd:1:1: the fi") == 0);
    CHECK(mxgate_open_image(gate, "/etc/passwd", NULL, 0) == MXGATE_ESYNTAX);
    CHECK(mxgate_open_image(gate, "/etc/passwd", NULL, 8) == MXGATE_EINVAL);
    CHECK(mxgate_open_image(gate, NULL, message, sizeof message) == MXGATE_EINVAL && message[0] == 0);
    CHECK(mxgate_open_image(NULL, "x", message, sizeof message) == MXGATE_EINVAL && message[0] == 0);
    CHECK(mxgate_open_image(NULL, "x", NULL, 0) == MXGATE_EINVAL);
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

    /* bans, modes, lists */
    facts.address_size = 4;
    facts.recipient_length = 0;
    facts.recipient = NULL;
    CHECK(mxgate_ban(gate, "198.51.100.0/24", MXGATE_NUL, 60, NULL, 0, message, sizeof message) == 0 && message[0] == 0);
    CHECK(mxgate_ban(gate, "198.51.100.1/24", MXGATE_NUL, 60, NULL, 0, message, sizeof message) == MXGATE_ESYNTAX);
    CHECK(strcmp(message, "non-null host bits in \"198.51.100.1/24\"; write 198.51.100.0/24 for the network or 198.51.100.1 for the host") == 0);
    CHECK(mxgate_ban(gate, "0.0.0.0/0", MXGATE_NUL, 0, "x", 1, message, sizeof message) == MXGATE_ESYNTAX);
    CHECK(mxgate_ban(gate, "127.0.0.1", MXGATE_NUL, 0, "x", 1, NULL, 0) == MXGATE_ESYNTAX);
    CHECK(mxgate_ban(gate, "198.51.100.0/24", MXGATE_NUL, 60, NULL, 7, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_ban(gate, NULL, 0, 60, NULL, 0, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_ban(NULL, "198.51.100.0/24", MXGATE_NUL, 60, NULL, 0, message, sizeof message) == MXGATE_EINVAL);
    memcpy(facts.address, banned, 4);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && v.decider == MXGATE_BY_BAN && strcmp(v.list, "bans") == 0);
    CHECK(mxgate_check_mail(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && v.decider == MXGATE_BY_BAN);
    CHECK(mxgate_unban(gate, "198.51.100.0/24", MXGATE_NUL, message, sizeof message) == 1);
    CHECK(mxgate_unban(gate, "198.51.100.0/24", MXGATE_NUL, message, sizeof message) == 0);
    CHECK(mxgate_unban(gate, "nonsense", MXGATE_NUL, message, sizeof message) == MXGATE_ESYNTAX && message[0] != 0);
    CHECK(mxgate_unban(gate, NULL, 4, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_set_mode(gate, 6) == MXGATE_EINVAL && mxgate_set_mode(gate, -1) == MXGATE_EINVAL && mxgate_set_mode(NULL, 0) == MXGATE_EINVAL);
    CHECK(mxgate_set_mode(gate, MXGATE_MODE_NO_MAIL) == 0);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && v.code == 521 && v.decider == MXGATE_BY_MODE);
    CHECK(mxgate_reply(&v, MXGATE_AT_CONNECT, MXGATE_FOR_CLIENT, reply, sizeof reply) > 0 && strcmp(reply, "521 mx.example.org does not accept mail") == 0);
    CHECK(mxgate_reply(&v, MXGATE_AT_MAIL, MXGATE_FOR_POSTFIX, reply, sizeof reply) > 0 && strcmp(reply, "521 5.3.2 mx.example.org does not accept mail") == 0);
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_OPENSMTPD, reply, sizeof reply) > 0 && strncmp(reply, "disconnect|521 5.3.2 ", 21) == 0);
    strcpy(v.text, "100% sure");
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, MXGATE_FOR_MILTER, reply, sizeof reply) > 0 && strcmp(reply, "521 5.3.2 100%% sure") == 0);
    CHECK(mxgate_reply(&v, MXGATE_AT_RCPT, 5, reply, sizeof reply) == 0);
    CHECK(mxgate_set_mode(gate, MXGATE_MODE_OF_POLICY) == 0);
    CHECK(mxgate_set_list(gate, "all", "203.0.113.0/24\n", MXGATE_NUL, message, sizeof message) == 0);
    CHECK(mxgate_set_list(gate, "none", "203.0.113.0/24\n", MXGATE_NUL, message, sizeof message) == MXGATE_ESYNTAX);
    CHECK(mxgate_set_list(gate, NULL, "x", 1, message, sizeof message) == MXGATE_EINVAL);
    CHECK(mxgate_set_list(gate, "all", NULL, 1, message, sizeof message) == MXGATE_EINVAL);
    memcpy(facts.address, client, 4);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_ACCEPT);
    CHECK(mxgate_set_list(gate, "all", NULL, 0, message, sizeof message) == 0);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT);
    CHECK(mxgate_refresh(gate, message, sizeof message) == 0 && mxgate_refresh(NULL, NULL, 0) == MXGATE_EINVAL);

    /* limits */
    CHECK(mxgate_load_text(gate, LIMITED, MXGATE_NUL, message, sizeof message) == 0);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_ACCEPT);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && v.decider == MXGATE_BY_LIMIT && v.code == 421 && v.hangup == 1);
    CHECK(mxgate_end_session(gate, &facts, sizeof facts) == 0);
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_ACCEPT);
    CHECK(mxgate_end_session(gate, &facts, 3) == MXGATE_EINVAL && mxgate_end_session(NULL, &facts, sizeof facts) == MXGATE_EINVAL);
    CHECK(mxgate_end_session(gate, NULL, sizeof facts) == MXGATE_EINVAL);
    CHECK(mxgate_load_text(gate, POLICY, sizeof POLICY - 1, message, sizeof message) == 0);

    /* what it tells of itself */
    CHECK(mxgate_explain(gate, MXGATE_AT_CONNECT, &facts, sizeof facts, MXGATE_TEXT, reply, 20) > 20 && strlen(reply) == 19);
    CHECK(mxgate_explain(gate, MXGATE_AT_RCPT, &facts, sizeof facts, MXGATE_JSON, NULL, 0) > 20);
    CHECK(mxgate_explain(gate, 4, &facts, sizeof facts, MXGATE_TEXT, reply, sizeof reply) == 0 && reply[0] == 0);
    CHECK(mxgate_explain(gate, 0, &facts, sizeof facts, 2, reply, sizeof reply) == 0 && mxgate_explain(gate, 0, NULL, 0, 0, reply, 9) == 0);
    CHECK(mxgate_status(gate, MXGATE_TEXT, reply, sizeof reply) > 20 && strncmp(reply, "211-mx.example.org mxgate ", 26) == 0);
    CHECK(mxgate_status(gate, MXGATE_JSON, reply, sizeof reply) > 20 && reply[0] == '{');
    CHECK(mxgate_status(NULL, MXGATE_TEXT, reply, sizeof reply) == 0 && reply[0] == 0);
    memset(&counters, 0xa5, sizeof counters);
    CHECK(mxgate_sizeof(MXGATE_COUNTERS) == sizeof counters.known);
    CHECK(mxgate_count(gate, &counters.known, sizeof counters) == 0 && counters.known.checks > 10 && counters.more[7] == 0);
    CHECK(mxgate_count(gate, &counters.known, 8) == MXGATE_EINVAL && mxgate_count(gate, NULL, sizeof counters) == MXGATE_EINVAL);
    CHECK(mxgate_count(NULL, &counters.known, sizeof counters) == MXGATE_EINVAL && counters.known.checks == 0);

    /* the log, if it is wanted */
    CHECK(mxgate_set_log(hear, NULL, 9) == MXGATE_EINVAL);
    CHECK(mxgate_set_log(hear, &heard, MXGATE_LOG_INFO) == 0);
    CHECK(mxgate_set_mode(gate, MXGATE_MODE_OPEN) == 0 && heard.lines == 1 && heard.level == MXGATE_LOG_INFO);
    CHECK(strcmp(heard.line, "the mode is open") == 0);
    CHECK(mxgate_load_text(gate, "x = 1", MXGATE_NUL, NULL, 0) == MXGATE_ESYNTAX && heard.lines > 1 && heard.level == MXGATE_LOG_ERROR);
    CHECK(mxgate_load_text(gate, POLICY, MXGATE_NUL, NULL, 0) == 0 && heard.level == MXGATE_LOG_INFO);
    CHECK(strncmp(heard.line, "the rules of load ", 18) == 0);
    heard.lines = 0;
    CHECK(mxgate_check_connect(gate, &facts, sizeof facts, &v) == MXGATE_REJECT && heard.lines == 0);
    CHECK(mxgate_set_log(NULL, NULL, 0) == 0 && mxgate_set_mode(gate, MXGATE_MODE_OF_POLICY) == 0 && heard.lines == 0);

    mxgate_free(gate);
    mxgate_free(NULL);
    return 0;
}
