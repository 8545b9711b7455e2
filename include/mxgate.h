/* mxgate.h - SMTP policy decisions from lists of addresses, domains, senders and
 * recipients, and from what authentication came to.
 *
 * In short:
 *
 *     struct mxgate_facts facts = {0};
 *     struct mxgate_verdict verdict;
 *     char reply[512];
 *
 *     mxgate_gate *gate = mxgate_new();
 *     mxgate_load_file(gate, "/etc/mxgate/mxgate.toml", message, sizeof message);
 *     ...
 *     facts.address_size = 4;
 *     memcpy(facts.address, &sin->sin_addr, 4);
 *     if (mxgate_check_connect(gate, &facts, sizeof facts, &verdict) > 0)
 *         mxgate_reply(&verdict, MXGATE_AT_CONNECT, MXGATE_FOR_CLIENT, reply,
 *                      sizeof reply);
 *
 * Results: 0 go on, above 0 objection, below 0 error. After an error the verdict
 * says "accept": a caller who wants to fail closed tests for < 0 and answers 451.
 *
 * Threads: a function that takes a const gate may be called by any number of
 * threads at once, also while another thread loads. Loads may be called by any
 * thread. Only mxgate_free() needs the gate to itself.
 *
 * Processes: a gate made before fork() works in the child, as a copy of its own,
 * also if another thread was amid a load at that moment. dlclose() leaves the
 * library in place, so that threads which have used it may live on.
 *
 * Memory: a check allocates nothing. If memory runs out during a load, the load
 * fails and the rules in force stay. 64 MiB of address space, not memory, are set
 * aside for that when the first gate is made.
 *
 * The library starts no thread, installs no signal handler, opens no socket, reads
 * no environment and writes nothing to standard output or standard error.
 *
 * Made by cbindgen from src/capi/: change those files, then run
 *     BLESS=1 cargo test --test header
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef MXGATE_H
#define MXGATE_H


#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A length that means "the string ends at its NUL". */
#define MXGATE_NUL ((size_t)-1)

/**
 * Number of this ABI, also the number in the SONAME (libmxgate.so.1). Functions
 * are added under the same number; nothing is changed or taken away under it.
 */
#define MXGATE_ABI 1

/**
 * Release of this header: 0xMMmmpp.
 */
#define MXGATE_VERSION_NUMBER 256

/**
 * No objection: let the client go on.
 */
#define MXGATE_ACCEPT 0

/**
 * Objection: send the reply of the verdict.
 */
#define MXGATE_REJECT 1

/**
 * A pointer is NULL, or a length or the size of a structure is impossible.
 */
#define MXGATE_EINVAL -1

/**
 * The policy or a list is not right; the message says where, why, and what to
 * write instead.
 */
#define MXGATE_ESYNTAX -2

/**
 * A file cannot be read; the message says which.
 */
#define MXGATE_EIO -3

/**
 * A limit is reached; the message says which.
 */
#define MXGATE_ELIMIT -4

/**
 * A bug in the library was caught; the gate goes on. Please report it.
 */
#define MXGATE_EBUG -5

/**
 * What mxgate_sizeof() can tell the size of: struct mxgate_facts.
 */
#define MXGATE_FACTS 1

/**
 * What mxgate_sizeof() can tell the size of: struct mxgate_verdict.
 */
#define MXGATE_VERDICT 2

/**
 * What mxgate_sizeof() can tell the size of: struct mxgate_counters.
 */
#define MXGATE_COUNTERS 3

/**
 * The client has authenticated (SMTP AUTH, RFC 4954). A flag of mxgate_facts.
 */
#define MXGATE_AUTHENTICATED 1

/**
 * The session is encrypted (STARTTLS, RFC 3207). A flag of mxgate_facts. Only
 * explanations show it.
 */
#define MXGATE_TLS 2

/**
 * The mail server trusts the client to send mail to everybody, as a policy does
 * by its section relay, trusted. A flag of mxgate_facts.
 */
#define MXGATE_TRUSTED 4

/**
 * Not checked, or not known. Values of spf, dkim, dmarc and rdns in mxgate_facts,
 * by the names of RFC 8601 section 2.7.
 */
#define MXGATE_RESULT_UNKNOWN 0

/**
 * It passed.
 */
#define MXGATE_RESULT_PASS 1

/**
 * There was nothing to check: no record, no signature.
 */
#define MXGATE_RESULT_NONE 2

/**
 * The domain says nothing about it.
 */
#define MXGATE_RESULT_NEUTRAL 3

