/* mxgate.hpp - SMTP policy decisions, for C++17 and later. mxgate.h, the header for C, says more about each function.
 *
 *     mxgate::Gate gate;
 *     gate.load_file("/etc/mxgate/mxgate.toml");     // throws mxgate::Error, which says what to write instead
 *     ...
 *     mxgate::Facts facts;
 *     facts.client(&sin->sin_addr, 4).sender(from).recipient(to);
 *     if (auto reply = gate.check_rcpt(facts).reply())
 *         send(*reply + "\r\n");
 *
 * A check never throws and never allocates. After an error, or before the first load, the verdict says "accept", so that
 * no mail is lost; who wants to fail closed looks at Verdict::error() and answers 451.
 *
 * Threads: constant member functions of one gate may be called by any number of threads at once, also while another
 * thread loads, bans or sets the mode. Only destroying and moving a gate need it to themselves.
 *
 * This header needs no library but libmxgate (-lmxgate).
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef MXGATE_HPP
#define MXGATE_HPP

#include "mxgate.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace mxgate {

/** Something that changes the rules has failed, and the rules in force stay. what() has all mistakes, each as
 *  "file:line:column: cause; remedy". */
class Error : public std::runtime_error {
public:
    /** An error with the message of the library; where there is none, a line about the code. */
    Error(int code, const std::string &message)
        : std::runtime_error(message.empty() ? ::mxgate_strerror(code) : message), code_(code)
    {
    }

    /** MXGATE_EINVAL, MXGATE_ESYNTAX, MXGATE_EIO, MXGATE_ELIMIT or MXGATE_EBUG. */
    int code() const noexcept { return code_; }

private:
    int code_;
};

/** What an authentication check came to (RFC 8601 section 2.7). */
enum class Result : std::uint8_t {
    unknown = MXGATE_RESULT_UNKNOWN,
    pass = MXGATE_RESULT_PASS,
    none = MXGATE_RESULT_NONE,
    neutral = MXGATE_RESULT_NEUTRAL,
    softfail = MXGATE_RESULT_SOFTFAIL,
    fail = MXGATE_RESULT_FAIL,
    temperror = MXGATE_RESULT_TEMPERROR,
    permerror = MXGATE_RESULT_PERMERROR,
    policy = MXGATE_RESULT_POLICY,
};

/** What decided. Later releases may add some. */
enum class Decider : std::uint16_t {
    nothing = MXGATE_BY_NOTHING,
    mode = MXGATE_BY_MODE,
    never_block = MXGATE_BY_NEVER_BLOCK,
    allow = MXGATE_BY_ALLOW,
    block = MXGATE_BY_BLOCK,
    domain = MXGATE_BY_DOMAIN,
    sender = MXGATE_BY_SENDER,
    relay = MXGATE_BY_RELAY,
    recipient = MXGATE_BY_RECIPIENT,
    authentication = MXGATE_BY_AUTHENTICATION,
    ban = MXGATE_BY_BAN,
    limit = MXGATE_BY_LIMIT,
};

/** A stage of an SMTP session. */
enum class Stage : int {
    connect = MXGATE_AT_CONNECT,
    helo = MXGATE_AT_HELO,
    mail = MXGATE_AT_MAIL,
    rcpt = MXGATE_AT_RCPT,
};

/** Who reads a reply. */
enum class Host : int {
    client = MXGATE_FOR_CLIENT,
    milter = MXGATE_FOR_MILTER,
    postfix = MXGATE_FOR_POSTFIX,
    exim = MXGATE_FOR_EXIM,
    opensmtpd = MXGATE_FOR_OPENSMTPD,
};

/** A mode that is put in force whatever the policy says; of_policy takes it back. */
enum class Mode : int {
    of_policy = MXGATE_MODE_OF_POLICY,
    open = MXGATE_MODE_OPEN,
    maintenance = MXGATE_MODE_MAINTENANCE,
    draining = MXGATE_MODE_DRAINING,
    overloaded = MXGATE_MODE_OVERLOADED,
    no_mail = MXGATE_MODE_NO_MAIL,
};

/** For people or for programs. */
enum class Format : int { text = MXGATE_TEXT, json = MXGATE_JSON };

/** What is known about a client and its message; what is not said is not known, and no rule about it matches.
 *
 *  It holds views, not copies: the strings have to be there until the check. A view without data (a default
 *  std::string_view) takes back what was said; "" is a string, and as a sender the one of bounces. */
