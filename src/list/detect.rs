//! Which format a list is in, from how it begins. There is one answer, or none: a list that might be two things is refused,
//! and the policy says `format = "..."`. Each reader has a `looks` that knows its own format; what is not any of them is
//! plain, whose reader shows what is wrong line by line.

use super::rbldnsd::Kind;
use super::{About, Format, crowdsec_csv, crowdsec_json, drop, drop_json, dshield, firehol, iplsearch, json, p2p};
use super::{postfix_access, postfix_cidr, scored, sendmail_access};
use crate::diagnostic::Fault;
use std::io::{self, BufRead, Cursor, Read};

/// How much of a list is looked at, in bytes.
pub(crate) const HEAD: usize = 64 << 10;

/// Whether a text is of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looks {
    /// It is.
    Yes,
    /// It might be.
    Maybe,
    /// It is not.
    No,
}

/// Asks the reader of a format.
type Ask = fn(&Sample<'_>) -> Looks;

/// Who is asked. The plain format is not: it is what remains.
const ASKED: &[(Format, Ask)] = &[
    (Format::Drop, drop::looks),
    (Format::DropJson, drop_json::looks),
    (Format::Firehol, firehol::looks),
    (Format::Dshield, dshield::looks),
    (Format::P2p, p2p::looks),
    (Format::Scored, scored::looks),
    (Format::CrowdsecCsv, crowdsec_csv::looks),
    (Format::CrowdsecJson, crowdsec_json::looks),
    (Format::Iplsearch, iplsearch::looks),
    // Of rbldnsd's kinds a text does not tell ip4trie from ip4set, nor ip6tset from ip6trie.
    (Format::Rbldnsd(Kind::Ip4Set), |sample| Looks::of(Kind::Ip4Set.looks(sample.text))),
    (Format::Rbldnsd(Kind::Ip6Trie), |sample| Looks::of(Kind::Ip6Trie.looks(sample.text))),
    (Format::Rbldnsd(Kind::Dnset), |sample| Looks::of(Kind::Dnset.looks(sample.text))),
    (Format::PostfixCidr, |sample| Looks::of(postfix_cidr::looks(sample.text))),
    (Format::PostfixAccess, |sample| Looks::of(postfix_access::looks(sample.text))),
    (Format::SendmailAccess, |sample| Looks::of(sendmail_access::looks(sample.text))),
];

impl Looks {
    fn of(yes: bool) -> Looks {
        if yes { Looks::Yes } else { Looks::No }
    }
}

/// How a list begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample<'a> {
    text: &'a [u8],
    about: About,
}

impl<'a> Sample<'a> {
    /// The text, without a byte-order mark.
    pub(super) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// What the policy says that the entries are about.
    pub(super) fn about(&self) -> About {
        self.about
    }

    /// All lines, without their ends.
    pub(super) fn lines(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.text.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// The lines that are neither empty nor comments, as they stand.
    pub(super) fn entries(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines().filter(|line| {
            let line = line.trim_ascii_start();
            !(line.is_empty() || [b"#".as_slice(), b";", b"//"].iter().any(|sign| line.starts_with(sign)))
        })
    }

    /// What it means that some of the entries are of a kind.
    pub(super) fn most(&self, kind: impl Fn(&[u8]) -> bool) -> Looks {
        self.share(self.entries().count(), self.entries().filter(|line| kind(line)).count())
    }

    /// What it means that so many of all are of a kind: all of them yes, the greater part maybe.
    pub(super) fn share(&self, all: usize, some: usize) -> Looks {
        if some == 0 || some * 2 < all {
            Looks::No
        } else if some == all {
            Looks::Yes
        } else {
            Looks::Maybe
        }
    }
}

/// Decides the format of a list, and hands the list back to be read from its start.
pub(crate) fn detect<'a>(mut input: Box<dyn BufRead + 'a>, about: About) -> io::Result<(Result<Format, Fault>, Box<dyn BufRead + 'a>)> {
    let limit = u64::try_from(HEAD).unwrap_or(u64::MAX);
    let mut head = Vec::new();
    Read::take(&mut input, limit).read_to_end(&mut head)?;
    let whole = head.len() < HEAD;
    let format = format_of(&head, whole, about);
    Ok((format, Box::new(Cursor::new(head).chain(input))))
}

