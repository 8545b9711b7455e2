//! Any text as a policy: it loads, or every message has a place in it; and whatever is answered then is well-formed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mxgate::{Facts, Files, Gate};
use std::io::{self, BufRead};

/// No file can be read, so that nothing outside is touched.
struct Nothing;

impl Files for Nothing {
    fn display(&self, name: &str) -> String {
        name.into()
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

fuzz_target!(|text: &str| {
    let gate = Gate::new();
    match gate.load(text, &"policy".into(), &Nothing) {
        Err(error) => assert!(error.diagnostics.iter().any(|d| d.is_error() && d.line > 0 && d.column > 0)),
        Ok(_) => {
            for address in ["192.0.2.1", "127.0.0.1", "2001:db8::1"] {
                let facts = Facts { recipient: Some(b"<user@example.org>"), ..Facts::of_client(address.parse().unwrap()) };
                if let Some(rejection) = gate.check_rcpt(&facts).rejection {
                    for line in [rejection.reply(), rejection.greeting()] {
                        assert!(line.len() <= 510 && line.bytes().all(|b| matches!(b, b' '..=b'~')));
                    }
                }
            }
        }
    }
});