/**
 * Probably not authorised (SPF).
 */
#define MXGATE_RESULT_SOFTFAIL 4

/**
 * It failed.
 */
#define MXGATE_RESULT_FAIL 5

/**
 * It could not be checked now.
 */
#define MXGATE_RESULT_TEMPERROR 6

/**
 * It cannot be checked: a record is wrong.
 */
#define MXGATE_RESULT_PERMERROR 7

/**
 * Sound, but not acceptable to the checker (DKIM).
 */
#define MXGATE_RESULT_POLICY 8

/**
 * What decided: no rule matched. Values of mxgate_verdict.decider; later
 * releases may add some.
 */
#define MXGATE_BY_NOTHING 0

/**
 * What decided: the mode (maintenance, draining, overloaded, no-mail).
 */
#define MXGATE_BY_MODE 1

/**
 * What decided: the never-block set.
 */
#define MXGATE_BY_NEVER_BLOCK 2

/**
 * What decided: an allow list.
 */
#define MXGATE_BY_ALLOW 3

/**
 * What decided: a block list.
 */
#define MXGATE_BY_BLOCK 4

/**
 * What decided: a rule about the recipient's domain.
 */
#define MXGATE_BY_DOMAIN 5

/**
 * What decided: a rule about the sender.
 */
#define MXGATE_BY_SENDER 6

/**
 * What decided: the relay rule.
 */
#define MXGATE_BY_RELAY 7

/**
 * What decided: a rule about the recipient.
 */
#define MXGATE_BY_RECIPIENT 8

/**
 * What decided: what SPF, DKIM, DMARC and reverse DNS came to.
 */
#define MXGATE_BY_AUTHENTICATION 9

/**
 * What decided: a ban.
 */
#define MXGATE_BY_BAN 10

/**
 * What decided: a limit.
 */
#define MXGATE_BY_LIMIT 11

/**
 * The stage of a session (RFC 5321 section 4.1.4): the client has connected and
 * waits for the greeting. An argument of mxgate_reply() and mxgate_explain().
 */
#define MXGATE_AT_CONNECT 0

/**
 * The stage of HELO or EHLO.
 */
#define MXGATE_AT_HELO 1

/**
 * The stage of MAIL.
 */
#define MXGATE_AT_MAIL 2

/**
 * The stage of RCPT.
 */
#define MXGATE_AT_RCPT 3

/**
 * A reply for an SMTP client, by a host that sends it itself. To a command
 * "550 5.7.1 text". At CONNECT it is the greeting, "554 host text": without an
 * enhanced status code (RFC 2034 section 3), with the name of the host first (RFC
 * 5321 section 4.3.1), and with the code 421, 521 (RFC 7504) or 554.
 */
#define MXGATE_FOR_CLIENT 0

/**
 * A reply for a mail server behind libmilter, "550 5.7.1 text" at each stage: code,
 * enhanced status code and text are the arguments of smfi_setreply(). A percent
 * sign is doubled, as that function wants it.
 */
#define MXGATE_FOR_MILTER 1

/**
 * A reply for Postfix, as the action of a policy service or an access table
 * (access(5)): "550 5.7.1 text" at each stage.
 */
#define MXGATE_FOR_POSTFIX 2

/**
 * A reply for Exim, as the message of an ACL: as the client is to read it.
 */
#define MXGATE_FOR_EXIM 3

/**
 * A reply for OpenSMTPD, as the decision of a filter (smtpd-filters(7)):
 * "reject|550 5.7.1 text", or "disconnect|421 4.3.2 text" to hang up.
 */
#define MXGATE_FOR_OPENSMTPD 4

/**
 * The mode that the policy asks for. An argument of mxgate_set_mode().
 */
#define MXGATE_MODE_OF_POLICY 0

/**
 * Mode: the rules decide.
 */
#define MXGATE_MODE_OPEN 1

/**
 * Mode: 421 to everybody, because of maintenance.
 */
#define MXGATE_MODE_MAINTENANCE 2

/**
 * Mode: 421 to everybody, because the server is shutting down.
 */
#define MXGATE_MODE_DRAINING 3

/**
 * Mode: 421 to everybody, because the server has too much to do.
 */
#define MXGATE_MODE_OVERLOADED 4

/**
 * Mode: 521 to everybody, because this host takes no mail (RFC 7504).
 */
#define MXGATE_MODE_NO_MAIL 5

/**
 * Text for people. A format of mxgate_explain() and mxgate_status().
 */