/// Decides the format from the first bytes of a list; `whole` if that is all of it.
pub(crate) fn format_of(head: &[u8], whole: bool, about: About) -> Result<Format, Fault> {
    if let Some(fault) = not_a_list(head) {
        return Err(fault);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    // The last line is cut; JSON may be one line.
    let end = if whole { None } else { text.iter().rposition(|b| *b == b'\n') };
    let sample = Sample { text: end.and_then(|end| text.get(..end)).unwrap_or(text), about };
    let looks: Vec<_> = ASKED.iter().map(|(format, ask)| (*format, ask(&sample))).collect();
    let mut names: Vec<_> = looks.iter().filter(|row| row.1 == Looks::Yes).map(|row| row.0).collect();
    if let [format] = names.as_slice() {
        return Ok(*format);
    }
    if names.is_empty() {
        names = looks.iter().filter(|row| row.1 == Looks::Maybe).map(|row| row.0).collect();
        if names.is_empty() {
            return plain_or_json(&sample);
        }
        names.push(Format::Plain);
    }
    let names: Vec<_> = names.into_iter().map(Format::name).collect();
    let remedies: Vec<_> = names.iter().map(|name| format!("format = \"{name}\"")).collect();
    Err(Fault::new(format!("the list might be {}", names.join(" or ")), format!("write {} in the policy", remedies.join(" or "))))
}

/// What none of the others is.
fn plain_or_json(sample: &Sample<'_>) -> Result<Format, Fault> {
    let text = sample.text().trim_ascii();
    let array = text.strip_prefix(b"[").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\""));
    if array || json::first_name(text).is_some() {
        return Err(Fault::new(
            "the list is JSON of a kind that is not known",
            "give one entry a line, or write format = \"crowdsec-json\" or format = \"drop-json\" if it is one of them",
        ));
    }
    Ok(Format::Plain)
}

