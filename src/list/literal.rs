//! The replies that access tables state, `550 5.7.1 text` or `550 text`, as literal replies of a policy.

use crate::diagnostic::{Fault, quote};
use crate::reply::Reply;

/// What a client reads where a table gives no text; the words of Postfix.
const NO_TEXT: &str = "Access denied";

/// Takes an enhanced status code off the front of a text (RFC 3463 section 2).
pub(crate) fn split_status(text: &str) -> (Option<&str>, &str) {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut parts = word.split('.');
    let class = matches!(parts.next(), Some("2" | "4" | "5"));
    let number = |part: Option<&str>| part.is_some_and(|part| matches!(part.len(), 1..=3) && part.bytes().all(|b| b.is_ascii_digit()));
    if class && number(parts.next()) && number(parts.next()) && parts.next().is_none() {
        (Some(word), rest.trim_start())
    } else {
        (None, text)
    }
}

/// Makes a literal reply of a code and what follows it, and checks it as if it stood in a policy. Where the text has no
/// enhanced status code it becomes x.7.1, as Postfix does it.
pub(super) fn literal(code: &str, status: Option<&str>, text: &[u8]) -> Result<String, Fault> {
    let Ok(text) = std::str::from_utf8(text) else {
        return Err(Fault::new(format!("the text {} is not ASCII, which SMTP does not carry", quote(text)), "use printable ASCII only"));
    };
    let text = text.trim().replace('\t', " ");
    let (own, text) = split_status(&text);
    let default = if code.starts_with('4') { "4.7.1" } else { "5.7.1" };
    let status = status.or(own).unwrap_or(default);
    let text = if text.is_empty() { NO_TEXT } else { text };
    let literal = format!("{code} {status} {text}");
    Reply::parse(&literal)?;
    Ok(literal)
}

/// Whether a word is a reply code that refuses, `4NN` or `5NN`.
pub(super) fn is_code(word: &[u8]) -> bool {
    matches!(word, [b'4' | b'5', b'0'..=b'9', b'0'..=b'9'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        for (code, status, text, want) in [
            ("550", None, "No", "550 5.7.1 No"),
            ("450", None, " later\tplease ", "450 4.7.1 later please"),
            ("550", None, "5.1.1 No such", "550 5.1.1 No such"),
            ("550", Some("5.7.7"), "No", "550 5.7.7 No"),
            ("521", None, "", "521 5.7.1 Access denied"),
            ("521", None, "5.3.2", "521 5.3.2 Access denied"),
            ("550", None, "5.7 No", ""),
            ("550", None, "4.7.1 No", ""),
            ("550", None, "{no}", ""),
            ("599", None, "No", ""),
        ] {
            assert_eq!(literal(code, status, text.as_bytes()).unwrap_or_default(), want, "{code} {text}");
        }
        assert!(literal("550", None, b"n\xffn").is_err());
    }
}
