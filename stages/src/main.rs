//! probe
use burn::tensor::{Device, Distribution, Tensor};
fn main() {
    let d = Device::libtorch().autodiff();
    let x = Tensor::<2>::random([512, 512], Distribution::Default, &d).require_grad();
    let y = x.clone().matmul(x.clone().transpose()).sum();
    let g = y.backward();
    println!("{:?}", x.grad(&g).unwrap().mean().into_data());
}
