//! A journal on a simulated disk, which loses power at every point and fails at every operation.

use super::directory::Disk;
use super::journal::{JOURNAL, Journal};
use super::records::Record;
use mxgate::Ban;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::rc::Rc;

/// How many changes are appended at least; few, so that the file is often written anew.
const LEAST: usize = 4;

/// Names and what they stand for.
type Names = BTreeMap<String, usize>;

/// A disk with the cache of a system before it.
#[derive(Clone, Debug, Default)]
struct Simulated(Rc<RefCell<Inside>>);

#[derive(Clone, Debug, Default)]
struct Inside {
    files: Vec<Contents>,
    /// As programs see them; and all that they were since they were last brought to disk, the oldest first.
    names: Names,
    names_before: Vec<Names>,
    /// Operations so far, and at which of them what happens.
    operations: usize,
    fails_at: Option<(usize, ErrorKind)>,
    /// Whether it goes on failing.
    fails_on: bool,
    /// What the disk was like before each operation.
    history: Vec<(Vec<Contents>, Vec<Names>)>,
}

#[derive(Clone, Debug, Default)]
struct Contents {
    bytes: Vec<u8>,
    /// How many of them are on disk for certain.
    synced: usize,
}

impl Inside {
    /// Counts an operation; an error if it is to fail.
    fn begin(&mut self) -> io::Result<()> {
        let names = self.names_before.iter().chain([&self.names]).cloned().collect();
        self.history.push((self.files.clone(), names));
        self.operations += 1;
        match self.fails_at {
            Some((at, kind)) if at == self.operations || (self.fails_on && at < self.operations) => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn rename(&mut self, change: impl FnOnce(&mut Names)) {
        self.names_before.push(self.names.clone());
        change(&mut self.names);
    }
}

impl Disk for Simulated {
    type File = usize;

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let inside = self.0.borrow();
        Ok(inside.names.get(name).map(|file| inside.files[*file].bytes.clone()))
    }

    fn open(&self, name: &str) -> io::Result<usize> {
        self.0.borrow().names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn create(&self, name: &str) -> io::Result<usize> {
        let mut inside = self.0.borrow_mut();
        inside.begin()?;
        inside.files.push(Contents::default());
        let file = inside.files.len() - 1;
        inside.rename(|names| _ = names.insert(name.into(), file));
        Ok(file)
    }

    /// One that fails has written half.
    fn append(&self, file: &mut usize, bytes: &[u8]) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        let begun = inside.begin();
        let length = if begun.is_ok() { bytes.len() } else { bytes.len() / 2 };
        inside.files[*file].bytes.extend(&bytes[..length]);
        begun
    }

    fn sync(&self, file: &usize) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        inside.begin()?;
        let contents = &mut inside.files[*file];
        contents.synced = contents.bytes.len();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        inside.begin()?;
        let file = *inside.names.get(from).ok_or(ErrorKind::NotFound)?;
        inside.rename(|names| {
            names.remove(from);
            names.insert(to.into(), file);
        });
        Ok(())
    }