class Facts {
public:
    /** The address of the client in network order, as in in_addr (4 bytes) or in6_addr (16); not known if it has
     *  another size. */
    Facts &client(const void *address, std::size_t size) noexcept
    {
        facts_.address_size = 0;
        if (address != nullptr && (size == 4 || size == 16)) {
            std::memcpy(facts_.address, address, size);
            facts_.address_size = static_cast<std::uint32_t>(size);
        }
        return *this;
    }

    /** The address of the client as text, "192.0.2.1" or "[IPv6:2001:db8::1]"; not known if it is none. */
    Facts &client(std::string_view address) noexcept
    {
        facts_.address_size = static_cast<std::uint32_t>(::mxgate_address(address.data(), address.size(), facts_.address));
        return *this;
    }

    /** Whether the address of the client is known. */
    bool has_client() const noexcept { return facts_.address_size != 0; }

    /** The port of the client. Only explanations show it. */
    Facts &port(std::uint16_t port) noexcept
    {
        facts_.port = port;
        return *this;
    }

    /** The argument of HELO or EHLO. */
    Facts &helo(std::string_view name) noexcept { return set(facts_.helo, facts_.helo_length, name); }

    /** The argument of MAIL, with or without "<>". */
    Facts &sender(std::string_view path) noexcept { return set(facts_.sender, facts_.sender_length, path); }

    /** The argument of RCPT, with or without "<>"; better: what the mail server will deliver to. */
    Facts &recipient(std::string_view path) noexcept { return set(facts_.recipient, facts_.recipient_length, path); }

    /** The client has authenticated (SMTP AUTH). */
    Facts &authenticated(bool yes = true) noexcept { return set(MXGATE_AUTHENTICATED, yes); }

    /** The session is encrypted. Only explanations show it. */
    Facts &tls(bool yes = true) noexcept { return set(MXGATE_TLS, yes); }

    /** The mail server lets this client send mail to everybody. */
    Facts &trusted(bool yes = true) noexcept { return set(MXGATE_TRUSTED, yes); }

    /** What checking SPF came to. */
    Facts &spf(Result result) noexcept { return set(facts_.spf, result); }

    /** What checking DKIM came to: pass if any signature passes. */
    Facts &dkim(Result result) noexcept { return set(facts_.dkim, result); }

    /** What checking DMARC came to: fail where the owner of the domain asks for it to be refused. */
    Facts &dmarc(Result result) noexcept { return set(facts_.dmarc, result); }

    /** Whether the name of the client leads back to its address. */
    Facts &rdns(Result result) noexcept { return set(facts_.rdns, result); }

    /** Seconds since 1970-01-01 UTC, by which entries expire; 0, or nothing said, for the clock of the system. */
    Facts &now(std::uint64_t seconds) noexcept
    {
        facts_.now = seconds;
        return *this;
    }

    /** The same for the functions of mxgate.h. */
    const ::mxgate_facts &c() const noexcept { return facts_; }

private:
    Facts &set(const char *&data, std::size_t &length, std::string_view text) noexcept
    {
        data = text.data();
        length = text.size();
        return *this;
    }

    Facts &set(std::uint32_t flag, bool yes) noexcept
    {
        facts_.flags = yes ? facts_.flags | flag : facts_.flags & ~flag;
        return *this;
    }

    Facts &set(std::uint8_t &field, Result result) noexcept
    {
        field = static_cast<std::uint8_t>(result);
        return *this;
    }

    ::mxgate_facts facts_ = {};
};

/** The outcome of a check: a plain value, which stays good after a load and after the gate.
 *
 *  What returns a std::string_view shows a part of the verdict, and is good as long as that. */
class Verdict {
public:
    /** An accept, as before any check. */
    Verdict() noexcept = default;

    /** No objection: let the client go on. */
    bool accepted() const noexcept { return verdict_.code == 0; }

    /** Objection: send the reply. */
    bool rejected() const noexcept { return verdict_.code != 0; }

    /** Below 0 if the check failed: MXGATE_EINVAL or MXGATE_EBUG. The verdict says "accept" then. */
    int error() const noexcept { return result_ < 0 ? result_ : 0; }

    /** The reply code: 421, 450, 521, 550, 556, ...; 0 for no objection. */
    int code() const noexcept { return verdict_.code; }

    /** Close the connection after the reply. */
    bool hang_up() const noexcept { return verdict_.hangup != 0; }

    /** The enhanced status code, such as "5.7.1". */
    std::string_view status() const noexcept { return verdict_.status; }