/// Says what a file is that cannot be a list of any format.
pub(crate) fn not_a_list(head: &[u8]) -> Option<Fault> {
    const FILES: [(&[u8], &str, &str); 11] = [
        (b"\x1f\x8b", "compressed twice", "unpack it once"),
        (b"\x28\xb5\x2f\xfd", "compressed twice", "unpack it once"),
        (b"BZh", "a bzip2 file", "unpack it, or give gzip or zstd"),
        (b"\xfd7zXZ\0", "an xz file", "unpack it, or give gzip or zstd"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it, or give gzip or zstd"),
        (b"Rar!\x1a\x07", "a RAR archive", "unpack it, or give gzip or zstd"),
        (b"PK\x03\x04", "a ZIP archive", "unpack it, or give gzip or zstd"),
        (b"%PDF-", "a PDF document", "give a text file with one entry a line"),
        (b"\xff\xfe", "UTF-16 text", "save it as UTF-8"),
        (b"\xfe\xff", "UTF-16 text", "save it as UTF-8"),
        (b"SQLite format 3\0", "a database", "export the list as text"),
    ];
    let fault = |cause: &str, remedy: &str| Some(Fault::new(format!("the file is {cause}, not a list"), remedy));
    if let Some((_, cause, remedy)) = FILES.iter().find(|(magic, _, _)| head.starts_with(magic)) {
        return fault(cause, remedy);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"<") {
        return fault("a web page or XML", "check the address that it is fetched from; the download may have failed");
    }
    let nul = |at: usize| head.iter().skip(at).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (nul(0), nul(1));
    if even + odd > head.len() / 3 && (even == 0 || odd == 0) {
        return fault("UTF-16 text", "save it as UTF-8");
    }
    let control = |b: &&u8| b.is_ascii_control() && !b.is_ascii_whitespace();
    if head.iter().filter(control).count() > head.len() / 16 {
        return fault("binary", "give a text file with one entry a line");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8], about: About) -> Result<Format, String> {
        format_of(text, true, about).map_err(|fault| format!("{}; {}", fault.cause, fault.remedy))
    }

    #[test]
    fn plain_lists_stay_plain() {
        for text in [
            "",
            "\n\n# only a comment\n",
            "192.0.2.1",
            "192.0.2.1 10\n192.0.2.2 3\n",
            "192.0.2.1\t10 times\n192.0.2.2\tonce\n",
            "192.0.2.0/24 ; SBL1\n192.0.2.1 ; SBL2\n; EOF\n",
            "; Expires: never\n192.0.2.1\n",
            "2001:db8::\n2001:db8:1::\n2001:db8:: why\n",
            "::ffff:192.0.2.1-192.0.2.9\n",
            "2001:db8::1-2001:db8::ff\n",
            "192.0.2.1 crowdsec: seen\n192.0.2.2 name:192.0.2.0-192.0.2.9\n",
            "192.0.2.1\t192.0.2.2\n192.0.2.3\t192.0.2.4\n",
            "192.0.2.1 duration,scope,value\n",
            "192.0.2.7/24\n",
            "not an address\n",
            "[2001:db8::1]\n",
            "{\n",
        ] {
            assert_eq!(of(text.as_bytes(), About::Addresses), Ok(Format::Plain), "{text}");
        }
        for text in ["example.org\n", "null\n", "example.org seen: twice\n", "# Entries: 3\n*.example.org\n"] {
            assert_eq!(of(text.as_bytes(), About::Domains), Ok(Format::Plain), "{text}");
        }
        assert_eq!(of(b"user@example.org\n", About::Mailboxes), Ok(Format::Plain));
    }

    #[test]
    fn what_might_be_two_things_is_refused() {
        let scored = of(b"192.0.2.1\t10\n192.0.2.2\t3\n192.0.2.3\tmany\n", About::Addresses).unwrap_err();
        assert_eq!(scored, r#"the list might be scored or plain; write format = "scored" or format = "plain" in the policy"#);
        let both = of(b"# x hash:net ipset\n192.0.2.1\t10\n", About::Addresses).unwrap_err();
        assert!(both.starts_with("the list might be firehol or scored; write format = "), "{both}");
    }

    #[test]
    fn what_cannot_be_a_list_is_refused() {
        for (text, cause) in [
            (b"<!DOCTYPE html>\n".as_slice(), "web page"),
            (b"\xef\xbb\xbf \n<html>", "web page"),
            (b"<?xml version=\"1.0\"?>", "web page"),
            (b"%PDF-1.7\n", "PDF"),
            (b"PK\x03\x04\x14\0", "ZIP"),
            (b"BZh91AY&SY", "bzip2"),
            (b"\xfd7zXZ\0\0\x04", "xz"),
            (b"\x1f\x8b\x08\0", "compressed twice"),
            (b"\xff\xfe1\09\0", "UTF-16"),
            (b"\xfe\xff\x001\x009", "UTF-16"),
            (b"1\x009\x002\0.\0", "UTF-16"),
            (b"\x001\x009\x002\0.", "UTF-16"),
            (b"\x7fELF\x02\x01\x01\0\0\0\0\0", "binary"),
            (b"{\"message\":\"forbidden\"}", "JSON"),
            (b"[\"192.0.2.1\"]", "JSON"),
        ] {
            let fault = of(text, About::Addresses).unwrap_err();
            assert!(fault.contains(cause), "{text:?}: {fault}");
        }
    }

    #[test]
    fn a_long_list_is_handed_back_whole() {
        let text = "192.0.2.1\t5\n".repeat(HEAD / 8);
        // The cut line does not count.
        assert!(!HEAD.is_multiple_of(12));
        let (format, mut input) = detect(Box::new(text.as_bytes()), About::Addresses).unwrap();
        assert_eq!(format, Ok(Format::Scored));
        let mut back = String::new();
        input.read_to_string(&mut back).unwrap();
        assert_eq!(back, text);
    }
}
