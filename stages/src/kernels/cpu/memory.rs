//! Memory of the host, for what is read in long runs.
//!
//! Purpose: room in large pages, and reading ahead.
//! Invariant: no contents are changed.
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

/// How many numbers ahead memory is best asked for. The hardware alone reads ahead within a page only. Of 256 to 8192, those from
/// 1024 on gave the shortest times.
pub const AHEAD: usize = 2048;

/// Asks for the cache line of an address, which need not be one of this process: nothing is read by this. The line comes into
/// the second cache: a core can wait for more lines of that one than of the first, which was a tenth faster.
#[inline(always)]
pub fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the instruction belongs to every x86-64 and never faults.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T1>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Numbers of a cache line.
pub const LINE: usize = 16;
/// Numbers that [`sum`] adds up beside each other.
const WIDTH: usize = 128;

simd! {
    /// The sum of numbers, which needs each of them and little else.
    pub fn sum(values: &[f32]) -> f32 {
        let mut sums = [0f32; WIDTH];
        let (chunks, rest) = values.as_chunks::<WIDTH>();
        for chunk in chunks {
            for line in (0..WIDTH).step_by(LINE) {
                prefetch(chunk.as_ptr().wrapping_add(line + AHEAD));
            }
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += x;
            }
        }
        sums.iter().chain(rest).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_added_up() {
        for count in [0, 1, 127, 128, 300, 1000] {
            assert_eq!(sum(&vec![1.0; count]), count as f32);
        }
    }

    #[test]
    fn large_and_small_memory_is_zero_and_can_be_written() {
        for count in [0, 1, 5 << 20] {
            let mut values = zeros(count);
            assert!(values.len() == count && values.iter().all(|x| *x == 0.0));
            values.fill(1.0);
            assert_eq!(values.iter().map(|x| f64::from(*x)).sum::<f64>(), count as f64);
        }
    }
}