    /** The text of the reply: one line of printable ASCII. */
    std::string_view text() const noexcept { return verdict_.text; }

    /** The name of this host, with which a greeting starts. */
    std::string_view host() const noexcept { return verdict_.host; }

    /** What decided. */
    Decider decider() const noexcept { return static_cast<Decider>(verdict_.decider); }

    /** The name of the list that decided. */
    std::string_view list() const noexcept { return verdict_.list; }

    /** The entry that decided, such as "192.0.2.0/24" or "user@example.org". */
    std::string_view entry() const noexcept { return verdict_.entry; }

    /** The line of that entry in the file of its list; 0 if none decided. */
    std::uint32_t line() const noexcept { return verdict_.line; }

    /** What the list says about that entry, or which checks failed ("spf=fail"). */
    std::string_view reason() const noexcept { return verdict_.reason; }

    /** The first list that would have refused if it were enforced. */
    std::string_view shadow() const noexcept { return verdict_.shadow; }

    /** The number of the load whose rules decided; 0 before the first. */
    std::uint64_t generation() const noexcept { return verdict_.generation; }

    /** The reply without CR LF; nothing for no objection. At Stage::connect it is the greeting of this host:
     *  "554 mx.example.org text". */
    std::optional<std::string> reply(Stage stage = Stage::rcpt, Host host = Host::client) const
    {
        char line[1024];
        const std::size_t length = ::mxgate_reply(&verdict_, static_cast<int>(stage), static_cast<int>(host), line, sizeof line);
        if (length == 0)
            return std::nullopt;
        return std::string(line, length < sizeof line ? length : sizeof line - 1);
    }

    /** The same for the functions of mxgate.h. */
    const ::mxgate_verdict &c() const noexcept { return verdict_; }

private:
    friend class Gate;

    int result_ = MXGATE_ACCEPT;
    ::mxgate_verdict verdict_ = {};
};

/** A gate holds the rules. It can be moved, not copied; a gate that was moved from accepts everything and loads nothing. */
class Gate {
public:
    /** A gate without rules, which accepts everything. Throws Error if the library is not the one of this header. */
    Gate() : gate_(::mxgate_new())
    {
        if (::mxgate_abi() != MXGATE_ABI || ::mxgate_sizeof(MXGATE_FACTS) < sizeof(::mxgate_facts))
            throw Error(MXGATE_EINVAL, "libmxgate is another one than mxgate.hpp was made for");
        if (gate_ == nullptr)
            throw std::bad_alloc();
    }

    /** Puts the rules of a policy file in the place of those in force. Returns warnings, or "". Throws Error. */
    std::string load_file(const std::string &path)
    {
        return change([&](char *message, std::size_t size) { return ::mxgate_load_file(gate_.get(), path.c_str(), message, size); }).message;
    }

    /** As load_file() for an image that `mxgate compile` has written, which is taken as it is: at once, and in memory that all
     *  processes share that open it. See mxgate_open_image(). Throws Error. */
    std::string open_image(const std::string &path)
    {
        return change([&](char *message, std::size_t size) { return ::mxgate_open_image(gate_.get(), path.c_str(), message, size); }).message;
    }

    /** As load_file(), from a text. */
    std::string load_text(std::string_view text)
    {
        return change([&](char *message, std::size_t size) {
                   return ::mxgate_load_text(gate_.get(), text.data(), text.size(), message, size);
               }).message;
    }

    /** Loads again if the policy file, or a file that it names, has changed: nothing if not, else warnings, or "".
     *  Cheap enough for once a second. Throws Error. */
    std::optional<std::string> refresh()
    {
        Change done = change([&](char *message, std::size_t size) { return ::mxgate_refresh(gate_.get(), message, size); });
        return done.result > 0 ? std::optional<std::string>(std::move(done.message)) : std::nullopt;
    }

    /** Puts a text in the place of what the policy names for a list. Returns warnings, or "". Throws Error. */
    std::string set_list(const std::string &name, std::string_view text)
    {
        // NULL would take it back.
        const char *data = text.data() == nullptr ? "" : text.data();
        return change([&](char *message, std::size_t size) {
                   return ::mxgate_set_list(gate_.get(), name.c_str(), data, text.size(), message, size);
               }).message;
    }

    /** Takes back what set_list() has done. */
    std::string reset_list(const std::string &name)
    {
        return change([&](char *message, std::size_t size) {
                   return ::mxgate_set_list(gate_.get(), name.c_str(), nullptr, 0, message, size);
               }).message;
    }

