//! A barrier between those who read all the time and those who seldom write, of which the writers bear the cost.
//!
//! A reader says that he is there and then looks; a writer changes what is looked at and then sees who is there. One of the
//! two must see what the other did, for which each needs a full barrier between his two steps. On Linux a writer can have
//! the system make one in all threads of the process, wherever they are (membarrier(2), since 4.14); then the readers need
//! nothing but a compiler that leaves the order as it is. Elsewhere, or where a filter of system calls forbids it, both pay.

#![expect(unsafe_code, reason = "a system call that libc has no function for")]

#[cfg(all(loom, test))]
use loom::sync::atomic::fence;
#[cfg(not(all(loom, test)))]
use std::sync::atomic::fence;
use std::sync::atomic::{Ordering, compiler_fence};

/// How readers and writers of one value keep the order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Barrier {
    /// Whether the writers bear all of the cost.
    by_writers: bool,
}

impl Barrier {
    /// Finds out what the system can do.
    pub(crate) fn new() -> Barrier {
        Barrier { by_writers: register() }
    }

    /// Between the two steps of a reader.
    #[inline(always)]
    pub(crate) fn of_reader(self) {
        if self.by_writers { compiler_fence(Ordering::SeqCst) } else { fence(Ordering::SeqCst) }
    }

    /// Between the two steps of a writer. Says whether it was one: a filter of system calls may have come later.
    pub(crate) fn of_writer(self) -> bool {
        fence(Ordering::SeqCst);
        !self.by_writers || everywhere()
    }
}

/// Prepares the process; its children have it too.
#[cfg(all(target_os = "linux", not(miri), not(all(loom, test))))]
fn register() -> bool {
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
}

/// A full barrier in all threads of the process.
#[cfg(all(target_os = "linux", not(miri), not(all(loom, test))))]
fn everywhere() -> bool {
    membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
}

#[cfg(all(target_os = "linux", not(miri), not(all(loom, test))))]
fn membarrier(command: libc::c_int) -> bool {
    const FLAGS: libc::c_uint = 0;
    const PROCESSOR: libc::c_int = 0;
    // SAFETY: it reads and writes no memory of ours.
    unsafe { libc::syscall(libc::SYS_membarrier, command, FLAGS, PROCESSOR) == 0 }
}

#[cfg(not(all(target_os = "linux", not(miri), not(all(loom, test)))))]
fn register() -> bool {
    false
}

#[cfg(not(all(target_os = "linux", not(miri), not(all(loom, test)))))]
fn everywhere() -> bool {
    false
}
