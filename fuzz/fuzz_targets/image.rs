//! Any changes to an image, with checksums that are good: it is refused or opened, nothing panics, and what is answered then is
//! well-formed. Three bytes of the input are a place, from the end of the file, the fourth is what stands there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mxgate::{Facts, Gate};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs, process};

const POLICY: &str = "hostname = \"mx.example.org\"\n[[list]]\nname = \"local\"\nentries = [\"192.0.2.0/24 why\", \"!192.0.2.7\", \"2001:db8::/32\"]\n\
                      [[domains]]\nname = \"parked\"\nentries = [\"parked.example\", \".both.example\"]\n\
                      [[senders]]\nname = \"spammers\"\nentries = [\"user@example.net\"]\n";

/// Makes the checksums good. The layout stands in src/image/mod.rs.
fn repair(image: &mut [u8]) {
    let number = |at: usize| usize::try_from(u64::from_ne_bytes(image[at..at + 8].try_into().unwrap())).unwrap_or(usize::MAX);
    let (begin, end) = (number(24), number(24).saturating_add(number(32)));
    let body = image.get(64..begin).map_or(0, crc32fast::hash);
    let index = image.get(begin..end).map_or(0, crc32fast::hash);
    image[40..44].copy_from_slice(&body.to_ne_bytes());
    image[44..48].copy_from_slice(&index.to_ne_bytes());
    image[48..52].fill(0);
    let header = crc32fast::hash(&image[..64]);
    image[48..52].copy_from_slice(&header.to_ne_bytes());
}

fuzz_target!(|data: &[u8]| {
    static IMAGE: OnceLock<(PathBuf, Vec<u8>)> = OnceLock::new();
    let (path, image) = IMAGE.get_or_init(|| {
        let path = env::temp_dir().join(format!("mxgate-fuzz-{}.mxg", process::id()));
        let gate = Gate::new();
        gate.load_text(POLICY, "policy").unwrap();
        gate.write_image(&path).unwrap();
        let image = fs::read(&path).unwrap();
        (path, image)
    });
    let mut image = image.clone();
    for change in data.chunks_exact(4) {
        let place = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
        let length = image.len();
        image[length - 1 - place % length] = change[3];
    }
    repair(&mut image);
    fs::write(path, &image).unwrap();
    let gate = Gate::new();
    let checked = gate.load_file(path).is_ok();
    assert!(gate.open_image(path).is_ok() || !checked);
    for address in ["192.0.2.1", "198.51.100.1", "2001:db8::1"] {
        let facts = Facts {
            sender: Some(b"<user@example.net>"),
            recipient: Some(b"<user@a.both.example>"),
            ..Facts::of_client(address.parse().unwrap())
        };
        for verdict in [gate.check_connect(&facts), gate.check_rcpt(&facts)] {
            if let Some(rejection) = verdict.rejection {
                for line in [rejection.reply(), rejection.greeting()] {
                    assert!(line.len() <= 510 && line.bytes().all(|b| matches!(b, b' '..=b'~')));
                }
            }
        }
    }
});
