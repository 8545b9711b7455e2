//! The allocator of the C library: that of the system, with a reserve behind it for when it has nothing left.
//!
//! The reserve is address space, set aside once and without a page behind it before it is used. It is handed out from the
//! front; when the last piece has come back it begins anew. Pieces are few and live for one load: what is made while
//! memory is short is thrown away again.
//!
//! ```text
//!   space:  [ piece | piece | ... free                    ]        state: (bytes handed out, pieces that are out)
//! ```

#![expect(unsafe_code, reason = "an allocator deals in memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Size of the reserve in bytes. More than all that a load allocates between two looks whether memory is short.
const SIZE: usize = if cfg!(target_pointer_width = "64") { 64 << 20 } else { 8 << 20 };
/// The upper bits of the state: pieces that are out. The lower ones: bytes handed out.
const PIECE: u64 = 1 << 40;

#[global_allocator]
static ALLOCATOR: Careful = Careful;

static SPACE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static STATE: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);

/// Sets the reserve aside, if that has not happened. Says whether there is one.
pub(crate) fn open() -> bool {
    if !SPACE.load(Ordering::Acquire).is_null() {
        return true;
    }
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping, which touches no other.
    let space = unsafe { libc::mmap(ptr::null_mut(), SIZE, access, kind, -1, 0) };
    if space == libc::MAP_FAILED {
        return false;
    }
    if SPACE.compare_exchange(ptr::null_mut(), space.cast(), Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: another thread was faster; nobody knows this mapping.
        unsafe { libc::munmap(space, SIZE) };
    }
    true
}

/// How many allocations the system has refused.
pub(crate) fn refused() -> usize {
    REFUSED.load(Ordering::Relaxed)
}

/// The system's allocator, then the reserve.
struct Careful;

/// A piece of the reserve, or NULL.
fn piece(layout: Layout) -> *mut u8 {
    REFUSED.fetch_add(1, Ordering::Relaxed);
    let space = SPACE.load(Ordering::Acquire);
    if space.is_null() {
        return ptr::null_mut();
    }
    let mut state = STATE.load(Ordering::Relaxed);
    loop {
        // The space begins at a page, so that an aligned distance from it is an aligned place.
        let used = (state % PIECE) as usize;
        let Some(start) = used.checked_next_multiple_of(layout.align()) else { return ptr::null_mut() };
        let Some(end) = start.checked_add(layout.size()).filter(|end| *end <= SIZE) else { return ptr::null_mut() };
        let next = (state - state % PIECE) + PIECE + end as u64;
        match STATE.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
            // SAFETY: the piece ends within the space.
            Ok(_) => return unsafe { space.add(start) },
            Err(now) => state = now,
        }
    }
}

/// Takes a piece back, if it is one.
fn take_back(place: *mut u8) -> bool {
    let space = SPACE.load(Ordering::Acquire);
    if space.is_null() || !(space.addr()..space.addr() + SIZE).contains(&place.addr()) {
        return false;
    }
    let mut state = STATE.load(Ordering::Relaxed);
    loop {
        // With the last piece all bytes come back.
        let next = if state / PIECE == 1 { 0 } else { state - PIECE };
        match STATE.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => state = now,
        }
    }
}

// SAFETY: pieces of the reserve do not overlap as long as one of them is out, are aligned as asked for, and are told from the
// system's by their place. Nothing unwinds.
unsafe impl GlobalAlloc for Careful {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the contract is the same.
        let place = unsafe { System.alloc(layout) };
        if place.is_null() { piece(layout) } else { place }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the contract is the same.
        let place = unsafe { System.alloc_zeroed(layout) };
        if !place.is_null() {
            return place;
        }
        let place = piece(layout);
        if !place.is_null() {
            // SAFETY: it has that many bytes. They may have been used before.
            unsafe { ptr::write_bytes(place, 0, layout.size()) };
        }
        place
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        if !take_back(place) {
            // SAFETY: not from the reserve, so from the system.
            unsafe { System.dealloc(place, layout) };
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let space = SPACE.load(Ordering::Acquire);
        let ours = !space.is_null() && (space.addr()..space.addr() + SIZE).contains(&place.addr());
        if !ours {
            // SAFETY: from the system, and the contract is the same.
            let moved = unsafe { System.realloc(place, layout, size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: the caller says that the size is not 0 and does not overflow when rounded up.
        let fresh = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let moved = if ours {
            // SAFETY: the layout is one.
            unsafe { self.alloc(fresh) }
        } else {
            piece(fresh)
        };
        if !moved.is_null() {
            // SAFETY: both have that many bytes and do not overlap.
            unsafe { ptr::copy_nonoverlapping(place, moved, layout.size().min(size)) };
            // SAFETY: it was allocated with this layout.
            unsafe { self.dealloc(place, layout) };
        }
        moved
    }
}
