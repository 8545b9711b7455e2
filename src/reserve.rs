//! The allocator of the C library: that of the system, with a reserve behind it for when it has nothing left.
//!
//! The reserve is address space, set aside once and without a page behind it before it is used. Each half of it is handed
//! out from the front; what was handed out last can be handed out again when it comes back, and with the last piece the half
//! begins anew. Pieces live for one load or until the next one, which a load that fails leaves word for: so that the one half
//! is free again before the other one is used up.
//!
//! ```text
//!   space:  [ piece | piece | ... free          | piece | ... free           ]     states: (bytes handed out, pieces that are out)
//! ```

#![expect(unsafe_code, reason = "an allocator deals in memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Size of the reserve in bytes. More than all that a load allocates between two looks whether memory is short.
const SIZE: usize = if cfg!(target_pointer_width = "64") { 64 << 20 } else { 8 << 20 };
const HALF: usize = SIZE / 2;
/// The upper bits of a state: pieces that are out. The lower ones: bytes handed out.
const PIECE: u64 = 1 << 40;

#[global_allocator]
static ALLOCATOR: Careful = Careful;

static SPACE: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static STATES: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
/// The half that is being handed out.
static CURRENT: AtomicUsize = AtomicUsize::new(0);
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
    let mut half = CURRENT.load(Ordering::Relaxed) % 2;
    let used = |half: usize| STATES.get(half).map_or(0, |state| state.load(Ordering::Relaxed) % PIECE);
    if used(half) > HALF as u64 / 2 && used(1 - half) == 0 {
        half = 1 - half;
        CURRENT.store(half, Ordering::Relaxed);
    }
    let place = piece_of(half, layout).or_else(|| piece_of(1 - half, layout));
    // SAFETY: the piece ends within the space.
    place.map_or(ptr::null_mut(), |place| unsafe { space.add(place) })
}

/// Where in the space a piece of a half is, if there is room.
fn piece_of(half: usize, layout: Layout) -> Option<usize> {
    let of_half = STATES.get(half)?;
    let mut state = of_half.load(Ordering::Relaxed);
    loop {
        // Both halves begin at a page, so that an aligned distance from there is an aligned place.
        let start = ((state % PIECE) as usize).checked_next_multiple_of(layout.align())?;
        let end = start.checked_add(layout.size()).filter(|end| *end <= HALF)?;
        let next = (state - state % PIECE) + PIECE + end as u64;
        match of_half.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(half * HALF + start),
            Err(now) => state = now,
        }
    }
}

/// Takes a piece of that size back, if it is one.
fn take_back(place: *mut u8, size: usize) -> bool {
    let space = SPACE.load(Ordering::Acquire);
    if space.is_null() || !(space.addr()..space.addr() + SIZE).contains(&place.addr()) {
        return false;
    }
    let distance = place.addr() - space.addr();
    let Some(of_half) = STATES.get(distance / HALF) else { return false };
    let mut state = of_half.load(Ordering::Relaxed);
    loop {
        // With the last piece all bytes come back; with the one handed out last its own, as texts do that are made and thrown
        // away by the thousand.
        let start = (distance % HALF) as u64;
        let is_last = state % PIECE == start + size as u64;
        let next = match state / PIECE {
            1 => 0,
            pieces if is_last => (pieces - 1) * PIECE + start,
            _ => state - PIECE,
        };
        match of_half.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
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
        if !take_back(place, layout.size()) {
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
