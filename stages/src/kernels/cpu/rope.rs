//! Rotary position embedding.
//!
//! Purpose: turns queries and keys by angles that grow with the position.
//! Invariant: the first and the second half of a head turn together, as the published LLaMA weights expect.
//! Must not know: models.
//! Source: Su 2021.

/// Cosines and sines of the angles `p f` for positions p up to a bound and frequencies f.
#[derive(Debug)]
pub struct Rope {
    half: usize,
    /// `[positions, half]` each.
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// The angle of a position, rounded to f32 as by the programs that published weights were trained with.
pub fn angle(position: usize, frequency: f32) -> f64 {
    f64::from(position as f32 * frequency)
}

impl Rope {
    /// For frequencies in radians a position, half as many as a head has numbers, and positions below `positions`; cosines
    /// and sines are multiplied by `scale`.
    pub fn new(frequencies: &[f32], scale: f32, positions: usize) -> Self {
        let angles = (0..positions).flat_map(|p| frequencies.iter().map(move |&f| angle(p, f)));
        let scaled = |(sin, cos): (f64, f64)| (sin as f32 * scale, cos as f32 * scale);
        let (sin, cos) = angles.map(f64::sin_cos).map(scaled).unzip();
        Self { half: frequencies.len(), cos, sin }
    }

    /// Turns the first `heads` heads of each row `[n, stride]` by its position, or back.
    pub fn turn(&self, x: &mut [f32], stride: usize, heads: usize, positions: &[u32], back: bool) {
        turn(x, [stride, heads, self.half], positions, [&self.cos, &self.sin], if back { -1.0 } else { 1.0 });
    }
}

simd! {
    fn turn(x: &mut [f32], shape: [usize; 3], positions: &[u32], tables: [&[f32]; 2], sign: f32) {
        let [stride, heads, half] = shape;
        for (row, &position) in x.chunks_exact_mut(stride).zip(positions) {
            let at = position as usize * half;
            let (cos, sin) = (&tables[0][at..at + half], &tables[1][at..at + half]);
            for head in row[..heads * 2 * half].chunks_exact_mut(2 * half) {
                let (first, second) = head.split_at_mut(half);
                for i in 0..half {
                    let (a, b) = (first[i], second[i]);
                    first[i] = a * cos[i] - b * (sign * sin[i]);
                    second[i] = b * cos[i] + a * (sign * sin[i]);
                }
            }
        }
    }
}
