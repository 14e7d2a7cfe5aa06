//! Vector instructions: the best of the machine, chosen when a function is called.
//!
//! Purpose: `simd!` compiles one body three times, for AVX-512, for AVX2 with FMA, and for what every machine has; the
//! compiler vectorises its loops. `exp` and `sum` are written so that it can.
//! Invariant: on one machine the same form is always taken.
//! Must not know: what is computed.

/// Defines a function whose body is compiled for several instruction sets. What it calls must be `#[inline(always)]`, or it
/// is compiled for none of them.
macro_rules! simd {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $ret:ty)? $body:block)*) => {$(
        $(#[$meta])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name($($arg: $type),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $type),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,bmi2")]
                fn avx512($($arg: $type),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,bmi2")]
                fn avx2($($arg: $type),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::kernels::cpu::simd::level() {
                    // SAFETY: the level says that the machine has these instructions.
                    $crate::kernels::cpu::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::cpu::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::kernels::cpu::simd::Level::Baseline => {}
                }
            }
            body($($arg),*)
        }
    )*};
}

/// The widest vector instructions of the machine that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Avx512,
    Avx2,
    Baseline,
}

/// What this machine has.
#[inline]
pub fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw")
        {
            return Level::Avx512;
        }
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("bmi2")
        {
            return Level::Avx2;
        }
    }
    Level::Baseline
}

/// How many sums run beside each other where a slice is added up.
pub const LANES: usize = 16;

/// The exponential, with a relative error below 2e-7; 0 below -87 and bounded above 88, where f32 ends.
///
/// Source: the range reduction and the polynomial of Cephes (Moshier 1989). Rounding by adding `1.5 * 2^23` leaves the power
/// of two in the low bits, without a conversion that cannot be vectorised.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let bounded = x.clamp(-87.3, 88.3);
    let shifted = bounded.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, bounded));
    let p = 1.987_569_1e-4f32
        .mul_add(r, 1.398_199_9e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 5e-1);
    let p = p.mul_add(r * r, r) + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.3 { 0.0 } else { p * power }
}

/// The sum of `f` over the indices below `n`, in [`LANES`] sums that are then added in order.
#[inline(always)]
pub fn sum(n: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = n / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, slot) in lanes.iter_mut().enumerate() {
            *slot += f(start + lane);
        }
    }
    let mut total = 0.0;
    for lane in lanes {
        total += lane;
    }
    for i in whole..n {
        total += f(i);
    }
    total
}

/// Holds a form of the exponential to that of f64.
#[cfg(test)]
pub(super) fn hold_exp(exp: fn(f32) -> f32) {
    for step in 0..=200_000 {
        let x = -87.0 + step as f32 * 8.75e-4;
        let off = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
        assert!(off < 2e-7, "exp({x}) is off by {off}");
    }
    assert!(exp(-88.0) == 0.0 && exp(0.0) == 1.0 && exp(f32::NAN).is_nan());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_exact_to_2e_7_and_zero_far_below() {
        hold_exp(exp);
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e30), exp(-87.5)], [0.0; 3]);
        assert!(exp(f32::INFINITY).is_finite() && exp(100.0) > 1e38, "bounded where f32 ends");
    }

    #[test]
    fn a_sum_takes_every_index_once() {
        for n in [0, 1, 15, 16, 17, 100] {
            assert_eq!(sum(n, |i| i as f32), (0..n).sum::<usize>() as f32);
        }
    }

    simd! {
        fn doubled(values: &mut [f32]) -> f32 {
            values.iter_mut().for_each(|x| *x *= 2.0);
            sum(values.len(), |i| values[i])
        }
    }

    #[test]
    fn a_function_for_several_instruction_sets_does_what_its_body_says() {
        let mut values = [1.0, 2.0, 3.5];
        assert_eq!((doubled(&mut values), values), (13.0, [2.0, 4.0, 7.0]));
        assert_eq!(level(), level());
    }
}
