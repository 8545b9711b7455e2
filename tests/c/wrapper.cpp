/* wrapper.cpp - what mxgate.hpp promises: who owns what, what throws and what does not, and that a check allocates nothing.
 *
 * Prints nothing and ends with 0 if all is well, else names the line that is not.
 */
#include <cstdio>
#include <cstdlib>
#include <mxgate.hpp>
#include <type_traits>
#include <vector>

#define CHECK(what) do { if (!(what)) { std::printf("line %d: %s\n", __LINE__, #what); return 1; } } while (0)

using namespace mxgate;

static_assert(std::is_nothrow_move_constructible_v<Gate> && std::is_nothrow_move_assignable_v<Gate>);
static_assert(!std::is_copy_constructible_v<Gate> && !std::is_copy_assignable_v<Gate>);
static_assert(std::is_trivially_copyable_v<Verdict> && std::is_trivially_copyable_v<Facts>);
static_assert(noexcept(std::declval<const Gate &>().check_connect(std::declval<const Facts &>())));
static_assert(noexcept(std::declval<const Gate &>().check_mail(std::declval<const Facts &>())));
static_assert(noexcept(std::declval<const Gate &>().check_rcpt(std::declval<const Facts &>())));
static_assert(std::is_base_of_v<std::runtime_error, Error>);

static unsigned long allocations;

void *operator new(std::size_t size)
{
    ++allocations;
    if (void *memory = std::malloc(size))
        return memory;
    throw std::bad_alloc();
}

void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }

static const char POLICY[] =
    "hostname = \"mx.example.org\"\n"
    "[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 sent 100% spam\"]\nreply = \"550 5.7.1 {reason}, {helo}\"\n"
    "[[list]]\nname = \"watched\"\nentries = [\"198.51.100.0/24\"]\nenforce = false\n"
    "[[senders]]\nname = \"spam\"\nentries = [\"spam.example\"]\n"
    "[relay]\nlocal = [\"example.org\"]\n"
    "[authentication]\nspf_fail = \"reject\"\ndkim_fail = \"reject\"\ndmarc_fail = \"reject\"\nrdns_fail = \"reject\"\n";

/* The code and the text of the Error that a call throws; 0 if it throws none. */
template <typename Call> static int thrown(const Call &call, std::string &text)
{
    try {
        call();
        return 0;
    } catch (const Error &error) {
        text = error.what();
        return error.code();
    }
}

static int checks(Gate &gate)
{
    const unsigned char bytes[4] = {192, 0, 2, 7};
    Facts facts;

    /* before the first load: accept, and no error */
    facts.client(bytes, sizeof bytes).helo("client.example").sender("<a@example.net>").recipient("<user@example.org>");
    CHECK(gate.check_rcpt(facts).accepted() && gate.check_rcpt(facts).error() == 0 && gate.check_rcpt(facts).generation() == 0);

    CHECK(gate.load_text(POLICY).empty());
    const unsigned long before = allocations;
    const Verdict verdict = gate.check_rcpt(facts);
    CHECK(allocations == before);
    CHECK(verdict.rejected() && !verdict.accepted() && verdict.error() == 0 && verdict.code() == 550 && !verdict.hang_up());
    CHECK(verdict.status() == "5.7.1" && verdict.text() == "sent 100? spam, client.example" && verdict.host() == "mx.example.org");
    CHECK(verdict.decider() == Decider::block && verdict.list() == "local" && verdict.entry() == "192.0.2.0/24");
    CHECK(verdict.line() == 4 && verdict.reason() == "sent 100? spam" && verdict.shadow().empty() && verdict.generation() == 1);
    CHECK(verdict.reply() == "550 5.7.1 sent 100? spam, client.example");
    CHECK(verdict.reply(Stage::connect) == "554 mx.example.org sent 100? spam, client.example");
    CHECK(verdict.reply(Stage::rcpt, Host::opensmtpd) == "reject|550 5.7.1 sent 100? spam, client.example");
    CHECK(verdict.c().code == 550 && Verdict().accepted() && !Verdict().reply());

    /* each fact has its place */
    CHECK(!Facts().client("nonsense").has_client() && !Facts().client(bytes, 5).has_client() && !Facts().client({}).has_client());
    CHECK(gate.check_connect(Facts().client("[IPv6:::ffff:192.0.2.7]")).rejected());
    CHECK(gate.check_rcpt(Facts(facts).authenticated()).accepted());
    CHECK(gate.check_rcpt(Facts(facts).authenticated().authenticated(false)).rejected());
    CHECK(gate.check_connect(Facts().client("198.51.100.9")).shadow() == "watched");
    facts.client("203.0.113.7");
    CHECK(gate.check_mail(Facts(facts).sender("a@spam.example")).decider() == Decider::sender);
    CHECK(gate.check_mail(Facts(facts).sender("")).accepted() && gate.check_mail(Facts(facts).sender({})).accepted());
    CHECK(gate.check_rcpt(Facts(facts).recipient("a@other.example")).decider() == Decider::relay);
    CHECK(gate.check_rcpt(Facts(facts).recipient("a@other.example").trusted()).accepted());
    CHECK(gate.check_rcpt(Facts(facts).spf(Result::fail)).status() == "5.7.23");
    CHECK(gate.check_rcpt(Facts(facts).dkim(Result::fail)).status() == "5.7.20");
    CHECK(gate.check_rcpt(Facts(facts).dmarc(Result::fail)).reason() == "dmarc=fail");
    CHECK(gate.check_rcpt(Facts(facts).rdns(Result::fail)).status() == "5.7.25");
    /* not only part of a string that is longer */
    CHECK(gate.check_rcpt(Facts(facts).recipient(std::string_view("user@example.org.other", 16))).accepted());

    /* a bad argument: an error, which accepts */
    const Verdict bad = gate.check_rcpt(Facts(facts).spf(static_cast<Result>(99)));
    CHECK(bad.accepted() && bad.error() == MXGATE_EINVAL);
    return 0;
}