#define MXGATE_TEXT 0

/**
 * JSON (RFC 8259) for programs.
 */
#define MXGATE_JSON 1

/**
 * Level of a log line: something failed; the rules in force stayed.
 */
#define MXGATE_LOG_ERROR 1

/**
 * Level of a log line: something is to be looked at.
 */
#define MXGATE_LOG_WARNING 2

/**
 * Level of a log line: rules, bans or the mode have changed.
 */
#define MXGATE_LOG_INFO 3

/**
 * A gate holds the rules. Threads may share it: each function says how.
 */
typedef struct mxgate_gate mxgate_gate;

/**
 * The outcome of a check: a plain value of 1344 bytes, for ever. It needs no
 * preparation and no freeing, and stays good after a load and after the gate.
 * All strings in it end with NUL.
 */
typedef struct mxgate_verdict {
    /**
     * Reply code: 0 for no objection, else 421, 450, 521, 550, 556, ...
     */
    uint16_t code;
    /**
     * Not 0: close the connection after the reply.
     */
    uint16_t hangup;
    /**
     * What decided: MXGATE_BY_...
     */
    uint16_t decider;
    /**
     * 0; kept for later use.
     */
    uint16_t reserved1;
    /**
     * Line of the entry that decided, in the file of its list; 0 if none did.
     */
    uint32_t line;
    /**
     * 0; kept for later use.
     */
    uint32_t reserved2;
    /**
     * Number of the load whose rules decided; 0 before the first.
     */
    uint64_t generation;
    /**
     * 0; kept for later use.
     */
    uint64_t reserved3;
    /**
     * Enhanced status code (RFC 3463) such as "5.7.1"; "" for no objection.
     */
    char status[16];
    /**
     * Name of the list that decided; "" if none did.
     */
    char list[64];
    /**
     * Name of the first list that would have refused if it were enforced
     * (enforce = false), or "authentication" for that rule; "" if none.
     */
    char shadow[64];
    /**
     * Entry that decided, such as "192.0.2.0/24", "*.example.org" or
     * "user@example.org"; or "". Names are in their ASCII form.
     */
    char entry[256];
    /**
     * What the list says about that entry, or which checks failed ("spf=fail");
     * may be "".
     */
    char reason[256];
    /**
     * Name of this host, with which a greeting starts; "" for no objection.
     */
    char host[256];
    /**
     * Text of the reply: one line of printable ASCII; "" for no objection.
     */
    char text[400];
} mxgate_verdict;

/**
 * What is known about a client and its message. Set all of it to zero first
 * ("= {0}" in C, "= mxgate_facts()" in C++), then what is known: zero means
 * "not known", and no rule about it matches.
 * Later releases may add fields at its end; that is why it travels with its
 * size.
 */
typedef struct mxgate_facts {
    /**
     * Size of the client's address: 4 or 16 bytes; 0 if it is not known.
     */
    uint32_t address_size;
    /**
     * MXGATE_AUTHENTICATED, MXGATE_TLS, MXGATE_TRUSTED, or 0.
     */
    uint32_t flags;
    /**
     * Address of the client in network order, as in struct in_addr (the first
     * 4 bytes) or struct in6_addr. ::ffff:a.b.c.d counts as a.b.c.d.
     */
    uint8_t address[16];
    /**
     * Seconds since 1970-01-01 UTC, by which entries of lists expire; 0 for the
     * clock of the system, which is then read only if an entry depends on it.
     */
    uint64_t now;
    /**
     * What checking SPF came to (RFC 7208): MXGATE_RESULT_...
     */
    uint8_t spf;
    /**
     * What checking DKIM came to (RFC 6376): MXGATE_RESULT_PASS if any signature
     * passes. Whoever knows it after DATA only asks again then.
     */
    uint8_t dkim;
    /**
     * What checking DMARC came to: MXGATE_RESULT_FAIL where the owner of the domain
     * asks for it to be refused, so not if the owner only watches (p=none).
     */
    uint8_t dmarc;
    /**
     * Whether the client's name leads back to its address: MXGATE_RESULT_... (iprev,
     * RFC 8601 section 2.7.3).
     */
    uint8_t rdns;
    /**
     * Port of the client; 0 if not known. Only explanations show it.
     */
    uint16_t port;
    /**
     * 0; kept for later use.
     */
    uint16_t reserved;
    /**
     * Argument of HELO or EHLO: {helo} in replies; NULL if not known.
     */
    const char *helo;
    /**
     * Its length in bytes (at most 65536), or MXGATE_NUL.
     */
    size_t helo_length;
    /**
     * Argument of MAIL, with or without "<>"; NULL if not known. "<>", or an empty
     * string, is the empty sender of bounces, which no rule about senders refuses.
     */
    const char *sender;
    /**
     * Its length in bytes (at most 65536), or MXGATE_NUL.
     */
    size_t sender_length;
    /**
     * Argument of RCPT, with or without "<>"; NULL if not known. A mail server that
     * resolves addresses ("user%other.example@example.org") gives what it will
     * deliver to: that is what the relay rule has to know. Names may be UTF-8 (RFC
     * 6531): U-labels are the same as their A-labels.
     */
    const char *recipient;
    /**
     * Its length in bytes (at most 65536), or MXGATE_NUL.
     */
    size_t recipient_length;
} mxgate_facts;

