//! Any facts through the C ABI: a result that the header names, strings that end, and "accept" after an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mxgate::capi::*;
use std::sync::OnceLock;

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"all\"\nentries = [\"0.0.0.0/1\", \"128.0.0.0/1\", \"2000::/3\"]\n\
                      [[domains]]\nname = \"parked\"\nentries = [\".example\"]\n[guards]\nwidest_v4 = 1\nwidest_v6 = 1\n";

struct Shared(*mut mxgate_gate);
// SAFETY: the header says that threads may share a gate.
unsafe impl Send for Shared {}
// SAFETY: likewise.
unsafe impl Sync for Shared {}

fuzz_target!(|data: &[u8]| {
    static GATE: OnceLock<Shared> = OnceLock::new();
    let gate = GATE.get_or_init(|| {
        let gate = mxgate_new();
        // SAFETY: the text has that length.
        let loaded = unsafe { mxgate_load_text(gate, POLICY.as_ptr().cast(), POLICY.len(), std::ptr::null_mut(), 0) };
        assert_eq!(loaded, 0);
        Shared(gate)
    });
    let Some((head, recipient)) = data.split_first_chunk::<24>() else { return };
    // SAFETY: all-zero is a valid value of these plain structures.
    let (mut facts, mut verdict): (mxgate_facts, mxgate_verdict) = unsafe { std::mem::zeroed() };
    facts.address_size = head[0].into();
    facts.flags = head[1].into();
    facts.address.copy_from_slice(&head[2..18]);
    facts.recipient = recipient.as_ptr().cast();
    facts.recipient_length = recipient.len();
    let size = size_of_val(&facts) + usize::from(head[18] % 3) - 1;
    let size = size.min(size_of_val(&facts));
    // SAFETY: all pointers are valid for the lengths beside them.
    let result = unsafe { mxgate_check_rcpt(gate.0, &raw const facts, size, &raw mut verdict) };
    assert!((MXGATE_EBUG + 1..=MXGATE_REJECT).contains(&result), "{result}");
    assert_eq!(result == MXGATE_REJECT, verdict.code != 0);
    for string in [&verdict.text[..], &verdict.entry[..], &verdict.list[..], &verdict.reason[..], &verdict.status[..]] {
        assert!(string.contains(&0));
    }
    let mut reply = [0; 512];
    // SAFETY: the buffer has that size.
    let length = unsafe { mxgate_reply(&raw const verdict, MXGATE_AT_RCPT, MXGATE_FOR_CLIENT, reply.as_mut_ptr(), reply.len()) };
    assert_eq!(length != 0, result == MXGATE_REJECT);
});
