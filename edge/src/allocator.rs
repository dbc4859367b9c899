//! The allocator of the binary: mimalloc, whose threads share no lock.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc,
    mi_zalloc_aligned,
};

/// mimalloc, asked for an alignment only where it has to be.
///
/// The `mimalloc` crate asks for one always. What is no power of two is then often allocated larger than needed and
/// aligned within that, on a longer path.
pub struct Allocator;

/// Whether every block of mimalloc is aligned as it should be.
fn fits_any_block(layout: Layout) -> bool {
    layout.align() <= align_of::<*mut c_void>()
}

// SAFETY: mimalloc returns blocks of at least the size asked for, aligned to a word or as asked for, or null; a block
// is freed in the same way however it was allocated.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match fits_any_block(layout) {
            true => mi_malloc(layout.size()).cast(),
            false => mi_malloc_aligned(layout.size(), layout.align()).cast(),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match fits_any_block(layout) {
            true => mi_zalloc(layout.size()).cast(),
            false => mi_zalloc_aligned(layout.size(), layout.align()).cast(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        mi_free(block.cast());
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match fits_any_block(layout) {
            true => mi_realloc(block.cast(), size).cast(),
            false => mi_realloc_aligned(block.cast(), size, layout.align()).cast(),
        }
    }
}

/// Has memory come in pages of the ordinary size. With large ones, buffers of idle connections take up all the
/// memory that is set aside for them, and not only what they use.
pub fn small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(e) = nix::sys::prctl::set_thp_disable(true) {
        log::debug!("transparent huge pages stay as they are: {e}");
    }
}
