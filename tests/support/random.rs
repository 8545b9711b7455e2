//! Random questions, the same ones each time, and what is needed to make networks of them.

#![allow(dead_code, reason = "each program that includes this module uses only a part of it")]
#![allow(clippy::print_stdout, clippy::cast_possible_truncation, reason = "test support")]

use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Once;

static SAID: Once = Once::new();

/// A generator with the seed that `MXGATE_SEED` says, else always the same; each `stream` asks other questions.
pub(crate) fn random(stream: u8) -> TestRng {
    let seed = std::env::var("MXGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u64);
    SAID.call_once(|| println!("MXGATE_SEED={seed}; another one asks other questions"));
    let mut bytes = [0; 32];
    for (byte, value) in bytes.iter_mut().zip(seed.to_le_bytes().into_iter().chain([stream])) {
        *byte = value;
    }
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

pub(crate) fn random_bits(random: &mut TestRng) -> u128 {
    u128::from(random.next_u64()) << 64 | u128::from(random.next_u64())
}

/// The leading bits that belong to a prefix of that length.
pub(crate) fn mask(length: u32) -> u128 {
    u128::MAX.checked_shl(128 - length).unwrap_or(0)
}

/// An address by its leading bits: IPv4 in the upper 32.
pub(crate) fn address(v4: bool, bits: u128) -> IpAddr {
    if v4 { Ipv4Addr::from_bits((bits >> 96) as u32).into() } else { Ipv6Addr::from_bits(bits).into() }
}
