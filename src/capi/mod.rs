//! The C ABI. `include/mxgate.h` is made from the files of this directory by cbindgen, so their documentation is written
//! for readers of C.
//!
//! Rules of every function here: pointers are looked at before they are used; a structure that may grow travels
//! with its size; what the caller gets is a plain value of its own; a panic is caught and becomes
//! [`MXGATE_EBUG`]; after an error the verdict says "accept".

#![expect(unsafe_code, reason = "raw pointers are what a C ABI is about")]
#![expect(non_camel_case_types, reason = "names as C programmers expect them")]
#![expect(clippy::missing_safety_doc, reason = "the contract of each function is said in C words, because the text is the header's")]

// In the order of the header; the empty lines keep it.
mod strings;

mod facts;

mod verdict;

mod load;

mod check;

mod admin;

mod log;

pub use admin::*;
pub use check::*;
pub use facts::*;
pub use load::*;
use log::hush;
pub use log::*;
pub use verdict::*;

use crate::gate::Gate;
use crate::memory::{self, Watch};
use libc::{c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

/// Number of this ABI, also the number in the SONAME (libmxgate.so.1). Functions
/// are added under the same number; nothing is changed or taken away under it.
pub const MXGATE_ABI: u32 = 1;

/// Release of this header: 0xMMmmpp.
pub const MXGATE_VERSION_NUMBER: u32 = 0x000100;

/// No objection: let the client go on.
pub const MXGATE_ACCEPT: c_int = 0;

/// Objection: send the reply of the verdict.
pub const MXGATE_REJECT: c_int = 1;

/// A pointer is NULL, or a length or the size of a structure is impossible.
pub const MXGATE_EINVAL: c_int = -1;

/// The policy or a list is not right; the message says where, why, and what to
/// write instead.
pub const MXGATE_ESYNTAX: c_int = -2;

/// A file cannot be read; the message says which.
pub const MXGATE_EIO: c_int = -3;

/// A limit is reached; the message says which.
pub const MXGATE_ELIMIT: c_int = -4;

/// A bug in the library was caught; the gate goes on. Please report it.
pub const MXGATE_EBUG: c_int = -5;

/// What mxgate_sizeof() can tell the size of: struct mxgate_facts.
pub const MXGATE_FACTS: c_int = 1;

/// What mxgate_sizeof() can tell the size of: struct mxgate_verdict.
pub const MXGATE_VERDICT: c_int = 2;

/// What mxgate_sizeof() can tell the size of: struct mxgate_counters.
pub const MXGATE_COUNTERS: c_int = 3;

/// A gate holds the rules. Threads may share it: each function says how.
#[derive(Debug)]
pub struct mxgate_gate {
    gate: Gate,
}

/// Number of the ABI of the library that is loaded. Compare with MXGATE_ABI.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_abi() -> u32 {
    MXGATE_ABI
}

/// Release of the library that is loaded, such as "0.1.0". Never NULL; not to
/// be freed.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Size in bytes of a structure (MXGATE_FACTS, MXGATE_VERDICT,
/// MXGATE_COUNTERS) in the library that is loaded; 0 if it has no such structure.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_sizeof(what: c_int) -> usize {
    match what {
        MXGATE_FACTS => size_of::<mxgate_facts>(),
        MXGATE_VERDICT => size_of::<mxgate_verdict>(),
        MXGATE_COUNTERS => size_of::<mxgate_counters>(),
        _ => 0,
    }
}

/// One line about a result such as MXGATE_EIO. Never NULL; not to be freed.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_strerror(result: c_int) -> *const c_char {
    let text = match result {
        MXGATE_ACCEPT => c"no objection",
        MXGATE_REJECT => c"objection: send the reply of the verdict",
        MXGATE_EINVAL => c"a pointer is NULL, or a length or the size of a structure is impossible",
        MXGATE_ESYNTAX => c"the policy or a list is not right",
        MXGATE_EIO => c"a file cannot be read",
        MXGATE_ELIMIT => c"a limit is reached",
        MXGATE_EBUG => c"a bug in the library was caught",
        _ => c"not a result of this library",
    };
    text.as_ptr()
}

/// Makes a gate without rules, which accepts everything. NULL if memory ran out.
/// Free it with mxgate_free(). A gate made before fork() works in the child too,
/// as a copy of its own, whatever other threads did with it at that moment.
#[unsafe(no_mangle)]
pub extern "C" fn mxgate_new() -> *mut mxgate_gate {
    let made = catch_unwind(|| {
        if !memory::open() {
            return None;
        }
        let watch = Watch::begin();
        hush();
        let gate = Box::new(mxgate_gate { gate: Gate::new() });
        (!watch.is_short()).then(|| Box::into_raw(gate))
    });
    made.ok().flatten().unwrap_or(ptr::null_mut())
}

/// Frees a gate. No thread may be using it. NULL is allowed. A verdict stays good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mxgate_free(gate: *mut mxgate_gate) {
    if !gate.is_null() {
        call(|| {
            // SAFETY: not NULL, so it came from mxgate_new(), and the caller says that nobody uses it any more.
            drop(unsafe { Box::from_raw(gate) });
            Some(MXGATE_ACCEPT)
        });
    }
}

/// Runs the body of a function: `None` (a bad argument) becomes `MXGATE_EINVAL`, a panic `MXGATE_EBUG`.
fn call(body: impl FnOnce() -> Option<c_int>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => result.unwrap_or(MXGATE_EINVAL),
        Err(_) => MXGATE_EBUG,
    }
}

/// # Safety
/// `gate` is NULL or came from `mxgate_new()` and has not been freed.
unsafe fn gate_of<'a>(gate: *const mxgate_gate) -> Option<&'a Gate> {
    // SAFETY: as the caller says. Shared references suffice: the gate locks inside.
    unsafe { gate.as_ref() }.map(|gate| &gate.gate)
}
