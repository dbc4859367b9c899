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

/// The alignment of every block that is not smaller than that, as C has it of `malloc`.
const ALIGNED: usize = 2 * align_of::<*mut c_void>();

/// Tells whether every block of this size is aligned as it should be.
#[inline]
fn fits_any_block(size: usize, align: usize) -> bool {
    align <= align_of::<*mut c_void>() || (align <= ALIGNED && align <= size)
}

// SAFETY: mimalloc returns blocks of at least the size asked for, aligned to a word, to two where they are not smaller
// than that, or as asked for, or null; a block is freed in the same way however it was allocated.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match fits_any_block(layout.size(), layout.align()) {
            true => mi_malloc(layout.size()).cast(),
            false => mi_malloc_aligned(layout.size(), layout.align()).cast(),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match fits_any_block(layout.size(), layout.align()) {
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
        match fits_any_block(size, layout.align()) {
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
