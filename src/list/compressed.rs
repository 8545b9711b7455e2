//! Lists that are packed with gzip or zstd, told by their first bytes. Both may have several members or frames, one after
//! the other. What is broken off or damaged is an error of the input, and no part of it is a list.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};

/// Most bytes that a list may unpack to.
pub(crate) const MAX_UNPACKED: u64 = 4 << 30;
/// Widest window of a zstd frame, in bytes: so much memory it takes (`zstd --long=27`).
const MAX_WINDOW: u64 = 128 << 20;

/// The list in a file, unpacked if need be.
pub(crate) fn open<'a>(input: Box<dyn BufRead + 'a>) -> io::Result<Box<dyn BufRead + 'a>> {
    open_limited(input, MAX_UNPACKED)
}

fn open_limited<'a>(mut input: Box<dyn BufRead + 'a>, limit: u64) -> io::Result<Box<dyn BufRead + 'a>> {
    let mut magic = Vec::new();
    Read::take(&mut input, 4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(b"\x1f\x8b");
    // A frame, or one to be skipped before it (RFC 8878 section 3.1).
    let zstd = matches!(magic.as_slice(), [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
    let input = Cursor::new(magic).chain(input);
    let unpacked: Box<dyn Read + 'a> = if gzip {
        Box::new(Gzip(MultiGzDecoder::new(input)))
    } else if zstd {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Box::new(Zstd { input, decoder, inside: false })
    } else {
        return Ok(Box::new(input));
    };
    Ok(Box::new(BufReader::with_capacity(64 << 10, Limited { input: unpacked, left: limit })))
}

/// Stops at what would never end.
struct Limited<R> {
    input: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.left = self
            .left
            .checked_sub(u64::try_from(count).unwrap_or(u64::MAX))
            .ok_or_else(|| io::Error::new(ErrorKind::FileTooLarge, format!("the list unpacks to more than {MAX_UNPACKED} bytes")))?;
        Ok(count)
    }
}

fn broken_off(what: &str) -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, format!("the {what} data break off: the download is not complete"))
}

fn damaged(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the {what} data are damaged: {error}"))
}

/// gzip, with errors that say so.
struct Gzip<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            let kind = error.kind();
            if kind == ErrorKind::UnexpectedEof {
                broken_off("gzip")
            } else if matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidData) {
                damaged("gzip", error)
            } else {
                error
            }
        })
    }
}

/// zstd, frame by frame.
struct Zstd<R> {
    input: R,
    decoder: FrameDecoder,
    /// A frame has begun and is not yet handed over.
    inside: bool,
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside {
                if self.input.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                self.begin()?;
            } else if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            } else if !self.decoder.is_finished() {
                let outcome = self.decoder.decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1));
                outcome.map_err(|error| self.explain(&error))?;
            } else {
                self.inside = false;
                let (written, found) = (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
                if written.is_some() && written != found {
                    return Err(damaged("zstd", "the checksum is wrong"));
                }
            }
        }
    }
}

impl<R: BufRead> Zstd<R> {
    /// Reads the head of a frame; a frame to be skipped is skipped.
    fn begin(&mut self) -> io::Result<()> {
        match self.decoder.init(&mut self.input) {
            Ok(()) => {
                self.inside = true;
                Ok(())
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                let skipped = io::copy(&mut Read::take(&mut self.input, length), &mut io::sink())?;
                if skipped == length { Ok(()) } else { Err(broken_off("zstd")) }
            }
            Err(error @ FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_))) => Err(damaged("zstd", error)),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// The decoder does not tell the end of the input from damage.
    fn explain(&mut self, error: &FrameDecoderError) -> io::Error {
        match self.input.fill_buf() {
            Ok([]) => broken_off("zstd"),
            Ok(_) => damaged("zstd", error),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write;

    /// 10 lines by `zstd --check`, with a checksum at the end.
    const CHECKED: &[u8] = include_bytes!("../../tests/lists/compressed/checked.zst");

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn unpack(packed: &[u8], limit: u64) -> Result<Vec<u8>, String> {
        // A reader that hands over one byte at a time shows whether anything counts on more.
        let input = BufReader::with_capacity(1, packed);
        let mut text = Vec::new();
        let outcome = open_limited(Box::new(input), limit).and_then(|mut input| input.read_to_end(&mut text));
        outcome.map(|_| text).map_err(|error| error.to_string())
    }

    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|n| format!("192.0.{}.{}\n", n / 256 % 256, n % 256).into_bytes()).collect()
    }

