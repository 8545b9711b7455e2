//! Text to lines, for all formats that go by lines: LF and CR LF, a byte-order mark, and a limit.

use crate::diagnostic::Fault;
use memchr::memchr;
use std::io::{self, BufRead, ErrorKind};

/// Longest line of a list, in bytes.
pub(crate) const MAX_LINE: usize = 4096;

/// How much of a line that goes over the end of a block is kept: enough to see that it is too long, whatever its end.
const KEPT: usize = MAX_LINE + 2;

/// Calls `each` with the number and the bytes of every line, without its line end (LF or CR LF) and without a
/// byte-order mark. A line that is too long is handed over as a fault.
///
/// The input is read in its own blocks, and lines are handed over as they stand there. What is left of a block is kept
/// until the next one has come.
pub(crate) fn each_line(input: &mut dyn BufRead, mut each: impl FnMut(u32, Result<&[u8], Fault>)) -> io::Result<()> {
    each_line_but(input, &mut each, |_, _, _| 0, |each, number, line| each(number, line))
}

/// As [`each_line`], for lists of which nearly all lines are of one kind, and short: `quick` is shown what stands in a block
/// from the beginning of a line on, and says how long that line is, its end included, if it has taken it; if not, 0.
pub(crate) fn each_line_but<S: ?Sized>(
    input: &mut dyn BufRead,
    sink: &mut S,
    quick: impl Fn(&mut S, u32, &[u8]) -> usize,
    mut each: impl FnMut(&mut S, u32, Result<&[u8], Fault>),
) -> io::Result<()> {
    let mut number = 1_u32;
    let mut begun: Vec<u8> = Vec::new();
    loop {
        let block = match input.fill_buf() {
            Ok(block) => block,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let size = block.len();
        if size == 0 {
            break;
        }
        let mut rest = block;
        loop {
            if begun.is_empty()
                && let taken @ 1.. = quick(sink, number, rest)
            {
                rest = rest.get(taken..).unwrap_or(&[]);
                number = number.saturating_add(1);
                continue;
            }
            let Some((mut line, after)) = memchr(b'\n', rest).and_then(|end| Some((rest.get(..end)?, rest.get(end + 1..)?))) else { break };
            rest = after;
            if !begun.is_empty() {
                keep(&mut begun, line);
                line = &begun;
            }
            each(sink, number, bare(number, line, true));
            begun.clear();
            number = number.saturating_add(1);
        }
        keep(&mut begun, rest);
        input.consume(size);
    }
    if !begun.is_empty() {
        each(sink, number, bare(number, &begun, false));
    }
    Ok(())
}

fn keep(begun: &mut Vec<u8>, more: &[u8]) {
    let room = KEPT.saturating_sub(begun.len());
    begun.extend_from_slice(more.get(..room).unwrap_or(more));
}

/// What stands before LF without the CR of the line end. Some tools turn CR LF into CR CR LF.
#[inline]
pub(super) fn without_return(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A line without CR LF and byte-order mark; `ended` if an LF stood behind it.
#[inline]
fn bare(number: u32, whole: &[u8], ended: bool) -> Result<&[u8], Fault> {
    let line = without_return(whole);
    let line = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    // A carriage return may come on top. The mark counts: without it the beginning of a long line may look like all of one.
    if whole.len() > MAX_LINE + 1 || line.len() > MAX_LINE {
        return Err(Fault::limit(format!("the line is longer than {MAX_LINE} bytes"), "give one entry a line"));
    }
    if !ended && line.contains(&b'\r') {
        // Old Mac text has no other line ends: all but the first entry would be lost as its reason.
        return Err(Fault::new("a carriage return stands inside the line", "save the list with LF or CR LF line ends"));
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

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

    proptest! {
        /// Blocks may end anywhere.
        #[test]
        fn blocks_do_not_matter(parts in prop::collection::vec((0..5_usize, 0..40_usize), 0..30), size in 1..300_usize) {
            let pieces: [&[u8]; 5] = [b"\n", b"\r\n", b"192.0.2.1", b"\xef\xbb\xbf", &[b'x'; MAX_LINE / 20]];
            let text: Vec<u8> = parts.iter().flat_map(|(piece, count)| pieces[*piece].repeat(*count)).collect();
            let lines = |input: &mut dyn BufRead| {
                let mut seen = Vec::new();
                each_line(input, |number, line| seen.push((number, line.map(<[u8]>::to_vec)))).unwrap();
                seen
            };
            let whole = lines(&mut text.as_slice());
            prop_assert_eq!(&lines(&mut BufReader::with_capacity(size, text.as_slice())), &whole);
            prop_assert_eq!(whole.len(), text.split_inclusive(|b| *b == b'\n').count());
        }
    }
}
