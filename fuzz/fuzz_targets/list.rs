//! Any bytes as a list: the load fails and changes nothing, or the list is in force and refuses nobody that the old rules
//! and the never-block set protect. The first byte chooses the kind of list.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mxgate::{Facts, Files, Gate};
use std::io::{self, BufRead};

struct One<'a>(&'a [u8]);

impl Files for One<'_> {
    fn display(&self, name: &str) -> String {
        name.into()
    }

    fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
        Ok(Box::new(self.0))
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, list)) = data.split_first() else { return };
    let section = if first % 2 == 0 { "list" } else { "domains" };
    let text = format!("hostname = \"mx.example.org\"\n[[{section}]]\nname = \"feed\"\nfile = \"feed\"\n");
    let gate = Gate::new();
    let loaded = gate.load(&text, &"policy".into(), &One(list)).is_ok();
    assert_eq!(gate.ruleset().generation(), u64::from(loaded));
    for address in ["127.0.0.1", "10.1.2.3", "::1"] {
        assert!(gate.check_connect(&Facts::of_client(address.parse().unwrap())).is_accept());
    }
    gate.check_connect(&Facts::of_client("192.0.2.1".parse().unwrap()));
});
