//! probe
#![allow(missing_docs, dead_code)]
mod kernels;
mod model;
mod rng;
use burn::tensor::Device;
use model::*;
fn main() {
    let d = Device::libtorch().autodiff();
    let p = ModelParams::default();
    let c = p.config(2048).unwrap();
    let m = Decoder::new(&c, 1, &d);
    use burn::module::Module;
    assert_eq!(m.num_params() as u64, c.parameters());
    let rows: Vec<Vec<u32>> = (0..16).map(|i| (0..128).map(|j| (i * 37 + j * 11) % 2048).collect()).collect();
    for i in 0..6 {
        let t = std::time::Instant::now();
        let r = Rows::right(&rows, 0, &d);
        let ids = r.ids.clone();
        let h = m.hidden(r, None);
        let lp = kernels::token_logprobs(m.logits(h.reshape([2048, 128])), ids.reshape([2048]));
        let loss = lp.mean().neg();
        let l: f32 = loss.clone().into_scalar();
        let t1 = t.elapsed();
        let _g = loss.backward();
        println!("{i} {l} fwd {:?} all {:?}", t1, t.elapsed());
    }
}
