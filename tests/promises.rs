//! What the header promises about threads, fork(), dlclose(), memory and images, each by a C program against the release library.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what goes wrong here ends the test, with a message"
)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use support::library;

mod support;

/// Compiles a program of tests/c and runs it. It has to succeed, and to say this alone; nothing on standard error.
fn promise(program: &str, flags: &[&str], arguments: impl Fn(&Path) -> Vec<String>, said: &str) {
    if !support::available(&["cc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = library::compile(&format!("tests/c/{program}.c"), flags, directory.path());
    let output = Command::new(&program).args(arguments(directory.path())).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {stdout}{stderr}", output.status);
    assert_eq!(stderr, "");
    assert!(stdout.starts_with(said), "{stdout}");
    println!("{stdout}");
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[test]
fn each_answer_is_of_one_whole_load() {
    let pthread = ["-pthread", "-std=gnu99"];
    promise("storm", &pthread, |_| words(&["4", "12500000", "200"]), "50000000 checks, 201 loads\n");
}

#[test]
fn children_of_a_busy_process_neither_hang_nor_crash() {
    let flags = ["-pthread", "-std=gnu99"];
    promise("forks", &flags, |_| words(&["2000"]), "2000 children: 0 hung, 0 crashed, 0 failed\n");
}

#[test]
fn the_library_can_be_closed_under_live_threads() {
    let so = library::directory().join("libmxgate.so").display().to_string();
    promise("unload", &["-pthread", "-std=gnu99", "-ldl"], |_| words(&[&so, "1000"]), "1000 times\n");
}

#[test]
fn a_load_for_which_memory_runs_out_fails_and_changes_nothing() {
    let policy = |directory: &Path| {
        // Lists of several formats, packed ones too, and names: what allocates in ways of its own.
        let mut plain = String::new();
        for number in 0..3_000 {
            writeln!(plain, "198.18.{}.{} number {number}", number / 250, number % 250).unwrap();
        }
        fs::write(directory.join("plain.txt"), &plain).unwrap();
        fs::write(directory.join("bans.json"), r#"[{"scope":"Ip","value":"203.0.113.9","type":"ban","duration":"4h","scenario":"a"}]"#)
            .unwrap();
        fs::write(directory.join("names.txt"), "parked.example\n*.web.example\n.bücher.example\n").unwrap();
        let status = Command::new("gzip").arg("-k").arg(directory.join("plain.txt")).status().unwrap();
        assert!(status.success());
        let policy = "hostname = \"mx.example.org\"\n\
             [[list]]\nname = \"allowed\"\nallow = true\nentries = [\"203.0.113.0/25\", \"!203.0.113.7\"]\n\
             [[list]]\nname = \"inline\"\nentries = [\"192.0.2.0/24 sent spam\", \"2001:db8::/32\", \"198.51.100.1-198.51.100.9\"]\n\
             [[list]]\nname = \"files\"\nfile = [\"plain.txt.gz\", \"*.json\"]\nttl = \"4w\"\n\
             [[domains]]\nname = \"parked\"\nfile = \"names.txt\"\n\
             [[senders]]\nname = \"spammers\"\nentries = [\"user@example.net\", \".example.com\"]\n\
             [relay]\nlocal = [\".example.org\", \"parked.example\"]\n";
        let file = directory.join("mxgate.toml");
        fs::write(&file, policy).unwrap();
        words(&[file.to_str().unwrap(), "5000"])
    };
    // Its malloc() has to be found before that of the C library.
    promise("memory", &["-rdynamic", "-std=gnu99"], policy, "");
}

/// A hundred processes with an image of a million entries.
#[test]
fn processes_share_an_image() {
    let image = |directory: &Path| {
        let mut list = String::new();
        let mut number = 1_u32;
        for _ in 0..1_000_000 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            writeln!(list, "11.{}.{}.{}", number >> 24, number >> 16 & 255, number >> 8 & 255).unwrap();
        }
        fs::write(directory.join("list.txt"), list).unwrap();
        let text = "hostname = \"mx.example.org\"\n[[list]]\nname = \"many\"\nfile = \"list.txt\"\n";
        let (policy, image) = (directory.join("mxgate.toml"), directory.join("policy.mxg"));
        fs::write(&policy, text).unwrap();
        let gate = mxgate::Gate::new();
        gate.load_file(&policy).unwrap();
        gate.write_image(&image).unwrap();
        words(&[image.to_str().unwrap(), "100", "10000", "1024"])
    };
    promise("children", &["-std=gnu99"], image, "100 children, 0 failed, ");
}