/**
 * What a gate has done and has in force. Later releases may add fields at its end;
 * that is why it travels with its size.
 */
typedef struct mxgate_counters {
    /**
     * Loads that succeeded: the number of the rules in force.
     */
    uint64_t generation;
    /**
     * Loads that did not.
     */
    uint64_t failed_loads;
    /**
     * Networks that the lists of the policy have.
     */
    uint64_t networks;
    /**
     * Names that its lists of domains have.
     */
    uint64_t domains;
    /**
     * Bans that have not ended.
     */
    uint64_t bans;
    /**
     * Checks since mxgate_new().
     */
    uint64_t checks;
    /**
     * Checks that were answered with a 5xx.
     */
    uint64_t rejected;
    /**
     * Checks that were answered with a 4xx.
     */
    uint64_t deferred;
    /**
     * Checks that were accepted although a list would have refused if it were
     * enforced (enforce = false).
     */
    uint64_t would_refuse;
} mxgate_counters;

/**
 * Takes one line of the log, without a line feed; message is good for the time of
 * the call, user is what was given with it. Called in the thread that loads or
 * changes something, never by a check; must not call a function of this library.
 */
typedef void (*mxgate_log)(void *user, int level, const char *message);

/**
 * Number of the ABI of the library that is loaded. Compare with MXGATE_ABI.
 */
uint32_t mxgate_abi(void);

/**
 * Release of the library that is loaded, such as "0.1.0". Never NULL; not to
 * be freed.
 */
const char *mxgate_version(void);

/**
 * Size in bytes of a structure (MXGATE_FACTS, MXGATE_VERDICT,
 * MXGATE_COUNTERS) in the library that is loaded; 0 if it has no such structure.
 */
size_t mxgate_sizeof(int what);

/**
 * One line about a result such as MXGATE_EIO. Never NULL; not to be freed.
 */
const char *mxgate_strerror(int result);

/**
 * Makes a gate without rules, which accepts everything. NULL if memory ran out.
 * Free it with mxgate_free(). A gate made before fork() works in the child too,
 * as a copy of its own, whatever other threads did with it at that moment.
 */
struct mxgate_gate *mxgate_new(void);

/**
 * Frees a gate. No thread may be using it. NULL is allowed. A verdict stays good.
 */
void mxgate_free(struct mxgate_gate *gate);

/**
 * Writes the reply of a verdict without CR LF; NUL-terminated, cut to size
 * bytes; 1024 bytes hold any, 512 any for MXGATE_FOR_CLIENT. stage is
 * MXGATE_AT_..., host is who reads it: MXGATE_FOR_... buffer may be NULL if size
 * is 0.
 *
 * Returns the full length, as snprintf() does. 0, and "", if the verdict has no
 * objection, is NULL or damaged, or stage or host is not one of those.
 */
size_t mxgate_reply(const struct mxgate_verdict *verdict,
                    int stage,
                    int host,
                    char *buffer,
                    size_t size);

/**
 * Puts the rules of a policy file, and of the lists that it names, in the place
 * of the rules in force. Checks in other threads go on meanwhile, by the old
 * rules or by the new, never by a mixture; loads come one after the other. If
 * anything is wrong the old rules stay.
 *
 * message receives all mistakes, each as "file:line:column: cause; remedy", or
 * warnings of a load that succeeded, or ""; NUL-terminated, cut to message_size
 * bytes. It may be NULL if message_size is 0.
 *
 * Returns 0, MXGATE_EINVAL, MXGATE_ESYNTAX, MXGATE_EIO, MXGATE_ELIMIT or
 * MXGATE_EBUG.
 */
