//! Text to lines, for all formats that go by lines: LF and CR LF, a byte-order mark, and a limit.

use crate::diagnostic::Fault;
use std::io::{self, BufRead, Read};

/// Longest line of a list, in bytes.
pub(crate) const MAX_LINE: usize = 4096;

/// Calls `each` with the number and the bytes of every line, without its line end (LF or CR LF) and without a
/// byte-order mark. A line that is too long is handed over as a fault.
pub(crate) fn each_line(mut input: &mut dyn BufRead, mut each: impl FnMut(u32, Result<&[u8], Fault>)) -> io::Result<()> {
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 2;
    let mut buffer = Vec::with_capacity(256);
    let mut number = 0_u32;
    loop {
        number = number.saturating_add(1);
        buffer.clear();
        // CR LF do not count, hence 2 more; a longer line is read to its end and thrown away.
        if Read::by_ref(&mut input).take(limit).read_until(b'\n', &mut buffer)? == 0 {
            break;
        }
        let complete = buffer.ends_with(b"\n");
        // Before the mark is taken off: without it the beginning of a long line may look like all of one.
        let whole = complete || u64::try_from(buffer.len()).is_ok_and(|length| length < limit);
        let line = buffer.strip_suffix(b"\n").unwrap_or(&buffer);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Some tools turn CR LF into CR CR LF.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        if whole && !complete && line.contains(&b'\r') && line.len() <= MAX_LINE {
            // Old Mac text has no other line ends: all but the first entry would be lost as its reason.
            each(number, Err(Fault::new("a carriage return stands inside the line", "save the list with LF or CR LF line ends")));
        } else if whole && line.len() <= MAX_LINE {
            each(number, Ok(line));
        } else {
            each(number, Err(Fault::limit(format!("the line is longer than {MAX_LINE} bytes"), "give one entry a line")));
            if !complete {
                input.skip_until(b'\n')?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_marks_and_long_lines() {
        let long = "x".repeat(MAX_LINE + 1);
        let fits = "y".repeat(MAX_LINE);
        let huge = "z".repeat(3 * MAX_LINE);
        let text = format!("\u{feff}one\r\ntwo\n{long}\n{huge}\r\n{fits}\r\nlast");
        let mut seen = Vec::new();
        each_line(&mut text.as_bytes(), |number, line| seen.push((number, line.map(<[u8]>::to_vec).map_err(|fault| fault.cause)))).unwrap();
        let too_long = Err(format!("the line is longer than {MAX_LINE} bytes"));
        let want = [Ok(b"one".to_vec()), Ok(b"two".to_vec()), too_long.clone(), too_long, Ok(fits.into()), Ok(b"last".to_vec())];
        assert_eq!(seen, (1..).zip(want).collect::<Vec<_>>());
    }

    #[test]
    fn a_mark_does_not_cut_a_long_line_in_two() {
        for length in MAX_LINE - 4..MAX_LINE + 8 {
            let text = format!("\u{feff}{}\nlast", "x".repeat(length));
            let mut seen = 0;
            each_line(&mut text.as_bytes(), |number, line| {
                seen = number;
                assert!(line.is_err() || matches!(line.map(<[u8]>::len), Ok(found) if found == length || found == 4), "{length}");
            })
            .unwrap();
            assert_eq!(seen, 2, "{length}");
        }
    }

    #[test]
    fn carriage_returns() {
        let mut seen = Vec::new();
        each_line(&mut b"a\r\r\na reason\rgoes on\nb\rc\rd".as_slice(), |_, line| {
            seen.push(line.map(<[u8]>::to_vec).map_err(|fault| fault.remedy))
        })
        .unwrap();
        assert_eq!(seen, [Ok(b"a".to_vec()), Ok(b"a reason\rgoes on".to_vec()), Err("save the list with LF or CR LF line ends".into())]);
    }
}
