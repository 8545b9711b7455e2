//! Any bytes from a policy client: no panic, whole lines as answers, and the same answers however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mxgate::Gate;
use mxgate::policy_service::Session;
use std::sync::OnceLock;

// Without limits, which would count each of the conversations.
const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"all\"\nentries = [\"192.0.2.0/24 100% {x}\"]\n\
                      reply = \"550 5.7.1 {helo} {sender} {domain} {reason}\"\n[[domains]]\nname = \"parked\"\n\
                      entries = [\".parked.example\"]\n[authentication]\nrdns_fail = \"reject\"\n";

fn answers(gate: &Gate, pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<u8>, usize) {
    let (mut session, mut out, mut refused) = (Session::new(), Vec::new(), 0);
    for piece in pieces {
        if session.feed(gate, piece, &mut out, &mut |_| refused += 1).is_err() {
            break;
        }
    }
    (out, refused)
}

fuzz_target!(|data: &[u8]| {
    static GATE: OnceLock<Gate> = OnceLock::new();
    let gate = GATE.get_or_init(|| {
        let gate = Gate::new();
        gate.load_text(POLICY, "policy").unwrap();
        gate
    });
    let whole = answers(gate, &mut std::iter::once(data));
    assert_eq!(whole, answers(gate, &mut data.chunks(1)));
    assert_eq!(whole, answers(gate, &mut data.chunks(7)));
    let (out, mut refused) = whole;
    let mut rest = &out[..];
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\n\n").unwrap();
        let action = rest[..end].strip_prefix(b"action=").unwrap();
        assert!(action.iter().all(|b| matches!(b, b' '..=b'~')));
        if action != b"DUNNO" {
            assert!(action.starts_with(b"550 5.7.") || action.starts_with(b"521 5.3.2 "));
            refused -= 1;
        }
        rest = &rest[end + 2..];
    }
    assert_eq!(refused, 0);
});