int mxgate_load_file(struct mxgate_gate *gate,
                     const char *path,
                     char *message,
                     size_t message_size);

/**
 * As mxgate_load_file() for an image that `mxgate compile` has written, but without
 * reading all of it to check it: in well under a millisecond, however large it is,
 * and with memory that all processes share that open it. For servers whose
 * processes start often, with an image that has been checked once: `mxgate compile`
 * does, and so does mxgate_load_file(), which takes images too.
 *
 * An image may be replaced (renamed over) while it is open; whoever shortens the file
 * ends this process with SIGBUS. Even a damaged one refuses nobody whom no list has
 * that refuses, but it may overlook entries, those of allow lists too.
 */
int mxgate_open_image(struct mxgate_gate *gate,
                      const char *path,
                      char *message,
                      size_t message_size);

/**
 * As mxgate_load_file(), from a text of length bytes (or MXGATE_NUL). Relative
 * names of files in it count from the current directory. Messages name the text
 * "policy".
 */
int mxgate_load_text(struct mxgate_gate *gate,
                     const char *text,
                     size_t length,
                     char *message,
                     size_t message_size);

/**
 * Puts a text of length bytes (or MXGATE_NUL) in the place of the files or entries
 * that the policy in force names for a list; NULL and 0 take it back. It stays so
 * over later loads. Any format of list will do, packed or not, as in a file; so do
 * the guards of the list. Loads the whole policy again; otherwise as
 * mxgate_load_file().
 */
int mxgate_set_list(struct mxgate_gate *gate,
                    const char *name,
                    const char *text,
                    size_t length,
                    char *message,
                    size_t message_size);

/**
 * Loads again if the policy file, or a file that it names, has changed since it was
 * read; new files in a directory or of a pattern count too. For hosts that have no
 * signal to load by: cheap enough to call once a second, but not for each client.
 * A change that is wrong is reported once.
 *
 * Returns 1 if rules were loaded, 0 if nothing has changed, or an error; otherwise as
 * mxgate_load_file().
 */
int mxgate_refresh(struct mxgate_gate *gate,
                   char *message,
                   size_t message_size);

/**
 * Reads an IP address as text of length bytes (or MXGATE_NUL): "192.0.2.1",
 * "2001:db8::1", "IPv6:2001:db8::1", each also in brackets. Stores it at address,
 * which has room for 16 bytes, in network order; an IPv4-mapped IPv6 address as
 * IPv4.
 *
 * Returns 4 or 16, the number of bytes stored; 0 if it is not an address.
 */
size_t mxgate_address(const char *text,
                      size_t length,
                      uint8_t *address);

/**
 * Checks a client that has just connected: its address and flags, by bans and
 * lists.
 *
 * facts_size is sizeof(struct mxgate_facts). A program built with an older
 * header gives a smaller one, whose missing fields are not known; fields that
 * this library does not have must be zero.
 *
 * Returns MXGATE_ACCEPT, MXGATE_REJECT or an error (MXGATE_EINVAL,
 * MXGATE_EBUG). After an error the verdict says "accept", so that a caller who
 * ignores errors loses no mail.
 *
 * Any number of threads may check at once, and while another one loads.
 * Allocates nothing, opens nothing, waits for no load. (But for one thing: a name
 * in Unicode of which one label expands to hundreds of characters or has dozens of
 * combining marks on one letter, as no name that exists has, takes memory for that
 * long.)
 */
int mxgate_check_connect(const struct mxgate_gate *gate,
                         const struct mxgate_facts *facts,
                         size_t facts_size,
                         struct mxgate_verdict *verdict);

/**
 * Checks a sender: the client as mxgate_check_connect() does, then the rules about
 * senders, and about SPF and reverse DNS as far as the facts have them. For hosts
 * that refuse at MAIL. Who refuses here cannot let mail to postmaster pass, which
 * mxgate_check_rcpt() does.
 */
int mxgate_check_mail(const struct mxgate_gate *gate,
                      const struct mxgate_facts *facts,
                      size_t facts_size,
                      struct mxgate_verdict *verdict);

/**
 * Checks one recipient, and the client with it. Otherwise as
 * mxgate_check_connect(). Ask again for each recipient.
 *
 * Authenticated clients, and the recipients postmaster (RFC 5321 section 4.5.1)
 * and abuse (RFC 2142), are exempt from rules about addresses and senders, never
 * from rules about domains that take no mail.
 */
int mxgate_check_rcpt(const struct mxgate_gate *gate,
                      const struct mxgate_facts *facts,
                      size_t facts_size,
                      struct mxgate_verdict *verdict);

