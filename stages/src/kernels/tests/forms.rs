//! Narrow forms: they are found where numbers allow it, never where one number would change, and compute the same bytes.

use half::{bf16, f16};

use crate::kernels::cpu::forms::{BLOCK, Form, Source, WIDE};
use crate::kernels::cpu::panels::Panels;
use crate::testing::{narrow, numbers};

/// How the numbers of a block, which stand one after the other, are made coarse.
type Coarse = fn(&mut [f32]);

fn each(numbers: &mut [f32], coarse: impl Fn(f32) -> f32) {
    numbers.iter_mut().for_each(|x| *x = coarse(*x));
}

fn half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// The number of the largest magnitude.
fn far(numbers: &[f32]) -> f32 {
    numbers.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap()
}

fn q8_0(numbers: &mut [f32]) {
    let step = half(far(numbers).abs() / 127.0);
    each(numbers, |x| f32::from((x / step).round() as i8) * step);
}

fn around(numbers: &mut [f32], steps: f32) {
    let step = half(far(numbers) / -steps);
    each(numbers, |x| f32::from(((x / step).round() as i8).min(steps as i8 - 1)) * step);
}

fn above(numbers: &mut [f32], steps: f32) {
    let least = numbers.iter().copied().fold(f32::INFINITY, f32::min);
    let most = numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (step, least) = (half((most - least) / steps), half(least));
    each(numbers, |x| f32::from(((x - least) / step).round().min(steps) as i8) * step + least);
}

const FORMS: [(&str, Coarse, Form); 9] = [
    ("as they are", |_| {}, Form::Full),
    ("bf16", |b| each(b, |x| bf16::from_f32(x).to_f32()), Form::Brain),
    ("f16", |b| each(b, |x| half(x * 1e-3)), Form::Half),
    ("Q8_0", q8_0, Form::Steps),
    ("Q4_0", |b| around(b, 8.0), Form::Steps),
    ("Q5_0", |b| around(b, 16.0), Form::Steps),
    ("Q4_1", |b| above(b, 15.0), Form::Steps),
    ("Q5_1", |b| above(b, 31.0), Form::Steps),
    ("zeros", |b| b.fill(0.0), Form::Steps),
];

/// The transpose `[columns, rows]` of a matrix whose columns are made of coarse blocks.
fn turned([rows, columns]: [usize; 2], coarse: Coarse) -> Vec<f32> {
    let mut matrix = narrow(&numbers("matrix", rows * columns));
    matrix.chunks_mut(rows).for_each(|column| column.chunks_mut(BLOCK).for_each(coarse));
    matrix
}

fn transposed(turned: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
    (0..turned.len()).map(|at| turned[at % columns * rows + at / columns]).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn the_narrowest_form_that_changes_no_number_is_found_and_computes_the_same_bytes() {
    for (name, coarse, wanted) in FORMS {
        for shape @ [rows, columns] in [[64, 96], [96, 33], [32, 1]] {
            let turned = turned(shape, coarse);
            let matrix = transposed(&turned, shape);
            let sources = [
                Source { values: &matrix, shape, is_transposed: false },
                Source { values: &turned, shape, is_transposed: true },
            ];
            for source in &sources {
                assert_eq!(Form::of(source), wanted, "{name}, {rows} x {columns}");
            }
            for n in [1, 3, 13] {
                let x = narrow(&numbers("x", n * rows));
                let made = [Form::Full, wanted].map(|form| {
                    let panels = Panels::new(&[(shape, form); 2], |i, slot| slot.fill(&sources[i]));
                    let mut out = vec![0.0; 2 * n * columns];
                    let halves = out.chunks_exact_mut(n * columns).enumerate();
                    halves.for_each(|(i, out)| panels.product(i, &x, out, false, i == 1));
                    bits(&out)
                });
                assert!(made[0] == made[1], "{name}, {n} x {rows} x {columns}");
            }
        }
    }
}

#[test]
fn rows_that_fill_no_block_are_kept_in_16_bits_at_most() {
    for (name, coarse, form) in FORMS {
        let shape @ [rows, columns] = [41, 40];
        let turned = turned(shape, coarse);
        let source = Source { values: &turned, shape, is_transposed: true };
        // Zeros and counts of few bits fit bf16 too, by chance of their steps.
        match (name, form) {
            ("zeros", _) => assert_eq!(Form::of(&source), Form::Brain),
            (_, Form::Steps) => assert_ne!(Form::of(&source), Form::Steps),
            _ => assert_eq!(Form::of(&source), form),
        }
        let x = narrow(&numbers("x", 3 * rows));
        let made = [Form::Full, Form::of(&source)].map(|form| {
            let mut out = vec![0.0; 3 * columns];
            Panels::new(&[(shape, form)], |_, slot| slot.fill(&source))
                .product(0, &x, &mut out, false, false);
            bits(&out)
        });
        assert!(made[0] == made[1], "{name}");
    }
}

/// The numbers of a matrix after they were stored in a form, in the order of its blocks, and before.
fn through(form: Form, source: &Source) -> [Vec<u32>; 2] {
    let (mut tile, mut back) = ([0.0; BLOCK * WIDE], [0.0; BLOCK * WIDE]);
    let mut stored = vec![0.0; form.size(BLOCK)];
    let mut all = [Vec::new(), Vec::new()];
    for range in source.blocks() {
        for first in (0..source.shape[1]).step_by(WIDE) {
            source.tile(range.clone(), first, &mut tile);
            form.close(&tile, &mut stored);
            form.open(&stored, &mut back);
            all[0].extend(bits(&back));
            all[1].extend(bits(&tile));
        }
    }
    all
}

#[test]
fn a_form_that_would_change_one_number_is_not_taken() {
    for (name, coarse, form) in FORMS {
        let shape @ [rows, columns] = [64, 70];
        for at in [0, rows * columns / 2, rows * columns - 1] {
            for odd in [0.123_456_79, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE / 4.0, -1e38, -0.0] {
                let mut turned = turned(shape, coarse);
                turned[at] = odd;
                let source = Source { values: &turned, shape, is_transposed: true };
                let found = Form::of(&source);
                let [back, before] = through(found, &source);
                assert!(back == before, "{name} with {odd} as {found:?}");
                let changes = form != Form::Full && {
                    let [back, before] = through(form, &source);
                    back != before
                };
                assert_eq!(found == form, !changes, "{name} with {odd} as {found:?}");
                assert!(
                    odd != 0.123_456_79 || name == "zeros" || found == Form::Full,
                    "{name} with {odd} as {found:?}"
                );
            }
        }
    }
}

#[test]
fn every_finite_number_of_16_bits_is_held_with_its_sign() {
    let of = |number: fn(u16) -> f32| -> Vec<f32> {
        (0..=u16::MAX).map(number).map(|x| if x.is_finite() { x } else { -0.0 }).collect()
    };
    for (form, all) in [
        (Form::Half, of(|bits| f16::from_bits(bits).to_f32())),
        (Form::Brain, of(|bits| bf16::from_bits(bits).to_f32())),
    ] {
        assert_eq!(Form::of(&Source { values: &all, shape: [256, 256], is_transposed: false }), form);
    }
}
