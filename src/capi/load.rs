//! Putting rules in force.

use super::strings::{MXGATE_NUL, Output, bytes, change};
use super::{MXGATE_ACCEPT, MXGATE_EIO, MXGATE_ELIMIT, MXGATE_ESYNTAX, mxgate_gate};
use crate::diagnostic::{Diagnostic, Kind, render};
use crate::gate::{Gate, LoadError};
use libc::{c_char, c_int};
use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Longest path of a file or name of a list, in bytes (PATH_MAX of Linux).
const MAX_PATH: usize = 4096;

/// Puts the rules of a policy file, and of the lists that it names, in the place
/// of the rules in force. Checks in other threads go on meanwhile, by the old
/// rules or by the new, never by a mixture; loads come one after the other. If
/// anything is wrong the old rules stay.
///
/// message receives all mistakes, each as "file:line:column: cause; remedy", or
/// warnings of a load that succeeded, or ""; NUL-terminated, cut to message_size
/// bytes. It may be NULL if message_size is 0.
///
/// Returns 0, MXGATE_EINVAL, MXGATE_ESYNTAX, MXGATE_EIO, MXGATE_ELIMIT or
/// MXGATE_EBUG.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_load_file(gate: *mut mxgate_gate, path: *const c_char, message: *mut c_char, message_size: usize) -> c_int {
    // SAFETY: the contract is the same.
    unsafe { load(gate, path, message, message_size, Gate::load_file) }
}

/// As mxgate_load_file() for an image that `mxgate compile` has written, but without
/// reading all of it to check it: in well under a millisecond, however large it is,
/// and with memory that all processes share that open it. For servers whose
/// processes start often, with an image that has been checked once: `mxgate compile`
/// does, and so does mxgate_load_file(), which takes images too.
///
/// An image may be replaced (renamed over) while it is open; whoever shortens the file
/// ends this process with SIGBUS. Even a damaged one refuses nobody whom no list has
/// that refuses, but it may overlook entries, those of allow lists too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_open_image(
    gate: *mut mxgate_gate,
    path: *const c_char,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    // SAFETY: the contract is the same.
    unsafe { load(gate, path, message, message_size, Gate::open_image) }
}

/// As mxgate_load_file(), from a text of length bytes (or MXGATE_NUL). Relative
/// names of files in it count from the current directory. Messages name the text
/// "policy".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_load_text(
    gate: *mut mxgate_gate,
    text: *const c_char,
    length: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    let body = |gate: &Gate, message: Output<'_>| {
        // SAFETY: the caller gives that many bytes, or a NUL-terminated string, or NULL.
        let text = unsafe { bytes(text, length, usize::MAX >> 1) }??;
        report(gate, gate.load_bytes(text, "policy"), message)
    };
    // SAFETY: the caller gives a gate or NULL, and message_size bytes at message.
    unsafe { change(gate, message, message_size, body) }
}

/// Puts a text of length bytes (or MXGATE_NUL) in the place of the files or entries
/// that the policy in force names for a list; NULL and 0 take it back. It stays so
/// over later loads. Any format of list will do, packed or not, as in a file; so do
/// the guards of the list. Loads the whole policy again; otherwise as
/// mxgate_load_file().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_set_list(
    gate: *mut mxgate_gate,
    name: *const c_char,
    text: *const c_char,
    length: usize,
    message: *mut c_char,
    message_size: usize,
) -> c_int {
    let body = |gate: &Gate, message: Output<'_>| {
        // SAFETY: the caller gives a NUL-terminated string or NULL.
        let name = unsafe { bytes(name, MXGATE_NUL, MAX_PATH) }??;
        // SAFETY: the caller gives that many bytes, or a NUL-terminated string, or NULL.
        let text = unsafe { bytes(text, length, usize::MAX >> 1) }?;
        report(gate, gate.set_list(&String::from_utf8_lossy(name), text), message)
    };
    // SAFETY: the caller gives a gate or NULL, and message_size bytes at message.
    unsafe { change(gate, message, message_size, body) }
}

/// Loads again if the policy file, or a file that it names, has changed since it was
/// read; new files in a directory or of a pattern count too. For hosts that have no
/// signal to load by: cheap enough to call once a second, but not for each client.
/// A change that is wrong is reported once.
///
/// Returns 1 if rules were loaded, 0 if nothing has changed, or an error; otherwise as
/// mxgate_load_file().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_refresh(gate: *mut mxgate_gate, message: *mut c_char, message_size: usize) -> c_int {
    let body = |gate: &Gate, message: Output<'_>| match gate.refresh() {
        Ok(None) => Some(0),
        Ok(Some(warnings)) => report(gate, Ok(warnings), message).map(|_| 1),
        Err(error) => report(gate, Err(error), message),
    };
    // SAFETY: the caller gives a gate or NULL, and message_size bytes at message.
    unsafe { change(gate, message, message_size, body) }
}

/// Loads from a file.
///
/// # Safety
/// As for the functions that call it: a gate or NULL, a NUL-terminated string or NULL, and `size` bytes at `message`.
unsafe fn load(
    gate: *mut mxgate_gate,
    path: *const c_char,
    message: *mut c_char,
    size: usize,
    load: fn(&Gate, &Path) -> Result<Vec<Diagnostic>, LoadError>,
) -> c_int {
    let body = |gate: &Gate, message: Output<'_>| {
        // SAFETY: as the caller says.
        let path = unsafe { bytes(path, MXGATE_NUL, MAX_PATH) }??;
        report(gate, load(gate, Path::new(OsStr::from_bytes(path))), message)
    };
    // SAFETY: as the caller says.
    unsafe { change(gate, message, size, body) }
}

/// Hands over the outcome of a load.
fn report(gate: &Gate, outcome: Result<Vec<Diagnostic>, LoadError>, mut message: Output<'_>) -> Option<c_int> {
    let (result, diagnostics) = match outcome {
        Ok(warnings) => {
            log::info!("the rules of load {} are in force", gate.ruleset().generation());
            (MXGATE_ACCEPT, warnings)
        }
        Err(error) => (result_of(error.kind()), error.diagnostics),
    };
    for diagnostic in &diagnostics {
        if diagnostic.is_error() { log::error!("{diagnostic}") } else { log::warn!("{diagnostic}") }
    }
    message.write_str(render(&diagnostics).trim_end()).ok()?;
    Some(result)
}

/// The result for a mistake of that kind.
pub(super) fn result_of(kind: Kind) -> c_int {
    match kind {
        Kind::Syntax => MXGATE_ESYNTAX,
        Kind::Io => MXGATE_EIO,
        Kind::Limit => MXGATE_ELIMIT,
    }
}