/**
 * Ends a session that mxgate_check_connect() has let in, with the same facts: for the limit of concurrent sessions
 * (concurrent, among the limits of a policy). Once for each. A session that is never ended is forgotten after an hour or two.
 *
 * Returns 0, MXGATE_EINVAL or MXGATE_EBUG. Otherwise as mxgate_check_connect().
 */
int mxgate_end_session(const struct mxgate_gate *gate,
                       const struct mxgate_facts *facts,
                       size_t facts_size);

/**
 * Refuses a network from now on: "192.0.2.0/24", "2001:db8::/48", or one host, as
 * a text of length bytes (or MXGATE_NUL). It ends by itself after that many
 * seconds; 0: not before mxgate_unban(). reason, of reason_length bytes (or
 * MXGATE_NUL), is {reason} in replies; it may be NULL. A ban of that very network
 * is replaced. Bans come after the never-block set and the allow lists, and before
 * the block lists; they stay over loads, and end with the gate.
 *
 * message receives what was wrong, as in mxgate_load_file().
 *
 * Returns 0, MXGATE_EINVAL, MXGATE_ESYNTAX (not a network, wider than the guards
 * of the policy allow, or in the never-block set), MXGATE_ELIMIT or MXGATE_EBUG.
 */
int mxgate_ban(struct mxgate_gate *gate,
               const char *network,
               size_t length,
               uint64_t seconds,
               const char *reason,
               size_t reason_length,
               char *message,
               size_t message_size);

/**
 * Lifts the ban of a network, named as in mxgate_ban().
 *
 * Returns 1 if there was one, 0 if not, MXGATE_EINVAL, MXGATE_ESYNTAX or MXGATE_EBUG.
 */
int mxgate_unban(struct mxgate_gate *gate,
                 const char *network,
                 size_t length,
                 char *message,
                 size_t message_size);

/**
 * Puts a mode in force, MXGATE_MODE_..., whatever the policy says. It stays over
 * loads until it is MXGATE_MODE_OF_POLICY.
 *
 * Returns 0, MXGATE_EINVAL or MXGATE_EBUG.
 */
int mxgate_set_mode(struct mxgate_gate *gate,
                    int mode);

/**
 * Says why a question is answered as it is: every list that covers it, the winner
 * first, what would be answered without the winner, and what clients of each mail
 * server read. stage is MXGATE_AT_CONNECT, _MAIL or _RCPT (HELO counts as CONNECT); facts and facts_size
 * are those of a check; format is MXGATE_TEXT or MXGATE_JSON. It is not counted as
 * a check. Allocates; not for each client.
 *
 * Writes to buffer, NUL-terminated, cut to size; buffer may be NULL if size is 0.
 * Returns the full length, as snprintf() does; 0 if an argument is impossible.
 */
size_t mxgate_explain(const struct mxgate_gate *gate,
                      int stage,
                      const struct mxgate_facts *facts,
                      size_t facts_size,
                      int format,
                      char *buffer,
                      size_t size);

/**
 * Writes the state of the gate: mode, rules, lists, counters. As text (format
 * MXGATE_TEXT) it is an SMTP reply 211 of several lines (RFC 5321 section 4.2.1),
 * with CR LF between them and none behind the last; or as MXGATE_JSON. Otherwise as
 * mxgate_explain().
 */
size_t mxgate_status(const struct mxgate_gate *gate,
                     int format,
                     char *buffer,
                     size_t size);

/**
 * Reads the counters. size is sizeof(struct mxgate_counters): a program built with an
 * older header gets the fields that it knows, one built with a newer header gets 0 in
 * those that this library does not have. Each number is right by itself; checks go on
 * meanwhile.
 *
 * Returns 0, MXGATE_EINVAL or MXGATE_EBUG.
 */
int mxgate_count(const struct mxgate_gate *gate,
                 struct mxgate_counters *counters,
                 size_t size);

/**
 * Hands what the library has to say, up to a level (MXGATE_LOG_...), to a function of
 * the host's; NULL ends that. For all gates together. Without it the library is
 * silent. A call of the function before may still be running when this returns.
 *
 * Returns 0, MXGATE_EINVAL (no such level; or the program is in Rust and has a logger
 * already) or MXGATE_EBUG.
 */
int mxgate_set_log(mxgate_log write,
                   void *user,
                   int level);

#ifdef __cplusplus
}
#endif

#endif /* MXGATE_H */
