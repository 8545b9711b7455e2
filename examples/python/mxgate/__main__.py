"""Asks a policy about a client: python3 -m mxgate POLICY ADDRESS [RECIPIENT]

Prints the reply and who decided. Exit status: 0 accept, 1 reject, 2 error.
"""

import sys
from typing import List

from mxgate import Error, Facts, Gate


def main(arguments: List[str]) -> int:
    if len(arguments) not in (2, 3):
        print("usage: python3 -m mxgate POLICY ADDRESS [RECIPIENT]", file=sys.stderr)
        return 2
    try:
        with Gate(arguments[0]) as gate:
            print(*gate.warnings, sep="\n", end="\n" if gate.warnings else "", file=sys.stderr)
            facts = Facts(ip=arguments[1])
            if len(arguments) == 3:
                facts.recipient = arguments[2]
                verdict = gate.check_rcpt(facts)
            else:
                verdict = gate.check_connect(facts)
    except (Error, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    print(verdict.reply() or "accept")
    if verdict.list:
        print(f"{verdict.list}, entry {verdict.entry}, line {verdict.line}: {verdict.reason}")
    return 1 if verdict else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
