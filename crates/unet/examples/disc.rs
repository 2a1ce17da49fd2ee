//! Trains a small U-Net to find discs from a few labelled pixels.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use rand::SeedableRng;
use scribseg_unet::{Config, Sgd, UNet, init, partial_cross_entropy};

const SIDE: usize = 32;

fn inside(image: usize, p: usize) -> bool {
    let (y, x) = (p / SIDE, p % SIDE);
    y.abs_diff(10 + 4 * image).pow(2) + x.abs_diff(20 - 3 * image).pow(2) < 36
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::Cpu;
    let config = Config { in_channels: 1, out_channels: 2, width: 8, depth: 2 };
    let weights = init(&config, &mut rand_chacha::ChaCha8Rng::seed_from_u64(1), &device)?;
    let net = UNet::load(&config, VarBuilder::from_varmap(&weights, DType::F32, &device))?;
    let mut sgd = Sgd::new(&weights, 0.9, 0.0)?;
    let pixels = 4 * SIDE * SIDE;
    let at = |i: usize| (i / (SIDE * SIDE), i % (SIDE * SIDE));
    let noise = |i: usize| (i * 2_654_435_761 % 1000) as f32 / 1000.0;
    let images: Vec<f32> =
        (0..pixels).map(|i| f32::from(u8::from(inside(at(i).0, at(i).1))) + noise(i)).collect();
    let images = Tensor::from_vec(images, (4, 1, SIDE, SIDE), &device)?;
    // One pixel in thirteen has a label.
    let labels: Vec<u8> =
        (0..pixels).map(|i| if i % 13 == 0 { u8::from(inside(at(i).0, at(i).1)) } else { 255 }).collect();
    let scribble = Tensor::from_vec(labels, (4, SIDE, SIDE), &device)?;
    let nothing = Tensor::full(255u8, (4, SIDE, SIDE), &device)?;
    for step in 0..60 {
        let pass = net.pass(&images)?;
        let loss = partial_cross_entropy(pass.logits(), &scribble, &nothing, 0.8)?;
        if step % 10 == 0 {
            println!("step {step}: loss {:.4}", loss.to_scalar::<f32>()?);
        }
        sgd.step(&pass.backward(&loss)?, 0.05)?;
    }
    let found: Vec<u32> = net.forward(&images, false)?.argmax(1)?.flatten_all()?.to_vec1()?;
    let right = (0..pixels).filter(|&i| (found[i] == 1) == inside(at(i).0, at(i).1)).count();
    println!("{:.1} % of the pixels right", 100.0 * right as f64 / pixels as f64);
    Ok(())
}
