//! RoPE on the CPU.

use crate::kernels::cpu::rope::Rope;
use crate::testing::{assert_close, narrow, numbers, wide};

const THETA: f64 = 1e4;

#[test]
fn a_turn_is_the_published_formula_for_the_first_heads_and_leaves_the_rest() {
    for (size, heads, rest) in [(2, 1, 0), (6, 2, 3), (32, 3, 32), (20, 4, 40)] {
        let positions = [0, 1, 2, 63, 17, 0];
        let (half, stride) = (size / 2, heads * size + rest);
        let x = wide(&narrow(&numbers("x", positions.len() * stride)));
        let mut wanted = x.clone();
        for (row, &position) in positions.iter().enumerate() {
            for (head, i) in (0..heads).flat_map(|head| (0..half).map(move |i| (head, i))) {
                // As the published programs round it.
                let wavelength = THETA.powf(f64::from((2 * i) as f32 / size as f32)) as f32;
                let angle = f64::from(position as f32 * (1.0 / wavelength));
                let first = row * stride + head * size + i;
                let (a, b) = (x[first], x[first + half]);
                wanted[first] = a * angle.cos() - b * angle.sin();
                wanted[first + half] = a * angle.sin() + b * angle.cos();
            }
        }
        let (frequencies, scale) = kiln_formats::model::Rope::new(THETA).frequencies(size);
        let rope = Rope::new(&frequencies, scale, 64);
        let mut got = narrow(&x);
        rope.turn(&mut got, stride, heads, &positions, false);
        assert_close(&wide(&got), &wanted, 2e-7, &format!("heads of {size}"));
        for (got, x) in got.chunks(stride).zip(x.chunks(stride)) {
            assert_eq!(wide(&got[heads * size..]), x[heads * size..], "keys turn, values do not");
        }
        rope.turn(&mut got, stride, heads, &positions, true);
        assert_close(&wide(&got), &x, 2e-7, &format!("heads of {size}, back"));
    }
}
