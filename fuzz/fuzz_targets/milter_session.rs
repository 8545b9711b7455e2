//! Any bytes from a mail server: no panic, whole packets as answers, and the same answers however the bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mxgate::Gate;
use mxgate::milter::Session;
use std::sync::OnceLock;

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"all\"\nentries = [\"192.0.2.0/24 100% {x}\"]\n\
                      [[domains]]\nname = \"parked\"\nentries = [\".parked.example\"]\n";

fn answers(gate: &Gate, pieces: &mut dyn Iterator<Item = &[u8]>) -> Vec<u8> {
    let (mut session, mut out) = (Session::new(gate.stages()), Vec::new());
    for piece in pieces {
        if session.feed(gate, piece, &mut out, &mut |_| {}).is_err() {
            break;
        }
    }
    out
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
    let mut rest = &whole[..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (packet, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        assert!(matches!(packet.first(), Some(b'c' | b'y' | b'O')));
        if packet[0] == b'y' {
            assert!(packet.ends_with(b"\0") && packet[1..packet.len() - 1].iter().all(|b| matches!(b, b' '..=b'~')));
        }
        rest = after;
    }
    assert!(rest.is_empty());
});
