//! Memory of rules that are replaced goes back to the system. The allocator of glibc keeps it as a rule: once it has seen a
//! large array given back it takes later ones from its heap, which gets holes then, and grows with each load.

/// Large arrays are to be mappings of their own, always. Before the first of them is made, and before there are other threads.
pub(crate) fn give_back_large_arrays() {
    #[cfg(target_env = "gnu")]
    {
        /// What glibc begins with; setting it keeps it there.
        const LARGE: libc::c_int = 128 << 10;
        // If it fails nothing is lost but memory.
        #[expect(unsafe_code, reason = "a setting of the allocator, for which no crate has a safe function")]
        // SAFETY: it takes two numbers, and no other thread is there yet.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        }
    }
}
