/* ask.cpp - the corpus through mxgate.hpp: ask POLICY < questions > answers, both as in ask.c */
#include <iostream>
#include <mxgate.hpp>

static std::string unhex(std::string_view hex)
{
    std::string bytes;
    for (; hex.size() >= 2; hex.remove_prefix(2))
        bytes += static_cast<char>(std::stoi(std::string(hex.substr(0, 2)), nullptr, 16));
    return bytes;
}

int main(int argc, char **argv)
try {
    if (argc != 2)
        return 2;
    mxgate::Gate gate;
    gate.load_file(argv[1]);
    std::string stage, address, from, to;
    unsigned flags;
    int spf, dkim, dmarc, rdns;
    while (std::cin >> stage >> address >> flags >> spf >> dkim >> dmarc >> rdns >> from >> to) {
        const std::string sender = unhex(from), recipient = unhex(to);
        mxgate::Facts facts;
        facts.authenticated((flags & MXGATE_AUTHENTICATED) != 0);
        facts.spf(static_cast<mxgate::Result>(spf)).dkim(static_cast<mxgate::Result>(dkim));
        facts.dmarc(static_cast<mxgate::Result>(dmarc)).rdns(static_cast<mxgate::Result>(rdns));
        if (address != "-")
            facts.client(address);
        if (from != "-")
            facts.sender(sender);
        if (to != "-")
            facts.recipient(recipient);
        const auto verdict = stage == "rcpt" ? gate.check_rcpt(facts) : gate.check_connect(facts);
        if (verdict.error() != 0 || verdict.accepted() == verdict.rejected())
            return 2;
        std::cout << verdict.rejected() << '\t' << verdict.code() << '\t' << verdict.hang_up() << '\t'
                  << static_cast<int>(verdict.decider()) << '\t' << verdict.list() << '\t' << verdict.entry() << '\t' << verdict.line()
                  << '\t' << verdict.generation() << '\t' << verdict.reply().value_or("") << '\t'
                  << verdict.reply(mxgate::Stage::connect).value_or("") << '\n';
    }
    return 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 2;
}
