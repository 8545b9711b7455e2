//! `cargo bench --bench domains`: a check of a recipient whose domain has three labels, beside a hash table of the same
//! names that is probed label by label and says no more than "there is one"; and how long the lists take to load. Both take
//! turns in one run; printed are medians, and the medians of their ratios.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

use hashbrown::HashTable;
use mxgate::{Facts, Gate};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

const SIZES: [u32; 3] = [1_000, 100_000, 1_000_000];
const QUESTIONS: u32 = 20_000;
const TURNS: usize = 21;

/// Names one behind the other, and a hash table of their places.
struct Plain {
    names: String,
    places: Vec<(u32, u8)>,
    table: HashTable<u32>,
    secrets: RapidSecrets,
}

impl Plain {
    fn of<'a>(list: impl Iterator<Item = &'a str>) -> Plain {
        let secrets = RapidSecrets::seed(1);
        let mut plain = Plain { names: String::new(), places: Vec::new(), table: HashTable::new(), secrets };
        for name in list {
            let place = (u32::try_from(plain.names.len()).unwrap(), u8::try_from(name.len()).unwrap());
            plain.names.push_str(name);
            plain.places.push(place);
            let (names, places) = (&plain.names, &plain.places);
            let hash = |at: &u32| rapidhash_v3_seeded(name_at(names, places, *at).as_bytes(), &secrets);
            let at = u32::try_from(places.len() - 1).unwrap();
            plain.table.insert_unique(hash(&at), at, hash);
        }
        plain
    }

    fn has(&self, name: &str) -> bool {
        let hash = rapidhash_v3_seeded(name.as_bytes(), &self.secrets);
        self.table.find(hash, |at| name_at(&self.names, &self.places, *at) == name).is_some()
    }

    /// Whether a name or one above it is there.
    fn covers(&self, name: &str) -> bool {
        std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, above)| above)).any(|name| self.has(name))
    }
}

fn name_at<'a>(names: &'a str, places: &[(u32, u8)], at: u32) -> &'a str {
    let (start, length) = places[at as usize];
    &names[start as usize..start as usize + usize::from(length)]
}

fn name(number: u32) -> String {
    let tops = ["com", "net", "org", "example", "co.example"];
    format!("shop{}.{}", number.wrapping_mul(2_654_435_761) >> 4, tops[number as usize % tops.len()])
}

fn time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    (work(), start.elapsed())
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    for size in SIZES {
        let list = (0..size).fold(String::new(), |mut list, number| {
            writeln!(list, ".{}", name(number)).unwrap();
            list
        });
        fs::write(directory.path().join("list.txt"), &list).unwrap();
        let policy = "hostname = \"mx.example.org\"\n[[domains]]\nname = \"parked\"\nfile = \"list.txt\"\n";
        fs::write(directory.path().join("mxgate.toml"), policy).unwrap();
        let gate = Gate::new();
        let ((), load) = time(|| drop(gate.load_file(&directory.path().join("mxgate.toml")).unwrap()));
        let plain = Plain::of(list.lines().map(|line| &line[1..]));
        println!("{size} names, in force after {} ms", load.as_millis());
        for (title, number, covered) in [("not listed", size, false), ("below a listed name", 0, true)] {
            // As far apart as may be, so that no part of the table stays in the cache.
            let step = if covered { (size / QUESTIONS).max(1) } else { 1 };
            let domains: Vec<String> = (0..QUESTIONS).map(|nth| format!("www.{}", name(number + nth * step % size))).collect();
            let recipients: Vec<String> = domains.iter().map(|domain| format!("<user@{domain}>")).collect();
            let (mut checks, mut plains, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..TURNS {
                let (refused, ours) = time(|| {
                    let ask = |recipient: &&String| {
                        !gate.check_rcpt(&Facts { recipient: Some(recipient.as_bytes()), ..Facts::default() }).is_accept()
                    };
                    recipients.iter().filter(ask).count()
                });
                let (found, theirs) = time(|| domains.iter().filter(|domain| black_box(plain.covers(domain))).count());
                assert_eq!((refused > 0, refused), (covered, found));
                let each = |time: Duration| time.as_secs_f64() * 1e9 / f64::from(QUESTIONS);
                checks.push(each(ours));
                plains.push(each(theirs));
                ratios.push(each(ours) / each(theirs));
            }
            println!("  {title:20} check {:5.0} ns, hash table {:5.0} ns, ratio {:.2}", median(checks), median(plains), median(ratios));
        }
    }
}