    #[test]
    fn unpacked_whatever_it_was() {
        let text = text();
        for packed in [text.clone(), gzip(&text), zstd(&text)] {
            assert!(unpack(&packed, MAX_UNPACKED).unwrap() == text);
        }
        for short in [b"".as_slice(), b"a", b"\x1f", b"\x28\xb5\x2f"] {
            assert_eq!(unpack(short, 10).unwrap(), short);
        }
        assert_eq!(unpack(CHECKED, 1000).unwrap(), (1..=10).flat_map(|n| format!("192.0.2.{n}\n").into_bytes()).collect::<Vec<_>>());
    }

    #[test]
    fn several_members_and_frames() {
        let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        for packed in [
            [gzip(b"one\n"), gzip(b""), gzip(b"two\n")].concat(),
            [zstd(b"one\n"), zstd(b"two\n")].concat(),
            [skipped.to_vec(), zstd(b"one\n"), skipped.to_vec(), zstd(b"two\n"), skipped.to_vec()].concat(),
        ] {
            assert_eq!(unpack(&packed, 1000).unwrap(), b"one\ntwo\n");
        }
    }

    #[test]
    fn broken_off_anywhere() {
        let text = &text()[..3000];
        for (packed, name) in [(gzip(text), "gzip"), (zstd(text), "zstd"), (CHECKED.to_vec(), "zstd")] {
            for end in 4..packed.len() {
                let error = unpack(&packed[..end], MAX_UNPACKED).unwrap_err();
                assert!(error.starts_with(&format!("the {name} data break off")), "{name} {end} of {}: {error}", packed.len());
            }
        }
        assert!(unpack(b"\x50\x2a\x4d\x18\x03\0\0\0ab", 10).unwrap_err().contains("break off"));
    }

    #[test]
    fn damaged() {
        let mut packed = gzip(b"192.0.2.1\n");
        let sum = packed.len() - 6;
        packed[sum] ^= 1;
        assert!(unpack(&packed, 1000).unwrap_err().starts_with("the gzip data are damaged: "));
        let mut packed = CHECKED.to_vec();
        *packed.last_mut().unwrap() ^= 1;
        assert_eq!(unpack(&packed, 1000).unwrap_err(), "the zstd data are damaged: the checksum is wrong");
        for mut packed in [gzip(b"192.0.2.1\n"), zstd(b"192.0.2.1\n")] {
            packed.extend(b"a tail of text");
            assert!(unpack(&packed, 1000).unwrap_err().contains("damaged"));
        }
        // What is in between may be anything, but not a panic.
        for packed in [gzip(&text()[..500]), zstd(&text()[..500]), CHECKED.to_vec()] {
            for at in 4..packed.len() {
                for bit in 0..8 {
                    let mut packed = packed.clone();
                    packed[at] ^= 1 << bit;
                    let _ = unpack(&packed, 10_000);
                }
            }
        }
    }

    #[test]
    fn bombs_are_stopped() {
        let bomb = vec![b'\n'; 1 << 20];
        for packed in [gzip(&bomb), zstd(&bomb)] {
            assert!(packed.len() < 5000);
            assert_eq!(unpack(&packed, 1 << 20).unwrap().len(), 1 << 20);
            assert!(unpack(&packed, (1 << 20) - 1).unwrap_err().contains("unpacks to more than"));
        }
    }
}