static int changes(Gate &gate)
{
    std::string text;
    Facts facts;

    CHECK(thrown([&] { gate.load_text("host = 1\nx = 2"); }, text) == MXGATE_ESYNTAX);
    CHECK(text.find("policy:1:1: ") != text.npos && text.find("\npolicy:2:1: ") != text.npos && text.find("; ") != text.npos);
    CHECK(thrown([&] { gate.load_file("/nonexistent/policy"); }, text) == MXGATE_EIO);
    CHECK(text.rfind("/nonexistent/policy:1:1: cannot read the policy: ", 0) == 0);
    CHECK(thrown([&] { gate.open_image("/nonexistent/policy.mxg"); }, text) == MXGATE_EIO);
    CHECK(text.rfind("/nonexistent/policy.mxg:1:1: cannot read the image: ", 0) == 0);
    CHECK(gate.check_connect(facts.client("192.0.2.7")).rejected()); /* the rules in force stay */
    CHECK(!gate.refresh());

    facts.client("203.0.113.7");
    gate.ban("203.0.113.0/29", 60, "guessing passwords");
    CHECK(gate.check_connect(facts).decider() == Decider::ban && gate.check_connect(facts).reason() == "guessing passwords");
    CHECK(gate.unban("203.0.113.0/29") && !gate.unban("203.0.113.0/29") && gate.check_connect(facts).accepted());
    CHECK(thrown([&] { gate.ban("nonsense"); }, text) == MXGATE_ESYNTAX && text.find("nonsense") != text.npos);

    gate.set_list("local", "203.0.113.7 one\n");
    CHECK(gate.check_connect(facts).list() == "local");
    gate.set_list("local", {});
    CHECK(gate.check_connect(facts).accepted() && gate.check_connect(Facts().client("192.0.2.7")).accepted());
    gate.reset_list("local");
    CHECK(gate.check_connect(Facts().client("192.0.2.7")).rejected());
    CHECK(thrown([&] { gate.set_list("nobody", "192.0.2.1"); }, text) < 0 && text.find("nobody") != text.npos);

    gate.set_mode(Mode::maintenance);
    CHECK(gate.check_connect(facts).reply(Stage::connect)->rfind("421 mx.example.org ", 0) == 0);
    CHECK(gate.check_connect(facts).hang_up());
    gate.set_mode(Mode::of_policy);
    CHECK(gate.check_connect(facts).accepted());
    CHECK(thrown([&] { gate.set_mode(static_cast<Mode>(99)); }, text) == MXGATE_EINVAL && !text.empty());

    facts.client("192.0.2.7").port(2525).tls();
    CHECK(gate.explain(Stage::connect, facts).find("local") != text.npos);
    CHECK(gate.explain(Stage::connect, facts, Format::json).rfind("{", 0) == 0);
    CHECK(gate.explain(static_cast<Stage>(99), facts).empty());
    CHECK(gate.status().rfind("211", 0) == 0 && gate.status(Format::json).rfind("{", 0) == 0);
    CHECK(gate.counters().checks > 10 && gate.counters().rejected > 5 && gate.counters().failed_loads >= 2);

    /* longer than the buffer to begin with: many lists that all cover the client */
    std::string policy = "hostname = \"mx.example.org\"\n";
    for (int n = 0; n < 200; n++)
        policy += "[[list]]\nname = \"list-" + std::to_string(n) + "\"\nentries = [\"192.0.2.0/24 " + std::string(100, 'x') + "\"]\n";
    gate.load_text(policy);
    const std::string explanation = gate.explain(Stage::connect, facts);
    CHECK(explanation.size() > 8192 && explanation.find('\0') == text.npos && explanation.find("list-199") != text.npos);
    return 0;
}

static int ownership(Gate gate)
{
    std::vector<Gate> gates;
    const Facts facts = Facts().client("192.0.2.7");
    std::string text;

    const Verdict verdict = gate.check_connect(facts);
    gates.push_back(std::move(gate));
    gates.emplace_back();
    CHECK(gates[0].check_connect(facts).rejected() && gates[1].check_connect(facts).accepted());
    /* one that was moved from: fails open, and changes nothing */
    CHECK(gate.c() == nullptr && gate.check_connect(facts).accepted() && gate.check_connect(facts).error() == MXGATE_EINVAL);
    CHECK(thrown([&] { gate.load_text("hostname = \"mx.example.org\""); }, text) == MXGATE_EINVAL && !text.empty());
    CHECK(gate.status().empty() && gate.counters().checks == 0);
    gate = std::move(gates[0]);
    CHECK(gate.check_connect(facts).rejected());
    gates.clear();
    gate = Gate();
    CHECK(gate.check_connect(facts).accepted() && verdict.list() == "list-0"); /* the verdict stays good */
    return 0;
}

static int log()
{
    std::string lines, text;

    set_log([](void *user, int, const char *line) { *static_cast<std::string *>(user) += line; }, &lines);
    Gate().set_mode(Mode::draining);
    CHECK(lines == "the mode is draining");
    set_log(nullptr);
    Gate().set_mode(Mode::open);
    CHECK(lines == "the mode is draining");
    CHECK(thrown([] { set_log([](void *, int, const char *) {}, nullptr, 99); }, text) == MXGATE_EINVAL && !text.empty());
    return 0;
}

int main()
{
    Gate gate;

    return checks(gate) != 0 || changes(gate) != 0 || ownership(std::move(gate)) != 0 || log() != 0;
}
