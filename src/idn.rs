//! International domain names: U-labels to A-labels by UTS 46 (non-transitional), as mail servers do it before they look
//! a name up in the DNS.

use crate::domain::MAX_NAME;
use arrayvec::ArrayString;
use idna::uts46::{AsciiDenyList, ErrorPolicy, Hyphens, ProcessingSuccess, Uts46};

/// Longest name that is looked at, in bytes: as many characters as a domain name has, of 4 bytes each.
const MAX_UNICODE: usize = 4 * MAX_NAME;
/// The full stops that separate labels (RFC 3490 section 3.1).
const DOTS: [char; 4] = ['.', '\u{3002}', '\u{ff0e}', '\u{ff61}'];

/// The ASCII form of a name that has U-labels; `None` if it is not UTF-8 or not a name. What comes out may still be too
/// long or have characters that names do not have: that is checked as in any other name.
///
/// Label by label: a stranger's name must not cost more than its longest label, and that one label reads from right to
/// left does not make its neighbours wrong (the Bidi rule of RFC 5893 is about registration; Postfix does not ask for it
/// either). The library has room on its stack for any label that exists; only one that Unicode expands to hundreds of
/// characters, or with dozens of combining marks on one letter, takes memory.
#[cold]
pub(crate) fn to_ascii(name: &[u8]) -> Option<ArrayString<MAX_UNICODE>> {
    if name.len() > MAX_UNICODE {
        return None;
    }
    let mut ascii = ArrayString::new();
    for (at, label) in std::str::from_utf8(name).ok()?.split(DOTS).enumerate() {
        if at > 0 {
            ascii.try_push('.').ok()?;
        }
        if label.is_ascii() {
            ascii.try_push_str(label).ok()?;
            continue;
        }
        let (mapper, deny, fast) = (Uts46::new(), AsciiDenyList::EMPTY, ErrorPolicy::FailFast);
        let outcome = mapper.process(label.as_bytes(), deny, Hyphens::Allow, fast, |_, _, _| false, &mut ascii, None);
        if outcome != Ok(ProcessingSuccess::WroteToSink) {
            return None;
        }
    }
    Some(ascii)
}

#[cfg(test)]
mod tests {
    use crate::domain::fold;

    #[test]
    fn a_u_label_is_its_a_label() {
        for (name, ascii) in [
            ("b\u{fc}cher.example", Some("xn--bcher-kva.example")),
            ("B\u{dc}CHER.Example.", Some("xn--bcher-kva.example")),
            ("bu\u{308}cher.example", Some("xn--bcher-kva.example")),
            ("XN--BCHER-KVA.example", Some("xn--bcher-kva.example")),
            ("_dmarc.b\u{fc}cher.example", Some("_dmarc.xn--bcher-kva.example")),
            ("a_b\u{fc}.example", Some("xn--a_b-joa.example")),
            // Non-transitional: not ss.
            ("stra\u{df}e.example", Some("xn--strae-oqa.example")),
            ("\u{ff45}xample\u{3002}org\u{ff61}", Some("example.org")),
            ("\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", Some("xn--r8jz45g.xn--zckzah")),
            // A neighbour that begins with a digit is no matter.
            ("3com.\u{5d0}\u{5d1}", Some("3com.xn--4dbc")),
            ("a\u{ad}b.example", Some("ab.example")),
            ("\u{fc}..example", None),
            ("\u{fc}\u{2026}example", None),
            ("\u{fc} .example", None),
            ("\u{fc}\u{ff05}.example", None),
            ("\u{fc}@.example", None),
            ("\u{378}.example", None),
            ("\u{301}a.example", None),
            ("xn--\u{fc}.example", None),
            ("\u{fffd}.example", None),
            ("\u{3002}", None),
        ] {
            assert_eq!(fold(name.as_bytes()).as_deref(), ascii, "{name}");
        }
        for bytes in [&b"b\xfccher.example"[..], b"\xc3", b"a\xff.example", b"\xed\xa0\x80.example"] {
            assert_eq!(fold(bytes), None);
        }
        // As long as can be, and longer.
        let label = |length: usize| "\u{fc}".repeat(length);
        assert!(fold(label(50).as_bytes()).is_some() && fold(label(80).as_bytes()).is_none());
        assert_eq!(fold("\u{fdfa}".repeat(84).as_bytes()), None);
        assert_eq!(fold(vec!["\u{fc}"; 500].join(".").as_bytes()), None);
    }
}