    fn keep(&self, name: &str, second: &str) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        inside.begin()?;
        let file = *inside.names.get(name).ok_or(ErrorKind::NotFound)?;
        if inside.names.contains_key(second) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        inside.rename(|names| _ = names.insert(second.into(), file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        inside.begin()?;
        inside.rename(|names| _ = names.remove(name));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut inside = self.0.borrow_mut();
        inside.begin()?;
        inside.names_before.clear();
        Ok(())
    }

    fn show(&self, name: &str) -> String {
        name.into()
    }
}

/// What can be on disk after the power has failed: any of the names since they were brought there, and of bytes that were
/// not, none, all, a part, or zeros.
fn after_power_loss((files, names): &(Vec<Contents>, Vec<Names>)) -> Vec<Simulated> {
    let mut disks = Vec::new();
    for names in names {
        for variant in 0..6 {
            let files = files.iter().map(|Contents { bytes, synced }| {
                let (sure, unsure) = bytes.split_at(*synced);
                let length = unsure.len();
                let mut bytes = sure.to_vec();
                match variant {
                    0 => {}
                    1 => bytes.extend(unsure),
                    2 => bytes.extend(&unsure[..length / 2]),
                    3 => bytes.extend(&unsure[..length.saturating_sub(1)]),
                    4 => bytes.extend(vec![0; length]),
                    // The second half before the first one.
                    _ => {
                        bytes.extend(vec![0; length / 2]);
                        bytes.extend(&unsure[length / 2..]);
                    }
                }
                Contents { synced: bytes.len(), bytes }
            });
            let inside = Inside { files: files.collect(), names: names.clone(), ..Inside::default() };
            disks.push(Simulated(Rc::new(RefCell::new(inside))));
        }
    }
    disks
}

/// Bans by network, told apart by their ends.
type Bans = BTreeMap<String, u64>;

fn open(disk: &Simulated) -> (Journal<Simulated>, Bans) {
    let (journal, bans) = Journal::open(disk.clone(), LEAST, 5).unwrap();
    (journal, bans.into_iter().map(|ban| (ban.network.to_string(), ban.until)).collect())
}

/// A change: a number of bans, or one that is lifted.
fn change(number: u64) -> Vec<(String, Option<u64>)> {
    let host = |number: u64| format!("192.0.2.{}/32", number * 7 % 11);
    match number % 5 {
        4 => vec![(host(number), None)],
        many @ 0..=1 => (0..3 + many).map(|more| (host(number + more), Some(100 + number))).collect(),
        _ => vec![(host(number), Some(100 + number))],
    }
}

fn make(bans: &mut Bans, change: &[(String, Option<u64>)]) -> Vec<Record> {
    let make = |(network, until): &(String, Option<u64>)| match until {
        Some(until) => {
            bans.insert(network.clone(), *until);
            Record::Ban(ban(network, *until))
        }
        None => {
            bans.remove(network);
            Record::Unban(network.parse().unwrap())
        }
    };
    change.iter().map(make).collect()
}

fn ban(network: &str, until: u64) -> Ban {
    Ban { network: network.parse().unwrap(), reason: "sent spam".into(), since: 1, until }
}

fn all(bans: &Bans) -> Vec<Ban> {
    bans.iter().map(|(network, until)| ban(network, *until)).collect()
}

/// Where the power fails, all that was acknowledged is there, and of what was being written any part; and nothing else.
fn assert_survives(history: &[(Vec<Contents>, Vec<Names>)], acknowledged: &Bans, wanted: &[(String, Option<u64>)], what: &str) {
    for (at, disk) in history.iter().enumerate() {
        for (variant, disk) in after_power_loss(disk).into_iter().enumerate() {
            let (mut journal, found) = open(&disk);
            let networks = acknowledged.keys().chain(found.keys()).chain(wanted.iter().map(|(network, _)| network));
            for network in networks {
                let (now, before) = (found.get(network).copied(), acknowledged.get(network).copied());
                let meant = wanted.iter().any(|(other, until)| other == network && *until == now);
                assert!(now == before || meant, "{what}, operation {at}, variant {variant}: {network} is {now:?}, was {before:?}");
            }
            // And it goes on from there.
            let mut bans = found.clone();
            let records = make(&mut bans, &[("198.51.100.7/32".into(), Some(999))]);
            journal.record(&records, || all(&bans)).unwrap();
            assert_eq!(open(&disk).1, bans, "{what}, operation {at}, variant {variant}");
        }
    }
}

#[test]
fn whenever_the_power_fails_all_that_was_acknowledged_is_there() {
    let disk = Simulated::default();
    let (mut journal, mut bans) = open(&disk);
    for number in 0..60 {
        disk.0.borrow_mut().history.clear();
        let (before, change) = (bans.clone(), change(number));
        let records = make(&mut bans, &change);
        journal.record(&records, || all(&bans)).unwrap();
        assert!(journal.is_saved());
        let history = disk.0.borrow().history.clone();
        assert_survives(&history, &before, &change, &format!("change {number}"));
        // And now it is acknowledged.
        let inside = disk.0.borrow();
        let names = inside.names_before.iter().chain([&inside.names]).cloned().collect();
        assert_survives(&[(inside.files.clone(), names)], &bans, &[], &format!("after change {number}"));
    }
    assert!(disk.0.borrow().files.len() > 10, "it was written anew several times");
}

#[test]
fn whatever_fails_is_told_and_made_good_as_soon_as_it_can_be() {
    // As many operations as there are without a failure.
    let count = {
        let disk = Simulated::default();
        run(&disk);
        disk.0.borrow().operations
    };
    assert!(count > 60, "{count}");
    for at in 1..=count {
        for (kind, fails_on) in [(ErrorKind::StorageFull, false), (ErrorKind::StorageFull, true), (ErrorKind::Other, false)] {
            let disk = Simulated::default();
            disk.0.borrow_mut().fails_at = Some((at, kind));
            disk.0.borrow_mut().fails_on = fails_on;
            let (mut journal, bans, refused) = run(&disk);
            assert!(!fails_on || refused > 0 || at + 3 > count, "it cannot have gone well: {at}");
            disk.0.borrow_mut().fails_at = None;
            if !journal.is_saved() {
                journal.rewrite(all(&bans)).unwrap();
            }
            let inside = disk.0.borrow().clone();
            let left: Vec<&String> = inside.names.keys().collect();
            assert_eq!(left, [JOURNAL], "nothing is left behind");
            assert_survives(&[(inside.files, vec![inside.names])], &bans, &[], &format!("failure {at}"));
        }
    }
}

/// Makes changes, and after each that was acknowledged looks whether it survives. Says how many were not.
fn run(disk: &Simulated) -> (Journal<Simulated>, Bans, usize) {
    let (mut journal, mut bans) = open(disk);
    let mut refused = 0;
    for number in 0..30 {
        let records = make(&mut bans, &change(number));
        match journal.record(&records, || all(&bans)) {
            Ok(()) => {
                let inside = disk.0.borrow();
                let names = inside.names_before.iter().chain([&inside.names]).cloned().collect();
                let copy = (inside.files.clone(), names);
                drop(inside);
                for disk in after_power_loss(&copy) {
                    assert_eq!(open(&disk).1, bans, "change {number}");
                }
            }
            Err(error) => {
                assert!(error.starts_with("cannot write bans.journal: ") && error.contains("; "), "{error}");
                assert!(!journal.is_saved());
                refused += 1;
            }
        }
    }
    (journal, bans, refused)
}

/// A file that is damaged is kept, and what can be read of it is there.
#[test]
fn what_is_damaged_is_kept_aside() {
    let disk = Simulated::default();
    let (mut journal, mut bans) = open(&disk);
    let records = make(&mut bans, &[("192.0.2.1/32".into(), Some(100)), ("192.0.2.2/32".into(), Some(100))]);
    journal.record(&records, || all(&bans)).unwrap();
    for round in 1..=2 {
        let damaged = {
            let mut inside = disk.0.borrow_mut();
            let file = inside.names[JOURNAL];
            let bytes = &mut inside.files[file].bytes;
            let at = bytes.len() - 5;
            bytes[at] ^= 1;
            bytes.clone()
        };
        let (mut journal, found) = open(&disk);
        assert!(found.len() == 1 && found.contains_key("192.0.2.1/32") && !journal.is_saved());
        // Not before the new one is there.
        assert_eq!(disk.read(JOURNAL).unwrap().unwrap(), damaged);
        journal.rewrite(all(&bans)).unwrap();
        assert_eq!(disk.read(&format!("{JOURNAL}.damaged.{round}")).unwrap().unwrap(), damaged);
        assert_eq!(open(&disk).1, bans);
    }
    // Bans that have ended are not read.
    let (_, left) = Journal::open(disk, LEAST, 100).unwrap();
    assert_eq!(left, []);
}
