//! Sessions that no mail server would have: a good one, and what chance makes of it; the same ones in every run.

use crate::peer::{bytes, client, offer, rcpt};
use crate::random::random;
use mxgate::milter::codec::{Command, Macros};
use proptest::prelude::Rng as _;
use proptest::test_runner::TestRng;

/// So many sessions, each as bytes.
pub(crate) fn sessions(count: usize) -> Vec<Vec<u8>> {
    let mut random = random(84);
    (0..count).map(|_| session(&mut random)).collect()
}

fn session(random: &mut TestRng) -> Vec<u8> {
    let [macros, rcpt] = rcpt();
    let mail = [Command::Macro(b'M', Macros(b"{mail_addr}\0sender@example.net\0")), Command::Mail(b"<sender@example.net>")];
    let good = [offer(), client("192.0.2.7"), mail[0], mail[1], macros, rcpt, macros, rcpt, Command::Eom(b""), Command::Abort];
    let mut packets: Vec<Vec<u8>> = good.iter().map(|packet| bytes(&[*packet])).collect();
    for _ in 0..=below(random, 3) {
        mutilate(&mut packets, random);
    }
    packets.concat()
}

fn mutilate(packets: &mut Vec<Vec<u8>>, random: &mut TestRng) {
    // The first packet is left alone as a rule: after a bad one nothing is read.
    let at = if below(random, 4) == 0 { 0 } else { below(random, packets.len()) };
    let packet = packets[at].clone();
    match below(random, 9) {
        // A byte is another one; so is the length, the command.
        0 => packets[at][below(random, packet.len())] = random.next_u32().to_le_bytes()[0],
        1 => packets[at][below(random, 4)] = 0xff,
        2 => packets[at][4] = random.next_u32().to_le_bytes()[0],
        // In the wrong order, twice, not at all.
        3 => {
            let other = below(random, packets.len());
            packets.swap(at, other);
        }
        4 => packets.insert(below(random, packets.len()), packet),
        5 if packets.len() > 1 => drop(packets.remove(at)),
        // Cut off; with something behind it; without its NULs.
        6 => packets[at].truncate(below(random, packet.len() - 1) + 1),
        7 => packets[at].extend((0..below(random, 200)).map(|number| b"\0\xff%\r\n<>@"[number % 8])),
        _ => packets[at].iter_mut().skip(5).filter(|byte| **byte == 0).for_each(|byte| *byte = b'x'),
    }
}

fn below(random: &mut TestRng, limit: usize) -> usize {
    usize::try_from(random.next_u32()).unwrap() % limit
}
