//! Memory of the host, for what is read in long runs.
//!
//! Purpose: room in large pages, and reading ahead.
//! Invariant: neither changes what is computed.
//! Must not know: what is computed.

/// So many zeros. Where the system has large pages and there is room for some, it is asked for them: the processor then has
/// fewer pages to look up, and reads further ahead.
pub fn zeros(count: usize) -> Vec<f32> {
    let mut values = vec![0.0f32; count];
    large_pages(&mut values);
    values
}

#[cfg(target_os = "linux")]
fn large_pages(values: &mut [f32]) {
    /// Of less, no large page is likely to be filled.
    const LEAST: usize = 16 << 20;
    let size = size_of_val(values);
    if size < LEAST {
        return;
    }
    let page = rustix::param::page_size();
    let skipped = values.as_ptr().align_offset(page) * size_of::<f32>();
    let length = (size - skipped) / page * page;
    // SAFETY: the range lies within the slice, and this advice leaves its contents as they are.
    #[allow(unsafe_code)]
    let advised = unsafe {
        let first = values.as_mut_ptr().cast::<u8>().add(skipped);
        rustix::mm::madvise(first.cast(), length, rustix::mm::Advice::LinuxHugepage)
    };
    // A kernel without large pages refuses; the memory is as good.
    let _ = advised;
}

#[cfg(not(target_os = "linux"))]
fn large_pages(_: &mut [f32]) {}

/// Asks for the cache line of an address, which need not be one of this process: nothing is read by this.
#[inline(always)]
pub fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: the instruction belongs to every x86-64 and never faults.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
