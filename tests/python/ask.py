"""The corpus through the package: ask.py POLICY < questions > answers, each a line of JSON.

Texts in questions are hexadecimal digits, because they may be any bytes. Each question is asked both ways: by the gate, and by
a checker that all of them share.
"""

import json
import sys

from mxgate import Facts, Gate, Result, Stage

FLAGS = ("authenticated",)
CHECKS = ("spf", "dkim", "dmarc", "rdns")
TEXTS = ("sender", "recipient")

gate = Gate(sys.argv[1])
shared = Facts()
checker = gate.checker(shared)
for line in sys.stdin:
    question = json.loads(line)
    known = {"ip": question["client"], "authenticated": question["authenticated"]}
    known.update({name: question[name] and bytes.fromhex(question[name]) for name in TEXTS if question[name] is not None})
    known.update({name: Result[question[name].upper()] for name in CHECKS})
    facts = Facts(**known)
    at_rcpt = question["recipient"] is not None
    verdict = gate.check_rcpt(facts) if at_rcpt else gate.check_connect(facts)

    for name in ("ip", *TEXTS, *FLAGS, *CHECKS):
        setattr(shared, name, getattr(facts, name))
    assert (checker.rcpt() if at_rcpt else checker.connect()) == bool(verdict), line
    assert checker.verdict() == verdict and checker.reply() == verdict.reply(Stage.RCPT), line

    answer = {name: getattr(verdict, name) for name in ("code", "hangup", "decider", "list", "entry", "line", "generation")}
    print(json.dumps({**answer, "reply": verdict.reply(Stage.RCPT), "greeting": verdict.reply(Stage.CONNECT)}))
