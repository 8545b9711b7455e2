/* check.cpp - asks a policy about a client, or about one recipient: check POLICY ADDRESS [RECIPIENT]
 *
 *     c++ -std=c++17 -o check check.cpp -lmxgate
 *
 * Prints the reply and who decided. Exit status: 0 accept, 1 reject, 2 error.
 */
#include <iostream>
#include <mxgate.hpp>

int main(int argc, char **argv)
try {
    if (argc < 3 || argc > 4) {
        std::cerr << "usage: check POLICY ADDRESS [RECIPIENT]\n";
        return 2;
    }
    mxgate::Facts facts;
    if (!facts.client(argv[2]).has_client()) {
        std::cerr << argv[2] << " is not an IP address\n";
        return 2;
    }
    mxgate::Gate gate;
    if (const auto warnings = gate.load_file(argv[1]); !warnings.empty())
        std::cerr << warnings << '\n';
    const auto verdict = argc == 4 ? gate.check_rcpt(facts.recipient(argv[3])) : gate.check_connect(facts);

    std::cout << verdict.reply().value_or("accept") << '\n';
    if (!verdict.list().empty())
        std::cout << verdict.list() << ", entry " << verdict.entry() << ", line " << verdict.line() << ": " << verdict.reason() << '\n';
    return verdict.rejected() ? 1 : 0;
} catch (const std::exception &error) {
    std::cerr << error.what() << '\n';
    return 2;
}