    /** Refuses a network, such as "192.0.2.0/24", for that many seconds; 0: until unban(). Throws Error. */
    void ban(std::string_view network, std::uint64_t seconds = 0, std::string_view reason = {})
    {
        change([&](char *message, std::size_t size) {
            return ::mxgate_ban(gate_.get(), network.data(), network.size(), seconds, reason.data(), reason.size(), message, size);
        });
    }

    /** Lifts a ban; returns whether there was one. Throws Error. */
    bool unban(std::string_view network)
    {
        return change([&](char *message, std::size_t size) {
                   return ::mxgate_unban(gate_.get(), network.data(), network.size(), message, size);
               }).result > 0;
    }

    /** Puts a mode in force, whatever the policy says, until it is Mode::of_policy. Throws Error. */
    void set_mode(Mode mode)
    {
        const int result = ::mxgate_set_mode(gate_.get(), static_cast<int>(mode));
        if (result < 0)
            throw Error(result, "");
    }

    /** Checks a client that has just connected. */
    Verdict check_connect(const Facts &facts) const noexcept { return check(::mxgate_check_connect, facts); }

    /** Checks a sender, and the client with it. */
    Verdict check_mail(const Facts &facts) const noexcept { return check(::mxgate_check_mail, facts); }

    /** Checks one recipient, and client and sender with it. */
    Verdict check_rcpt(const Facts &facts) const noexcept { return check(::mxgate_check_rcpt, facts); }

    /** Says why a question is answered as it is, at Stage::connect or Stage::rcpt. Not for each client. */
    std::string explain(Stage stage, const Facts &facts, Format format = Format::text) const
    {
        return text([&](char *buffer, std::size_t size) {
            const ::mxgate_facts &c = facts.c();
            return ::mxgate_explain(gate_.get(), static_cast<int>(stage), &c, sizeof c, static_cast<int>(format), buffer, size);
        });
    }

    /** The state of the gate: mode, rules, lists, counters. As text it is an SMTP reply 211. */
    std::string status(Format format = Format::text) const
    {
        return text([&](char *buffer, std::size_t size) {
            return ::mxgate_status(gate_.get(), static_cast<int>(format), buffer, size);
        });
    }

    /** What the gate has done so far. */
    ::mxgate_counters counters() const noexcept
    {
        ::mxgate_counters counters = {};
        ::mxgate_count(gate_.get(), &counters, sizeof counters);
        return counters;
    }

    /** The same for the functions of mxgate.h; it still belongs to this object. */
    ::mxgate_gate *c() const noexcept { return gate_.get(); }

private:
    struct Free {
        void operator()(::mxgate_gate *gate) const noexcept { ::mxgate_free(gate); }
    };

    struct Change {
        int result;
        std::string message;
    };

    /** Calls a function that writes a message. */
    template <typename Call> static Change change(const Call &call)
    {
        std::string message(65536, '\0');
        const int result = call(&message[0], message.size());
        message.resize(std::strlen(message.c_str()));
        if (result < 0)
            throw Error(result, message);
        return {result, std::move(message)};
    }

    /** Calls a function that returns the length of its text, until all of it fits: it may grow meanwhile. */
    template <typename Call> static std::string text(const Call &call)
    {
        std::string buffer(4096, '\0');
        for (;;) {
            const std::size_t length = call(&buffer[0], buffer.size());
            const bool fits = length < buffer.size();
            buffer.resize(fits ? length : length + 1);
            if (fits)
                return buffer;
        }
    }

    using Check = int (*)(const ::mxgate_gate *, const ::mxgate_facts *, std::size_t, ::mxgate_verdict *);

    Verdict check(Check function, const Facts &facts) const noexcept
    {
        Verdict verdict;
        verdict.result_ = function(gate_.get(), &facts.c(), sizeof(::mxgate_facts), &verdict.verdict_);
        return verdict;
    }

    std::unique_ptr<::mxgate_gate, Free> gate_;
};

/** Hands what the library has to say, up to a level (MXGATE_LOG_...), to a function; nullptr ends that. For all gates
 *  together. Throws Error. */
inline void set_log(::mxgate_log write, void *user = nullptr, int level = MXGATE_LOG_INFO)
{
    const int result = ::mxgate_set_log(write, user, level);
    if (result < 0)
        throw Error(result, "");
}

} // namespace mxgate

#endif /* MXGATE_HPP */
