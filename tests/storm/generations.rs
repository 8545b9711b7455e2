//! Two policies that are never to be mixed: each has a list of its own, and each answer says from which policy the reply
//! comes and from which list the reason. Some networks are in both lists, some in one, some in none.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;

/// Of so many networks the first four are asked for: one of each kind.
const GROUP: u32 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    A,
    B,
}

impl Generation {
    pub(crate) fn other(self) -> Generation {
        match self {
            Generation::A => Generation::B,
            Generation::B => Generation::A,
        }
    }

    /// Writes the list of this generation, with so many networks.
    pub(crate) fn write_list(&self, directory: &Path, networks: u32) {
        let mut text = String::new();
        for number in (0..networks * 2).filter(|number| self.lists(*number)) {
            let reason = if number % GROUP < 4 { format!(" list {self:?}") } else { String::new() };
            writeln!(text, "{}/64{reason}", address(number)).unwrap();
        }
        assert_eq!(text.lines().count(), usize::try_from(networks).unwrap());
        fs::write(directory.join(format!("{self:?}.txt")), text).unwrap();
    }

    /// The policy of this generation.
    pub(crate) fn policy(self) -> String {
        let list = format!("[[list]]\nname = \"storm\"\nfile = \"{self:?}.txt\"\n");
        format!("hostname = \"mx.example.org\"\n{list}reply = \"550 5.7.1 Policy {self:?}: {{reason}}\"\n")
    }

    fn lists(self, number: u32) -> bool {
        matches!((self, number % 4), (_, 0) | (Generation::A, 1) | (Generation::B, 2))
    }

    /// What a client of a network reads; empty if it is let in.
    pub(crate) fn reply(self, number: u32) -> String {
        if self.lists(number) { format!("550 5.7.1 Policy {self:?}: list {self:?}") } else { String::new() }
    }
}

/// A network that can be asked for.
pub(crate) fn network(random: u32, networks: u32) -> u32 {
    let groups = networks * 2 / GROUP;
    (random / 4 % groups) * GROUP + random % 4
}

/// The first address of a network. They do not touch each other, or else they would be compiled into fewer.
pub(crate) fn address(number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | (u128::from(number) * 3) << 64)
}
